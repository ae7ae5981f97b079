"""Matches utterance ids across file formats that cannot hold every id as it is."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from speechmm.files.atomic import safe_name

Value = TypeVar("Value")


_NOT_IN_IDS = re.compile(r"[\s()\ufeff]|^;|%(?=[0-9A-F]{2})")
"""White space, parentheses, the start of a comment, and what would be taken for an escape."""


def id_without_spaces(id: str) -> str:
    """An id as other tools' tables hold it: "_" for every run of white space."""
    return "_".join(id.split()) or "_"


def escaped_id(id: str) -> str:
    """An id as ctm, trn and stm hold it: some signs as in a URL, so that different ids stay so."""
    return _NOT_IN_IDS.sub(percent_escaped, id)


def unescaped_id(written: str) -> str:
    """The id that `escaped_id` wrote; one that it did not write stays as it is."""
    id = unquote(written, errors="surrogateescape")
    return id if escaped_id(id) == written else written


def looks_like_id(word: str) -> bool:
    """Whether a word is more likely an id than a word of a text: utt1, s1-u2, 0001, a_b."""
    digits = sum(letter.isdigit() for letter in word)
    inner = word.strip("-_/'’.,")
    return 0 < digits < len(word) or digits >= 4 or any(sign in inner for sign in "-_/")


def id_of_file(file: Path) -> str:
    """The id a file is named after, as `safe_name` writes it."""
    return unquote(file.stem, errors="surrogateescape")


def percent_escaped(match: re.Match[str]) -> str:
    """What was matched, as in a URL."""
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8"))


def match_ids(found: Mapping[str, Value], references: Collection[str]) -> dict[str, Value]:
    """What was found, under the ids of the references.

    An id that is not there itself is looked for as files may write it: without spaces, escaped, or
    as the name of a file. Where several ids would do, none does. What belongs to no reference keeps
    its id.
    """
    own = set(references)
    by_form: dict[str, set[str]] = {}
    for reference in own - found.keys():
        for form in _forms(reference):
            by_form.setdefault(form, set()).add(reference)
    claims: dict[str, list[str]] = {}
    for id in found:
        if id not in own:
            fitting = set().union(*(by_form.get(form, set()) for form in _forms(id)))
            if len(fitting) == 1:
                claims.setdefault(fitting.pop(), []).append(id)
    renamed = {ids[0]: reference for reference, ids in claims.items() if len(ids) == 1}
    return {renamed.get(id, id): value for id, value in found.items()}


def _forms(id: str) -> set[str]:
    """What different formats make of an id, in one spelling each."""
    plain = unicodedata.normalize("NFC", unquote(id, errors="surrogateescape"))
    return {id_without_spaces(plain), safe_name(id)}
