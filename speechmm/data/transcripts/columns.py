"""Tells the columns of a transcript table apart: by the header's names, or by what is in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from speechmm.data.splits import SPLIT_NAMES
from speechmm.errors import ConfigError, ManifestError

Roles = dict[str, int]
"""Role to column: "text", "id" or "audio" or both, and what else is there; "translation:en" where a column
name says into which language; "plain_text" beside a normalized text, which may be empty."""


@dataclass(frozen=True, kw_only=True)
class NamedColumns:
    """What a user says of the columns of a table, which are guessed otherwise."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns by their roles."""
    translation_language: str | None = None
    """Of translations whose language no column says."""

    @property
    def ask_for_translations(self) -> bool:
        """Whether there are to be some."""
        return "translation" in self.columns or self.translation_language is not None


_PLAIN_TEXTS = (
    "text",
    "sentence",
    "transcript",
    "transcription",
    "raw_text",
    "raw_transcription",
)
HEADER_NAMES = {
    "audio": [
        "path",
        "audio_path",
        "file_path",
        "filepath",
        "wav_path",
        "audio_filepath",
        "audio_file",
        "wav_file",
        "wav_filename",
        "audio_filename",
        "filename",
        "file_name",
        "file",
        "wav",
        "audio",
        "clip",
        "recording",
    ],
    "id": [
        "id",
        "utterance_id",
        "utt_id",
        "uttid",
        "utt",
        "utterance",
        "file_id",
        "fileid",
        "audio_id",
        "segment_id",
        "key",
        "name",
    ],
    "text": [
        "normalized_text",
        "normalized_transcription",
        "normalized_transcript",
        *_PLAIN_TEXTS,
        "words",
        "orthography",
        "prompt",
        "label",
    ],
    "speaker": [
        "speaker",
        "speaker_id",
        "spk",
        "spk_id",
        "spkid",
        "client_id",
        "speaker_name",
        "reader_id",
        "user_id",
    ],
    "split": ["split", "set", "subset", "partition"],
    "language": ["language", "lang", "locale", "source_language", "source_lang", "src_lang"],
    "translation": [
        "translation",
        "translated_text",
        "translated_sentence",
        "target_text",
        "tgt_text",
        "target",
    ],
    "translation_language": [
        "translation_language",
        "translation_lang",
        "target_language",
        "target_lang",
        "tgt_lang",
    ],
    "start": ["start", "start_time", "begin", "start_seconds"],
    "end": ["end", "end_time", "stop", "end_seconds"],
}
"""What people call a column, the likeliest first; case, blanks and hyphens do not matter."""
_EXAMPLES = {"text": "text, sentence, transcript", "audio": "path, audio_path, file_path"}
_NUMBER = re.compile(r"[+-]?\d*[.,]?\d+")
_TRANSLATION_INTO = re.compile(r"translation_([a-z]{2,3}(_[a-z]{2,4})?)")
_NO_LANGUAGES = {"translation_id"}  # an id more likely than Indonesian


def roles_from_header(
    path: Path, names: list[str], *, has_data: bool, named: Mapping[str, str] | None = None
) -> Roles | None:
    """The columns by their names, or None when this line is no header.

    Args:
        path: The table, for the message.
        names: Fields of the first line.
        has_data: Whether one of them names a recording.
        named: Names of columns that a user gives, by their roles.

    Raises:
        ManifestError: It is a header, without a column for the text or for the recording.
    """
    plain = [_plain(name) for name in names]
    roles: Roles = {}
    for role, known in HEADER_NAMES.items():
        column = next((plain.index(name) for name in known if name in plain), None)
        if column is not None:
            roles[role] = column
    if "text" not in roles and "utterance" in plain and "audio" in roles:
        roles["text"] = plain.index("utterance")
        if roles.get("id") == roles["text"]:
            del roles["id"]
    needed = {"audio", "id", "text"} & roles.keys()
    if not needed or (has_data and len(roles) < 2):
        return None
    if "text" not in roles or len(needed) < 2:
        if len(names) < 2:
            return None
        missing = "text" if "text" not in roles else "audio"
        raise ManifestError(
            f"{path}:1: found the columns {', '.join(names)}; expected one for the "
            f"{'text' if missing == 'text' else 'recording'}, named for example "
            f"{_EXAMPLES[missing]}. Rename it in the first line."
        )
    written = next((plain.index(name) for name in _PLAIN_TEXTS if name in plain), roles["text"])
    if written != roles["text"]:
        roles["plain_text"] = written
    for column, name in enumerate(plain):
        into = _TRANSLATION_INTO.fullmatch(name)
        if into and name not in _NO_LANGUAGES and column not in roles.values():
            roles[f"translation:{into[1]}"] = column
    return roles | _named_columns(path, names, named or {})


