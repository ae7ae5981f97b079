"""Reads reference translations: those of cuts in one language, or any other file of texts as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from speechmm.alignments.kinds import kind_of
from speechmm.errors import ConfigError, ManifestError
from speechmm.evaluation.text_lines import UtteranceText, cut_line
from speechmm.evaluation.text_sets import TextSet, read_text_set
from speechmm.files.json_text import parse_json
from speechmm.files.pipes import is_readable
from speechmm.files.shar import cut_files, is_shar
from speechmm.files.text import all_lines
from speechmm.text.languages import known_language


def read_translations(path: Path, language: str | None = None) -> TextSet:
    """The translations of cuts; of a file of another kind its texts, as `read_text_set` has them.

    Cuts without a translation into the language are left out.

    Args:
        path: A cuts manifest, a folder of lhotse Shar, or any file of texts.
        language: Into which, of cuts; None where they have translations into one language only.

    Raises:
        ManifestError: The file is missing or broken, or has no translation.
        ConfigError: There are several languages and none is given, or it is none of them.
    """
    if not (is_readable(path) or is_shar(path)) or kind_of(path) != "cuts":
        if language is not None:
            raise ConfigError(
                f"--target-language: {path} is no cuts manifest; expected one, of whose translations it "
                "chooses. Leave it out."
            )
        return read_text_set(path)
    found = _read(path)
    known = tuple(sorted({name for _, texts in found.values() for name in texts}))
    if not known:
        raise ManifestError(
            f"{path}: none of its {len(found)} cuts has a translation; expected some. Prepare it with a "
            "column of translations, or give a file of reference translations."
        )
    if language is None and len(known) > 1:
        raise ConfigError(
            f"--target-language: none is given; expected one of {', '.join(known)}, into which {path} has "
            "translations. Choose one of these."
        )
    chosen = known[0]
    if language is not None:
        chosen = known_language(
            language,
            known,
            asked_by="--target-language",
            learned="into which there are translations",
        )
    rows = {
        name: replace(utterance, text=texts[chosen], language=chosen)
        for name, (utterance, texts) in found.items()
        if chosen in texts
    }
    return TextSet(path, rows, "cuts")


def _read(path: Path) -> dict[str, tuple[UtteranceText, dict[str, str]]]:
    """Every cut with its translations, by id."""
    from speechmm.data.cut_rows import row_translations

    found: dict[str, tuple[UtteranceText, dict[str, str]]] = {}
    for part in cut_files(path):
        for number, line in enumerate(all_lines(part), 1):
            where = f"{part}:{number}"
            row = cut_line(line, where)
            if row is None:
                continue
            name, utterance = row
            if name in found:
                raise ManifestError(
                    f'{where}: id "{name}" is there twice; expected one cut an id. Remove one.'
                )
            try:
                found[name] = utterance, row_translations(parse_json(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ManifestError(
                    f"{where}: its translations are none ({type(error).__name__}: {error}); expected texts "
                    'by language. Make it again with "speechmm prepare".'
                ) from error
    return found
