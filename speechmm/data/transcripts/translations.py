"""Reads the translations that the rows of a transcript table have, each with its language."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from speechmm.data.skips import SkipReport
from speechmm.data.transcripts.columns import HEADER_NAMES, NamedColumns
from speechmm.data.transcripts.tables import Row
from speechmm.errors import ConfigError
from speechmm.text.languages import is_language, language_code

logger = logging.getLogger(__name__)

_INTO = "translation:"


def read_translations(
    rows: Sequence[Row], named: NamedColumns, report: SkipReport
) -> list[dict[str, str]] | list[dict[str, str] | None]:
    """Of each row its translations by their languages; None for a row that is reported instead.

    Translations whose language nobody says are left out, all of them with one warning.

    Args:
        rows: Of the tables of a corpus.
        named: What a user says of the columns.
        report: Where rows are named whose translations have no language, or no possible one.

    Raises:
        ConfigError: A user asks for translations and there are none, or none whose language is known.
    """
    given = named.translation_language
    roles = {role for row in rows for role in row.values}
    if rows and named.ask_for_translations and not any(map(_is_translation, roles)):
        raise ConfigError(
            "--translation-language: no table has a column of translations; expected one named "
            f"{', '.join(HEADER_NAMES['translation'][:2])} or translation_en. Name it with "
            "--translation-column."
        )
    if "translation" not in roles or given is not None or "translation_language" in roles:
        return [_of_row(row, given, report) for row in rows]
    if named.ask_for_translations:
        raise ConfigError(
            "--translation-column: nothing says which language its translations are in; expected a column "
            "translation_language, or --translation-language CODE. Add one of these."
        )
    logger.warning(
        "the column of translations is left out: nothing says which language they are in "
        "(--translation-language CODE does)"
    )
    return [_of_row(row, None, report, only=_INTO) for row in rows]


def _is_translation(role: str) -> bool:
    return role == "translation" or role.startswith(_INTO)


def _of_row(
    row: Row, given: str | None, report: SkipReport, only: str = ""
) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for role, text in row.values.items():
        if not text or not _is_translation(role) or not role.startswith(only):
            continue
        language = role.removeprefix(_INTO)
        if role == "translation":
            language = row.values.get("translation_language") or given or ""
        if not is_language(language):
            name = row.values.get("id") or row.values.get("audio") or f"line {row.line}"
            report.add(
                name,
                f"line {row.line}: found {language!r} as the language of its translation; expected a code "
                "such as en",
            )
            return None
        found[language_code(language)] = " ".join(text.split())
    return found
