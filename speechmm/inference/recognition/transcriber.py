"""What was said in audio of any length, and how sure the model is of each word."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alternative, Segment, Transcript
from speechmm.data.skips import SkipReport
from speechmm.inference.alignment.word_times import time_words
from speechmm.inference.engine.chunks import Piece, Steps, WaveformEncoder, run
from speechmm.inference.engine.sources import Source, cut_sources, file_sources
from speechmm.inference.recognition.confidence import Calibration, mean_probability
from speechmm.inference.recognition.fusion.scorer import Scorer
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.search import search
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding
from speechmm.options import BATCH_SECONDS
from speechmm.text.tokenizer import SPACE, Tokenizer

if TYPE_CHECKING:
    from lhotse import MonoCut

LONGEST_PIECE_SECONDS = 20.0
"""Longer audio is cut at its quietest places; audio longer than what the model was trained on, too."""
SHORTEST_PIECE_SECONDS = 5.0
LEAST_LONGEST_SECONDS, LEAST_SHORTEST_SECONDS = 4.0, 1.0
"""Pieces may be as long as the first and are no shorter than the second, however short the utterances
of the training were."""
UNCALIBRATED = Calibration()
PARTS = ("reading", "features and encoder", "search", "word times")


@dataclass
class _Found:
    """What was said in one piece."""

    hypotheses: list[Hypothesis]
    token_log_probs: list[float]
    words: list[Segment]
    """In seconds from the start of the piece; all times 0 unless they are asked for."""


class Transcriber:
    """Transcribes files, cuts and audio in memory with a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        options: SearchOptions | None = None,
        scorers: Sequence[Scorer] = (),
        batch_seconds: float = BATCH_SECONDS,
        word_times: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepares a transcriber.

        Args:
            bundle: The model with its tokenizer and feature settings.
            options: How to search; None means the defaults.
            scorers: What the search listens to besides the model.
            batch_seconds: Audio per batch, padding included.
            word_times: Whether results say when each word was said.
            device: Where the model runs.

        Raises:
            ConfigError: The search reads what the model was not trained to write.
        """
        self.options = SearchOptions() if options is None else options
        bundle.expect(self.options.heads, f"--decoder {self.options.decoder}")
        self.bundle = bundle
        self.tokenizer = bundle.tokenizer
        self.features = bundle.features
        self.encoder = WaveformEncoder(bundle, device)
        self.scorers = scorers
        self.piece_seconds = piece_seconds(bundle)
        self.calibration = Calibration.of(bundle.config, self.options.decoder)
        self.word_times = word_times
        self.seconds = dict.fromkeys(PARTS, 0.0)
        """Time spent so far on each part of the work."""
        self.batch_samples = round(batch_seconds * bundle.features.sample_rate)

    def transcribe(self, audio: str | Path | Float[Tensor, " samples"]) -> Transcript:
        """Transcribes a file, or mono audio in memory at the rate of the model.

        Raises:
            AudioError: The audio cannot be read.
        """
        if isinstance(audio, Tensor):
            return next(self.transcribe_sources([Source(id="audio", waveform=audio)]))
        return next(self.transcribe_files([audio]))

    def transcribe_files(
        self, paths: Iterable[str | Path], *, skipped: SkipReport | None = None
    ) -> Iterator[Transcript]:
        """Transcripts of audio files, in their order."""
        return self.transcribe_sources(file_sources(paths), skipped=skipped)

    def transcribe_cuts(
        self, cuts: Iterable[MonoCut], *, skipped: SkipReport | None = None
    ) -> Iterator[Transcript]:
        """Transcripts of lhotse cuts, in their order."""
        return self.transcribe_sources(cut_sources(cuts, skipped), skipped=skipped)

    def transcribe_sources(
        self, sources: Iterable[Source], *, skipped: SkipReport | None = None
    ) -> Iterator[Transcript]:
        """Transcripts in the order of the sources, batched by length.

        Args:
            sources: What to read; audio of any length.
            skipped: Where a source that fails is noted; without it, the first failure is raised.
        """
        return run(
            sources,
            Steps(cut=self._cut, process=self._process, finish=self._finish),
            batch_samples=self.batch_samples,
            skipped=SkipReport(strict=True) if skipped is None else skipped,
        )

    def _cut(self, source: Source) -> Iterator[Piece[None, _Found]]:
        rate = self.features.sample_rate
        if source.duration(rate) <= self.piece_seconds[0]:
            with self._timed("reading"):
                parts = iter([(0, source.load(rate))])
        else:
            parts = cut_blocks(source.blocks(rate), rate, *self.piece_seconds)
        while True:
            with self._timed("reading"):
                part = next(parts, None)
            if part is None:
                return
            first_sample, waveform = part
            yield Piece(waveform, first_sample / rate, None, seconds=len(waveform) / rate)

    def _process(self, pieces: list[Piece[None, _Found]]) -> None:
        with self._timed("features and encoder"):
            encoding = self.encoder.encode([piece.waveform for piece in pieces])
        with self._timed("search"):
            results = search(self.encoder.model, encoding, self.options, self.scorers)
        for piece, hypotheses in zip(pieces, results, strict=True):
            best = hypotheses[0] if hypotheses else Hypothesis([], 0.0)
            words = words_of(self.tokenizer, best, self.calibration)
            piece.found = _Found(hypotheses, best.token_log_probs if words else [], words)
        if self.word_times:
            with self._timed("word times"):
                self._set_times(pieces, encoding)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began

    def _set_times(self, pieces: list[Piece[None, _Found]], encoding: SpeechEncoding) -> None:
        found = [piece.found for piece in pieces if piece.found is not None]
        timed = time_words(
            self.bundle,
            encoding=encoding,
            words=[item.words for item in found],
            seconds=[piece.seconds for piece in pieces],
        )
        for item, words in zip(found, timed, strict=True):
            item.words = words

    def _finish(self, source: Source, pieces: list[Piece[None, _Found]]) -> Transcript:
        words: list[Segment] = []
        token_log_probs: list[float] = []
        for piece in pieces:
            assert piece.found is not None
            token_log_probs += piece.found.token_log_probs
            offset = source.start + piece.start
            words += [
                Segment(
                    label=word.label,
                    start=word.start + offset,
                    end=word.end + offset,
                    confidence=word.confidence,
                )
                for word in piece.found.words
            ]
        return Transcript(
            id=source.id,
            audio=source.audio,
            start=source.start,
            duration=source.duration(self.features.sample_rate),
            text=" ".join(word.label for word in words),
            confidence=self._confidence(words, token_log_probs),
            words=words if self.word_times else [],
            alternatives=self._alternatives(pieces),
        )

    def _confidence(self, words: list[Segment], token_log_probs: list[float]) -> float:
        if self.calibration == UNCALIBRATED:
            return mean_probability(token_log_probs)
        return mean_probability([math.log(max(w.confidence or 0.0, 1e-9)) for w in words])

    def _alternatives(self, pieces: list[Piece[None, _Found]]) -> list[Alternative]:
        if self.options.n_best == 1 or len(pieces) != 1 or pieces[0].found is None:
            return []
        return [
            Alternative(self.tokenizer.decode(hypothesis.tokens), hypothesis.score)
            for hypothesis in pieces[0].found.hypotheses
        ]


def piece_seconds(bundle: Bundle) -> tuple[float, float]:
    """The longest and the shortest piece that long audio is cut into for this model.

    What is longer than nearly all it was trained on it transcribes worse, and so it does several
    sentences in one where it has learned from single ones.
    """
    known = bundle.config.get("training", {}).get("utterance_seconds")
    if known is None:
        return LONGEST_PIECE_SECONDS, SHORTEST_PIECE_SECONDS
    longest = min(LONGEST_PIECE_SECONDS, max(LEAST_LONGEST_SECONDS, 1.5 * known["usual"]))
    return longest, min(longest / 2, max(LEAST_SHORTEST_SECONDS, known["median"] / 2))


def cut_blocks(
    blocks: Iterable[Float[Tensor, " _"]],
    sample_rate: int,
    longest_seconds: float = LONGEST_PIECE_SECONDS,
    shortest_seconds: float = SHORTEST_PIECE_SECONDS,
) -> Iterator[tuple[int, Float[Tensor, " _"]]]:
    """Cuts a stream of audio at its quietest places, holding back less than two pieces.

    Every sample is in exactly one piece.

    Args:
        blocks: The audio in blocks of any length.
        sample_rate: Hz.
        longest_seconds: Of a piece.
        shortest_seconds: Of a piece that is not all there is.

    Yields:
        The first sample of each piece, counted from the start of the stream, and its audio.
    """
    from speechmm.audio.vad import split_at_silence

    longest = round(longest_seconds * sample_rate)
    limits = {"max_seconds": longest_seconds, "min_seconds": shortest_seconds}
    held = torch.empty(0)
    position = 0
    for block in blocks:
        held = torch.cat([held, block])
        if len(held) < 2 * longest:
            continue
        *pieces, (rest, _) = split_at_silence(held, sample_rate, **limits)
        for first, last in pieces:
            yield position + first, held[first:last].clone()
        held, position = held[rest:].clone(), position + rest
    if len(held):
        for first, last in split_at_silence(held, sample_rate, **limits):
            yield position + first, held[first:last].clone()


def words_of(
    tokenizer: Tokenizer, hypothesis: Hypothesis, calibration: Calibration = UNCALIBRATED
) -> list[Segment]:
    """The words of a hypothesis with their confidence; all times are 0.

    Joined by spaces they are what the tokenizer decodes the hypothesis to.
    """
    groups: list[list[int]] = []
    for position, token in enumerate(hypothesis.tokens):
        if not groups or tokenizer.pieces[token].startswith(SPACE):
            groups.append([])
        groups[-1].append(position)
    words = []
    for group in groups:
        label = tokenizer.decode([hypothesis.tokens[position] for position in group])
        scores = [hypothesis.token_log_probs[position] for position in group]
        if label:
            confidence = calibration(mean_probability(scores))
            words.append(Segment(label=label, start=0.0, end=0.0, confidence=confidence))
    return words