def _plain(name: str) -> str:
    return "_".join(name.strip().strip('"').lower().replace("-", " ").split())


def _named_columns(path: Path, names: list[str], named: Mapping[str, str]) -> Roles:
    """The columns that a user names.

    Raises:
        ConfigError: There is no such column.
    """
    plain = [_plain(name) for name in names]
    found: Roles = {}
    for role, name in named.items():
        if _plain(name) not in plain:
            raise ConfigError(
                f"--{role.replace('_', '-')}-column: found {name!r}; expected one of the columns of "
                f"{path}: {', '.join(names)}. Name one of these."
            )
        into = _TRANSLATION_INTO.fullmatch(_plain(name)) if role == "translation" else None
        found[f"translation:{into[1]}" if into else role] = plain.index(_plain(name))
    return found


def roles_from_data(
    path: Path,
    records: list[list[str]],
    names_audio: Callable[[str], bool],
    in_folders: Callable[[Iterable[str]], bool] | None = None,
) -> tuple[Roles, int]:
    """The columns of a table without header, and how many there are.

    The recording is the column most of whose values name one; of the others, the text is the one
    that looks like sentences. LJSpeech's ``id|text|normalized text`` gives the normalized text.

    Args:
        path: The table, for the message.
        records: Fields of every line.
        names_audio: Whether a value is the name of a recording.
        in_folders: Whether the recordings of these names lie in several folders; not when None.

    Raises:
        ManifestError: The text could be one of several columns.
    """
    width = Counter(map(len, records)).most_common(1)[0][0]
    if width < 2:
        width = max(2, min(map(len, records)))
    records = [fields for fields in records if len(fields) == width] or records
    columns = [[fields[i].strip() for fields in records if len(fields) > i] for i in range(width)]
    hits = [sum(map(names_audio, column)) for column in columns]
    audio = hits.index(max(hits))
    roles: Roles = {"audio": audio}
    others = [i for i in range(width) if i != audio]
    if len(others) > 1:
        several = in_folders is not None and in_folders(columns[audio])
        others = _set_aside(columns, others, roles, in_folders=several)
    if len(others) == 2 and _say_the_same(columns[others[0]], columns[others[1]]):
        others = others[1:]
    if len(others) != 1:
        raise ManifestError(
            f"{path}:1: {width} columns without names, '{' | '.join(records[0])[:80]}'; cannot "
            "tell which is the text. Give them names in a first line, such as id, speaker, text."
        )
    return {**roles, "text": others[0]}, width


def _set_aside(
    columns: list[list[str]], others: list[int], roles: Roles, *, in_folders: bool
) -> list[int]:
    """Take splits, numbers and speakers from the columns that may be the text.

    Numbers with decimals (durations) and integers that hardly repeat (lengths, ages) are nobody's
    names. The speaker is the one column of words that repeat; one word in all rows tells no speakers
    apart, and is none where folders do. Where no column looks like sentences, those that repeat may
    all be the text, such as yes and no.
    """
    texts: list[int] = []
    repeated: list[int] = []
    constant: list[int] = []
    for i in others:
        values = columns[i]
        distinct = {value.lower() for value in values}
        if distinct <= SPLIT_NAMES.keys():
            roles.setdefault("split", i)
        elif distinct == {""} or _are_measures(values):
            continue
        elif len(distinct) < len(values) and not any(" " in value for value in values):
            (repeated if len(distinct) > 1 else constant).append(i)
        else:
            texts.append(i)
    if not texts or len(repeated) > 1:
        return sorted(texts + repeated + ([] if texts else constant))
    speakers = repeated or ([] if in_folders else constant)
    if len(speakers) == 1:
        roles["speaker"] = speakers[0]
    return texts


def _are_measures(values: list[str]) -> bool:
    """Whether a column holds numbers that are no names: with decimals, or hardly any of them twice."""
    given = [value for value in values if value]
    if not all(map(_NUMBER.fullmatch, given)):
        return False
    return len(set(given)) * 2 > len(given) or not all(map(str.isdecimal, given))


def _say_the_same(first: list[str], second: list[str]) -> bool:
    """Whether two columns are a text and its normalized form: mostly the same first letters."""
    alike = sum(a[:2].lower() == b[:2].lower() for a, b in zip(first, second, strict=False))
    return alike * 2 > len(first)
