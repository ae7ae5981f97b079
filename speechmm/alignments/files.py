"""Writes and reads alignments: which format goes into which file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from speechmm.alignments.ctm import ctm_lines, read_ctm
from speechmm.alignments.durations import DURATIONS_FILE, write_durations
from speechmm.alignments.ids import id_of_file
from speechmm.alignments.jsonl import jsonl_line, read_jsonl
from speechmm.alignments.kinds import kind_of
from speechmm.alignments.segments import Alignment
from speechmm.alignments.subtitle_files import SUBTITLE_SUFFIXES
from speechmm.alignments.subtitles import format_ass, format_srt, format_vtt, group_words
from speechmm.alignments.textgrid import format_textgrid
from speechmm.alignments.textgrid_files import read_textgrid
from speechmm.errors import AlignmentError, ConfigError
from speechmm.files.atomic import STDOUT, safe_name, write_aside, write_text
from speechmm.files.tree import list_files
from speechmm.options import ALIGNMENT_FORMATS


def write_alignments(
    alignments: Iterable[Alignment],
    out: Path,
    format: str,
    *,
    frame_shift: float = 0.01,
    ranges: bool = False,
) -> list[Path]:
    """Writes alignments, one after another as they come, in a format other programs read.

    "jsonl" and "ctm" make one file, "durations" a folder. "srt", "vtt", "ass" and "textgrid" make a
    folder with a file for each alignment, named by its id; or the one file ``out``, when its name
    ends in ``.srt``, ``.vtt``, ``.ass`` or ``.TextGrid`` or is ``-``, standard output (then for one
    alignment only). "ctm" holds the first unit, subtitles the words, "textgrid" a tier for every
    unit, "durations" the finest.

    Args:
        alignments: What to write; ids must differ.
        out: File or folder; missing folders are made. Each file appears whole or not at all.
        format: One of ``ALIGNMENT_FORMATS``.
        frame_shift: Seconds per frame of "durations".
        ranges: "textgrid" gets tiers of points, which say between which times each edge lies.

    Returns:
        The files written, without the single ones of a "durations" folder.

    Raises:
        ConfigError: The format is unknown, the place cannot be written, or one file was named for
            several alignments.
        AlignmentError: Two alignments have one id, or segments overlap where the format cannot
            say so.
    """
    if format not in ALIGNMENT_FORMATS:
        raise ConfigError(
            f"format: found {format!r}; expected one of {', '.join(ALIGNMENT_FORMATS)}. "
            "Choose one of these."
        )
    if format in ("jsonl", "ctm"):
        return [_write_lines(_distinct(alignments), out, format)]
    if format == "durations":
        return [write_durations(_distinct(alignments), out, frame_shift=frame_shift)]
    return _write_each(_distinct(alignments), out, format, ranges=ranges)


def read_alignments(path: str | Path, units: Sequence[str] | None = None) -> list[Alignment]:
    """Reads alignments from a jsonl or ctm file, a TextGrid or a folder of TextGrids.

    The kind is told by the file's content. A ctm file does not name its unit: it is the first of
    ``units``, or "word". TextGrid tiers "words", "phones" and the like become "word" and "phone".

    Args:
        path: File or folder (searched with the folders below it).
        units: Keep these units only; None keeps all.

    Raises:
        AlignmentError: There is nothing to read, or it is damaged; the line is named.
    """
    path = Path(path)
    if path.is_dir():
        found = [_read_textgrid_file(file) for file in _textgrids(path)]
        _check_ids(found, path)
    else:
        found = _read_file(path, units)
    if not found:
        raise AlignmentError(f"{path}: no alignment is in it; expected some. Check the path.")
    if units is None:
        return found
    return [_only(alignment, units) for alignment in found]


def _write_lines(alignments: Iterable[Alignment], out: Path, format: str) -> Path:
    with (
        write_aside(out) as aside,
        aside.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        for alignment in alignments:
            if format == "jsonl":
                file.write(jsonl_line(alignment.to_dict()))
            else:
                file.writelines(ctm_lines(alignment))
    return out


def _write_each(
    alignments: Iterable[Alignment], out: Path, format: str, *, ranges: bool
) -> list[Path]:
    """A file per alignment in a folder, or one file, which the name says, or standard output."""
    suffix = ".TextGrid" if format == "textgrid" else f".{format}"
    text_of = partial(format_textgrid, ranges=True) if ranges else _FORMATTERS[format]
    if out == STDOUT or (out.suffix.lower() == suffix.lower() and not out.is_dir()):
        return _write_one(alignments, out, text_of)
    written = []
    for alignment in alignments:
        written.append(out / f"{safe_name(alignment.id)}{suffix}")
        write_text(written[-1], text_of(alignment), ours=True)
    return written


def _write_one(
    alignments: Iterable[Alignment], out: Path, text_of: Callable[[Alignment], str]
) -> list[Path]:
    texts = [text_of(alignment) for alignment in islice(alignments, 2)]
    if len(texts) > 1:
        raise ConfigError(
            f"{out}: it is one file, and there are several alignments; expected a folder for them. "
            f'Name a folder, such as "{"aligned" if out == STDOUT else out.with_suffix("")}".'
        )
    for text in texts:
        write_text(out, text)
    return [out] * len(texts)


_FORMATTERS: dict[str, Callable[[Alignment], str]] = {
    "srt": lambda alignment: format_srt(group_words(alignment.spoken)),
    "vtt": lambda alignment: format_vtt(group_words(alignment.spoken)),
    "ass": format_ass,
    "textgrid": format_textgrid,
}


def _distinct(alignments: Iterable[Alignment]) -> Iterator[Alignment]:
    """The same alignments; raises at the second of one name."""
    seen = set()
    for alignment in alignments:
        if alignment.id in seen:
            raise AlignmentError(
                f"{alignment.id}: two alignments have this id; expected ids that differ. "
                "Rename one utterance."
            )
        seen.add(alignment.id)
        yield alignment


def _read_file(path: Path, units: Sequence[str] | None) -> list[Alignment]:
    try:
        path.open("rb").close()
    except OSError as error:
        raise AlignmentError(
            f"{path}: cannot be read ({error.strerror}); expected alignments in jsonl, ctm or "
            "TextGrid. Check the path."
        ) from error
    kind = kind_of(path)
    if kind == "subtitles":
        raise _without_word_times(path)
    if kind == "textgrid":
        return [_read_textgrid_file(path)]
    if kind in ("cuts", "jsonl"):
        return read_jsonl(path)
    return read_ctm(path, unit=units[0] if units else "word")


def _textgrids(folder: Path) -> list[Path]:
    files = list_files(folder)
    found = [file for file in files if file.suffix.lower() == ".textgrid"]
    if not found:
        subtitles = [file for file in files if file.suffix.lower() in SUBTITLE_SUFFIXES]
        if subtitles:
            raise _without_word_times(subtitles[0])
        if (folder / DURATIONS_FILE).is_file():
            raise AlignmentError(
                f"{folder}: durations count frames, and do not say how long a frame is; expected "
                "jsonl, ctm or TextGrid. Write the alignments again with another --format."
            )
        raise AlignmentError(
            f"{folder}: no TextGrid is in this folder; expected files that end in .TextGrid. "
            "Check the path."
        )
    return found


def _without_word_times(file: Path) -> AlignmentError:
    return AlignmentError(
        f"{file}: subtitles say when a line is shown, not when each word is said; expected jsonl, "
        "ctm or TextGrid. Write the alignments again with another --format."
    )


def _read_textgrid_file(file: Path) -> Alignment:
    return read_textgrid(file, id=id_of_file(file))


def _check_ids(alignments: list[Alignment], folder: Path) -> None:
    for id, count in Counter(alignment.id for alignment in alignments).items():
        if count > 1:
            raise AlignmentError(
                f"{folder}: two TextGrids are named {id!r}; expected one for each utterance. "
                "Rename one."
            )


def _only(alignment: Alignment, units: Sequence[str]) -> Alignment:
    kept = {unit: alignment.units[unit] for unit in units if unit in alignment.units}
    return replace(alignment, units=kept)
