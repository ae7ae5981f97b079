"""Speaks a corpus with espeak-ng, with the exact time of every word and phone.

Short commands, numbers, dates and times (``grammar``) by voices that differ in accent, vocal
tract, pitch and speed (``voices``). No voice and no sentence of dev and test is in train;
their words all are, at the default size. The same seed gives the same corpus, whatever the number
of processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import Option
from speechmm.data.corpora.synth.grammar import DOMAINS, SPLIT_SIZES, sentences
from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.supervision import AlignmentItem

    from speechmm.alignments import Segment
    from speechmm.data.corpora.synth.voices import Order, Spoken

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
    Option(
        name="num_workers",
        type=int,
        help="processes; as many as cores, 4 at most, when not given",
    ),
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
    from speechmm.data.corpora.synth.voices import speak_all
    from speechmm.text.espeak.library import load_espeak

    sizes = {"train": train, "dev": dev, "test": test}
    _check_sizes(sizes)
    load_espeak()  # says at once when it is missing
    orders = _make_orders(sizes, out / "audio", seed, domain)
    _make_folders(orders)
    workers = min(4, os.cpu_count() or 1) if num_workers is None else num_workers
    splits: dict[str, list[Utterance]] = {split: [] for split in sizes}
    for spoken in _with_progress(speak_all(orders, num_workers=workers), len(orders)):
        if spoken.error:
            report.add(spoken.order.id, spoken.error)
        else:
            splits[spoken.order.path.parent.name].append(_to_utterance(spoken))
    return make_split_cuts(splits, report, check="header")


def _check_sizes(sizes: dict[str, int]) -> None:
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


def _make_folders(orders: list[Order]) -> None:
    for folder in sorted({order.path.parent for order in orders}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be made ({error.strerror}); expected a folder that can be "
                "written to. Choose another output folder."
            ) from error


def _to_utterance(spoken: Spoken) -> Utterance:
    order = spoken.order
    return Utterance(
        id=order.id,
        audio=order.path,
        text=order.text,
        speaker=order.speaker.name,
        language="en",
        alignment={"word": _to_items(spoken.words), "phone": _to_items(spoken.phones)},
    )


def _to_items(segments: list[Segment]) -> list[AlignmentItem]:
    from lhotse.supervision import AlignmentItem

    return [
        AlignmentItem(segment.label, round(segment.start, 6), round(segment.duration, 6))
        for segment in segments
    ]


def _with_progress(spoken: Iterable[Spoken], total: int) -> Iterable[Spoken]:
    if not sys.stderr.isatty():
        return spoken
    from rich.console import Console
    from rich.progress import track

    return track(spoken, "speaking", total=total, console=Console(stderr=True))
