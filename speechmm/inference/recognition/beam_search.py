"""Searches batched beams with the attention decoder, CTC prefixes, or both, and external scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.inference.recognition.ctc_prefix import LOG_ZERO, CtcPrefixScorer, PrefixState
from speechmm.inference.recognition.ended import IMPOSSIBLE, EndedHypotheses
from speechmm.inference.recognition.fusion.scorer import Fusion, Scorer
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.readback import Readback, upload
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.text_decoder import Tag
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL

NO_TEXT = (BLANK, BOS, SIL)
"""Tokens that no hypothesis holds."""
STEPS_BETWEEN_LOOKS = 8
"""Steps of a search on a GPU after which the host looks which utterances are finished."""


@dataclass(frozen=True)
class _Candidates:
    """The next tokens that a step looks at, with the scores of prefix and token."""

    tokens: Int[Tensor, "batch beams count"]
    log_probs: Float[Tensor, "batch beams count"]
    """Of the token alone, after its prefix."""
    model_scores: Float[Tensor, "batch beams count"]
    fusion_scores: Float[Tensor, "batch beams count"] | None
    scores: Float[Tensor, "batch beams count"]
    """What they are ranked by, -inf where impossible."""


class BeamSearch:
    """One batched search over utterances x beams; beam 1 is greedy search.

    Each step ranks all tokens by the decoder (by CTC where that has all the weight), keeps the best
    few per hypothesis, scores those with CTC prefixes, and keeps the best ``beam`` of an utterance.
    An utterance is done when no open hypothesis can beat the ended ones, and leaves the batch when
    the host learns that: on a CPU at once, on a GPU some steps later, as nothing in a step waits for
    the device. What it finds in between counts for nothing, so that results are the same.

    Every score is a natural log. What is impossible is a mask, whatever the weights. Tensors of
    state begin with (utterances, beams), of the utterances still searched. There is at most one step
    for each encoder frame (two for a translation), and one for the end.
    """

    def __init__(
        self,
        model: SpeechTextModel,
        encoding: SpeechEncoding,
        options: SearchOptions,
        scorers: Sequence[Scorer] = (),
        *,
        tag: Tag = "asr",
    ):
        self.model = model
        self.tag = tag
        self.options = options
        self.device = encoding.encoded.device
        batch, frames = encoding.encoded.shape[:2]
        self.most_steps = options.tokens_per_frame * frames + 1
        self.limits = options.tokens_per_frame * encoding.enc_lengths + 1  # the end is one, too
        self.cache = model.decode_init(encoding) if options.uses_decoder else None
        self.ctc: CtcPrefixScorer | None = None
        self.prefixes: PrefixState | None = None
        if options.uses_ctc_prefixes:
            log_probs = model.ctc_log_probs(encoding).float()
            self.ctc = CtcPrefixScorer(log_probs, encoding.mask, blank=BLANK, eos=EOS)
            self.prefixes = self.ctc.start(1)
        self.fusion = Fusion(scorers, batch, self.device)
        self.most_per_token = max(0.0, options.length_bonus) + self.fusion.most_per_token
        zeros = torch.zeros(batch, 1, device=self.device)
        self.model_scores = zeros
        """Of the decoder; of CTC prefixes where there is no decoder."""
        self.fusion_scores = zeros
        self.open: Bool[Tensor, "batch beams"] = zeros == 0
        """Hypotheses that have neither ended nor been ruled out."""
        self.done: Bool[Tensor, " batch"] = zeros[:, 0] > 0
        self.tokens = self.parents = zeros.long()
        """The last token of each hypothesis, and the beam before it that it extends."""
        self.ended = EndedHypotheses(batch, options.n_best, options.beam, self.device)
        self.ruled_out = torch.zeros(model.vocab_size, device=self.device)
        for token in NO_TEXT:
            self.ruled_out[token].fill_(IMPOSSIBLE)
        self.waits_for_looks = self.device.type != "cuda"
        """Whether the host looks after every step which utterances are done, and waits to see it."""
        self._look: Readback | None = None

    def run(self) -> list[list[Hypothesis]]:
        """Searches to the end.

        Raises:
            CheckpointError: A score is not a number.
        """
        last: Tensor | None = None
        for step in range(self.most_steps):
            beams = self.open.shape[1]
            self.grow(last, step)
            if not self._drop_done(step, beams):
                break
            last = self.follow(beams)
        return self.ended.read()

    def grow(self, last: Int[Tensor, " rows"] | None, step: int) -> None:
        """Extends every hypothesis and keeps the best ``beam`` of each utterance.

        Args:
            last: The last token of each hypothesis; None in the first step.
            step: How many tokens an open hypothesis has.
        """
        log_probs = self._next_log_probs(last)
        external = self.fusion.scores()
        if external is not None:
            external = external.view_as(log_probs)
        tokens = self._likely(log_probs, external)
        found = self._scored(tokens, log_probs, external, step)

        # The best of each utterance: `picked` is (batch, kept), an index into beams x count.
        batch, beams, count = tokens.shape
        kept = min(self.options.beam, beams * count)
        scores, picked = found.scores.view(batch, -1).topk(kept, dim=-1)
        self.parents = torch.div(picked, count, rounding_mode="floor")
        self.tokens = tokens.view(batch, -1).gather(1, picked)
        self.model_scores = found.model_scores.view(batch, -1).gather(1, picked)
        if found.fusion_scores is not None:
            self.fusion_scores = found.fusion_scores.view(batch, -1).gather(1, picked)
        if self.ctc is not None and self.prefixes is not None:
            self.prefixes = self.ctc.extend(self.prefixes, self.parents, self.tokens)
        self._note(scores, found.log_probs.reshape(batch, -1).gather(1, picked), step)

    def _next_log_probs(
        self, last: Int[Tensor, " rows"] | None
    ) -> Float[Tensor, "batch beams vocab"]:
        """Of every token after each hypothesis, -inf of those that are no text."""
        if self.cache is not None:
            logits = self.model.decode_step(last, self.cache, self.tag).float()
            log_probs = logits.log_softmax(dim=-1).view(*self.open.shape, -1)
        else:
            assert self.ctc is not None and self.prefixes is not None
            log_probs = self.ctc.score_all(self.prefixes) - self.model_scores[:, :, None]
        return log_probs + self.ruled_out

    def _likely(
        self,
        log_probs: Float[Tensor, "batch beams vocab"],
        external: Float[Tensor, "batch beams vocab"] | None,
    ) -> Int[Tensor, "batch beams count"]:
        """The best next tokens of each hypothesis by one model alone, and always the end."""
        # More than the beam, where CTC may yet change their order.
        wanted = max(self.options.beam + 2, 8) if self.ctc else self.options.beam + 1
        ranks = log_probs
        if external is not None:
            # Ranked with the external scores, at the model's share of the joint score.
            joint = self.ctc is not None and self.cache is not None
            share = 1.0 - self.options.ctc_weight if joint else 1.0
            ranks = share * log_probs + external
        tokens = ranks.topk(min(log_probs.shape[-1], wanted), dim=-1).indices
        # (batch, beams): where the end is not among them, it replaces the last candidate.
        missing = (tokens != EOS).all(dim=-1)
        tokens[..., -1] = torch.where(missing, EOS, tokens[..., -1])
        return tokens

    def _scored(
        self,
        tokens: Int[Tensor, "batch beams count"],
        log_probs: Float[Tensor, "batch beams vocab"],
        external: Float[Tensor, "batch beams vocab"] | None,
        step: int,
    ) -> _Candidates:
        """The scores of each hypothesis with each of its candidates."""
        is_end = tokens == EOS
        may_go_on = self.limits > step + 1
        possible = self.open[:, :, None] & (is_end | may_go_on[:, None, None])
        before = self.model_scores[:, :, None]
        values = log_probs.gather(-1, tokens)
        if tokens.shape[-1] > log_probs.shape[-1] - len(NO_TEXT):  # too few others
            possible = possible & (values != IMPOSSIBLE)
        own = scores = before + values
        if self.ctc is not None and self.prefixes is not None:
            spoken = self.ctc.score(self.prefixes, tokens)
            possible = possible & ~(spoken <= LOG_ZERO / 2)  # NaN stays, to be found
            if self.cache is None:
                own, scores, values = spoken, spoken, spoken - before
            else:
                weight = self.options.ctc_weight
                scores = (1 - weight) * own + weight * spoken
        fused: Tensor | None = None
        if external is not None:
            fused = self.fusion_scores[:, :, None] + external.gather(-1, tokens)
            scores = scores + fused
        if self.options.length_bonus:
            length = step + 1 - is_end.to(scores.dtype)
            scores = scores + self.options.length_bonus * length
        scores = scores.masked_fill(~possible, IMPOSSIBLE)
        return _Candidates(tokens, values, own, fused, scores)

    def _note(
        self,
        scores: Float[Tensor, "batch kept"],
        log_probs: Float[Tensor, "batch kept"],
        step: int,
    ) -> None:
        """Notes which hypotheses have ended, and which utterances can find nothing better."""
        ends = self.tokens == EOS
        ended = scores.masked_fill(~ends, IMPOSSIBLE)
        # The best comes first, and what is not a number before it: such an utterance is done.
        ended = torch.where(scores[:, :1].isnan(), scores[:, :1], ended)
        ended = ended.masked_fill(self.done[:, None], IMPOSSIBLE)
        self.ended.record(self.parents, self.tokens, log_probs, ended)
        # They stay in their rows, but nothing that grows from them can be kept.
        self.open = (scores > IMPOSSIBLE) & ~ends
        best_open = scores.masked_fill(~self.open, IMPOSSIBLE).amax(dim=-1)
        reachable = best_open + self.most_per_token * (self.limits - (step + 1))
        self.done = self.done | ~(reachable > self.ended.scores[:, -1])

    def _drop_done(self, step: int, beams: int) -> bool:
        """Lets go of utterances that the host knows to be done; whether any are left."""
        look: Readback | None
        if self.waits_for_looks:
            look = Readback(self.done)
        elif (step + 1) % STEPS_BETWEEN_LOOKS:
            return True
        else:
            look = self._look
        if look is not None:
            alive = [row for row, done in enumerate(look.values()) if not done]
            if not alive:
                return False
            if len(alive) < len(self.done):
                self._keep(alive, beams)
        self._look = None if self.waits_for_looks else Readback(self.done)
        return True

    def _keep(self, alive: list[int], beams: int) -> None:
        """Shrinks every piece of state to some utterances; caches still have ``beams`` rows of each."""
        rows = upload(alive, self.device)
        self.ended.keep_utterances(rows, alive)
        self.limits, self.done, self.open = self.limits[rows], self.done[rows], self.open[rows]
        self.model_scores, self.fusion_scores = self.model_scores[rows], self.fusion_scores[rows]
        self.tokens, self.parents = self.tokens[rows], self.parents[rows]
        if self.ctc is not None and self.prefixes is not None:
            self.ctc.keep_utterances(rows)
            self.prefixes = self.prefixes.keep_utterances(rows)
        if self.cache is not None:
            self.cache.keep_utterances(rows)
        self.fusion.keep_utterances(rows, beams)

    def follow(self, beams: int) -> Int[Tensor, " rows"]:
        """Caches and external scores follow what was kept, from ``beams`` rows an utterance each.

        Returns:
            The last token of each hypothesis.
        """
        first_rows = torch.arange(len(self.parents), device=self.device)[:, None] * beams
        rows, last = (self.parents + first_rows).view(-1), self.tokens.view(-1)
        if self.cache is not None:
            self.cache.reorder(rows)
        self.fusion.advance(rows, last)
        return last
