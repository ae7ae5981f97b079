"""Cuts manifests: lhotse's JSON lines, read and written so that no bad line goes unnamed.

A cut here is one utterance: a span of one audio file with one supervision (text, speaker,
reference alignment). Every time inside a cut is in seconds from the start of the cut.
"""

import gzip
import io
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from jaxtyping import Float
from lhotse import (
    AudioSource,
    CutSet,
    MonoCut,
    Recording,
    SupervisionSegment,
)
from lhotse.augmentation import Speed
from lhotse.qa import validate
from lhotse.serialization import deserialize_item
from lhotse.supervision import AlignmentItem

from speechmm.alignments import Alignment, Segment
from speechmm.audio.augment import perturb_speed
from speechmm.audio.io import AudioInfo, audio_info, read_audio
from speechmm.data.skips import SkipReport, write_aside
from speechmm.errors import ConfigError, ManifestError

__all__ = [
    "SkipReport",
    "audio_path",
    "cut_text",
    "load_waveform",
    "make_cut",
    "read_cuts",
    "reference_alignment",
    "split_by_speaker",
    "write_aside",
    "write_cuts",
]

OVERHANG_SECONDS = 0.05
"""Corpora round the end of their segments; one that ends this much too late ends with its file."""


def write_cuts(cuts: Iterable[MonoCut], path: Path | str) -> int:
    """Write a manifest (``.jsonl`` or ``.jsonl.gz``), checked by lhotse; return how many cuts.

    The same cuts always give the same bytes.

    Raises:
        ManifestError: a cut is not valid, two have the same id, or the file cannot be written.
    """
    path = Path(path)
    seen: set[str] = set()
    with write_aside(path) as aside, _open_for_writing(aside) as file:
        for cut in cuts:
            if cut.id in seen:
                raise ManifestError(
                    f'{path}: id "{cut.id}" is there twice; expected one cut an id. Rename one.'
                )
            seen.add(cut.id)
            _validate(cut, path)
            file.write(json.dumps(cut.to_dict(), ensure_ascii=False) + "\n")
    return len(seen)


def read_cuts(path: Path | str, report: SkipReport | None = None) -> CutSet:
    """Read a whole manifest into memory, in the order of the file.

    Args:
        path: ``.jsonl`` or ``.jsonl.gz`` of lhotse cuts.
        report: where to note lines that cannot be used, and go on; without one they are errors.

    Raises:
        ManifestError: the file is missing, damaged or has no cuts; without ``report`` also a
            broken line, one that is no cut, or an id that was there before, with its number.
    """
    path = Path(path)
    report = SkipReport(strict=True) if report is None else report
    first_line: dict[str, int] = {}
    cuts: list[MonoCut] = []
    for number, line in _numbered_lines(path):
        try:
            cut = _parse_line(line)
            if cut.id in first_line:
                raise ValueError(f'id "{cut.id}" was on line {first_line[cut.id]} already')
        except ValueError as error:
            reason = f"{error}; expected one valid cut with its own id. Correct the line"
            where = f"{path}:{number}"
            report.add(where, ManifestError(f"{where}: {reason}.") if report.strict else reason)
            continue
        first_line[cut.id] = number
        cuts.append(cut)
    if not cuts:
        raise ManifestError(
            f'{path}: no usable cuts; expected at least one. Make it with "speechmm prepare".'
        )
    return CutSet.from_cuts(cuts)


