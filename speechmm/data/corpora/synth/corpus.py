"""Speaks a corpus with espeak-ng, with the exact time of every word and phone.

Short commands, numbers, dates and times (``grammar``) by voices that differ in accent, vocal
tract, pitch and speed (``voices``). No voice and no sentence of dev and test is in train;
their words all are, at the default size. The same seed gives the same corpus, whatever the number
of processes.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import NUM_WORKERS, Option
from speechmm.data.corpora.synth.grammar import DOMAINS, SPLIT_SIZES, sentences
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.data.corpora.synth.voices import Order

ABOUT = "numbers, dates, times and commands, spoken by espeak-ng here and now"
OPTIONS = (
    *(
        Option(name=split, type=int, default=size, help=f"utterances in {split}, about 3 s each")
        for split, size in SPLIT_SIZES.items()
    ),
    Option(name="seed", type=int, default=0, help="another one gives another corpus"),
    Option(
        name="domain",
        choices=tuple(DOMAINS),
        default="all",
        help="which sentences: all, or one of two halves with patterns and words of their own",
    ),
    NUM_WORKERS,
)
NEEDS_ROOT = False  # it is made in the output folder


def prepare(
    out: Path,
    report: SkipReport,
    *,
    train: int = SPLIT_SIZES["train"],
    dev: int = SPLIT_SIZES["dev"],
    test: int = SPLIT_SIZES["test"],
    seed: int = 0,
    domain: str = "all",
    num_workers: int | None = None,
) -> dict[str, list[MonoCut]]:
    """Speak the corpus into ``out/audio`` and describe it.

    Args:
        out: Folder of the corpus.
        report: Where utterances that could not be spoken are noted.
        train: Utterances, at least 1; each lasts about 3 seconds.
        dev: Utterances, 0 for none.
        test: Utterances, 0 for none.
        seed: Another seed gives other sentences, pitches and speeds.
        domain: Half of the grammar that sentences are drawn from, or all of it (``grammar.DOMAINS``).
        num_workers: Processes; None for one a core, 4 at most.

    Raises:
        ConfigError: The extra ``synth`` is not installed, a size is negative, or ``out`` cannot be
            written to.
    """
    from speechmm.data.corpora.synth.speaking import spoken_cuts
    from speechmm.text.espeak.library import load_espeak

    sizes = {"train": train, "dev": dev, "test": test}
    check_sizes(sizes)
    load_espeak()  # says at once when it is missing
    orders = _make_orders(sizes, out / "audio", seed, domain)
    return spoken_cuts(orders, tuple(sizes), report, num_workers=num_workers)


def check_sizes(sizes: dict[str, int]) -> None:
    """Raises a ``ConfigError`` for a number of utterances that cannot be; train needs one."""
    for split, size in sizes.items():
        least = 1 if split == "train" else 0
        if size < least:
            raise ConfigError(
                f"--{split}: found {size}; expected a number of utterances, {least} or more."
            )


def _make_orders(sizes: dict[str, int], folder: Path, seed: int, domain: str) -> list[Order]:
    """What is to be said by whom; the sentences of train are kept out of the other splits."""
    from speechmm.data.corpora.synth.voices import Order, make_speakers

    orders: list[Order] = []
    said: frozenset[str] = frozenset()
    for split, size in sizes.items():
        rng = Random(f"orders {seed} {split}")
        texts = list(islice(sentences(f"{seed} {split}", avoid=said, domain=domain), size))
        said |= frozenset(texts)
        speakers = make_speakers(split, seed)
        for number, text in enumerate(texts):
            if number % len(speakers) == 0:
                rng.shuffle(speakers)
            name = f"synth-{split}-{number:05d}"
            order = Order(
                id=name,
                text=text,
                speaker=speakers[number % len(speakers)],
                path=folder / split / f"{name}.wav",
                seed=f"{seed} {name}",
            )
            orders.append(order)
    return orders
