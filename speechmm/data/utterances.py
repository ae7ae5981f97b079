"""Checks the utterances that corpus parsers hand over, and turns them into cuts."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.data.skips import SkipReport
from speechmm.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.supervision import AlignmentItem

    from speechmm.audio.io import AudioInfo

logger = logging.getLogger(__name__)

CHECKS = ("full", "header")
MAX_OVERSHOOT = 0.5  # seconds a segment may end after its recording; Kaldi allows as much
CHECK_BLOCK_SECONDS = 30.0  # decoded at a time, so that an hour of audio needs no more memory


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One utterance with its text, as a parser found it: nothing is checked yet."""

    id: str
    audio: Path
    text: str
    speaker: str | None = None
    language: str | None = None
    translations: Mapping[str, str] = field(default_factory=dict)
    """Of the text, by their languages."""
    start: float = 0.0
    """Seconds from the beginning of the audio file."""
    duration: float | None = None
    """Seconds; None reaches to the end of the file."""
    channel: int | None = None
    """Counted from 0; None means the average of all."""
    alignment: dict[str, list[AlignmentItem]] | None = field(default=None, repr=False)


def make_split_cuts(
    splits: dict[str, list[Utterance]], report: SkipReport, *, check: str = "full"
) -> dict[str, list[MonoCut]]:
    """Cuts of the usable utterances of every split, in the order given; the others are reported.

    ``check="full"`` decodes every file, which finds truncated and damaged audio; ``"header"``
    opens it only. Of utterances with one id the first is kept, looking through test, then dev,
    then the rest: an utterance can never be both trained and tested on.
    """
    if check not in CHECKS:
        raise ConfigError(f"--check: found '{check}'; expected one of {', '.join(CHECKS)}.")
    kept = _without_duplicates(splits, report)
    audio = _inspect_audio({u.audio for chosen in kept.values() for u in chosen}, check)
    cuts: dict[str, list[MonoCut]] = {}
    for split, chosen in kept.items():
        cuts[split] = []
        for utterance in chosen:
            try:
                cuts[split].append(_make_cut(utterance, audio[utterance.audio]))
            except AudioError as error:
                report.add(utterance.id, str(error))
    return cuts


def _without_duplicates(
    splits: dict[str, list[Utterance]], report: SkipReport
) -> dict[str, list[Utterance]]:
    rank = {"test": 0, "dev": 1}
    first_with: dict[str, Utterance] = {}
    kept: dict[str, list[Utterance]] = {split: [] for split in splits}
    for split in sorted(splits, key=lambda name: rank.get(name, 2)):
        for utterance in splits[split]:
            first = first_with.setdefault(utterance.id, utterance)
            if first is not utterance:
                report.add(
                    utterance.id,
                    f"{utterance.audio}: its id is taken by {first.audio}; expected unique ids",
                )
            elif not all(map(_is_text, _written(utterance))):
                report.add(
                    utterance.id,
                    f"{utterance.audio}: its name is not UTF-8, as manifests are; rename it",
                )
            elif not utterance.text.strip():
                report.add(utterance.id, f"{utterance.audio}: the transcript is empty")
            else:
                kept[split].append(utterance)
    return kept


def _written(utterance: Utterance) -> list[str]:
    """All of it that goes into a manifest as text."""
    languages = [utterance.language or "", *utterance.translations]
    texts = [utterance.text, *utterance.translations.values()]
    return [utterance.id, str(utterance.audio), *texts, *languages]


def _is_text(name: str) -> bool:
    """Whether a name the system gave is text at all, in UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _inspect_audio(paths: Iterable[Path], check: str) -> dict[Path, AudioInfo | AudioError]:
    ordered: Sequence[Path] = sorted(paths)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda path: _inspect_one(path, check), ordered)
        return dict(zip(ordered, _with_progress(found, len(ordered)), strict=True))


def _with_progress(
    results: Iterable[AudioInfo | AudioError], total: int
) -> Iterable[AudioInfo | AudioError]:
    if not sys.stderr.isatty():
        return results
    from rich.console import Console
    from rich.progress import track

    return track(results, "checking audio", total=total, console=Console(stderr=True))


def _inspect_one(path: Path, check: str) -> AudioInfo | AudioError:
    from speechmm.audio.io import audio_info, iter_audio

    try:
        info = audio_info(path)
        if check == "full":
            for _ in iter_audio(
                path, sample_rate=info.sample_rate, block_seconds=CHECK_BLOCK_SECONDS
            ):
                pass
    except AudioError as error:
        return error
    return info


def _make_cut(utterance: Utterance, info: AudioInfo | AudioError) -> MonoCut:
    if isinstance(info, AudioError):
        raise info
    from speechmm.data.manifest import make_cut

    return make_cut(
        id=utterance.id,
        audio=utterance.audio,
        text=" ".join(utterance.text.split()),
        speaker=utterance.speaker,
        language=utterance.language,
        translations=utterance.translations,
        start=utterance.start,
        duration=_duration_within(utterance, info),
        alignment=utterance.alignment,
        info=info,
        channel=utterance.channel,
    )


def _duration_within(utterance: Utterance, info: AudioInfo) -> float | None:
    """The utterance's seconds, ended with its recording if it overshoots by a rounding error."""
    start, duration = utterance.start, utterance.duration
    where = f"{utterance.audio}: the segment from {start:.3f} s"
    if not 0 <= start < info.duration:
        raise AudioError(
            f"{where} does not start within the {info.duration:.3f} s of the recording"
        )
    if duration is None:
        return None if start == 0 else info.duration - start
    if not duration > 0:
        raise AudioError(f"{where} lasts {duration:.3f} s; expected a positive number")
    overshoot = start + duration - info.duration
    if overshoot > MAX_OVERSHOOT:
        raise AudioError(
            f"{where} to {start + duration:.3f} s ends {overshoot:.3f} s after the recording does"
        )
    if overshoot > 0:
        logger.info("%s: ended with its recording, %.3f s early", utterance.id, overshoot)
        return info.duration - start
    return duration
