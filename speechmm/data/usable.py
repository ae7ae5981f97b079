"""Says which cuts can be trained on, and why the others cannot."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.cut_rows import read_rows, row_text
from speechmm.data.cut_table import CutTable, spread
from speechmm.data.features import check_features
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import load_waveform
from speechmm.errors import ManifestError, SpeechmmError
from speechmm.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

MAX_UTTERANCE_SECONDS = 120.0
"""Attention takes memory by the square of this; longer recordings must be segmented first."""
READ_FIRST_SECONDS = 5 * 3600.0
"""A split of no more audio is read once before a training begins: 1 s of work for an hour of speech."""
READ_FIRST_CUTS = 5000
"""And of no more cuts than this."""
TRIED = 20
"""Utterances of a larger split that are read, to see that it can be at all."""

_READERS = 4  # threads that read audio to check it; decoding releases Python's lock


@dataclass(frozen=True)
class TextFit:
    """Whether text and length of an utterance do for training."""

    reason: str
    """Why not; "" where they do."""
    frames: int = 0
    """Fewest feature frames that its text could have."""
    unknown: frozenset[str] = frozenset()
    """Characters that the tokenizer does not know."""


@dataclass(frozen=True)
class TextCheck:
    """Compares texts and lengths with what a training needs."""

    tokenizer: Tokenizer
    features: LogMelConfig
    subsampling: int
    """Feature frames per encoder frame."""
    max_seconds: float = MAX_UTTERANCE_SECONDS

    def __call__(self, text: str, seconds: float) -> TextFit:
        """Looks at one utterance."""
        found = self.tokenizer.examine(text)
        if not found.normal:
            return TextFit(f"its text is empty ({text!r} before normalisation)")
        if seconds > self.max_seconds:
            return TextFit(
                f"it lasts {seconds:.1f} s; expected at most {self.max_seconds:g} s. Segment it"
            )
        if found.is_unknown:
            return TextFit(f"the tokenizer knows nothing of its text {text!r}")
        needed = max((found.ctc_frames - 1) * self.subsampling + 1, found.aligned)
        if self.frames(seconds) < needed:
            return TextFit(
                f"its {seconds:.2f} s are too short for its {len(found.ids)} tokens; expected at "
                f"least {(needed - 1) * self.features.frame_shift:.2f} s"
            )
        return TextFit("", needed, frozenset(found.unknown))

    def frames(self, seconds: float) -> int:
        """Feature frames of so much audio."""
        return self.features.num_frames(round(seconds * self.features.sample_rate))


@dataclass
class UsableCuts:
    """The cuts of several manifests whose texts and lengths do for training."""

    cuts: CutTable = field(default_factory=CutTable)
    frames: list[int] = field(default_factory=list)
    """Of each cut: fewest feature frames that its text could have."""
    total: int = 0
    """Cuts looked at."""
    unknown: set[str] = field(default_factory=set)
    """Characters that the tokenizer does not know."""
    partly_unknown: int = 0
    """Cuts that have such characters."""

    def at_speeds(self, factors: Sequence[float], check: TextCheck) -> CutTable:
        """The cuts once for each speed factor, without copies that are too short for their text."""
        copies = self.cuts.at_speeds(factors)
        if max(factors) <= 1.0:
            return copies
        needed = self.frames * len(factors)
        seconds = copies.durations.tolist()
        return copies.keep(
            [check.frames(one) >= least for one, least in zip(seconds, needed, strict=True)]
        )

    def tell_unknown(self, name: str) -> None:
        """Warns of characters that will be learned as unknown.

        Args:
            name: Of the split.
        """
        if not self.unknown:
            return
        unknown = sorted(self.unknown)
        logger.warning(
            "data.%s: %d of %d utterances have characters that the tokenizer does not know "
            "and the model learns as one unknown sign: %s",
            name,
            self.partly_unknown,
            len(self.cuts),
            " ".join(unknown[:20]) + (" ..." if len(unknown) > 20 else ""),
        )

    def leave_out_unreadable(self, features: LogMelConfig, skipped: SkipReport) -> None:
        """Decodes all audio once (1 s of work for an hour of speech) and keeps what can be read."""
        reasons = why_unreadable(self.cuts, features)
        for index, reason in enumerate(reasons):
            if reason:
                skipped.add(self.cuts.id(index), reason)
        self.cuts = self.cuts.keep([not reason for reason in reasons])
        self.frames = [one for one, reason in zip(self.frames, reasons, strict=True) if not reason]

    def tell_too_fast(self, name: str, left: int, factors: int) -> None:
        """Warns of what :meth:`at_speeds` has left out of a split."""
        total = len(self.cuts) * factors
        if left < total:
            logger.warning(
                "data.%s: left out %d of %d copies at other speeds, too short for their text",
                name,
                total - left,
                total,
            )


def read_usable(paths: Iterable[str], check: TextCheck, skipped: SkipReport) -> UsableCuts:
    """Reads manifests row by row; no audio is read.

    Args:
        paths: Manifests.
        check: What texts and lengths must do for.
        skipped: Told of rows that are no cut, of ids that are there twice, and of what cannot be
            trained on.

    Raises:
        ManifestError: One cannot be read, or has no cuts.
    """
    found = UsableCuts()
    first: dict[str, str] = {}
    unfit: list[tuple[str, str]] = []  # named after lines that are no cut
    for path in paths:
        for row in read_rows(Path(path), skipped):
            name = row.data["id"]
            if name in first:
                skipped.add(name, f"{path}: {first[name]} has this id already")
                continue
            first[name] = path
            found.total += 1
            fit = check(row_text(row.data), row.data["duration"])
            if fit.reason:
                unfit.append((name, fit.reason))
                continue
            found.cuts.add(row)
            found.frames.append(fit.frames)
            found.partly_unknown += bool(fit.unknown)
            found.unknown |= fit.unknown
    for name, reason in unfit:
        skipped.add(name, reason)
    return found


def first_readable(cuts: CutTable, features: LogMelConfig) -> MonoCut:
    """One of a large split that can be read, which is not read as a whole.

    Raises:
        ManifestError: None of those that are tried can be.
    """
    sample = spread(cuts, TRIED)
    reasons = why_unreadable(sample, features)
    for cut, reason in zip(sample, reasons, strict=True):
        if not reason:
            return cut
    raise ManifestError(
        f"none of {len(sample)} utterances that were tried can be read (the first: "
        f"{reasons[0] if reasons else 'there is no cut'}); expected most of them to. "
        "Check the paths in the manifest."
    )


def why_unreadable(cuts: Sequence[MonoCut], features: LogMelConfig) -> list[str]:
    """Why the stored features or the audio of each cut cannot be used; "" where they can."""
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as readers:
        return list(readers.map(lambda cut: _why_unreadable(cut, features), cuts))


def _why_unreadable(cut: MonoCut, features: LogMelConfig) -> str:
    try:
        if cut.has_features:
            check_features(cut, features)
        else:
            load_waveform(cut, cut.sampling_rate)
    except SpeechmmError as error:
        return str(error)
    return ""