def make_cut(
    *,
    id: str,
    audio: Path | str,
    text: str | None,
    speaker: str | None = None,
    language: str | None = None,
    start: float = 0.0,
    duration: float | None = None,
    alignment: Mapping[str, Iterable[AlignmentItem]] | None = None,
    info: AudioInfo | None = None,
) -> MonoCut:
    """One utterance as a lhotse cut.

    Args:
        id: unique in its manifest.
        audio: the file; kept as an absolute path. All its channels are averaged when it is read.
        text: what is said, verbatim.
        speaker: who says it, None when not known.
        language: its code, when known.
        start: seconds from the start of the file.
        duration: seconds; None for the rest of the file.
        alignment: for "word" and "phone" when each was said, in seconds from the start of the
            *file*; kept relative to the cut, as lhotse does.
        info: what ``audio_info`` said of the file, when it has been asked already.

    Raises:
        AudioError: the file is missing or not audio.
        ManifestError: the span is not inside the file.
    """
    audio = Path(audio).absolute()
    info = audio_info(audio) if info is None else info
    duration = _span_duration(id, audio, start, duration, info)
    recording = Recording(
        id=id if start == 0 and duration == info.duration else audio.stem,
        sources=[AudioSource(type="file", channels=list(range(info.channels)), source=str(audio))],
        sampling_rate=info.sample_rate,
        num_samples=info.num_samples,
        duration=info.num_samples / info.sample_rate,
    )
    items = {unit: list(rows) for unit, rows in (alignment or {}).items()}
    supervision = SupervisionSegment(
        id=id,
        recording_id=recording.id,
        start=0.0,
        duration=duration,
        channel=0,
        text=text,
        language=language,
        speaker=speaker,
        alignment={
            unit: [
                AlignmentItem(row.symbol, row.start - start, row.duration, row.score)
                for row in rows
            ]
            for unit, rows in items.items()
        }
        or None,
    )
    return MonoCut(
        id=id,
        start=start,
        duration=duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
    )


def split_by_speaker(
    cuts: Iterable[MonoCut], *, dev: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, list[MonoCut]]:
    """Divide cuts into "train", "dev" and "test" so that no speaker is in two of them.

    Where there are fewer speakers than splits, no recording is in two of them instead. The
    result depends on the ids and the seed, not on the order of the cuts.

    Args:
        cuts: all utterances of the corpus.
        dev: wanted share of the seconds, in [0, 1); 0 leaves the split empty.
        test: likewise.
        seed: which speakers go where.

    Raises:
        ConfigError: the shares are not in [0, 1) or leave nothing for training.
    """
    if not (0 <= dev < 1 and 0 <= test < 1 and dev + test < 1):
        raise ConfigError(
            f"dev {dev:g} and test {test:g}: expected shares in [0, 1) with a sum below 1. "
            "Give smaller shares."
        )
    cuts = sorted(cuts, key=lambda cut: cut.id)
    total = _seconds(cuts)
    groups = _speaker_groups(cuts, at_least=1 + (dev > 0) + (test > 0))
    random.Random(seed).shuffle(groups)
    splits = {
        "test": _take_share(groups, test * total, leave=1 + (dev > 0)),
        "dev": _take_share(groups, dev * total, leave=1),
    }
    splits["train"] = [cut for group in groups for cut in group]
    names = ("train", "dev", "test")
    return {name: sorted(splits[name], key=lambda cut: cut.id) for name in names}


def load_waveform(cut: MonoCut, sample_rate: int) -> Float[torch.Tensor, "samples"]:
    """The audio of a cut: mono, resampled, with the speed perturbation the cut asks for.

    Raises:
        AudioError: the file cannot be read.
        ManifestError: the cut asks for something other than a span of one file and its speed.
    """
    factor = _speed_factor(cut)
    recording = cut.recording
    whole = cut.start == 0 and abs(cut.duration - recording.duration) < 0.5 / cut.sampling_rate
    waveform = read_audio(
        audio_path(cut),
        sample_rate=sample_rate,
        start=0.0 if whole else cut.start * factor,
        duration=None if whole else cut.duration * factor,
    )
    return waveform if factor == 1.0 else perturb_speed(waveform, factor, sample_rate)


def audio_path(cut: MonoCut) -> Path:
    """The audio file of a cut.

    Raises:
        ManifestError: the cut's audio is not one file.
    """
    sources = cut.recording.sources if cut.recording is not None else []
    if len(sources) != 1 or sources[0].type != "file":
        raise ManifestError(
            f"cut {cut.id}: its audio is {[s.type for s in sources] or 'missing'}; expected one "
            "file. Store the audio in files and prepare the corpus again."
        )
    return Path(sources[0].source)


def cut_text(cut: MonoCut) -> str:
    """What is said in a cut, verbatim; "" when the manifest does not say."""
    return " ".join(s.text for s in cut.supervisions if s.text)


def reference_alignment(cut: MonoCut) -> Alignment | None:
    """When the corpus says each unit was said, in seconds from the start of the cut."""
    units: dict[str, list[Segment]] = {}
    for supervision in cut.supervisions:
        for unit, items in (supervision.alignment or {}).items():
            units.setdefault(unit, []).extend(_segment(item, cut.duration) for item in items)
    if not any(units.values()):
        return None
    return Alignment(id=cut.id, audio=str(audio_path(cut)), duration=cut.duration, units=units)


