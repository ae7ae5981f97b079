"""Transcribes audio of any length, with a confidence for each word."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alternative, Segment, Transcript
from speechmm.alignments.word_pieces import cut_unspaced, joined_parts, text_of
from speechmm.data.skips import SkipReport
from speechmm.inference.alignment.word_times import time_words
from speechmm.inference.engine.chunks import Chunk, ChunkResult, in_batches, join, regroup
from speechmm.inference.engine.read_ahead import read_ahead, readers_for
from speechmm.inference.engine.sources import Source, file_sources
from speechmm.inference.engine.warm_up import WarmUp
from speechmm.inference.engine.waveform_encoder import WaveformEncoder
from speechmm.inference.recognition.alignment_scores import rescore
from speechmm.inference.recognition.confidence import (
    Calibration,
    heard_by_ctc,
    mean_probability,
)
from speechmm.inference.recognition.fusion.scorer import Scorer
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.languages import AskedLanguage, most_written
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.repeats import repeated_words
from speechmm.inference.recognition.search import search
from speechmm.inference.recognition.speech_gate import SpeechGate
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding
from speechmm.models.text_decoder import Tag
from speechmm.text.recognised_text import word_places
from speechmm.text.tokenizer import Tokenizer

MAX_CHUNK_SECONDS = 20.0
"""Longer audio is cut at its quietest places; audio longer than what the model was trained on, too."""
MIN_CHUNK_SECONDS = 5.0
MAX_CHUNK_FLOOR_SECONDS, MIN_CHUNK_FLOOR_SECONDS = 4.0, 1.0
"""The two limits are not lowered further than this, however short the utterances of the training
were."""
UNCALIBRATED = Calibration()
Item = TypeVar("Item")
PARTS = ("reading", "features and encoder", "search", "word times")


@dataclass(frozen=True, kw_only=True)
class ChunkTranscript:
    """What was said in one chunk."""

    hypotheses: list[Hypothesis]
    """Best first."""
    token_log_probs: list[float]
    """Of the best hypothesis; empty where that has no words."""
    words: list[Segment]
    """In seconds from the start of the chunk; all times 0 unless they are asked for."""
    language: str = ""
    """Of the words, where the model knows of languages."""


class Transcriber:
    """Transcribes files, cuts and audio in memory with a bundle."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        options: SearchOptions | None = None,
        scorers: Sequence[Scorer] = (),
        batch_seconds: float | None = None,
        word_times: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepares a transcriber.

        Args:
            bundle: The model with its tokenizer and feature settings.
            options: How to search; None means the defaults. A decoder that is None becomes one by the
                heads that the model has.
            scorers: External models whose scores are added in the search (shallow fusion).
            batch_seconds: Audio per batch, padding included; None means what suits the device.
            word_times: Whether results say when each word was said; translations never do.
            device: Where the model runs.

        Raises:
            ConfigError: The search reads what the model was not trained to write, or in a language that it
                does not know.
        """
        self.options = (options or SearchOptions()).by_heads(bundle.heads)
        bundle.require_heads(self.options.heads, f"--decoder {self.options.decoder}")
        if self.options.align_weight:
            bundle.require_heads(["align"], "--align-weight")
        self.asked = AskedLanguage(bundle, self.options)
        self.translates = self.options.task == "translate"
        self.bundle = bundle
        self.tokenizer = bundle.tokenizer
        self.features = bundle.features
        self.encoder = WaveformEncoder(bundle, device)
        self.gate = SpeechGate(bundle) if self.options.speech_gate else None
        self.scorers = scorers
        self.chunk_seconds = chunk_seconds(bundle)
        self.calibration = UNCALIBRATED if self.translates else Calibration.of(bundle, self.options)
        self.word_times = word_times and not self.translates
        self.seconds = dict.fromkeys(PARTS, 0.0)
        """Time spent so far on each part of the work."""
        self.batch_samples = self.encoder.batch_samples(batch_seconds)

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

    def transcribe_sources(
        self, sources: Iterable[Source], *, skipped: SkipReport | None = None
    ) -> Iterator[Transcript]:
        """Transcripts in the order of the sources, batched by length.

        Args:
            sources: What to read; audio of any length.
            skipped: Where a source that fails is noted; without it, the first failure is raised.
        """
        skipped = SkipReport(strict=True) if skipped is None else skipped
        warm_up = WarmUp(self.encoder.device, self._warm_up)

        def process(chunks: Sequence[Chunk[None]]) -> list[ChunkTranscript]:
            warm_up.wait()
            return self._transcribe_batch(chunks)

        chunks = read_ahead(sources, self._cut, readers=readers_for(self.encoder.device))
        done = in_batches(
            chunks,
            process,
            batch_samples=self.batch_samples,
            ahead=self.encoder.lookahead,
        )
        yield from join(regroup(done, skipped), self._joined, skipped)

    def _warm_up(self) -> None:
        """Encodes, searches and times a second of a tone."""
        tone = torch.sin(0.1 * torch.arange(self.features.sample_rate)) / 10
        encoding = self._heard(self.encoder.encode([tone]))
        self._search(encoding, self.asked.tag)
        if self.word_times:
            any_tokens = [self.tokenizer.vocab_size - 1] * 2
            words = words_of(self.tokenizer, Hypothesis(any_tokens, 0.0, [0.0, 0.0]), UNCALIBRATED)
            ids, seconds = [any_tokens], [1.0]
            time_words(self.bundle, encoding=encoding, words=[words], ids=ids, seconds=seconds)

    def _cut(self, source: Source) -> Iterator[Chunk[None]]:
        """A source of ordinary length whole; a long one cut at its quietest places."""
        rate = self.features.sample_rate
        for first_sample, waveform in self._timed_items("reading", self._read(source)):
            seconds = len(waveform) / rate
            yield Chunk(waveform=waveform, start=first_sample / rate, seconds=seconds, payload=None)

    def _read(self, source: Source) -> Iterator[tuple[int, Float[Tensor, " _"]]]:
        """The audio of each chunk with its first sample, counted from the start of the source."""
        rate = self.features.sample_rate
        if source.duration(rate) <= self.chunk_seconds[0]:
            yield 0, source.load(rate)
        else:
            yield from cut_blocks(source.blocks(rate), rate, *self.chunk_seconds)

    def _transcribe_batch(self, chunks: Sequence[Chunk[None]]) -> list[ChunkTranscript]:
        """What was said in each chunk of a batch: in the parts of it where anybody speaks."""
        rate, waveforms = self.features.sample_rate, [chunk.waveform for chunk in chunks]
        with self._timed("features and encoder"):
            encoding = self._heard(self.encoder.encode(waveforms))
            spans = [[(0, len(waveform))] for waveform in waveforms]
            if self.gate is not None:
                spans = self.gate.spans(encoding, waveforms)
        whole = [row for row, parts in enumerate(spans) if parts == [(0, len(waveforms[row]))]]
        cut = [
            (row, *part) for row, parts in enumerate(spans) if row not in whole for part in parts
        ]
        found: list[list[tuple[float, ChunkTranscript]]] = [[] for _ in chunks]
        if whole:
            if len(whole) < len(chunks):
                encoding = encoding.select(torch.tensor(whole, device=encoding.encoded.device))
            seconds = [chunks[row].seconds for row in whole]
            for row, said in zip(whole, self._transcribe_encoded(encoding, seconds), strict=True):
                found[row].append((0.0, said))
        if cut:
            with self._timed("features and encoder"):
                encoding = self.encoder.encode([waveforms[row][a:b] for row, a, b in cut])
            seconds = [(b - a) / rate for _, a, b in cut]
            parts = zip(cut, self._transcribe_encoded(encoding, seconds), strict=True)
            for (row, first, _), said in parts:
                found[row].append((first / rate, said))
        return [_one_after_another(parts) for parts in found]

    def _heard(self, encoding: SpeechEncoding) -> SpeechEncoding:
        """The same, with what the alignment head hears where more than one part of the work asks for it."""
        asking = (self.gate is not None, self.word_times, self.options.align_weight > 0)
        if sum(asking) < 2 or "align" not in self.bundle.heads:
            return encoding
        with torch.inference_mode():
            return replace(encoding, aligned=self.encoder.model.align_log_probs(encoding))

    def _transcribe_encoded(
        self, encoding: SpeechEncoding, seconds: Sequence[float]
    ) -> list[ChunkTranscript]:
        """What was said in each utterance of a batch."""
        with self._timed("search"):
            tag, chosen = self.asked.ask(encoding)
            results = self._search(encoding, tag)
            best = [hypotheses[0] if hypotheses else Hypothesis([], 0.0) for hypotheses in results]
            if self.options.decoder != "ctc" and not self.translates:
                sure = heard_by_ctc(self.bundle, encoding, best)
                pairs = zip(best, sure, strict=True)
                best = [replace(one, token_log_probs=scores) for one, scores in pairs]
        words = [words_of(self.tokenizer, one, self.calibration) for one in best]
        if self.word_times:
            with self._timed("word times"):
                ids = [one.tokens for one in best]
                words = time_words(
                    self.bundle, encoding=encoding, words=words, ids=ids, seconds=seconds
                )
        return [
            ChunkTranscript(
                hypotheses=hypotheses,
                token_log_probs=one.token_log_probs if found else [],
                words=found,
                language=language,
            )
            for hypotheses, one, found, language in zip(
                results, best, words, self.asked.names(chosen, len(best)), strict=True
            )
        ]

    def _search(self, encoding: SpeechEncoding, tag: Tag) -> list[list[Hypothesis]]:
        """The n best hypotheses of each utterance of a batch, best first; ``tag`` is the decoder's."""
        model, options = self.encoder.model, self.options
        found = search(model, encoding, options.searched, self.scorers, tag=tag)
        if options.align_weight:
            found = rescore(model, self.tokenizer, encoding, found, options.align_weight)
        return [row[: options.n_best] for row in found]

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - began

    def _timed_items(self, part: str, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; the time each takes to come counts for a part of the work."""
        while True:
            with self._timed(part):
                item = next(items, None)
            if item is None:
                return
            yield item

    def _joined(self, source: Source, results: list[ChunkResult[ChunkTranscript]]) -> Transcript:
        """The transcript of a source from those of its chunks."""
        token_log_probs = [score for one in results for score in one.value.token_log_probs]
        words = joined_parts(
            [word.later(source.start + result.start) for word in result.value.words]
            for result in results
        )
        return Transcript(
            id=source.id,
            audio=source.audio,
            channels=source.channels,
            start=source.start,
            duration=source.duration(self.features.sample_rate),
            text=text_of(words),
            confidence=self._confidence(words, token_log_probs),
            words=cut_unspaced(words) if self.word_times else [],
            alternatives=self._alternatives(results),
            flags=repeated_words([word.label for word in words]),
            task=self.options.task,
            language=most_written((one.value.language, one.value.words) for one in results),
        )

    def _confidence(self, words: list[Segment], token_log_probs: list[float]) -> float:
        if self.calibration == UNCALIBRATED:
            return mean_probability(token_log_probs)
        return mean_probability([math.log(max(w.confidence or 0.0, 1e-9)) for w in words])

    def _alternatives(self, results: list[ChunkResult[ChunkTranscript]]) -> list[Alternative]:
        """The other hypotheses of a source of one chunk; those of several chunks do not combine."""
        if self.options.n_best == 1 or len(results) != 1:
            return []
        return [
            Alternative(self.tokenizer.decode(hypothesis.tokens), hypothesis.score)
            for hypothesis in results[0].value.hypotheses
        ]


def _one_after_another(parts: Sequence[tuple[float, ChunkTranscript]]) -> ChunkTranscript:
    """The transcript of a chunk from those of its parts, each with the second at which it begins."""
    if len(parts) == 1 and parts[0][0] == 0.0:
        return parts[0][1]
    return ChunkTranscript(
        hypotheses=parts[0][1].hypotheses if len(parts) == 1 else [],
        token_log_probs=[score for _, said in parts for score in said.token_log_probs],
        words=joined_parts([word.later(start) for word in said.words] for start, said in parts),
        language=most_written((said.language, said.words) for _, said in parts),
    )


def chunk_seconds(bundle: Bundle) -> tuple[float, float]:
    """The longest and the shortest chunk that long audio is cut into for this model.

    A model transcribes worse what is longer than nearly all it was trained on, and several
    sentences at once where it was trained on single ones.
    """
    known = bundle.training.utterance_seconds
    if known is None:
        return MAX_CHUNK_SECONDS, MIN_CHUNK_SECONDS
    longest = min(MAX_CHUNK_SECONDS, max(MAX_CHUNK_FLOOR_SECONDS, 1.5 * known.usual))
    return longest, min(longest / 2, max(MIN_CHUNK_FLOOR_SECONDS, known.median / 2))


def cut_blocks(
    blocks: Iterable[Float[Tensor, " _"]],
    sample_rate: int,
    longest_seconds: float = MAX_CHUNK_SECONDS,
    shortest_seconds: float = MIN_CHUNK_SECONDS,
) -> Iterator[tuple[int, Float[Tensor, " _"]]]:
    """Cuts a stream of audio at its quietest places, holding back less than two chunks.

    Every sample is in exactly one chunk.

    Args:
        blocks: The audio in blocks of any length.
        sample_rate: Hz.
        longest_seconds: Of a chunk.
        shortest_seconds: Of a chunk that is not all there is.

    Yields:
        The first sample of each chunk, counted from the start of the stream, and its audio.
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
        *spans, (rest, _) = split_at_silence(held, sample_rate, **limits)
        for first, last in spans:
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
    words = []
    for group in word_places(tokenizer, hypothesis.tokens):
        label = tokenizer.decode([hypothesis.tokens[position] for position in group])
        scores = [hypothesis.token_log_probs[position] for position in group]
        if label:
            confidence = calibration(mean_probability(scores))
            words.append(Segment(label=label, start=0.0, end=0.0, confidence=confidence))
    return words
