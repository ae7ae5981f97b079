"""Tells the columns of a transcript table apart: by the header's names, or by what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from speechmm.data.splits import SPLIT_NAMES
from speechmm.errors import ManifestError

Roles = dict[str, int]
"""Role to column: "text", "id" or "audio" or both, and what else is there."""

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
        "text",
        "sentence",
        "transcript",
        "transcription",
        "normalized_text",
        "normalized_transcription",
        "normalized_transcript",
        "raw_text",
        "raw_transcription",
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
    "language": ["language", "lang", "locale"],
    "start": ["start", "start_time", "begin", "start_seconds"],
    "end": ["end", "end_time", "stop", "end_seconds"],
}
"""What people call a column, the likeliest first; case, blanks and hyphens do not matter."""


def roles_from_header(path: Path, names: list[str], *, has_data: bool) -> Roles | None:
    """The columns by their names, or None when this line is no header.

    Args:
        path: The table, for the message.
        names: Fields of the first line.
        has_data: Whether one of them names a recording.

    Raises:
        ManifestError: It is a header, without a column for the text or for the recording.
    """
    plain = ["_".join(name.strip().strip('"').lower().replace("-", " ").split()) for name in names]
    roles: Roles = {}
    for role, known in HEADER_NAMES.items():
        column = next((plain.index(name) for name in known if name in plain), None)
        if column is not None:
            roles[role] = column
    if "text" not in roles and "utterance" in plain and "audio" in roles:
        roles["text"] = plain.index("utterance")
        if roles.get("id") == roles["text"]:
            del roles["id"]
    named = {"audio", "id", "text"} & roles.keys()
    if not named or (has_data and len(roles) < 2):
        return None
    if "text" not in roles or len(named) < 2:
        if len(names) < 2:
            return None
        missing = "text" if "text" not in roles else "audio"
        raise ManifestError(
            f"{path}:1: found the columns {', '.join(names)}; expected one for the "
            f"{'text' if missing == 'text' else 'recording'}, named for example "
            f"{', '.join(HEADER_NAMES[missing][:3])}. Rename it in the first line."
        )
    return roles


def roles_from_data(
    path: Path, records: list[list[str]], names_audio: Callable[[str], bool]
) -> tuple[Roles, int]:
    """The columns of a table without header, and how many there are.

    The recording is the column most of whose values name one; of the others, the text is the one
    that looks like sentences. LJSpeech's ``id|text|normalized text`` gives the normalized text.

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
        others = _set_aside(columns, others, roles)
    if not others and "speaker" in roles:  # one word a line, such as yes and no
        others = [roles.pop("speaker")]
    if len(others) == 2 and _say_the_same(columns[others[0]], columns[others[1]]):
        others = others[1:]
    if len(others) != 1:
        raise ManifestError(
            f"{path}:1: {width} columns without names, '{' | '.join(records[0])[:80]}'; cannot "
            "tell which is the text. Give them names in a first line, such as id, speaker, text."
        )
    return {**roles, "text": others[0]}, width


def _set_aside(columns: list[list[str]], others: list[int], roles: Roles) -> list[int]:
    """Take splits, speakers and numbers from the columns that may be the text."""
    kept = []
    for i in others:
        values = columns[i]
        distinct = {value.lower() for value in values}
        if distinct <= SPLIT_NAMES.keys():
            roles.setdefault("split", i)
        elif len(distinct) < len(values) and not any(" " in value for value in values):
            if "speaker" in roles:
                kept.append(i)
            else:
                roles["speaker"] = i
        elif not all(_is_number(value) for value in values):
            kept.append(i)
    return kept


def _say_the_same(first: list[str], second: list[str]) -> bool:
    """Whether two columns are a text and its normalized form: mostly the same first letters."""
    alike = sum(a[:2].lower() == b[:2].lower() for a, b in zip(first, second, strict=False))
    return alike * 2 > len(first)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