def _seconds(cuts: Iterable[MonoCut]) -> float:
    return sum(cut.duration for cut in cuts)


def _speaker_groups(cuts: list[MonoCut], *, at_least: int) -> list[list[MonoCut]]:
    """Cuts by speaker, or by recording where speakers are not known or fewer than ``at_least``."""
    by_speaker: dict[str, list[MonoCut]] = {}
    by_audio: dict[str, list[MonoCut]] = {}
    for cut in cuts:
        speaker = next((s.speaker for s in cut.supervisions if s.speaker), "")
        by_speaker.setdefault(speaker, []).append(cut)
        by_audio.setdefault(str(audio_path(cut)), []).append(cut)
    known = "" not in by_speaker and len(by_speaker) >= at_least
    return list((by_speaker if known else by_audio).values())


def _take_share(groups: list[list[MonoCut]], seconds: float, *, leave: int) -> list[MonoCut]:
    """Move groups that come to about ``seconds`` out of ``groups``: one or more, if wanted."""
    if seconds <= 0 or len(groups) <= leave:
        return []
    taken: list[list[MonoCut]] = []
    kept: list[list[MonoCut]] = []
    total = 0.0
    for group in groups:
        closer = abs(total + _seconds(group) - seconds) < abs(total - seconds)
        if closer and len(taken) < len(groups) - leave:
            taken.append(group)
            total += _seconds(group)
        else:
            kept.append(group)
    if not taken:
        kept.sort(key=_seconds, reverse=True)
        taken.append(kept.pop())
    groups[:] = kept
    return [cut for group in taken for cut in group]


def _segment(item: AlignmentItem, duration: float) -> Segment:
    start = min(max(0.0, item.start), duration)
    end = min(max(start, item.start + item.duration), duration)
    return Segment(label=item.symbol, start=start, end=end, confidence=item.score)


def _span_duration(
    id: str, audio: Path, start: float, duration: float | None, info: AudioInfo
) -> float:
    total = info.num_samples / info.sample_rate
    if duration is None:
        duration = total - start
    end = start + duration
    if not (start >= 0 and duration > 0 and end <= total + OVERHANG_SECONDS):
        raise ManifestError(
            f"{id}: the span {start:g} to {end:g} s of {audio}; expected one inside its "
            f"{total:.3f} s. Correct the times."
        )
    return min(duration, total - start)


def _speed_factor(cut: MonoCut) -> float:
    factor = 1.0
    for transform in cut.recording.transforms or []:
        if isinstance(transform, dict):
            known = transform.get("name") == "Speed"
            value = transform.get("kwargs", {}).get("factor") if known else None
        else:
            value = transform.factor if isinstance(transform, Speed) else None
        if value is None:
            name = (
                transform.get("name") if isinstance(transform, dict) else type(transform).__name__
            )
            raise ManifestError(
                f"cut {cut.id}: its recording asks for the transform {name}; expected Speed or "
                "none. Store the changed audio in files."
            )
        factor *= float(value)
    return factor


def _validate(cut: MonoCut, path: Path) -> None:
    try:
        validate(cut)
    except AssertionError as error:
        raise ManifestError(
            f"{path}: cut {cut.id} is not valid ({error}). Correct its source."
        ) from error


def _parse_line(line: bytes) -> MonoCut:
    """One cut; every way it can be wrong becomes a ValueError."""
    try:
        data = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from error
    kind = data.get("type") if isinstance(data, dict) else type(data).__name__
    if kind not in ("MonoCut", "MultiCut"):
        raise ValueError(f"found {kind or 'no cut'}")
    try:
        cut: MonoCut = deserialize_item(data)
        validate(cut)
    except (AssertionError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a valid cut ({type(error).__name__}: {error})") from error
    return cut


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise ManifestError(
            f'{path}: not found; expected a cuts manifest. Make it with "speechmm prepare".'
        ) from error
    except (OSError, EOFError) as error:  # gzip reports damage with both
        raise ManifestError(
            f"{path}: cannot be read ({error}); expected a whole .jsonl or .jsonl.gz file. "
            'Make it again with "speechmm prepare".'
        ) from error


@contextmanager
def _open_for_writing(path: Path) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with (
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
            ):
                yield text
        else:
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
                yield text
