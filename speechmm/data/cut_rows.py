"""Reads the rows of cuts manifests and looks at each, before it becomes an object of lhotse.

A row that has the shape ``prepare`` gives it is looked at as plain data, which takes a tenth of the
time that lhotse's own checks of its objects take; any other row goes through these.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import Features, MonoCut
from lhotse.qa import validate
from lhotse.serialization import deserialize_item

from speechmm.data.channels import AVERAGED
from speechmm.data.skips import SkipReport
from speechmm.errors import ManifestError
from speechmm.files.json_text import fits, parse_json
from speechmm.files.shar import find_shards
from speechmm.files.text import open_lines
from speechmm.text.languages import language_code

_SHAR = "shar"  # as the type of audio and features: they lie in the archives of the folder
_PLACEHOLDER = b'{"type": "shar", "channels": [0], "source": ""}'  # in a row
TRANSLATIONS = "translated_text"
"""Custom field of a supervision, as lhotse's recipes for speech translation have it: texts by language."""
SYNTHETIC = "synthetic"
"""Custom field of cuts that nobody said: true where their speech is synthetic."""
MIN_SPEED = 0.1
"""Audio is played ten times slower at most, and ten times faster."""


@dataclass(frozen=True)
class CutRow:
    """One row of a manifest, found to be a cut."""

    line: bytes
    """As it stands in the file."""
    data: dict[str, Any]
    """What it says; emptied by `to_cut`."""
    archive: Path | None = None
    """The archive that holds its audio, where it is one of lhotse Shar."""

    def to_cut(self) -> MonoCut:
        """The cut as lhotse has it."""
        return make_object(self.data)


def says_synthetic(custom: Mapping[str, Any] | None) -> bool:
    """Whether the custom fields of a cut say that its speech is synthetic."""
    return bool((custom or {}).get(SYNTHETIC))


def make_object(data: dict[str, Any]) -> MonoCut:
    """A row as lhotse's cut, which takes it apart."""
    made: MonoCut = deserialize_item(data)
    return made


def read_rows(path: Path, report: SkipReport) -> Iterator[CutRow]:
    """The rows of a manifest, in its order.

    Args:
        path: ``.jsonl`` or ``.jsonl.gz`` of lhotse cuts, or a folder of lhotse Shar. Rows of the latter
            name as their audio a file in an archive (``recording.000000.tar/ID``).
        report: Told of lines that are no cut, and of ids that were there before.

    Raises:
        ManifestError: It cannot be read, or has no cuts.
    """
    first: dict[str, str] = {}
    shards = find_shards(path)
    for shard in shards:
        for number, line in _numbered_lines(shard.cuts):
            where = f"{shard.cuts}:{number}"
            try:
                row = _read_row(line, shard.archive)
                name = row.data["id"]
                if name in first:
                    raise ValueError(f'id "{name}" was on {first[name]} already')
            except ValueError as error:
                reason = f"{error}; expected one valid cut with its own id. Correct the line"
                report.add(where, ManifestError(f"{where}: {reason}.") if report.strict else reason)
                continue
            first[name] = f"line {number}" if len(shards) == 1 else where
            yield row
    if not first:
        raise ManifestError(
            f'{path}: no usable cuts; expected at least one. Make it with "speechmm prepare".'
        )


def row_text(data: dict[str, Any]) -> str:
    """What is said in a cut, verbatim; "" when the row does not say."""
    return " ".join(s["text"] for s in data.get("supervisions") or () if s.get("text"))


def row_language(data: dict[str, Any]) -> str:
    """The language that is spoken in a cut, by its code; "" where nobody says, or there are several."""
    codes = {language_code(s.get("language") or "") for s in data.get("supervisions") or ()}
    return codes.pop() if len(codes) == 1 else ""


def row_translations(data: dict[str, Any]) -> dict[str, str]:
    """What is said in a cut, by the codes of the languages into which all of it is translated."""
    found: list[dict[str, str]] = []
    for supervision in data.get("supervisions") or ():
        if supervision.get("text"):
            texts = (supervision.get("custom") or {}).get(TRANSLATIONS) or {}
            found.append(
                {language_code(name): text for name, text in texts.items() if text.strip()}
            )
    languages = [name for name in found[0] if all(name in one for one in found)] if found else []
    return {name: " ".join(one[name] for one in found) for name in languages if name}


