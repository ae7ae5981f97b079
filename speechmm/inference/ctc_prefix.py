"""CTC prefix scores of many hypotheses at once, as tensors.

Source: Watanabe et al. 2017, "Hybrid CTC/Attention Architecture", algorithm 2. The recursion
over frames is a linear recurrence; here it is solved in closed form with cumulative sums, so
that neither hypotheses nor frames are walked in Python.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LOG_ZERO = -1e30


@dataclass
class PrefixState:
    """Forward variables of each hypothesis.

    ``non_blank[b, k, t]`` (``blank[b, k, t]``) is the log-probability that the first t + 1
    frames spell the prefix and end in its last token (in blank); ``score`` that the whole
    utterance begins with the prefix.
    """

    non_blank: Float[Tensor, "batch beams enc_frames"]
    blank: Float[Tensor, "batch beams enc_frames"]
    score: Float[Tensor, "batch beams"]
    last: Int[Tensor, "batch beams"]
    """Last token of the prefix; -1 for the empty prefix."""


class CtcPrefixScorer:
    """Scores extensions of prefixes by one token, for a batch of utterances."""

    def __init__(
        self,
        log_probs: Float[Tensor, "batch enc_frames vocab"],
        mask: Bool[Tensor, "batch enc_frames"],
        *,
        blank: int,
        eos: int,
    ):
        self.eos = eos
        # A padded frame is a certain blank: it changes no prefix.
        certain = torch.full_like(log_probs[:1, :1], LOG_ZERO)
        certain[..., blank] = 0.0
        self.log_probs = torch.where(mask[:, :, None], log_probs, certain)
        self.blank_total = self.log_probs[..., blank].cumsum(dim=1)

    def start(self, beams: int) -> PrefixState:
        """The empty prefix, ``beams`` times per utterance."""
        batch, frames, _ = self.log_probs.shape
        blank = self.blank_total[:, None, :].expand(batch, beams, frames)
        return PrefixState(
            non_blank=torch.full_like(blank, LOG_ZERO),
            blank=blank,
            score=torch.zeros_like(blank[..., 0]),
            last=torch.full((batch, beams), -1, dtype=torch.long, device=blank.device),
        )

    def extend(
        self, state: PrefixState, tokens: Int[Tensor, "batch beams candidates"]
    ) -> tuple[Float[Tensor, "batch beams candidates"], PrefixState]:
        """Prefix log-probabilities of ``prefix + token``, and the states to continue from.

        The returned state keeps the candidates in its beam axis, flattened
        (beams * candidates); for ``eos`` the score is that of the complete utterance.
        """
        batch, beams, candidates = tokens.shape
        frames = self.log_probs.shape[1]
        chosen = tokens.reshape(batch, 1, -1).expand(batch, frames, -1)
        emission = self.log_probs.gather(2, chosen).transpose(1, 2)
        emission = emission.reshape(batch, beams, candidates, frames)

        # phi[t]: mass of the old prefix up to frame t from which the new token may start.
        total = torch.logaddexp(state.non_blank, state.blank)
        repeat = (tokens == state.last[:, :, None])[..., None]
        phi = torch.where(repeat, state.blank[:, :, None], total[:, :, None])
        empty = (state.last < 0)[:, :, None, None].expand_as(phi[..., :1])
        before = torch.where(empty, 0.0, LOG_ZERO)
        phi = torch.cat([before, phi[..., :-1]], dim=-1)

        # non_blank[t] = (non_blank[t-1] + phi[t-1]) * p_t(token), solved by cumulative sums.
        path = emission.clamp(min=-200.0).cumsum(dim=-1)
        shifted = torch.cat([torch.zeros_like(path[..., :1]), path[..., :-1]], dim=-1)
        non_blank = (phi - shifted).logcumsumexp(dim=-1) + path
        # blank[t] = (blank[t-1] + non_blank[t-1]) * p_t(blank), likewise.
        blank_path = self.blank_total[:, None, None, :]
        entering = torch.cat(
            [torch.full_like(non_blank[..., :1], LOG_ZERO), non_blank[..., :-1]], dim=-1
        )
        blank_shifted = torch.cat(
            [torch.zeros_like(blank_path[..., :1]), blank_path[..., :-1]], dim=-1
        )
        blank = (entering - blank_shifted).logcumsumexp(dim=-1) + blank_path

        score = (phi + emission).logsumexp(dim=-1)
        ended = total[:, :, None, -1].expand_as(score)
        score = torch.where(tokens == self.eos, ended, score)
        flat = (batch, beams * candidates)
        return score, PrefixState(
            non_blank.clamp(min=LOG_ZERO).reshape(*flat, frames),
            blank.clamp(min=LOG_ZERO).reshape(*flat, frames),
            score.reshape(flat),
            tokens.reshape(flat),
        )

    def take(self, state: PrefixState, picked: Int[Tensor, "batch kept"]) -> PrefixState:
        """The states of the picked hypotheses (indices into the beam axis)."""
        frames = picked[:, :, None].expand(-1, -1, state.blank.shape[-1])
        return PrefixState(
            state.non_blank.gather(1, frames),
            state.blank.gather(1, frames),
            state.score.gather(1, picked),
            state.last.gather(1, picked),
        )

    def keep_utterances(self, utterances: Int[Tensor, " kept"]) -> None:
        """Drops finished utterances."""
        self.log_probs = self.log_probs[utterances]
        self.blank_total = self.blank_total[utterances]
