"""Begins a training where the universal aligner has the words: their times lead the first alignments."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
from lhotse import MonoCut

from speechmm.data.guides import Guides, Times
from speechmm.data.manifest import cut_language, cut_text
from speechmm.data.skips import named_failure
from speechmm.data.waveforms import audio_path, load_recorded, recorded_span
from speechmm.errors import ConfigError, SpeechmmError
from speechmm.files.archives import find_member
from speechmm.files.atomic import write_text
from speechmm.files.json_text import fits, parse_json, to_json
from speechmm.files.stamps import make_stamp
from speechmm.files.text import read_text
from speechmm.inference.alignment.aligner_folder import (
    UNIVERSAL,
    load_corpus_aligner,
    pronouncing,
    read_config,
)
from speechmm.inference.alignment.corpus_aligner import mean_margin
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.placed_text import guessed_voices
from speechmm.inference.alignment.token_path import word_segments
from speechmm.inference.alignment.trust import unfit
from speechmm.inference.engine.sources import Source
from speechmm.text.phonemes import has_espeak
from speechmm.text.tokenizer import Tokenizer
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.processes import gather_from_processes, share_of_process
from speechmm.training.starting_point import StartingPoint
from speechmm.training.tasks import TasksConfig

logger = logging.getLogger(__name__)

WORD_TIMES = "word_times.jsonl"
"""File of the run folder: where the words of the training utterances are thought to be."""
FORMAT = "speechmm-word-times/1"
_DECIMALS = 4
"""Of seconds in the file."""
_MOST_NAMED = 5

Row = dict[str, Any]
"""A line of the file: the name of an ``utterance``, an ``id`` it has, its ``words`` and their ``fit``
(nats a frame, 0 or less), or the ``reason`` why there are none."""
_ROW = {"utterance": str, "id": str}
_WORDS = {"fit": float, "words": [[float]]}


def check_universal(start: StartingPoint, tasks: TasksConfig) -> None:
    """Refuses times of words where nothing asks for them.

    Raises:
        ConfigError: The alignment head is not trained, or nothing leads it.
    """
    align = tasks.align
    if start.universal and not (align.weight and align.warmup_steps):
        raise ConfigError(
            f"init_from is universal and model.tasks.align has weight {align.weight}, warmup_steps "
            f"{align.warmup_steps}; expected both to be positive, as the universal aligner leads this task "
            "while it warms up. Raise them, or leave init_from out (a bundle of that name is ./universal)."
        )


def start_guides(start: StartingPoint, data: SpeechDataModule, trainer: L.Trainer) -> None:
    """Has the training batches of a data module say where words are, if that is asked for.

    What the run folder knows already is read; the processes of a training share out the rest.

    Raises:
        ConfigError: No utterance can be placed, or the run folder cannot be written to.
    """
    if not start.universal:
        return
    finder = WordFinder(data.text_tokenizer)
    wanted: dict[str, MonoCut] = {}
    places: dict[tuple[str, str], str] = {}
    for name, cuts in data.training_sets().items():
        for cut in cuts:
            stamp = finder.stamp(cut)
            if stamp is not None:
                wanted.setdefault(stamp, cut)
                places[name, cut.id] = stamp
    path = Path(trainer.default_root_dir) / WORD_TIMES
    rows, said = _find_all(finder, wanted, path, trainer)
    good, bad = _judged([rows[stamp] for stamp in wanted])
    if not good:
        reason = bad[0] if bad else "its audio is not one file"
        raise ConfigError(
            f"init_from is universal and of {len(wanted)} training utterances none can be placed (the "
            f"first: {reason.rstrip('.')}); expected texts and languages that the universal aligner can "
            "pronounce. Correct language in the manifest, or leave init_from out."
        )
    if trainer.is_global_zero:
        guessed = finder.guessed(wanted.values())
        if guessed is not None:
            logger.info("%s; language in the manifest is more exact", guessed)
        logger.info(
            "init_from universal: words of %d of %d utterances %s", len(good), len(rows), said
        )
        _tell_others(bad)
    times = {key: good[stamp] for key, stamp in places.items() if stamp in good}
    data.guides = Guides(times, data.text_tokenizer)


class WordFinder:
    """Finds the words of utterances by the universal aligner."""

    def __init__(self, tokenizer: Tokenizer):
        """Loads the aligner.

        Args:
            tokenizer: Of the training. One of phones pronounces texts of which no language is known.
        """
        self._aligner = load_corpus_aligner(UNIVERSAL)
        self._weights = read_config(UNIVERSAL)["weights_sha256"]
        self._voice = tokenizer.language if tokenizer.kind == "phone" and has_espeak() else None
        self._otherwise = pronouncing(self._aligner, self._voice)

    def stamp(self, cut: MonoCut) -> str | None:
        """Names an utterance by all that decides where its words are found; None without audio of its own.

        Copies at other speeds have one name.
        """
        try:
            audio, start, duration, channels = recorded_span(cut)
        except SpeechmmError:  # whose audio is not one file: the training will say so
            return None
        member = find_member(audio)
        length = None if duration is None else round(duration, 2)
        span = [str(audio), round(start, 2), length, channels]
        said = [cut_text(cut), cut_language(cut), self._voice, has_espeak()]
        inputs = [audio if member is None else member[0]]
        return make_stamp([FORMAT, self._weights, *span, *said], inputs)

    def find(self, cut: MonoCut, stamp: str) -> Row:
        """The words of an utterance as it was recorded, at whatever speed the cut is."""
        row: Row = {"utterance": stamp, "id": cut.id}
        try:
            return row | self._found(cut)
        except Exception as error:
            return row | {"reason": str(named_failure(cut.id, error))}

    def _found(self, cut: MonoCut) -> Row:
        rate = self._aligner.features.sample_rate
        source = _source(cut)
        aligner = self._aligner if source.language else self._otherwise
        source = replace(source, waveform=load_recorded(cut, rate))
        frames, parts = aligner.place(source)
        if aligner.unfit_spans(parts):
            return {"reason": f"{cut.id}: parts of it do not fit their text"}
        clock = FrameGrid.of(aligner.features).clock(frames, source.duration(rate))
        words = [
            [round(word.start, _DECIMALS), round(word.end, _DECIMALS)]
            for part in parts
            for word in word_segments(part.path, part.text.aligned, clock)
        ]
        return {"fit": round(mean_margin(parts), _DECIMALS), "words": words}

    def guessed(self, cuts: Iterable[MonoCut]) -> str | None:
        """Which voices were chosen by the script of texts, in a sentence; None where none were."""
        return guessed_voices(map(_source, cuts)) if self._voice is None else None


def _source(cut: MonoCut) -> Source:
    return Source(id=cut.id, audio=str(audio_path(cut)), text=cut_text(cut), cut=cut)


def _find_all(
    finder: WordFinder, wanted: Mapping[str, MonoCut], path: Path, trainer: L.Trainer
) -> tuple[dict[str, Row], str]:
    """The rows of all utterances, those that were not in the file computed; the file holds them then.

    Returns:
        The rows, and what was done for them, to be said.
    """
    known = gather_from_processes(read_rows(path) if trainer.is_global_zero else {})[0]
    rows = {stamp: known[stamp] for stamp in wanted if stamp in known}
    missing = [stamp for stamp in wanted if stamp not in rows]
    began = time.monotonic()
    own = share_of_process(missing, trainer, what="init_from universal")
    found = [finder.find(wanted[stamp], stamp) for stamp in own]
    rows |= {row["utterance"]: row for some in gather_from_processes(found) for row in some}
    if not missing:
        return rows, f"known from {path}"
    if trainer.is_global_zero:
        lines = [to_json(rows[stamp]) + "\n" for stamp in wanted]
        write_text(path, "".join(lines), ours=True)
    return rows, f"found; {len(missing)} were aligned in {time.monotonic() - began:.0f} s"


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of a file by the names of their utterances; lines that mean nothing are left out."""
    try:
        lines = read_text(path).splitlines()
    except SpeechmmError:
        return {}
    rows: dict[str, Row] = {}
    for line in lines:
        with suppress(ValueError):
            row = parse_json(line)
            whole = fits(row, _WORDS) and all(len(times) == 2 for times in row["words"])
            if fits(row, _ROW) and (whole or fits(row, {"reason": str})):
                rows[row["utterance"]] = row
    return rows


def _judged(rows: Sequence[Row]) -> tuple[dict[str, Times], list[str]]:
    """The word times to be led by, by utterance, and why others have none."""
    placed = [row for row in rows if "words" in row]
    far: set[int] = set()
    if placed:
        margins = [row["fit"] for row in placed]
        far = {one for shared in (True, False) for one in unfit(margins, shared=shared)}
    good: dict[str, Times] = {
        row["utterance"]: [(start, end) for start, end in row["words"]]
        for one, row in enumerate(placed)
        if one not in far
    }
    bad = [row["reason"] for row in rows if "words" not in row]
    bad += [
        f"{placed[one]['id']}: its text fits the recording badly, and may be wrong"
        for one in sorted(far)
    ]
    return good, bad


def _tell_others(reasons: Sequence[str]) -> None:
    """Says why utterances are not led."""
    for reason in reasons[:_MOST_NAMED]:
        logger.info("  without times: %s", reason)
    if len(reasons) > _MOST_NAMED:
        logger.info("  and %d more", len(reasons) - _MOST_NAMED)