def _read_row(line: bytes, archive: Path | None) -> CutRow:
    """One row; every way it can be wrong becomes a ValueError."""
    data = _parse_line(line, archive is not None)
    if archive is None:
        return CutRow(line, data)
    sources = (data.get("recording") or {}).get("sources") or []
    if [one["type"] for one in sources] != [_SHAR]:
        return CutRow(json.dumps(data).encode(), data)
    source = sources[0]
    source |= {"type": "file", "source": f"{archive}/{data['id']}"}
    if line.count(_PLACEHOLDER) == 1 and b'"features":' not in line:  # no need to write it anew
        return CutRow(line.replace(_PLACEHOLDER, json.dumps(source).encode()), data, archive)
    kept = source.get("channels")  # of those the recording had once
    if not fits(kept, [int]):
        raise ValueError(f"channels {kept} of its audio")
    if kept != list(range(len(kept))):
        channel = data.get("channel", 0)
        places = [kept.index(one) for one in (channel if isinstance(channel, list) else [channel])]
        data["custom"] = {**(data.get("custom") or {}), AVERAGED: places}
    return CutRow(json.dumps(data).encode(), data, archive)


def _parse_line(line: bytes, in_archive: bool) -> dict[str, Any]:
    """One row; every way it can be wrong becomes a ValueError."""
    try:
        data = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    kind = data.get("type") if isinstance(data, dict) else type(data).__name__
    if kind not in ("MonoCut", "MultiCut"):
        raise ValueError(f"found {kind or 'no cut'}")
    row: dict[str, Any] = data
    if in_archive and _are_in_archive(row.get("features")):
        del row["features"]  # of other settings than ours: they are made anew
    if is_plain(row):
        return row
    if not fits(row, _CUT) or not _fits_where_given(row):
        raise ValueError("not a valid cut (values of other types, or none where one must be)")
    try:
        validate(make_object(deepcopy(row)))
    except Exception as error:  # lhotse takes rows as they come: anything may happen
        raise ValueError(f"not a valid cut ({type(error).__name__}: {error})") from error
    return row


def _are_in_archive(features: Any) -> bool:
    return isinstance(features, dict) and features.get("storage_type") == _SHAR


