"""From utterances of any length to batches of like length, and back to results in input order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechmm.audio.log_mel import LogMel
from speechmm.data.skips import SkipReport
from speechmm.errors import SpeechmmError
from speechmm.inference.engine.sources import Source
from speechmm.models.bundle import Bundle
from speechmm.models.speech_text import SpeechEncoding

MAX_PADDING = 0.15
"""Largest share of a batch that is padding."""
LOOKAHEAD_BATCHES = 8
"""Batches' worth of audio that is read before it is sorted by length."""

Work = TypeVar("Work")
Found = TypeVar("Found")
Result = TypeVar("Result")


@dataclass
class Piece(Generic[Work, Found]):
    """A stretch of one source, short enough for one pass of the model."""

    waveform: Float[Tensor, " samples"]
    """Audio of the piece; emptied as soon as the piece is done."""
    start: float
    """Seconds from the start of the source."""
    work: Work
    """What is to be done with it."""
    found: Found | None = None
    """What came of it."""
    seconds: float = 0.0
    """Length of the piece."""


@dataclass
class _Job(Generic[Work, Found]):
    source: Source
    pieces: list[Piece[Work, Found]] = field(default_factory=list)
    complete: bool = False
    error: SpeechmmError | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or (
            self.complete and all(piece.found is not None for piece in self.pieces)
        )


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[Work, Found, Result]):
    """The three things that differ from task to task."""

    cut: Callable[[Source], Iterator[Piece[Work, Found]]]
    """Reads a source and cuts it into pieces."""
    process: Callable[[list[Piece[Work, Found]]], None]
    """Sets ``found`` of every piece of a batch."""
    finish: Callable[[Source, list[Piece[Work, Found]]], Result]
    """Makes the result of a source from its pieces."""


def run(
    sources: Iterable[Source],
    steps: Steps[Work, Found, Result],
    *,
    batch_samples: int,
    skipped: SkipReport,
) -> Iterator[Result]:
    """Results of the sources, in their order; a few batches of audio are in memory at a time.

    Args:
        sources: What to read.
        steps: What to do.
        batch_samples: Samples of a batch, padding included.
        skipped: Where a source that fails is noted; nothing is yielded for it.
    """
    jobs: deque[_Job[Work, Found]] = deque()
    pending: list[Piece[Work, Found]] = []
    for source in sources:
        job: _Job[Work, Found] = _Job(source)
        jobs.append(job)
        try:
            for piece in steps.cut(source):
                job.pieces.append(piece)
                if piece.found is None:
                    pending.append(piece)
                if sum(len(p.waveform) for p in pending) >= LOOKAHEAD_BATCHES * batch_samples:
                    _process(pending, steps, batch_samples)
            job.complete = True
        except SpeechmmError as error:
            own = {id(piece) for piece in job.pieces}
            pending = [piece for piece in pending if id(piece) not in own]
            job.error, job.pieces = error, []
        yield from _finished(jobs, steps, skipped)
    _process(pending, steps, batch_samples)
    yield from _finished(jobs, steps, skipped)


def plan_batches(lengths: Sequence[int], batch_samples: int) -> list[list[int]]:
    """Indices of like lengths together: longest first, little padding, bounded size.

    Args:
        lengths: Samples of each item.
        batch_samples: Samples of a batch, padding included; a longer item gets its own batch.
    """
    batches: list[list[int]] = []
    longest = total = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = (len(batches[-1]) + 1) * longest if batches else 0
        fits = size <= batch_samples and total + lengths[index] >= (1 - MAX_PADDING) * size
        if not batches or not fits:
            batches.append([])
            longest, total = lengths[index], 0
        batches[-1].append(index)
        total += lengths[index]
    return batches


class WaveformEncoder:
    """Waveforms of any lengths to encoder output: padding, log-mel, encoder."""

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = bundle.model.to(self.device).eval()
        self.log_mel = LogMel(bundle.features).to(self.device)

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[Float[Tensor, " _"]]) -> SpeechEncoding:
        """Encodes one batch of mono waveforms at the model's rate."""
        lengths = torch.tensor([len(waveform) for waveform in waveforms], device=self.device)
        padded = pad_sequence(list(waveforms), batch_first=True).to(self.device)
        features, frame_lengths = self.log_mel(padded, lengths)
        return self.model.encode_speech(features, frame_lengths)


def _process(
    pending: list[Piece[Work, Found]], steps: Steps[Work, Found, Result], batch_samples: int
) -> None:
    """Processes all pending pieces in batches, and empties the list."""
    for batch in plan_batches([len(piece.waveform) for piece in pending], batch_samples):
        pieces = [pending[index] for index in batch]
        steps.process(pieces)
        for piece in pieces:
            piece.waveform = piece.waveform[:0].clone()
    pending.clear()


def _finished(
    jobs: deque[_Job[Work, Found]], steps: Steps[Work, Found, Result], skipped: SkipReport
) -> Iterator[Result]:
    """Takes the finished jobs off the front."""
    while jobs and jobs[0].done:
        job = jobs.popleft()
        if job.error is None:
            yield steps.finish(job.source, job.pieces)
        else:
            skipped.add(job.source.name, job.error)
