"""Speaks names of countries, languages, months and days in about a hundred languages with espeak-ng.

The names are those of Unicode's CLDR (package ``babel``), the voices those of ``synth``: no voice of
dev is in train. Every utterance has the exact times of its words and phones. The same seed and the
same version of babel give the same corpus.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from speechmm.data.corpora.options import NUM_WORKERS, Option
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut

    from speechmm.data.corpora.synth.voices import Order

ABOUT = "names of countries, languages, months and days in a hundred languages, spoken by espeak-ng"
SPLIT_SIZES = {"train": 40, "dev": 2}
OPTIONS = (
    *(
        Option(
            name=split,
            type=int,
            default=size,
            help=f"utterances of each language in {split}, about 2 s each",
        )
        for split, size in SPLIT_SIZES.items()
    ),
    Option(
        name="languages",
        metavar="CODES",
        help="voices of espeak-ng with commas between them, such as de,sw,hi; all that have names when "
        "not given",
    ),
    Option(name="seed", type=int, default=0, help="another one gives another corpus"),
    NUM_WORKERS,
)
NEEDS_ROOT = False  # it is made in the output folder

_LONGEST = 40
"""Letters of a name."""
_COMMA_SHARE = 0.3
_FEWEST_NAMES = 12
"""A language that CLDR has fewer names of is left out."""


def prepare(
    out: Path,
    report: SkipReport,
    *,
    train: int = SPLIT_SIZES["train"],
    dev: int = SPLIT_SIZES["dev"],
    languages: str | None = None,
    seed: int = 0,
    num_workers: int | None = None,
) -> dict[str, list[MonoCut]]:
    """Speak the corpus into ``out/audio`` and describe it.

    Args:
        out: Folder of the corpus.
        report: Where utterances that could not be spoken are noted.
        train: Utterances of each language, at least 1; each lasts about 2 seconds.
        dev: Utterances of each language, 0 for none.
        languages: Voices of espeak-ng with commas between them; None for all that have names.
        seed: Another seed gives other names, pitches and speeds.
        num_workers: Processes; None for one a core, 4 at most.

    Raises:
        ConfigError: The extra ``synth`` is not installed, a language has no voice or no names, a size
            is negative, or ``out`` cannot be written to.
    """
    from speechmm.data.corpora.synth.corpus import check_sizes
    from speechmm.data.corpora.synth.speaking import spoken_cuts

    sizes = {"train": train, "dev": dev}
    check_sizes(sizes)
    chosen = _locales(languages)
    orders = [
        order
        for split, size in sizes.items()
        for voice, locale in chosen.items()
        for order in islice(_orders(split, voice, locale, out / "audio", seed), size)
    ]
    return spoken_cuts(orders, tuple(sizes), report, num_workers=num_workers)


def names_of(locale: str) -> list[str]:
    """What CLDR calls countries, languages, months and days in a language, sorted.

    Args:
        locale: As CLDR writes it, such as ``pt_BR``.
    """
    return sorted(_names(locale) if locale.startswith("en") else _names(locale) - _names("en"))


@cache
def _names(code: str) -> frozenset[str]:
    """All names of a locale that are short and have letters alone, English ones it took over among them."""
    from babel import Locale

    locale = Locale.parse(code)
    tables = [locale.territories, locale.languages]
    for calendar in (locale.days, locale.months):
        tables += [calendar[use]["wide"] for use in ("format", "stand-alone") if use in calendar]
    plain = (unicodedata.normalize("NFC", str(name)) for table in tables for name in table.values())
    return frozenset(
        name
        for name in plain
        if len(name) <= _LONGEST and all(map(_is_plain, name)) and name.strip()
    )


def _is_plain(sign: str) -> bool:
    return sign in " '’-" or unicodedata.category(sign)[0] in "LM"


def _locales(languages: str | None) -> dict[str, str]:
    """The CLDR locale of each voice that was asked for."""
    from speechmm.text.espeak.library import load_espeak
    from speechmm.text.phonemes import VOICES

    voices = load_espeak().languages
    try:
        from babel import localedata
    except ImportError as error:
        raise ConfigError(
            "babel is not installed; expected it, as the names are its own. Install it with: pip install "
            '"speechmm[synth]".'
        ) from error
    known = {
        VOICES.get(code, code): code
        for code in sorted(localedata.locale_identifiers())
        if VOICES.get(code, code) in voices and "_" not in code
    }
    if languages is None:
        return {
            voice: code for voice, code in known.items() if len(names_of(code)) >= _FEWEST_NAMES
        }
    asked = [name.strip() for name in languages.split(",") if name.strip()]
    for name in asked:
        if name not in known or len(names_of(known[name])) < _FEWEST_NAMES:
            raise ConfigError(
                f"--languages: found '{name}'; expected voices of espeak-ng in whose languages there are "
                f"names, of {', '.join(known)}. Correct it."
            )
    if not asked:
        raise ConfigError("--languages: found none; expected one or more. Leave it out for all.")
    return {name: known[name] for name in dict.fromkeys(asked)}


def _orders(split: str, voice: str, locale: str, folder: Path, seed: int) -> Iterator[Order]:
    """What is to be said in one language, without end: one to three names, commas here and there."""
    from speechmm.data.corpora.synth.voices import VARIANTS, Order, make_speaker

    rng = Random(f"names {seed} {split} {voice}")
    names = names_of(locale)
    variants = VARIANTS[split].split()
    for number in count():
        between = ", " if rng.random() < _COMMA_SHARE else " "
        name = f"names-{voice}-{split}-{number:04d}"
        yield Order(
            id=name,
            text=between.join(rng.sample(names, rng.randint(1, 3))),
            speaker=make_speaker(voice, rng.choice(variants), rng),
            path=folder / split / f"{name}.wav",
            seed=f"{seed} {name}",
            language=locale,
        )
