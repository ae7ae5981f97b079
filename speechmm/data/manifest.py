"""Reads and writes cuts manifests (lhotse's JSON lines) so that no bad line goes unnamed.

A cut here is one utterance: a span of one audio file with one supervision (text, speaker,
reference alignment). Times are in seconds: that of a supervision from the start of its cut, those of
its alignment from the start of the recording, which is how lhotse has them.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from lhotse import (
    AudioSource,
    CutSet,
    MonoCut,
    Recording,
    SupervisionSegment,
)
from lhotse.qa import validate
from lhotse.supervision import AlignmentItem

from speechmm.alignments import Alignment, Segment
from speechmm.audio.channels import check_channels
from speechmm.audio.io import AudioInfo, audio_info
from speechmm.data.channels import AVERAGED
from speechmm.data.cut_rows import (
    TRANSLATIONS,
    read_rows,
    row_language,
    row_translations,
    says_synthetic,
)
from speechmm.data.skips import SkipReport
from speechmm.data.waveforms import audio_path, chosen_channels
from speechmm.errors import ManifestError
from speechmm.files.atomic import write_aside

OVERHANG_SECONDS = 0.05
"""Corpora round the end of their segments; one that ends this much too late ends with its file."""


def write_cuts(cuts: Iterable[MonoCut], path: Path | str, *, ours: bool = False) -> int:
    """Write a manifest (``.jsonl`` or ``.jsonl.gz``), checked by lhotse; return how many cuts.

    The same cuts always give the same bytes. ``ours`` is what it is to `write_aside`.

    Raises:
        ManifestError: a cut is not valid, two have the same id, or the file cannot be written.
    """
    path = Path(path)
    seen: set[str] = set()
    with write_aside(path, ours=ours) as aside, _open_for_writing(aside) as file:
        for cut in cuts:
            if cut.id in seen:
                raise ManifestError(
                    f'{path}: id "{cut.id}" is there twice; expected one cut an id. Rename one.'
                )
            seen.add(cut.id)
            _validate(cut, path)
            file.write(_json_line(cut))
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
    report = SkipReport(strict=True) if report is None else report
    return CutSet.from_cuts(row.to_cut() for row in read_rows(Path(path), report))


def make_cut(
    *,
    id: str,
    audio: Path | str,
    text: str | None,
    speaker: str | None = None,
    language: str | None = None,
    translations: Mapping[str, str] | None = None,
    start: float = 0.0,
    duration: float | None = None,
    alignment: Mapping[str, Iterable[AlignmentItem]] | None = None,
    info: AudioInfo | None = None,
    channel: int | None = None,
    custom: Mapping[str, Any] | None = None,
) -> MonoCut:
    """One utterance as a lhotse cut.

    Args:
        id: unique in its manifest.
        audio: the file; kept as an absolute path.
        text: what is said, verbatim.
        speaker: who says it, None when not known.
        language: its code, when known.
        translations: of the text, by the codes of their languages.
        start: seconds from the start of the file.
        duration: seconds; None for the rest of the file.
        alignment: for "word" and "phone" when each was said, in seconds from the start of the
            *file*, as lhotse keeps it.
        info: what ``audio_info`` said of the file, when it has been asked already.
        channel: counted from 0; None means the average of all, which the cut's custom field
            ``averaged_channels`` then says.
        custom: more custom fields.

    Raises:
        AudioError: the file is missing, not audio, or has no such channel.
        ManifestError: the span is not inside the file.
    """
    audio = Path(audio).absolute()
    info = audio_info(audio) if info is None else info
    if channel is not None:
        check_channels([channel], info.channels, audio)
    averaged = channel is None and info.channels > 1
    fields = {AVERAGED: list(range(info.channels))} if averaged else {}
    duration = _span_duration(id, audio, start, duration, info)
    recording = _recording(id if duration == info.duration else audio.stem, audio, info)
    supervision = SupervisionSegment(
        id=id,
        recording_id=recording.id,
        start=0.0,
        duration=duration,
        channel=channel or 0,
        text=text,
        language=language,
        speaker=speaker,
        custom={TRANSLATIONS: dict(translations)} if translations else None,
        alignment={unit: list(rows) for unit, rows in (alignment or {}).items()} or None,
    )
    return MonoCut(
        id=id,
        start=start,
        duration=duration,
        channel=channel or 0,
        supervisions=[supervision],
        recording=recording,
        custom=(fields | dict(custom or {})) or None,
    )


def _recording(id: str, audio: Path, info: AudioInfo) -> Recording:
    source = AudioSource(type="file", channels=list(range(info.channels)), source=str(audio))
    return Recording(
        id=id,
        sources=[source],
        sampling_rate=info.sample_rate,
        num_samples=info.num_samples,
        duration=info.num_samples / info.sample_rate,
    )


def cut_text(cut: MonoCut) -> str:
    """What is said in a cut, verbatim; "" when the manifest does not say."""
    return " ".join(s.text for s in cut.supervisions if s.text)


def cut_language(cut: MonoCut) -> str:
    """The language that is spoken in a cut, as `row_language` says it."""
    return row_language({"supervisions": [{"language": s.language} for s in cut.supervisions]})


def cut_translations(cut: MonoCut) -> dict[str, str]:
    """What is said in a cut in other languages, as `row_translations` says it."""
    return row_translations(
        {"supervisions": [{"text": s.text, "custom": s.custom} for s in cut.supervisions]}
    )


def is_synthetic(cut: MonoCut) -> bool:
    """Whether a cut says that its speech is synthetic."""
    return says_synthetic(cut.custom)


def reference_alignment(cut: MonoCut) -> Alignment | None:
    """When the corpus says each unit was said, in seconds from the start of the cut."""
    units: dict[str, list[Segment]] = {}
    for supervision in cut.supervisions:
        for unit, items in (supervision.alignment or {}).items():
            units.setdefault(unit, []).extend(_segment(item, cut) for item in items)
    if not any(units.values()):
        return None
    return Alignment(
        id=cut.id,
        audio=str(audio_path(cut)),
        start=cut.start,
        duration=cut.duration,
        channels=chosen_channels(cut),
        units=units,
    )


def _segment(item: AlignmentItem, cut: MonoCut) -> Segment:
    begin = item.start - cut.start
    start = min(max(0.0, begin), cut.duration)
    end = min(max(start, begin + item.duration), cut.duration)
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


def _json_line(cut: MonoCut) -> bytes:
    row = cut.to_dict()
    try:
        line = json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:  # a path that is not UTF-8: escapes keep its bytes
        line = json.dumps(row).encode("ascii")
    return line + b"\n"


def _validate(cut: MonoCut, path: Path) -> None:
    try:
        validate(cut)
    except AssertionError as error:
        raise ManifestError(
            f"{path}: cut {cut.id} is not valid ({error}). Correct its source."
        ) from error


@contextmanager
def _open_for_writing(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        else:
            yield raw
