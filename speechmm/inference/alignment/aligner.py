"""When each word and character of a given text was said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alignment, Segment
from speechmm.data.skips import SkipReport
from speechmm.errors import AlignmentError, ConfigError
from speechmm.inference.alignment import token_path
from speechmm.inference.alignment.flags import signs_of_misfit, text_flags
from speechmm.inference.alignment.long_audio import Stretch, anchor_text
from speechmm.inference.alignment.token_path import FrameClock
from speechmm.inference.alignment.transcript_edits import DoubtLimits
from speechmm.inference.alignment.verification import Doubt, Opinion, SecondOpinion
from speechmm.inference.engine.chunks import Piece, Steps, WaveformEncoder, run
from speechmm.inference.engine.sources import Source, file_sources
from speechmm.models.bundle import Bundle
from speechmm.options import ALIGNERS, BATCH_SECONDS
from speechmm.text.tokenizer import AlignedTokens

ONE_PASS_SECONDS = 30.0
"""Longer audio is anchored by CTC and cut between words before the alignment head sees it."""
FINEST_UNITS = {"char": "char", "phone": "phone", "bpe": "char", "unigram": "char"}
"""What an aligned token of each kind of tokenizer is called as a unit."""


@dataclass(frozen=True)
class SoftAlignment:
    """What an alignment was read from, for pictures."""

    features: Float[Tensor, "frames n_mels"]
    """Normalised log-mel."""
    log_probs: Float[Tensor, "frames tokens"]
    """Over the tokens of the text, for each frame."""
    labels: list[str]
    """Of the tokens; empty for silence."""
    frame_seconds: float
    """From frame to frame."""


Observer = Callable[[Alignment, SoftAlignment], None]
"""Called with every stretch of audio that was aligned in one pass (times from its own start)."""


@dataclass(frozen=True)
class _Task:
    """The text of one piece."""

    aligned: AlignedTokens
    id: str
    """Of the source, with a number where that is cut into stretches."""


@dataclass(frozen=True)
class _Found:
    """The units of one piece, in seconds from its start, and how much they are to be trusted."""

    words: list[Segment]
    tokens: list[Segment]
    log_prob: float
    """Summed over the frames of speech."""
    frames: int
    """Frames of speech."""
    doubts: list[Doubt]
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
        limits: DoubtLimits = DoubtLimits(),  # noqa: B008 (frozen)
        batch_seconds: float = BATCH_SECONDS,
        device: torch.device | str = "cpu",
        observer: Observer | None = None,
    ) -> None:
        """Prepares an aligner.

        Args:
            bundle: The model with its tokenizer and feature settings.
            units: Units of the results: "word" and the finest one ("phone" for a phone tokenizer,
                else "char"); None means both.
            kind: What places the tokens: "head", the alignment head (10 ms), or "ctc".
            label_prior: With "ctc": how much of the label prior is divided out, 0 to 1.
            limits: From where on a text is doubted.
            batch_seconds: Audio per batch, padding included.
            device: Where the model runs.
            observer: Told of every stretch that is aligned; for pictures.

        Raises:
            ConfigError: A unit this bundle does not have, an unknown kind, or one that it was not
                trained for.
        """
        if kind not in ALIGNERS:
            raise ConfigError(f"aligner: found {kind!r}; expected one of {', '.join(ALIGNERS)}.")
        bundle.expect(["ctc" if kind == "ctc" else "align"], f"--aligner {kind}")
        self.kind = kind
        self.tokenizer = bundle.tokenizer
        self.features = bundle.features
        self.encoder = WaveformEncoder(bundle, device)
        self.units = check_units(units, bundle.tokenizer.kind)
        self.second: SecondOpinion | None = None
        if "ctc" in bundle.outputs:
            self.second = SecondOpinion(
                bundle.model,
                bundle.tokenizer,
                bundle.features,
                limits=limits,
                label_prior=label_prior,
            )
        self.batch_samples = round(batch_seconds * bundle.features.sample_rate)
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
        if isinstance(audio, Tensor):
            source = Source(id=id or "audio", waveform=audio, text=text)
        else:
            (source,) = file_sources([audio])
            source = replace(source, id=id or source.id, text=text)
        return next(self.align_sources([source]))

    def align_sources(
        self, sources: Iterable[Source], *, skipped: SkipReport | None = None
    ) -> Iterator[Alignment]:
        """Alignments in the order of the sources, batched by length.

        Args:
            sources: Audio with its text.
            skipped: Where a source that fails is noted; without it, the first failure is raised.
        """
        steps = Steps(cut=self._cut, process=self._process, finish=self._finish)
        return run(
            sources,
            steps,
            batch_samples=self.batch_samples,
            skipped=SkipReport(strict=True) if skipped is None else skipped,
        )

    def _cut(self, source: Source) -> Iterator[Piece[_Task, _Found]]:
        """A source of ordinary length whole; a long one in stretches between anchored words."""
        text = source.transcript()
        aligned = self.tokenizer.encode_aligned(text)
        if not any(index >= 0 for index in aligned.word_indices):
            raise AlignmentError(
                f"{source.name}: no word of its text is left after the normalizer "
                f'"{self.tokenizer.normalizer}"; expected at least one. Correct the text.'
            )
        rate = self.features.sample_rate
        if source.duration(rate) <= ONE_PASS_SECONDS:
            waveform = source.load(rate)
            self._check_length(source, aligned, len(waveform))
            task = _Task(aligned, source.id)
            yield Piece(waveform, 0.0, task, seconds=len(waveform) / rate)
            return
        waveform = torch.cat(list(source.blocks(rate)))
        self._check_length(source, aligned, len(waveform))
        stretches = anchor_text(
            self.encoder, self.tokenizer, self.features, waveform, aligned, name=source.name
        )
        for number, stretch in enumerate(stretches, 1):
            yield self._piece(waveform, stretch, f"{source.id}-{number:04d}")

    def _piece(
        self, waveform: Float[Tensor, " samples"], stretch: Stretch, id: str
    ) -> Piece[_Task, _Found]:
        """A stretch of long audio; one too long or too dense for the head keeps its CTC times."""
        rate = self.features.sample_rate
        part = waveform[stretch.first_sample : stretch.last_sample]
        piece: Piece[_Task, _Found] = Piece(
            part, stretch.first_sample / rate, _Task(stretch.aligned, id), seconds=len(part) / rate
        )
        needed = token_path.frames_needed(stretch.aligned)
        if piece.seconds > 2 * ONE_PASS_SECONDS or needed > self._frames(len(part)):
            piece.found = self._units(stretch.path, piece, stretch.clock)
            piece.waveform = part[:0]
        return piece

    def _process(self, pieces: list[Piece[_Task, _Found]]) -> None:
        encoding = self.encoder.encode([piece.waveform for piece in pieces])
        texts = [piece.work.aligned for piece in pieces]
        seconds = [piece.seconds for piece in pieces]
        opinions: list[Opinion | None] = [None] * len(pieces)
        if self.second is not None:
            anchored = self.kind != "ctc"
            opinions = list(self.second.ask(encoding, texts, seconds, anchored=anchored))
        if self.kind == "ctc":
            for piece, opinion in zip(pieces, opinions, strict=True):
                piece.found = self._by_ctc(piece, opinion)
            return
        scores, paths = token_path.align_encoded(
            self.encoder.model,
            encoding,
            texts,
            anchors=[None if opinion is None else opinion.anchor for opinion in opinions],
            hop=self.features.frame_shift,
        )
        for row, (piece, path) in enumerate(zip(pieces, paths, strict=True)):
            frames = int(encoding.lengths[row])
            clock = FrameClock.of(self.features, frames, piece.seconds)
            piece.found = self._judged(self._units(path, piece, clock), piece, opinions[row])
            if self.observer is not None:
                soft = SoftAlignment(
                    encoding.features[row, :frames].cpu(),
                    scores[row, :frames, : len(piece.work.aligned.ids)],
                    self._labels(piece.work.aligned),
                    clock.hop,
                )
                self.observer(self._alignment(piece.found, piece.seconds, id=piece.work.id), soft)

    def _by_ctc(self, piece: Piece[_Task, _Found], opinion: Opinion | None) -> _Found:
        assert opinion is not None
        path = opinion.path
        if path is None:  # too dense for encoder frames: one after the other
            count = len(piece.work.aligned.ids)
            edges = np.arange(count + 1) * opinion.clock.frames // count
            path = token_path.TokenPath(edges[:-1], edges[1:], np.full(count, -9.0, np.float32))
        return self._judged(self._units(path, piece, opinion.clock), piece, opinion)

    def _judged(
        self, found: _Found, piece: Piece[_Task, _Found], opinion: Opinion | None
    ) -> _Found:
        if opinion is None:
            return found
        words, doubts = opinion.judge(found.words, piece.work.aligned)
        return replace(found, words=words, doubts=doubts)

    def _units(
        self, path: token_path.TokenPath, piece: Piece[_Task, _Found], clock: FrameClock
    ) -> _Found:
        aligned = piece.work.aligned
        spoken = np.flatnonzero(~token_path.silence_mask(aligned))
        return _Found(
            words=token_path.word_segments(path, aligned, clock),
            tokens=token_path.token_segments(path, aligned, self._labels(aligned), clock),
            log_prob=float(path.log_probs[spoken].sum()),
            frames=int((path.last[spoken] - path.first[spoken]).sum()),
            doubts=[],
        )

    def _finish(self, source: Source, pieces: list[Piece[_Task, _Found]]) -> Alignment:
        whole = _Found([], [], 0.0, 0, [])
        for piece in pieces:
            assert piece.found is not None
            whole = _Found(
                whole.words + [_shifted(segment, piece.start) for segment in piece.found.words],
                whole.tokens + [_shifted(segment, piece.start) for segment in piece.found.tokens],
                whole.log_prob + piece.found.log_prob,
                whole.frames + piece.found.frames,
                whole.doubts + [doubt.later(piece.start) for doubt in piece.found.doubts],
            )
        duration = source.duration(self.features.sample_rate)
        alignment = self._alignment(whole, duration, id=source.id)
        alignment = replace(alignment, audio=source.audio, start=source.start)
        flags = [
            *signs_of_misfit(alignment, len(whole.tokens), self.features),
            *map(str, whole.doubts),
            *text_flags(self.tokenizer, source.transcript()),
        ]
        return replace(alignment, flags=tuple(flags))

    def _alignment(self, found: _Found, duration: float, *, id: str) -> Alignment:
        by_name = {"word": found.words}
        units = {unit: by_name.get(unit, found.tokens) for unit in self.units}
        confidence = float(np.exp(found.log_prob / found.frames)) if found.frames else 0.0
        return Alignment(id=id, duration=duration, units=units, confidence=min(1.0, confidence))

    def _labels(self, aligned: AlignedTokens) -> list[str]:
        return self.tokenizer.token_labels(aligned.ids)

    def _frames(self, samples: int) -> int:
        return 1 + samples // self.features.hop_length

    def _check_length(self, source: Source, aligned: AlignedTokens, samples: int) -> None:
        frames, needed = self._frames(samples), token_path.frames_needed(aligned)
        if needed > frames:
            raise AlignmentError(
                f"{source.name}: the text is longer than the audio allows: {needed} tokens, and "
                f"{samples / self.features.sample_rate:.2f} s of audio have {frames} frames; "
                "expected at least one frame a token. Check that the text belongs to the audio."
            )


def check_units(units: Sequence[str] | None, kind: str) -> tuple[str, ...]:
    """The units to align, checked against those a tokenizer of this kind makes.

    Raises:
        ConfigError: A unit is not one of them, or none is given.
    """
    choices = ("word", FINEST_UNITS[kind])
    if units is None:
        return choices
    wrong = [unit for unit in units if unit not in choices]
    if wrong or not units:
        raise ConfigError(
            f"unit: found {', '.join(map(repr, wrong)) or 'none'}; expected some of "
            f"{', '.join(choices)} (this bundle's tokenizer is {kind}). Choose from these."
        )
    return tuple(dict.fromkeys(units))


def _shifted(segment: Segment, seconds: float) -> Segment:
    return replace(segment, start=segment.start + seconds, end=segment.end + seconds)
