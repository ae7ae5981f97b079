"""Parses the lines that texts are kept in: rows of JSON, cuts, trn, Kaldi's and plain ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speechmm.alignments.scripts import joined_words
from speechmm.alignments.trn_stm import parse_trn_line
from speechmm.data.channels import averaged_channels
from speechmm.errors import ManifestError
from speechmm.files.json_text import parse_json
from speechmm.text.languages import language_code


@dataclass(frozen=True)
class UtteranceText:
    """One utterance's text, and what else its file says of it."""

    text: str
    speaker: str = ""
    language: str = ""
    """Of the text, by its code; "" when not known."""
    audio: str = ""
    """Path of the audio file, "" when not known."""
    start: float = 0.0
    """Seconds from the start of the audio file."""
    duration: float = 0.0
    """Seconds; 0 when not known."""
    confidence: float | None = None
    word_confidences: tuple[float, ...] = ()
    """Of the words in their order; empty when not known."""
    word_times: tuple[tuple[float, float], ...] = ()
    """Starts and ends in seconds from the start of the audio file; empty when not known."""
    word_labels: tuple[str, ...] = ()
    """The words whose times these are; empty when not known."""
    not_scored: tuple[tuple[float, float], ...] = ()
    """Spans of a reference, seconds from the start of the audio file, in which nothing counts."""
    channels: tuple[int, ...] = ()
    """Those of the audio file that are averaged, counted from 0; empty means all."""

    def confidences_between_spaces(self) -> tuple[float, ...]:
        """The least confidence of the parts of each word of the text; as they are where these do not fit.

        Letters of scripts without spaces are words in files; a text has words between spaces alone.
        """
        parts = iter(zip(self.word_labels, self.word_confidences, strict=False))
        confidences: list[float] = []
        for word in self.text.split():
            said, least = "", 1.0
            while said != word:
                label, confidence = next(parts, ("", 0.0))
                if not label or not word.startswith(said + label):
                    return self.word_confidences
                said, least = said + label, min(least, confidence)
            confidences.append(least)
        return tuple(confidences) if next(parts, None) is None else self.word_confidences


Row = tuple[str, UtteranceText] | None
"""Id and text; None for a line that holds no utterance."""
LineParser = Callable[[str, str], Row]
"""Takes a line, and where it stands."""


def json_line(line: str, where: str) -> Row:
    """A transcript row of the interface, or an alignment row, whose words are its text."""
    if not line.strip():
        return None
    try:
        return row_text(parse_json(line))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{where}: no transcript row ({type(error).__name__}: {error}); expected JSON with id "
            'and text. Write it with "speechmm transcribe --format jsonl".'
        ) from error


def row_text(row: Mapping[str, Any]) -> tuple[str, UtteranceText]:
    """Id and text of a row as `Transcript.to_dict` makes it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is no such row.
    """
    return str(row["id"]), UtteranceText(
        _string(row["text"]) if "text" in row else _aligned_words(row),
        speaker=str(row.get("speaker") or ""),
        language=language_code(str(row.get("language") or "")),
        audio=str(row.get("audio") or ""),
        start=float(row.get("start") or 0),
        duration=float(row.get("duration") or 0),
        confidence=_confidence(row.get("confidence")),
        word_confidences=_word_confidences(row.get("words")),
        word_times=_word_times(row.get("words")),
        word_labels=_word_labels(row.get("words")),
        channels=averaged_channels(row.get("channels"), None),
    )


def cut_line(line: str, where: str) -> Row:
    """Only what scoring needs of a cut: twenty times faster than all of lhotse's."""
    if not line.strip():
        return None
    try:
        row: Any = parse_json(line)
        spoken = row.get("supervisions") or []
        sources = (row.get("recording") or {}).get("sources") or []
        in_file = len(sources) == 1 and sources[0].get("type") == "file"
        return str(row["id"]), UtteranceText(
            " ".join(_string(one["text"]) for one in spoken if one.get("text")),
            speaker=next((str(one["speaker"]) for one in spoken if one.get("speaker")), ""),
            language=_language(spoken),
            audio=str(sources[0]["source"]) if in_file else "",
            start=float(row.get("start") or 0),
            duration=float(row["duration"]),
            channels=averaged_channels(row.get("channel"), row.get("custom")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{where}: no valid cut ({type(error).__name__}: {error}); expected a row of a cuts "
            'manifest. Make it again with "speechmm prepare".'
        ) from error


def _language(spoken: Sequence[Mapping[str, Any]]) -> str:
    """That of all supervisions."""
    codes = {language_code(str(one.get("language") or "")) for one in spoken}
    return codes.pop() if len(codes) == 1 else ""


def _aligned_words(row: Mapping[str, Any]) -> str:
    """The text of an alignment row, which has no other than its words."""
    if "units" not in row:
        raise KeyError("text")
    return joined_words([_string(word["label"]) for word in row["units"]["word"]])


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"the text is {value!r}, not a string")
    return value


def _confidence(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _word_confidences(words: Any) -> tuple[float, ...]:
    """Of all words, or of none."""
    found = [_confidence(word.get("confidence")) for word in words or ()]
    known = tuple(value for value in found if value is not None)
    return known if len(known) == len(found) else ()


def _word_times(words: Any) -> tuple[tuple[float, float], ...]:
    """Of all words, or of none."""
    found = [(word.get("start"), word.get("end")) for word in words or ()]
    if any(start is None or end is None for start, end in found):
        return ()
    return tuple((float(start), float(end)) for start, end in found)


def _word_labels(words: Any) -> tuple[str, ...]:
    """Of all words, or of none."""
    found = [word.get("word") for word in words or ()]
    return tuple(found) if all(isinstance(label, str) for label in found) else ()


def trn_line(line: str, where: str) -> Row:
    """``words (id)``."""
    if not line.strip() or line.startswith(";;"):
        return None
    row = parse_trn_line(line)
    if row is None:
        raise ManifestError(
            f'{where}: found {line[-60:]!r}; expected "words (utterance-id)". Correct the line.'
        )
    return row[0], UtteranceText(row[1])


def kaldi_line(line: str, where: str) -> Row:
    """``id words``."""
    fields = line.split(maxsplit=1)
    return (fields[0], UtteranceText(" ".join(fields[1:]))) if fields else None


def plain_line(line: str, where: str) -> Row:
    """Words only."""
    return "", UtteranceText(line)
