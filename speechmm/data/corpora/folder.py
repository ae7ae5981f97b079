"""Parses any corpus in a folder: audio with text files beside it, or with a table of transcripts.

Where the corpus says who speaks and what is train, dev or test, that is kept; otherwise dev and
test are drawn, by speaker where speakers are known.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechmm.audio.files import AUDIO_SUFFIXES, audio_among, unreadable_among
from speechmm.data.corpora.options import CHECK, DRAWN_SPLITS, LANGUAGE, Option
from speechmm.data.ids import common_folder
from speechmm.data.skips import SkipReport
from speechmm.data.splits import SPLIT_NAMES, draw_missing
from speechmm.data.transcripts.audio_lookup import AudioLookup
from speechmm.data.transcripts.columns import NamedColumns
from speechmm.data.transcripts.find import find_tables
from speechmm.data.transcripts.rows import read_tables
from speechmm.data.transcripts.sidecars import read_sidecars
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ConfigError, ManifestError
from speechmm.files.tree import list_files
from speechmm.text.languages import is_language

if TYPE_CHECKING:
    from lhotse import MonoCut

ABOUT = "any corpus: audio with text files beside it, or with a table"
OPTIONS = (
    Option(
        name="transcripts",
        type=Path,
        metavar="FILE",
        help="table of transcripts; found when not given",
    ),
    Option(
        name="speakers",
        choices=("auto", "table", "none"),
        default="auto",
        help="who speaks: the table says, or else the folders (auto); the table; nobody knows",
    ),
    *DRAWN_SPLITS,
    LANGUAGE,
    Option(
        name="language_column",
        metavar="NAME",
        help="column of the table that says which language is spoken; guessed when not given",
    ),
    Option(
        name="translation_column",
        metavar="NAME",
        help="column of the table that has each text in another language; guessed when not given",
    ),
    Option(
        name="translation_language",
        metavar="CODE",
        help="language of the translations, such as en, where the table is silent",
    ),
    CHECK,
)

logger = logging.getLogger(__name__)


def prepare(
    root: Path,
    report: SkipReport,
    *,
    transcripts: Path | None = None,
    dev: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    speakers: str = "auto",
    language: str | None = None,
    language_column: str | None = None,
    translation_column: str | None = None,
    translation_language: str | None = None,
    check: str = "full",
) -> dict[str, list[MonoCut]]:
    """Cuts of the recordings in ``root`` and the folders below it.

    Args:
        root: Folder of the corpus.
        report: Where recordings and transcripts that cannot be used are named.
        transcripts: A table; None looks for one, and for text files beside the recordings.
        dev: Share of the speech to take for dev where the corpus has no split of its own.
        test: Likewise.
        seed: Another seed draws other dev and test sets.
        speakers: "auto" takes them from the table, or from the folders the recordings lie in when
            all lie in one of two or more; "table" from the table only; "none" from nowhere.
        language: Code of the language, where the table does not say.
        language_column: Name of the column that says it; None guesses.
        translation_column: Name of the column with translations; None guesses.
        translation_language: Code of their language, where the table does not say.
        check: "full" decodes every recording, "header" opens it.

    Raises:
        ManifestError: There is no audio, or no table or none that can be read.
        ConfigError: A language cannot be one, or no table has what is said of its columns.
    """
    named = _named_columns(language, language_column, translation_column, translation_language)
    root = root.absolute()
    files = list_files(root)
    audio, unreadable = audio_among(files), unreadable_among(files)
    if unreadable and not audio and transcripts is None:
        first = next(iter(unreadable.values()))
        raise ManifestError(f"{first} None of the {len(unreadable)} recordings here can be read.")
    tables = find_tables(root, files) if transcripts is None else [_locate(transcripts, root)]
    if not audio and not tables:
        raise ManifestError(
            f"{root}: found no audio; expected files named {', '.join(sorted(AUDIO_SUFFIXES))}. "
            "Check the folder."
        )
    if tables:
        logger.info("transcripts: %s", ", ".join(str(table) for table in tables))
        splits = read_tables(tables, AudioLookup(root, audio), report, named)
    else:
        if named.columns or named.translation_language:
            raise ConfigError(
                f"--translation-language and flags of columns: {root} has a text file beside each "
                "recording and no table; expected a table. Name one with --transcripts, or leave them out."
            )
        for path, error in unreadable.items():
            report.add(path.relative_to(root).as_posix(), error)
        splits = {"": read_sidecars(root, files, audio, report)}
    splits = _use_folder_names(splits, speakers, report)
    if language is not None:
        splits = {
            split: [replace(u, language=u.language or language) for u in utterances]
            for split, utterances in splits.items()
        }
    cuts = make_split_cuts(splits, report, check=check)
    if "train" not in cuts or not cuts["train"]:
        return cuts
    return draw_missing(cuts, report, dev=dev, test=test, seed=seed)


def _named_columns(
    language: str | None,
    language_column: str | None,
    translation_column: str | None,
    translation_language: str | None,
) -> NamedColumns:
    """What is said of the columns.

    Raises:
        ConfigError: A language cannot be one.
    """
    given = {"--language": language, "--translation-language": translation_language}
    for flag, code in given.items():
        if code is not None and not is_language(code):
            raise ConfigError(
                f"{flag}: found {code!r}; expected the code of a language, such as en or pt-br. Correct it."
            )
    columns = {"language": language_column, "translation": translation_column}
    return NamedColumns(
        columns={role: name for role, name in columns.items() if name is not None},
        translation_language=translation_language,
    )


def _locate(transcripts: Path, root: Path) -> Path:
    """The table, which may be named as it is seen from the corpus."""
    inside = root / transcripts
    return inside if inside.is_file() and not transcripts.is_file() else transcripts.absolute()


def _use_folder_names(
    splits: dict[str, list[Utterance]], speakers: str, report: SkipReport
) -> dict[str, list[Utterance]]:
    """Splits and speakers by the folders of the recordings, where no transcript tells them."""
    everything = [u for utterances in splits.values() for u in utterances]
    present = [u.audio for u in everything if u.audio.is_file()]
    if not present:
        return {"train": everything}
    top = common_folder(present)
    if set(splits) == {""}:
        splits = _split_by_folder(everything, top, report)
    if speakers == "none":
        return {
            split: [replace(u, speaker=None) for u in utterances]
            for split, utterances in splits.items()
        }
    if speakers == "table" or any(u.speaker for u in everything):
        return splits
    names = {audio: _speaker_folder(audio, top) for audio in present}
    if "" in names.values() or len(set(names.values())) < 2:
        return splits
    logger.info(
        "speakers: %d, by the folders of the recordings (--speakers none turns this off)",
        len(set(names.values())),
    )
    return {
        split: [replace(u, speaker=names.get(u.audio)) for u in utterances]
        for split, utterances in splits.items()
    }


def _split_by_folder(
    utterances: list[Utterance], top: Path, report: SkipReport
) -> dict[str, list[Utterance]]:
    """The splits of folders named train, dev and test; what is in no such folder is trained on."""
    by_split: dict[str, list[Utterance]] = {}
    others: set[str] = set()
    for utterance in utterances:
        split = "train"  # of what is not there, and will be reported
        if utterance.audio.is_file():
            first = utterance.audio.relative_to(top).parts[0]
            split = SPLIT_NAMES.get(first.lower(), "train")
            if first.lower() not in SPLIT_NAMES:
                others.add(first)
        by_split.setdefault(split, []).append(utterance)
    if "train" not in by_split or len(by_split) == 1:
        return {"train": utterances}
    if others:
        few = ", ".join(sorted(others)[:3]) + (", ..." if len(others) > 3 else "")
        report.remark(f"{few}: in no folder of a split, trained on")
    logger.info("splits: by the folders %s", ", ".join(sorted(by_split)))
    return by_split


def _speaker_folder(audio: Path, top: Path) -> str:
    """The first folder below the one of all recordings that is no split; "" when there is none."""
    folders = audio.relative_to(top).parts[:-1]
    if folders and folders[0].lower() in SPLIT_NAMES:
        folders = folders[1:]
    return folders[0] if folders else ""
