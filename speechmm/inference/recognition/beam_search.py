"""Searches with the attention decoder: batched beams, scored jointly with CTC prefixes and fusion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from speechmm.inference.recognition.ctc_prefix import LOG_ZERO, CtcPrefixScorer, PrefixState
from speechmm.inference.recognition.fusion.scorer import Fusion, Scorer
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL


class BeamSearch:
    """One batched search over utterances x beams; beam 1 is greedy search.

    Each step scores all tokens with the decoder, keeps the best few per hypothesis, scores
    those with CTC prefixes, and keeps the best ``beam`` of an utterance. An utterance ends when
    no open hypothesis can beat the ended ones, and then leaves the batch.

    Every score is a natural log. Tensors of state begin with (utterances, beams), of the utterances
    still searched.
    """

    def __init__(
        self,
        model: SpeechTextModel,
        encoding: SpeechEncoding,
        options: SearchOptions,
        scorers: Sequence[Scorer] = (),
    ):
        self.model = model
        self.options = options
        self.device = encoding.encoded.device
        self.cache = model.decode_init(encoding)
        self.limits = encoding.enc_lengths.clone() + 1  # tokens plus eos: one a frame at most
        batch = encoding.encoded.shape[0]
        self.utterances = list(range(batch))
        """Index in the batch of each utterance still searched."""
        self.done: list[list[Hypothesis]] = [[] for _ in range(batch)]
        self.ctc: CtcPrefixScorer | None = None
        self.prefixes: PrefixState | None = None
        if options.uses_ctc_prefixes:
            log_probs = model.ctc_log_probs(encoding)
            self.ctc = CtcPrefixScorer(log_probs, encoding.mask, blank=BLANK, eos=EOS)
            self.prefixes = self.ctc.start(1)
        self.fusion = Fusion(scorers, batch, self.device)
        self.most_per_token = max(0.0, options.length_bonus) + self.fusion.most_per_token
        zeros = torch.zeros(batch, 1, device=self.device)
        self.attention_scores = zeros
        self.fusion_scores = zeros
        self.scores = zeros
        """What hypotheses are ranked by: attention, CTC prefix and external scores, length bonus."""
        self.tokens = torch.zeros(batch, 1, 0, dtype=torch.long, device=self.device)
        self.token_log_probs = torch.zeros(batch, 1, 0, device=self.device)
        self.rows = torch.arange(batch, device=self.device)
        """Row, in the step before, of the parent of each hypothesis; rows are utterances x beams."""

    def run(self) -> list[list[Hypothesis]]:
        """Searches to the end."""
        last: Tensor | None = None
        while self.utterances:
            logits = self.model.decode_step(last, self.cache)
            self._grow(self._allowed(logits.log_softmax(dim=-1)), self.fusion.scores())
            last = self._retire()
            if last is not None:
                self.fusion.advance(self.rows, last)
        count = self.options.n_best
        return [sorted(found, key=lambda h: -h.score)[:count] for found in self.done]

    def _allowed(
        self, log_probs: Float[Tensor, "rows vocab"]
    ) -> Float[Tensor, "batch beams vocab"]:
        """The same with impossible tokens ruled out."""
        log_probs = log_probs.view(len(self.utterances), -1, log_probs.shape[-1]).clone()
        log_probs[..., [BLANK, BOS, SIL]] = LOG_ZERO
        must_end = self.tokens.shape[-1] + 1 >= self.limits
        if bool(must_end.any()):
            ended = log_probs[must_end]
            only_eos = torch.full_like(ended, LOG_ZERO)
            only_eos[..., EOS] = ended[..., EOS]
            log_probs[must_end] = only_eos
        return log_probs

    def _candidates(
        self,
        log_probs: Float[Tensor, "batch beams vocab"],
        fusion_scores: Float[Tensor, "batch beams vocab"] | None,
    ) -> tuple[Float[Tensor, "batch beams count"], Int[Tensor, "batch beams count"]]:
        """The best next tokens of each hypothesis without CTC, and always the end.

        Returns:
            The decoder's log-probabilities of these tokens, and the tokens.
        """
        # More than the beam, where CTC may yet change their order.
        wanted = max(self.options.beam + 2, 8) if self.ctc else self.options.beam + 1
        count = min(log_probs.shape[-1], wanted)
        if fusion_scores is None:
            values, tokens = log_probs.topk(count, dim=-1)
        else:
            # Ranked with the external scores, at the decoder's share of the joint score.
            share = 1.0 - self.options.ctc_weight if self.ctc else 1.0
            tokens = (share * log_probs + fusion_scores).topk(count, dim=-1).indices
            values = log_probs.gather(-1, tokens)
        # (batch, beams): where the end is not among them, it replaces the last candidate.
        missing = (tokens != EOS).all(dim=-1)
        tokens[..., -1] = torch.where(missing, EOS, tokens[..., -1])
        values[..., -1] = torch.where(missing, log_probs[..., EOS], values[..., -1])
        return values, tokens

    def _grow(
        self,
        log_probs: Float[Tensor, "batch beams vocab"],
        fusion_scores: Float[Tensor, "rows vocab"] | None,
    ) -> None:
        """Extends every hypothesis and keeps the best ``beam`` of each utterance."""
        batch, beams, _ = log_probs.shape
        if fusion_scores is not None:
            fusion_scores = fusion_scores.view_as(log_probs)

        # Candidates, all (batch, beams, count): tokens and the score of prefix + token.
        values, tokens = self._candidates(log_probs, fusion_scores)
        count = tokens.shape[-1]
        attention = self.attention_scores[:, :, None] + values
        scores = attention
        if self.ctc is not None and self.prefixes is not None:
            weight = self.options.ctc_weight
            scores = (1 - weight) * attention + weight * self.ctc.score(self.prefixes, tokens)
        if fusion_scores is not None:
            fused = self.fusion_scores[:, :, None] + fusion_scores.gather(-1, tokens)
            scores = scores + fused
        length = self.tokens.shape[-1] + 1 - (tokens == EOS).to(scores.dtype)
        scores = scores + self.options.length_bonus * length

        # The best of each utterance: `picked` is (batch, kept), an index into beams x count.
        self.scores, picked = scores.view(batch, -1).topk(
            min(self.options.beam, beams * count), dim=-1
        )
        parents = picked // count  # the beam that each one extends
        chosen = tokens.view(batch, -1).gather(1, picked)

        # All state follows, from (batch, beams, ...) to (batch, kept, ...).
        self.attention_scores = attention.view(batch, -1).gather(1, picked)
        if fusion_scores is not None:
            self.fusion_scores = fused.view(batch, -1).gather(1, picked)
        log_probs_chosen = values.reshape(batch, -1).gather(1, picked)
        self.token_log_probs = _append(self.token_log_probs, parents, log_probs_chosen)
        self.tokens = _append(self.tokens, parents, chosen)
        if self.ctc is not None and self.prefixes is not None:
            self.prefixes = self.ctc.extend(self.prefixes, parents, chosen)

        # Caches hold one row per hypothesis: utterance x beams + beam.
        first_rows = torch.arange(batch, device=self.device)[:, None] * beams
        self.rows = (parents + first_rows).view(-1)

    def _retire(self) -> Int[Tensor, " rows"] | None:
        """Stores ended hypotheses, drops finished utterances; returns the open last tokens."""
        ends = self.tokens[:, :, -1] == EOS
        # Ended hypotheses are results, unless they were ruled out.
        for row, beam in (ends & (self.scores > LOG_ZERO / 2)).nonzero().tolist():
            self.done[self.utterances[row]].append(
                Hypothesis(
                    self.tokens[row, beam, :-1].tolist(),
                    float(self.scores[row, beam]),
                    self.token_log_probs[row, beam, :-1].tolist(),
                )
            )
        # They stay in their rows, but nothing that grows from them can be kept.
        best_open = self.scores.masked_fill(ends, LOG_ZERO).max(dim=-1).values.tolist()
        self.attention_scores = self.attention_scores.masked_fill(ends, LOG_ZERO)
        alive = [row for row in range(len(self.utterances)) if self._is_open(row, best_open[row])]
        if len(alive) < len(self.utterances):
            self._keep(torch.tensor(alive, dtype=torch.long, device=self.device))
        if not alive:
            return None
        self.cache.reorder(self.rows)
        return self.tokens[:, :, -1].reshape(-1)

    def _is_open(self, row: int, best_open: float) -> bool:
        """Whether an utterance may still find something better than what has ended."""
        if best_open <= LOG_ZERO / 2:
            return False
        found = sorted((h.score for h in self.done[self.utterances[row]]), reverse=True)
        if len(found) < self.options.n_best:
            return True
        left = float(self.limits[row]) - self.tokens.shape[-1]
        reachable = best_open + self.most_per_token * left
        return reachable > found[self.options.n_best - 1]

    def _keep(self, alive: Int[Tensor, " kept"]) -> None:
        """Shrinks every piece of state to the utterances still searched."""
        beams = self.tokens.shape[1]
        self.rows = self.rows.view(-1, beams)[alive].reshape(-1)
        self.utterances = [self.utterances[row] for row in alive.tolist()]
        if not self.utterances:
            return
        self.limits = self.limits[alive]
        self.scores = self.scores[alive]
        self.attention_scores = self.attention_scores[alive]
        self.fusion_scores = self.fusion_scores[alive]
        self.tokens, self.token_log_probs = self.tokens[alive], self.token_log_probs[alive]
        if self.ctc is not None and self.prefixes is not None:
            self.ctc.keep_utterances(alive)
            self.prefixes = self.prefixes.keep_utterances(alive)


def _append(
    history: Shaped[Tensor, "batch beams steps"],
    parents: Int[Tensor, "batch kept"],
    new: Shaped[Tensor, "batch kept"],
) -> Shaped[Tensor, "batch kept steps_and_one"]:
    """The history of each kept hypothesis's parent with one more entry."""
    index = parents[:, :, None].expand(-1, -1, history.shape[-1])
    return torch.cat([history.gather(1, index), new[:, :, None]], dim=-1)
