"""Aligns texts to audio of any length: when each word and each token was said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alignment, Segment
from speechmm.alignments.word_pieces import cut_unspaced
from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError, ConfigError
from speechmm.inference.alignment.ctc_utterances import CtcPosteriors, CtcUtterance
from speechmm.inference.alignment.ctc_windows import CtcWindows, find_windows
from speechmm.inference.alignment.flags import signs_of_misfit, text_flags
from speechmm.inference.alignment.frame_times import FrameClock, FrameGrid
from speechmm.inference.alignment.head_alignment import align_encoded
from speechmm.inference.alignment.long_audio import AudioSegment, segment_audio
from speechmm.inference.alignment.soft_alignment import Observer, SoftAlignment
from speechmm.inference.alignment.token_path import (
    TokenPath,
    frames_needed,
    silence_mask,
    token_segments,
    word_segments,
)
from speechmm.inference.alignment.transcript_edits import EditPenalties
from speechmm.inference.alignment.units import check_units
from speechmm.inference.alignment.verification import Mismatch, TranscriptVerifier, Verification
from speechmm.inference.engine.chunks import Chunk, ChunkResult, in_batches, join, regroup
from speechmm.inference.engine.finite import refuse_nan
from speechmm.inference.engine.read_ahead import Later, read_ahead, readers_for
from speechmm.inference.engine.sources import Source, text_source
from speechmm.inference.engine.waveform_encoder import WaveformEncoder
from speechmm.models.bundle import Bundle
from speechmm.models.kernels.dispatch import SUM_THREAD_CELLS
from speechmm.models.kernels.loading import load_in_background
from speechmm.models.kernels.threads import for_each_utterance
from speechmm.models.speech_text import SpeechEncoding
from speechmm.options import ALIGNERS
from speechmm.text.tokenizer import AlignedTokens

ONE_PASS_SECONDS = 30.0
"""Longer audio is searched by CTC (by the alignment head, where there is none) and cut between words before
the alignment head labels it."""


@dataclass(frozen=True, kw_only=True)
class ChunkText:
    """The text of one chunk."""

    aligned: AlignedTokens
    id: str
    """Of the source, with a number where that is cut into several chunks."""


@dataclass(frozen=True, kw_only=True)
class ChunkAlignment:
    """The units of one chunk, in seconds from its start, and how well they score."""

    words: list[Segment]
    tokens: list[Segment]
    log_prob: float
    """Summed over the frames of speech."""
    frames: int
    """Frames of speech."""
    mismatches: list[Mismatch] = field(default_factory=list)
    """Where the text does not say what the audio says."""


class Aligner:
    """Aligns texts to audio with a bundle's alignment head, 10 ms a frame."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        units: Sequence[str] | None = None,
        kind: str = ALIGNERS[0],
        label_prior: float = 0.0,
        penalties: EditPenalties = EditPenalties(),  # noqa: B008 (frozen)
        batch_seconds: float | None = None,
        device: torch.device | str = "cpu",
        observer: Observer | None = None,
    ) -> None:
        """Prepares an aligner.

        Args:
            bundle: The model with its tokenizer and feature settings.
            units: Units of the results: "word" and the finest one ("phone" for a phone tokenizer,
                else "char"); None means both.
            kind: What places the tokens: "head", the alignment head (10 ms), or "ctc".
            label_prior: How much of the label prior is divided out, 0 to 1; above 0 for "ctc" only.
            penalties: How much better the audio must fit an edited text for a word to be flagged.
            batch_seconds: Audio per batch, padding included; None means what suits the device.
            device: Where the model runs.
            observer: Told of every chunk that is aligned, for pictures; for "head" only.

        Raises:
            ConfigError: A unit this bundle does not have, an unknown kind, one that it was not
                trained for, or one that has no use for what else is given.
        """
        _check_kind(kind, label_prior, observer)
        bundle.require_heads(["ctc" if kind == "ctc" else "align"], f"--aligner {kind}")
        self.kind = kind
        self.tokenizer = bundle.tokenizer
        self.features = bundle.features
        self.encoder = WaveformEncoder(bundle, device)
        self.units = check_units(units, bundle.tokenizer.kind)
        self.ctc: CtcPosteriors | None = None
        if "ctc" in bundle.heads:
            self.ctc = CtcPosteriors(bundle.model, bundle.tokenizer, bundle.features)
            load_in_background("transcript_edits")  # while the first audio is read and encoded
        self.verifier = TranscriptVerifier(penalties=penalties, label_prior=label_prior)
        self.batch_samples = self.encoder.batch_samples(batch_seconds)
        self.observer = observer

    def align(
        self, audio: str | Path | Float[Tensor, " samples"], text: str, *, id: str | None = None
    ) -> Alignment:
        """Aligns one text.

        Args:
            audio: A file, or mono audio in memory at the rate of the model.
            text: What is said in it.
            id: Of the result; default: the stem of the file.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: The text has no words, or more than the audio can hold.
        """
        return next(self.align_sources([text_source(audio, text, id=id)]))

    def align_sources(
        self, sources: Iterable[Source], *, skipped: SkipReport | None = None
    ) -> Iterator[Alignment]:
        """Alignments in the order of the sources, batched by length.

        Args:
            sources: Audio with its text.
            skipped: Where a source that fails is noted; without it, the first failure is raised.
        """
        skipped = SkipReport(strict=True) if skipped is None else skipped
        chunks = read_ahead(sources, self._cut, readers=readers_for(self.encoder.device))
        done = in_batches(
            chunks,
            self._align_batch,
            batch_samples=self.batch_samples,
            ahead=self.encoder.lookahead,
        )
        yield from join(regroup(done, skipped), self._joined, skipped)

    def _cut(self, source: Source) -> Iterator[Chunk[ChunkText] | Later]:
        """A source of ordinary length whole; a long one in segments, cut between words."""
        aligned = self._tokens(source)
        rate = self.features.sample_rate
        if source.duration(rate) <= ONE_PASS_SECONDS:
            waveform = source.load(rate)
            self._check_length(source, aligned, len(waveform))
            text = ChunkText(aligned=aligned, id=source.id)
            yield Chunk(waveform=waveform, start=0.0, seconds=len(waveform) / rate, payload=text)
            return
        yield Later(lambda: self._cut_long(source, aligned))  # by the model, and one at a time

    def _cut_long(
        self, source: Source, aligned: AlignedTokens
    ) -> Iterator[Chunk[ChunkText] | ChunkResult[ChunkAlignment]]:
        """The segments of long audio, which is read as it is worked on."""
        rate = self.features.sample_rate
        samples = round(source.duration(rate) * rate)
        self._check_length(source, aligned, samples)
        segments = segment_audio(
            self.encoder,
            self.tokenizer,
            self.features,
            lambda: source.blocks(rate),
            aligned,
            name=source.name,
            expected_samples=samples,
        )
        for number, segment in enumerate(segments, 1):
            yield self._chunk(segment, f"{source.id}-{number:04d}")

    def _tokens(self, source: Source) -> AlignedTokens:
        """The tokens of the text of a source.

        Raises:
            AlignmentError: There is no text, or no word of it is left.
        """
        aligned = self.tokenizer.encode_aligned(source.transcript())
        if not any(index >= 0 for index in aligned.word_indices):
            raise AlignmentError(
                f"{source.name}: no word of its text is left after the normalizer "
                f'"{self.tokenizer.normalizer}"; expected at least one. Correct the text.'
            )
        return aligned

    def _chunk(
        self, segment: AudioSegment, id: str
    ) -> Chunk[ChunkText] | ChunkResult[ChunkAlignment]:
        """A segment of long audio; one too long or too dense for the head keeps its first times."""
        rate = self.features.sample_rate
        samples = segment.last_sample - segment.first_sample
        start, seconds = segment.first_sample / rate, samples / rate
        needed = frames_needed(segment.aligned)
        if seconds > 2 * ONE_PASS_SECONDS or needed > self.features.num_frames(samples):
            found = self._units(segment.path, segment.aligned, segment.clock)
            return ChunkResult(start=start, value=found)
        text = ChunkText(aligned=segment.aligned, id=id)
        part = segment.waveform[segment.first_sample : segment.last_sample]
        return Chunk(waveform=part, start=start, seconds=seconds, payload=text)

    def _align_batch(self, chunks: Sequence[Chunk[ChunkText]]) -> list[ChunkAlignment]:
        """The alignment of each chunk of a batch: encoded once, verified by CTC, placed by ``kind``."""
        encoding = self.encoder.encode([chunk.waveform for chunk in chunks])
        refuse_nan(bool(encoding.encoded.isnan().any()))
        texts = [chunk.payload.aligned for chunk in chunks]
        windows: list[CtcWindows | None] = [None] * len(chunks)
        verifications: Sequence[Verification | None] = [None] * len(chunks)
        if self.ctc is not None:
            seconds = [chunk.seconds for chunk in chunks]
            utterances = list(self.ctc.utterances(encoding, texts, seconds))
            verifications = self._verify(utterances)
            if self.kind == "head":
                windows = find_windows(utterances, encoding.encoded.device)
        if self.kind == "head":
            return self._by_head(chunks, encoding, windows, verifications)
        return [self._by_ctc(*pair) for pair in zip(texts, verifications, strict=True)]

    def _verify(self, utterances: Sequence[CtcUtterance]) -> list[Verification | None]:
        """How well each text fits; by the threads of the process."""
        found: list[Verification | None] = [None] * len(utterances)

        def verify(row: int) -> None:
            found[row] = self.verifier.verify(utterances[row])

        cells = [len(one.log_probs) * (2 * len(one.labels.ids) + 1) for one in utterances]
        for_each_utterance(verify, cells, worth=SUM_THREAD_CELLS)
        return found

    def _by_head(
        self,
        chunks: Sequence[Chunk[ChunkText]],
        encoding: SpeechEncoding,
        windows: Sequence[CtcWindows | None],
        verifications: Sequence[Verification | None],
    ) -> list[ChunkAlignment]:
        """The units of each chunk where the alignment head places them."""
        texts = [chunk.payload.aligned for chunk in chunks]
        hop = self.features.frame_shift
        scores, paths = align_encoded(self.encoder.model, encoding, texts, windows=windows, hop=hop)
        grid = FrameGrid.of(self.features)
        found: list[ChunkAlignment] = []
        for row, (chunk, path) in enumerate(zip(chunks, paths, strict=True)):
            clock = grid.clock(int(encoding.lengths[row]), chunk.seconds)
            units = self._units(path, texts[row], clock)
            found.append(_verified(units, texts[row], verifications[row]))
            if self.observer is not None:
                alignment = self._alignment(found[-1], chunk.seconds, id=chunk.payload.id)
                self.observer(alignment, self._soft(encoding, scores, row, texts[row]))
        return found

    def _soft(
        self,
        encoding: SpeechEncoding,
        scores: Float[Tensor, "batch frames tokens"],
        row: int,
        aligned: AlignedTokens,
    ) -> SoftAlignment:
        """What the alignment of one row of a batch was read from."""
        frames = int(encoding.lengths[row])
        return SoftAlignment(
            encoding.features[row, :frames].cpu(),
            scores[row, :frames, : len(aligned.ids)].cpu(),
            self._labels(aligned),
            self.features.frame_shift,
        )

    def _by_ctc(self, aligned: AlignedTokens, verification: Verification | None) -> ChunkAlignment:
        """The units of one chunk where CTC places them."""
        assert verification is not None
        path = verification.path
        if path is None:  # too dense for encoder frames: one after the other
            count = len(aligned.ids)
            edges = np.arange(count + 1) * verification.clock.frames // count
            path = TokenPath(edges[:-1], edges[1:], np.full(count, -9.0, np.float32))
        return _verified(self._units(path, aligned, verification.clock), aligned, verification)

    def _units(self, path: TokenPath, aligned: AlignedTokens, clock: FrameClock) -> ChunkAlignment:
        """A path as words and tokens, with what its speech scores."""
        spoken = np.flatnonzero(~silence_mask(aligned))
        return ChunkAlignment(
            words=word_segments(path, aligned, clock),
            tokens=token_segments(path, aligned, self._labels(aligned), clock),
            log_prob=float(path.log_probs[spoken].sum()),
            frames=int((path.last[spoken] - path.first[spoken]).sum()),
        )

    def _joined(self, source: Source, results: list[ChunkResult[ChunkAlignment]]) -> Alignment:
        """The alignment of a source from those of its chunks."""
        whole = _concatenated(results)
        duration = source.duration(self.features.sample_rate)
        alignment = self._alignment(whole, duration, id=source.id)
        alignment = replace(
            alignment, audio=source.audio, start=source.start, channels=source.channels
        )
        flags = [
            *signs_of_misfit(alignment, len(whole.tokens), self.features),
            *map(str, whole.mismatches),
            *text_flags(self.tokenizer, source.transcript()),
        ]
        return replace(alignment, flags=tuple(flags))

    def _alignment(self, found: ChunkAlignment, duration: float, *, id: str) -> Alignment:
        by_name = {"word": cut_unspaced(found.words)}
        units = {unit: by_name.get(unit, found.tokens) for unit in self.units}
        confidence = float(np.exp(found.log_prob / found.frames)) if found.frames else 0.0
        return Alignment(id=id, duration=duration, units=units, confidence=min(1.0, confidence))

    def _labels(self, aligned: AlignedTokens) -> list[str]:
        return self.tokenizer.token_labels(aligned.ids)

    def _check_length(self, source: Source, aligned: AlignedTokens, samples: int) -> None:
        frames, needed = self.features.num_frames(samples), frames_needed(aligned)
        if needed > frames:
            raise AlignmentError(
                f"{source.name}: the text is longer than the audio allows: {needed} tokens, and "
                f"{samples / self.features.sample_rate:.2f} s of audio have {frames} frames; "
                "expected at least one frame a token. Check that the text belongs to the audio."
            )


