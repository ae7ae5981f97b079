"""Scores prefixes with CTC, many hypotheses at once, as tensors.

Source: Watanabe et al. 2017, "Hybrid CTC/Attention Architecture", algorithm 2. The recursion
over frames is a linear recurrence; here it is solved in closed form with cumulative sums, so
that neither hypotheses nor frames are walked in Python. Candidates are scored by one sum over
frames; the recursion is solved only for those that the search keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

LOG_ZERO = -1e30


@dataclass
class PrefixState:
    """Forward variables of each hypothesis.

    ``total[b, k, t]`` is the log-probability that the first ``t`` frames spell the prefix,
    ``blank[b, k, t]`` that they do so and the last of them is blank. ``t`` goes from 0 to all
    frames: ``times`` is one more than they are.
    """

    total: Float[Tensor, "batch beams times"]
    blank: Float[Tensor, "batch beams times"]
    last: Int[Tensor, "batch beams"]
    """Last token of the prefix; -1 for the empty prefix."""

    def keep_utterances(self, utterances: Int[Tensor, " kept"]) -> PrefixState:
        """Without those that are finished."""
        return PrefixState(self.total[utterances], self.blank[utterances], self.last[utterances])


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
        by_frame = torch.where(mask[:, :, None], log_probs, certain)
        self.by_token = by_frame.transpose(1, 2).contiguous()
        self.blank_path = F.pad(self.by_token[:, blank].cumsum(dim=1), (1, 0))
        self._probabilities: Float[Tensor, "batch vocab enc_frames"] | None = None

    def start(self, beams: int) -> PrefixState:
        """The empty prefix, ``beams`` times per utterance."""
        blank = self.blank_path[:, None].expand(-1, beams, -1)
        last = torch.full(blank.shape[:2], -1, dtype=torch.long, device=blank.device)
        return PrefixState(blank, blank, last)

    def score(
        self, state: PrefixState, tokens: Int[Tensor, "batch beams candidates"]
    ) -> Float[Tensor, "batch beams candidates"]:
        """Log-probabilities that an utterance begins with ``prefix + token``.

        For ``eos`` it is that of the complete utterance.
        """
        # (batch, beams, candidates, frames): the prefix fills the frames before t, the token is
        # spoken in t, anything may follow; summed over t.
        score = (state.total[:, :, None, :-1] + self._emission(tokens)).logsumexp(dim=-1)
        # (batch, beams): the same token again needs a blank between, so paths must end in blank.
        repeated = (state.blank[..., :-1] + self._emission(state.last)).logsumexp(dim=-1)
        score = torch.where(tokens == state.last[:, :, None], repeated[:, :, None], score)
        # The end leaves no frame over: all of them spell the prefix.
        return torch.where(tokens == self.eos, state.total[:, :, -1:], score)

    def score_all(self, state: PrefixState) -> Float[Tensor, "batch beams vocab"]:
        """The scores of every token, as one product of matrices: good enough to rank them by.

        What is less likely than about 1e-38 of a prefix's likeliest path is -inf.
        """
        if self._probabilities is None:
            self._probabilities = self.by_token.exp()
        highest = state.total[..., :-1].amax(dim=-1, keepdim=True)
        paths = (state.total[..., :-1] - highest).exp()
        score = (paths @ self._probabilities.transpose(1, 2)).log() + highest
        repeated = (state.blank[..., :-1] + self._emission(state.last)).logsumexp(dim=-1)
        last = state.last.clamp(min=0)[:, :, None]  # the empty prefix: whatever the blank says
        score = score.scatter(-1, last, repeated[:, :, None])
        score[..., self.eos] = state.total[..., -1]
        return score

    def extend(
        self,
        state: PrefixState,
        parents: Int[Tensor, "batch kept"],
        tokens: Int[Tensor, "batch kept"],
    ) -> PrefixState:
        """The states of ``prefix + token`` for those prefixes and tokens."""
        # Each kept prefix starts from its parent's variables, (batch, kept, times).
        rows = parents[:, :, None].expand(-1, -1, state.total.shape[-1])
        total, blank = state.total.gather(1, rows), state.blank.gather(1, rows)
        # Log-probability that the token may begin in the frame after each time.
        repeat = tokens == state.last.gather(1, parents)
        entered = torch.where(repeat[:, :, None], blank, total)[..., :-1]
        # Paths whose last frame is the token: they enter once, then repeat it in every frame. The
        # clamp keeps LOG_ZERO of padding from swallowing the cumulative sums.
        path = F.pad(self._emission(tokens).clamp(min=-200.0).cumsum(dim=-1), (1, 0))
        spoken = _sum_over_entries(entered, path)
        # Paths whose last frame is blank: they leave the token once, then stay in blank.
        blank = _sum_over_entries(spoken[..., :-1], self.blank_path[:, None])
        return PrefixState(torch.logaddexp(spoken, blank), blank, tokens)

    def _emission(self, tokens: Int[Tensor, "batch ..."]) -> Float[Tensor, "batch ... frames"]:
        """Log-probabilities of a token in each frame; of no token (-1), anything."""
        batch, vocab, frames = self.by_token.shape
        # by_token as (batch x vocab, frames): one row per utterance and token, picked by number.
        first = vocab * torch.arange(batch, device=tokens.device).view(-1, *[1] * (tokens.ndim - 1))
        index = (tokens.clamp(min=0) + first).view(-1)
        return self.by_token.view(-1, frames).index_select(0, index).view(*tokens.shape, frames)

    def keep_utterances(self, utterances: Int[Tensor, " kept"]) -> None:
        """Drops finished utterances."""
        self.by_token = self.by_token[utterances]
        self.blank_path = self.blank_path[utterances]
        if self._probabilities is not None:
            self._probabilities = self._probabilities[utterances]


def _sum_over_entries(
    entered: Float[Tensor, "batch kept frames"], path: Float[Tensor, "#batch #kept times"]
) -> Float[Tensor, "batch kept times"]:
    """``x[t] = (x[t-1] + entered[t-1]) p[t]`` in logarithms, from nothing, by cumulative sums.

    ``path`` is the logarithm of the product of ``p`` up to each time, of none at the first.
    """
    # Unrolled, x[t] = path[t] * sum over s < t of entered[s] / path[s], here in logarithms.
    x = (entered - path[..., :-1]).logcumsumexp(dim=-1) + path[..., 1:]
    return F.pad(x.clamp(min=LOG_ZERO), (1, 0), value=LOG_ZERO)
