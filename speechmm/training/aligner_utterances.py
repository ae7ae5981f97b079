"""Reads the utterances that an aligner learns from, and keeps them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.skips import SkipReport, named_failure
from speechmm.errors import AlignmentError, ConfigError, SpeechmmError
from speechmm.inference.alignment.corpus_aligner import (
    ONE_PASS_SECONDS,
    CorpusAligner,
    read_log_mel,
)
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.placed_text import PlacedText, place_text, utterance_voice
from speechmm.inference.alignment.viterbi import Ints
from speechmm.inference.engine.sources import Source
from speechmm.options import EACH
from speechmm.text.align_units import AlignUnits
from speechmm.text.lexicon import Lexicon


@dataclass
class Utterance:
    """One utterance in memory."""

    name: str
    log_mel: Float[Tensor, "frames n_mels"]
    text: PlacedText
    states: Ints | None = None
    """The state of each frame, as last aligned."""

    @property
    def columns(self) -> Ints:
        """The class of each frame."""
        assert self.states is not None
        columns: Ints = self.text.graph.columns[self.states]
        return columns

    @property
    def token_classes(self) -> Ints:
        """The class of each token in the flat start: silence first, then the units."""
        classes: Ints = np.asarray(self.text.aligned.ids, np.int64) + 1
        return classes


def with_texts(
    sources: Iterable[Source], language: str | None, skipped: SkipReport
) -> Iterator[Source]:
    """The sources that have some audio and a text that can be pronounced, the text with them.

    Args:
        sources: Of a corpus.
        language: As ``AlignUnits`` has it.
        skipped: Where the others are noted.
    """
    for source in sources:
        try:
            source.duration(1)  # which audio that cannot be opened has not
            _voice_of(source, language)
            yield replace(source, text=source.transcript())
        except Exception as error:
            skipped.add(source.name, named_failure(source.name, error))


def cut_long(
    sources: Iterable[Source],
    aligner: Callable[[], CorpusAligner],
    skipped: SkipReport,
    rate: int,
    report: Callable[[str], None],
) -> Iterator[Source]:
    """The sources, each recording above a minute cut into parts with their texts.

    Args:
        sources: Of a corpus, with their texts.
        aligner: Gives the one that places the texts of long recordings; parts which fit them badly are left
            out.
        skipped: Where recordings are noted that cannot be cut.
        rate: Hz of audio in memory.
        report: Told what becomes of each.
    """
    for source in sources:
        try:
            if source.duration(rate) <= ONE_PASS_SECONDS:
                yield source
                continue
            parts = list(_parts(source, aligner()))
        except Exception as error:
            skipped.add(source.name, named_failure(source.name, error))
            continue
        report(f"{source.name}: cut into {len(parts)} parts to learn from")
        yield from parts


def units_of(
    sources: Sequence[Source], language: str | None, lexicon: Lexicon | None, rare: int
) -> AlignUnits:
    """The units of the texts, pronounced by one voice or each by its own."""
    texts = [(one.transcript(), _voice_of(one, language)) for one in sources]
    return AlignUnits.of(texts, language, lexicon=lexicon, rare=rare)


def _parts(source: Source, aligner: CorpusAligner) -> Iterator[Source]:
    """The parts of a long recording that fit their text."""
    try:
        frames, parts = aligner.place(source)
    except ConfigError:  # no voice for its language: letters as signs of the IPA
        aligner = replace(aligner, units=replace(aligner.units, language=None))
        frames, parts = aligner.place(source)
    rate = aligner.features.sample_rate
    clock = FrameGrid.of(aligner.features).clock(frames, source.duration(rate))
    unfit = aligner.unfit_spans(parts)
    for number, part in enumerate(parts, 1):
        if any(first <= part.first < last for first, last in unfit):
            continue
        start, end = clock.seconds(part.first), clock.seconds(part.last)
        found = replace(
            source, id=f"{source.id}-{number:04d}", text=" ".join(part.text.aligned.words)
        )
        if source.waveform is not None:
            yield replace(found, waveform=source.waveform[round(start * rate) : round(end * rate)])
            continue
        from speechmm.data.manifest import make_cut

        cut = source.cut or make_cut(
            id=source.id, audio=source.audio, text=None, channel=source.channel
        )
        own = cut.truncate(offset=start, duration=min(end, cut.duration) - start)
        yield replace(found, cut=own, start=own.start)


def _voice_of(source: Source, language: str | None) -> str | None:
    return utterance_voice(source) if language == EACH else language


def read_utterances(
    sources: Iterable[Source],
    units: AlignUnits,
    features: LogMelConfig,
    note: Callable[[str, SpeechmmError], None],
    *,
    most_frames: int,
) -> Iterator[Utterance]:
    """Utterances until there are so many frames; ``note`` is told the names of those of no use, and why."""
    frames = 0
    for source in sources:
        if frames >= most_frames:
            return
        try:
            text = place_text(units, source)
            log_mel = read_log_mel(source, features)
            tokens = sum(label != "" for label in text.labels)
            if tokens > len(log_mel):
                raise AlignmentError(
                    f"{source.name}: the text has {tokens} units, the audio {len(log_mel)} frames; "
                    "expected a frame for each. Check that the text belongs to the audio."
                )
        except Exception as error:
            note(source.name, named_failure(source.name, error))
            continue
        frames += len(log_mel)
        yield Utterance(source.name, log_mel, text)


def batches_of_like_length(
    utterances: Iterable[Utterance], most_frames: int, random: torch.Generator
) -> list[list[Utterance]]:
    """Batches of utterances of like length, drawn in another order every time.

    Args:
        utterances: All are in one batch.
        most_frames: Of a batch with its padding, but for an utterance that is longer by itself.
        random: Draws the order of the batches.
    """
    batches: list[list[Utterance]] = []
    for one in sorted(utterances, key=lambda one: len(one.log_mel)):
        if batches and len(one.log_mel) * (len(batches[-1]) + 1) <= most_frames:
            batches[-1].append(one)
        else:
            batches.append([one])
    shuffled = torch.randperm(len(batches), generator=random).tolist()
    return [batches[place] for place in shuffled]


def padded_tokens(batch: Sequence[Utterance]) -> tuple[Tensor, Tensor]:
    """The classes of the tokens of a batch, padded, and their numbers."""
    rows = [torch.from_numpy(one.token_classes) for one in batch]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(
        [len(row) for row in rows]
    )