def is_plain(row: dict[str, Any]) -> bool:
    """Whether a row has the shape that ``prepare`` and ``features`` write, and lhotse finds it valid.

    Said of no row that lhotse would refuse; of others it is only quick to say it.
    """
    try:
        recording, channel = row["recording"], row["channel"]
        (source,) = recording["sources"]
        return (
            row.keys() <= _CUT_KEYS
            and row["type"] == "MonoCut"
            and type(row["id"]) is type(recording["id"]) is str
            and type(channel) is type(recording["num_samples"]) is int
            and type(recording["sampling_rate"]) is int
            and _is_number(row["start"]) >= 0 < _is_number(row["duration"])
            and recording.keys() <= _RECORDING_KEYS
            and recording["sampling_rate"] > 0
            and abs(
                recording["num_samples"] / recording["sampling_rate"]
                - _is_number(recording["duration"])
            )
            < _DURATION_TOLERANCE
            and recording["duration"] > 0
            and channel in recording["channel_ids"]
            and source.keys() == _SOURCE_KEYS
            and type(source["type"]) is type(source["source"]) is str
            and recording["channel_ids"] == source["channels"]
            and {type(one) for one in source["channels"]} == {int}
            and all(
                _is_plain_supervision(one, recording["id"], channel) for one in row["supervisions"]
            )
            and _is_plain_custom(row.get("custom"))
            and _are_plain_features(row.get("features"), channel)
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _is_number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    number: float = value
    return number


def _is_plain_supervision(row: dict[str, Any], recording_id: str, channel: int) -> bool:
    return (
        row.keys() <= _SUPERVISION_KEYS
        and type(row["id"]) is str
        and row["recording_id"] == recording_id
        and type(row["channel"]) is int
        and row["channel"] == channel
        and abs(_is_number(row["start"])) < float("inf")
        and _is_number(row["duration"]) > 0
        and all(type(row.get(name, "")) is str for name in ("text", "speaker", "language"))
        and ("alignment" not in row or _is_supervision(row))
        and (
            "custom" not in row or (row["custom"].keys() == {TRANSLATIONS} and _is_supervision(row))
        )
    )


def _is_plain_custom(custom: Any) -> bool:
    if custom is None:
        return True
    known = custom.keys() <= {AVERAGED, SYNTHETIC} and type(custom.get(SYNTHETIC, True)) is bool
    return bool(known and fits(custom.get(AVERAGED, []), [int]))


def _are_plain_features(features: Any, channel: int) -> bool:
    if features is None:
        return True
    try:
        validate(Features.from_dict(dict(features)))
    except Exception:  # lhotse takes rows as they come: anything may happen
        return False
    return bool(fits(features, {**_FEATURES, **_SPAN}) and features["channels"] == channel)


_CUT_KEYS = {
    "id", "start", "duration", "channel", "supervisions", "recording", "type", "custom", "features",
}  # fmt: skip
_RECORDING_KEYS = {"id", "sources", "sampling_rate", "num_samples", "duration", "channel_ids"}
_SOURCE_KEYS = {"type", "channels", "source"}
_SUPERVISION_KEYS = {
    "id", "recording_id", "start", "duration", "channel", "text", "language", "speaker", "alignment",
    "custom",
}  # fmt: skip
_FEATURES = {
    "type": str,
    "num_frames": int,
    "num_features": int,
    "frame_shift": float,
    "sampling_rate": int,
    "storage_type": str,
    "storage_path": str,
    "storage_key": str,
}
_SPAN = {"start": float, "duration": float}
_CHANNELS = (int, [int])
_DURATION_TOLERANCE = 0.02  # seconds; lhotse allows a little more

_CUT = {"id": str, "start": float, "duration": float}
_SUPERVISION = {"id": str, "start": float, "duration": float}
_RECORDING = {
    "id": str,
    "sampling_rate": int,
    "num_samples": int,
    "duration": float,
    "sources": [{"type": str, "source": str}],
}
_ITEM_LENGTHS = (3, 4)  # symbol, start, duration, and sometimes a score


def _fits_where_given(data: dict[str, Any]) -> bool:
    """Whether the parts of a cut have the types that all code after this takes for granted."""
    supervisions, recording = data.get("supervisions", []), data.get("recording")
    if not fits(supervisions, [_SUPERVISION]) or not all(map(_is_supervision, supervisions)):
        return False
    if not fits(data.get("features"), (_FEATURES, None)) or not fits(
        data.get("channel", 0), _CHANNELS
    ):
        return False
    custom = data.get("custom") or {}
    if not isinstance(custom, dict) or not fits(custom.get(AVERAGED), ([int], None)):
        return False
    if recording is None:
        return True
    return (
        fits(recording, _RECORDING)
        and recording["sampling_rate"] > 0
        and all(map(_is_transform, recording.get("transforms") or []))
    )


def _is_supervision(row: dict[str, Any]) -> bool:
    texts = (row.get(name) for name in ("text", "speaker", "language", "gender"))
    alignment, custom = row.get("alignment"), row.get("custom")
    if not all(fits(text, (str, None)) for text in texts) or not fits(alignment, (dict, None)):
        return False
    if not fits(custom, (dict, None)) or not fits(
        (custom or {}).get(TRANSLATIONS), ({str: str}, None)
    ):
        return False
    units = list((alignment or {}).values())
    return all(isinstance(unit, list) for unit in units) and all(
        isinstance(item, list)
        and len(item) in _ITEM_LENGTHS
        and fits(item[0], str)
        and all(fits(number, (float, None)) for number in item[1:])
        and None not in item[1:3]
        for unit in units
        for item in unit
    )


def _is_transform(row: Any) -> bool:
    """Whether a change of the audio is described, its speed by a factor that makes sense."""
    if not fits(row, {"name": str, "kwargs": {str: object}}):
        return False
    factor = row["kwargs"].get("factor", 1.0)
    return fits(factor, float) and MIN_SPEED <= factor <= 1 / MIN_SPEED


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    try:
        with open_lines(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise ManifestError(
            f'{path}: not found; expected a cuts manifest. Make it with "speechmm prepare".'
        ) from error
    except (OSError, EOFError, zlib.error) as error:  # gzip reports damage with all three
        raise ManifestError(
            f"{path}: cannot be read ({error}); expected a whole .jsonl or .jsonl.gz file. "
            'Make it again with "speechmm prepare".'
        ) from error
