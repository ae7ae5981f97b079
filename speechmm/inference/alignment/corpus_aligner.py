"""Aligns texts with an aligner that has learned from recordings and texts alone, without a recogniser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.alignments import Alignment
from speechmm.alignments.word_pieces import cut_unspaced
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.skips import SkipReport, named_failure
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.placed_text import (
    PlacedText,
    likeliest_pronunciations,
    place_text,
)
from speechmm.inference.alignment.recording_parts import (
    RecordingPart,
    block_log_mel,
    cut_recording,
)
from speechmm.inference.alignment.soft_edges import EDGE_SCALE, RANGE_SCALE, find_edges
from speechmm.inference.alignment.state_graph import STATES_A_TOKEN
from speechmm.inference.alignment.token_path import (
    TokenPath,
    silence_mask,
    token_segments,
    word_segments,
)
from speechmm.inference.alignment.trust import unfit
from speechmm.inference.alignment.verification import WRONG_TRANSCRIPT
from speechmm.inference.alignment.viterbi import Doubles, Floats, Ints
from speechmm.inference.engine.sources import Source
from speechmm.models.front_end import length_mask
from speechmm.models.local_network import LocalNetwork
from speechmm.models.utterance_mean import frame_levels, utterance_mean
from speechmm.text.align_units import AlignUnits

_LEAST = 1e-9
"""Of a probability whose logarithm is taken."""
ONE_PASS_SECONDS = 60.0
"""Longer recordings are cut into parts, between words (``recording_parts``)."""
_DYNAMIC_RANGE = 18.0
"""Nats below the loudest band of an utterance at which log-mel is cut, so that digital silence is quiet
and no more."""
_SPREAD = 3.0
"""About the standard deviation of log-mel, nats."""
LEARNED_OUTER_SHARE = 0.025
"""Share of the paths through states that pass an edge before its range, and after: eight of ten ranges then
hold the true edge in voices of two synthesisers, with noise too (docs/experiments/2026-11-28-pauses.md)."""


@dataclass(frozen=True)
class PlacedPart:
    """Where the units of a part of a recording are said, in frames of the recording."""

    first: int
    last: int
    """One past the end."""
    text: PlacedText
    path: TokenPath
    margin: float
    """Of :func:`text_margin`."""


@dataclass(frozen=True)
class CorpusAligner:
    """Networks that hear which unit a frame belongs to, and the units they know."""

    units: AlignUnits
    features: LogMelConfig
    networks: tuple[LocalNetwork, ...]
    """Their scores are averaged."""

    @torch.inference_mode()
    def log_probs(self, log_mel: Float[Tensor, "frames n_mels"]) -> tuple[Floats, Floats]:
        """Of the states in each frame, and the same with their priors divided out.

        Returns:
            Two of (frames, columns), as :func:`state_columns` counts them.
        """
        lengths = torch.tensor([len(log_mel)])
        features = centred(log_mel[None], lengths)
        both = [(one(features, lengths)[0], one.log_prior) for one in self.networks]
        posteriors = torch.stack([log_probs for log_probs, _ in both]).mean(dim=0)
        scores = torch.stack([log_probs - prior for log_probs, prior in both]).mean(dim=0)
        return posteriors.numpy(), scores.numpy()

    @torch.inference_mode()
    def unit_scores(
        self, log_mel: Float[Tensor, "frames n_mels"], like: Float[Tensor, "others n_mels"]
    ) -> Floats:
        """Of silence and of each unit, with their priors divided out, by the first network alone.

        Args:
            log_mel: Of an utterance.
            like: Of that whose mean is taken off.

        Returns:
            (frames, 1 + units).
        """
        lengths, others = torch.tensor([len(log_mel)]), torch.tensor([len(like)])
        features = centred(log_mel[None], lengths, level_of(like[None], others))
        network = self.networks[0]
        heard = unit_log_probs(network(features, lengths)[0].numpy())
        scores: Floats = heard - unit_log_probs(network.log_prior[None].numpy())
        return scores

    def align_sources(
        self, sources: Iterable[Source], *, skipped: SkipReport | None = None
    ) -> Iterator[Alignment]:
        """Alignments in the order of the sources.

        Args:
            sources: Utterances with their texts.
            skipped: Where one that fails is noted; without it, the first failure is raised.
        """
        skipped = SkipReport(strict=True) if skipped is None else skipped
        for source in sources:
            try:
                found = self.align(source)
            except Exception as error:
                skipped.add(source.name, named_failure(source.name, error))
                continue
            yield found

    def align(self, source: Source) -> Alignment:
        """When the words and units of one utterance, or of a recording of any length, were said.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: It has no text, or more text than frames.
        """
        frames, parts = self.place(source)
        duration = source.duration(self.features.sample_rate)
        clock = FrameGrid.of(self.features).clock(frames, duration)
        words, tokens = [], []
        for part in parts:
            words += word_segments(part.path, part.text.aligned, clock)
            tokens += token_segments(part.path, part.text.aligned, part.text.labels, clock)
        unknown = sorted({one for part in parts for one in self.units.unknown(*part.text.text)})
        flags = ["unknown_characters: " + " ".join(unknown)] if unknown else []
        name = WRONG_TRANSCRIPT if self.units.shared else "low_confidence"
        for first, last in self.unfit_spans(parts):
            flags.append(f"{name}: {clock.seconds(first):.2f}-{clock.seconds(last):.2f} s")
        return Alignment(
            id=source.id,
            audio=source.audio,
            channels=source.channels,
            start=source.start,
            duration=duration,
            units={"word": cut_unspaced(words), self.units.kind: tokens},
            confidence=math.exp(mean_margin(parts)),
            flags=tuple(flags),
        )

    def place(self, source: Source) -> tuple[int, list[PlacedPart]]:
        """The frames of a recording, and where each part of its text is said.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: It has no text, or more text than frames.
        """
        text = place_text(self.units, source)
        if source.duration(self.features.sample_rate) <= ONE_PASS_SECONDS:
            log_mel = read_log_mel(source, self.features)
            return len(log_mel), [self._placed(log_mel, RecordingPart(0, len(log_mel), text))]
        log_mel = block_log_mel(source, self.features)
        parts = cut_recording(self.units, text, log_mel, self.unit_scores, self.features)
        try:
            return len(log_mel), [self._placed(log_mel, part) for part in parts]
        except AlignmentError as error:
            raise AlignmentError(f"{source.name}: {error}") from error

    def unfit_spans(self, parts: Sequence[PlacedPart]) -> list[tuple[int, int]]:
        """From which frame to which a recording of several parts does not fit its text."""
        if len(parts) == 1:
            return []
        spans: list[tuple[int, int]] = []
        before = None
        for place in unfit([part.margin for part in parts], shared=self.units.shared):
            first = parts[place].first
            if before is not None and place == before + 1:
                first = spans.pop()[0]
            spans.append((first, parts[place].last))
            before = place
        return spans

    def _placed(self, log_mel: Float[Tensor, "frames n_mels"], part: RecordingPart) -> PlacedPart:
        """The exact times of a part of some audio."""
        posteriors, scores = self.log_probs(log_mel[part.first : part.last])
        text = likeliest_pronunciations(self.units, part.text, scores)
        states = text.graph.best_path(scores)
        heard = unit_log_probs(posteriors)
        path = token_path(text, states, heard)
        narrow, wide = (
            text.graph.occupancy(scores, tokens=len(text.labels), scale=scale)
            for scale in (EDGE_SCALE, RANGE_SCALE)
        )
        left_out = silence_mask(text.aligned) & (path.first == path.last)
        edges = find_edges(narrow, wide, left_out=left_out, outer_share=LEARNED_OUTER_SHARE)
        path = replace(path, edges=edges)
        margin = text_margin(text, path, heard)
        return PlacedPart(part.first, part.last, text, path.later(part.first), margin)


def mean_margin(parts: Sequence[PlacedPart]) -> float:
    """Of :func:`text_margin`, over the units of all parts of a recording."""
    weights = [len(part.text.labels) - part.text.labels.count("") for part in parts]
    return float(np.average([part.margin for part in parts], weights=weights))


def token_path(text: PlacedText, states: Ints, heard: Floats) -> TokenPath:
    """The frames of each token of a path of states, and what the networks say of them.

    Args:
        text: In the utterance.
        states: (frames,), of the path.
        heard: (frames, 1 + units), as :func:`unit_log_probs` returns them.
    """
    owners = text.graph.tokens[states]
    tokens = np.arange(len(text.labels))
    first = np.searchsorted(owners, tokens)
    last = np.searchsorted(owners, tokens, side="right")
    units = (text.graph.columns[states] - 1) // STATES_A_TOKEN + 1
    own = np.take_along_axis(heard, units[:, None], 1)[:, 0]
    return TokenPath(first, last, _sums(own, first, last).astype(np.float32))


def text_margin(text: PlacedText, path: TokenPath, heard: Floats) -> float:
    """How much better other units fit what is said than those of the text do, nats a frame, 0 or less.

    The mean over the tokens of the text, of the mean over their frames of the log of how many times
    likelier the likeliest unit is. Source: the goodness of pronunciation of Witt and Young 2000, with
    the posteriors of a network.
    """
    best = _sums(heard.max(axis=1), path.first, path.last)
    spoken = ~silence_mask(text.aligned)
    margins = (path.log_probs - best)[spoken] / (path.last - path.first)[spoken]
    return min(0.0, float(margins.mean()))


def _sums(values: Floats, first: Ints, last: Ints) -> Doubles:
    """Of the frames of each token."""
    summed = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    found: Doubles = summed[last] - summed[first]
    return found


def unit_log_probs(posteriors: Floats) -> Floats:
    """Log-probabilities of silence and of each unit, its three states together.

    Args:
        posteriors: (frames, columns), log-probabilities as :func:`state_columns` counts them.

    Returns:
        (frames, 1 + units).
    """
    parts = np.exp(posteriors[:, 1:]).reshape(len(posteriors), -1, STATES_A_TOKEN).sum(axis=2)
    together = np.concatenate([np.exp(posteriors[:, :1]), parts], axis=1)
    found: Floats = np.log(np.maximum(together, np.float32(_LEAST)))
    return found


def read_log_mel(source: Source, config: LogMelConfig) -> Float[Tensor, "frames n_mels"]:
    """Log-mel of an utterance.

    Raises:
        AudioError: It cannot be read.
    """
    return compute_log_mel(source.load(config.sample_rate), config)


Level = tuple[Float[Tensor, "batch 1 1"], Float[Tensor, "batch 1 n_mels"]]
"""Where log-mel is cut from below, and its mean."""


def centred(
    log_mel: Float[Tensor, "batch frames n_mels"],
    lengths: Int[Tensor, " batch"],
    level: Level | None = None,
) -> Float[Tensor, "batch frames n_mels"]:
    """Log-mel around the mean of each utterance's bands, in about standard deviations; padding is 0.

    Args:
        log_mel: Of utterances.
        lengths: Their frames.
        level: Of other ones, whose mean is taken; their own when not given.
    """
    floor, mean = level_of(log_mel, lengths) if level is None else level
    keep = length_mask(lengths, log_mel.shape[1])[:, :, None]
    return ((log_mel.maximum(floor) - mean) / _SPREAD).masked_fill(~keep, 0.0)


def level_of(
    log_mel: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
) -> Level:
    """Where the log-mel of utterances is cut from below, and the mean of each band."""
    keep = length_mask(lengths, log_mel.shape[1])[:, :, None]
    floor = log_mel.masked_fill(~keep, -math.inf).amax(dim=(1, 2), keepdim=True) - _DYNAMIC_RANGE
    audible = log_mel.maximum(floor)
    return floor, utterance_mean(audible, frame_levels(audible), lengths, 0.0)
