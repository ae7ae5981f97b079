"""Aligns texts with an aligner that has learned from recordings and texts alone, without a recogniser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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
from speechmm.inference.alignment.soft_edges import EDGE_SCALE, RANGE_SCALE, find_edges
from speechmm.inference.alignment.state_graph import STATES_A_TOKEN
from speechmm.inference.alignment.token_path import (
    TokenPath,
    silence_mask,
    token_segments,
    word_segments,
)
from speechmm.inference.alignment.viterbi import Doubles, Floats, Ints
from speechmm.inference.engine.sources import Source
from speechmm.models.front_end import length_mask
from speechmm.models.local_network import LocalNetwork
from speechmm.models.utterance_mean import frame_levels, utterance_mean
from speechmm.text.align_units import AlignUnits

_LEAST = 1e-9
"""Of a probability whose logarithm is taken."""
LONGEST_SECONDS = 60.0
"""Longer recordings are refused: an aligner that hears no words cannot find its place in them."""
_DYNAMIC_RANGE = 18.0
"""Nats below the loudest band of an utterance at which log-mel is cut, so that digital silence is quiet
and no more."""
_SPREAD = 3.0
"""About the standard deviation of log-mel, nats."""


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
        """When the words and units of one utterance were said.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: It has no text, more text than frames, or is too long.
        """
        log_mel, text = read_log_mel(source, self.features), place_text(self.units, source)
        posteriors, scores = self.log_probs(log_mel)
        text = likeliest_pronunciations(self.units, text, scores)
        states = text.graph.best_path(scores)
        heard = unit_log_probs(posteriors)
        path = token_path(text, states, heard)
        narrow, wide = (
            text.graph.occupancy(scale * scores, tokens=len(text.labels))
            for scale in (EDGE_SCALE, RANGE_SCALE)
        )
        left_out = silence_mask(text.aligned) & (path.first == path.last)
        path = replace(path, edges=find_edges(narrow, wide, left_out=left_out))
        duration = source.duration(self.features.sample_rate)
        clock = FrameGrid.of(self.features).clock(len(log_mel), duration)
        tokens = token_segments(path, text.aligned, text.labels, clock)
        unknown = self.units.unknown(*text.text)
        return Alignment(
            id=source.id,
            audio=source.audio,
            start=source.start,
            duration=duration,
            units={
                "word": cut_unspaced(word_segments(path, text.aligned, clock)),
                self.units.kind: tokens,
            },
            confidence=math.exp(text_margin(text, path, heard)),
            flags=("unknown_characters: " + " ".join(unknown),) if unknown else (),
        )


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
        AlignmentError: It is too long.
    """
    seconds = source.duration(config.sample_rate)
    if seconds > LONGEST_SECONDS:
        raise AlignmentError(
            f"{source.name}: it lasts {seconds:.0f} s; expected at most {LONGEST_SECONDS:.0f} s without a "
            "recogniser. Cut it in its pauses, or give the bundle of a recogniser with --model."
        )
    return compute_log_mel(source.load(config.sample_rate), config)


def centred(
    log_mel: Float[Tensor, "batch frames n_mels"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch frames n_mels"]:
    """Log-mel around the mean of each utterance's bands, in about standard deviations; padding is 0."""
    keep = length_mask(lengths, log_mel.shape[1])[:, :, None]
    loudest = log_mel.masked_fill(~keep, -math.inf).amax(dim=(1, 2), keepdim=True)
    audible = log_mel.maximum(loudest - _DYNAMIC_RANGE)
    mean = utterance_mean(audible, frame_levels(audible), lengths, 0.0)
    return ((audible - mean) / _SPREAD).masked_fill(~keep, 0.0)
