"""Reads texts to learn language from: cuts manifests, plain lines, and files that name utterances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from speechmm.alignments import Alignment, read_alignments
from speechmm.alignments.kinds import kind_of
from speechmm.alignments.scripts import joined_words
from speechmm.alignments.silences import is_silence
from speechmm.alignments.subtitle_files import read_subtitles
from speechmm.alignments.trn_stm import parse_stm_line, parse_trn_line
from speechmm.data.manifest import cut_text, read_cuts
from speechmm.data.skips import SkipReport
from speechmm.errors import ManifestError
from speechmm.files.text import read_lines


def read_texts(path: Path, skipped: SkipReport) -> Iterator[str]:
    """The texts of a file, those without a word left out.

    Args:
        path: A cuts manifest, trn, stm, Kaldi's text, ctm, a TextGrid or subtitles, as `kind_of` tells,
            whose ids and times are no words; or any other file: a sentence a line.
        skipped: Where cuts that cannot be read, and lines that are not UTF-8, are noted.

    Raises:
        ManifestError: The file is missing, or no text is in it.
    """
    found = False
    kind = kind_of(path)
    if kind in ("cuts", "jsonl"):
        texts = _cuts(path, skipped)
    elif kind in ("ctm", "textgrid"):
        texts = map(_words_of, read_alignments(path))
    elif kind == "subtitles":
        texts = (cue.label for cue in read_subtitles(path))
    else:
        texts = _lines(path, skipped, _TEXT_OF_LINE.get(kind, str))
    for text in texts:
        if text.strip():
            found = True
            yield text.strip()
    if not found:
        raise ManifestError(f"{path}: found no text; expected at least one sentence. Check it.")


def _cuts(path: Path, skipped: SkipReport) -> Iterator[str]:
    return (cut_text(cut) for cut in read_cuts(path, skipped))


def _lines(path: Path, skipped: SkipReport, text_of: Callable[[str], str]) -> Iterator[str]:
    for number, line in read_lines(path, skip=skipped.add):
        try:
            yield text_of(line)
        except ValueError as error:
            skipped.add(f"{path}:{number}", f"is not a line of its kind ({error})")


def _words_of(alignment: Alignment) -> str:
    return joined_words([one.label for one in alignment.spoken if not is_silence(one.label)])


def _text_of_trn(line: str) -> str:
    if not line.strip() or line.startswith(";;"):
        return ""
    row = parse_trn_line(line)
    if row is None:
        raise ValueError("no id in parentheses ends it")
    return row[1]


def _text_of_stm(line: str) -> str:
    found = parse_stm_line(line)
    return "" if found is None else found[1].text


def _text_of_kaldi(line: str) -> str:
    return " ".join(line.split()[1:])


_TEXT_OF_LINE: dict[str, Callable[[str], str]] = {
    "trn": _text_of_trn,
    "stm": _text_of_stm,
    "kaldi": _text_of_kaldi,
}