def _check_kind(kind: str, label_prior: float, observer: Observer | None) -> None:
    if kind not in ALIGNERS:
        raise ConfigError(f"aligner: found {kind!r}; expected one of {', '.join(ALIGNERS)}.")
    if kind != "ctc" and label_prior:
        raise ConfigError(
            f"aligner: found label prior {label_prior} with kind {kind!r}; expected it with 'ctc' "
            "only. Leave it out."
        )
    if kind != "head" and observer is not None:
        raise ConfigError(
            f"aligner: found an observer with kind {kind!r}; expected one with 'head' only, which "
            "has a soft alignment to show. Leave it out."
        )


def _verified(
    found: ChunkAlignment, aligned: AlignedTokens, verification: Verification | None
) -> ChunkAlignment:
    """The same units, the confidence of words times that of CTC, and where the text is wrong."""
    if verification is None:
        return found
    words = verification.rated(found.words, aligned)
    return replace(found, words=words, mismatches=verification.mismatches(found.words))


def _concatenated(results: Sequence[ChunkResult[ChunkAlignment]]) -> ChunkAlignment:
    """The alignments of all chunks as one, in seconds from the start of the source."""
    return ChunkAlignment(
        words=[one.later(result.start) for result in results for one in result.value.words],
        tokens=[one.later(result.start) for result in results for one in result.value.tokens],
        log_prob=sum((result.value.log_prob for result in results), 0.0),
        frames=sum(result.value.frames for result in results),
        mismatches=[
            one.later(result.start) for result in results for one in result.value.mismatches
        ],
    )
