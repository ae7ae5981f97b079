"""From encoded speech to token sequences: greedy CTC, and batched joint CTC/attention beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.inference.recognition.ctc_prefix import LOG_ZERO, CtcPrefixScorer, PrefixState
from speechmm.inference.recognition.fusion.scorers import Scorer, total_scores
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import BLANK, BOS, EOS, SIL


@dataclass
class Hypothesis:
    """One search result."""

    tokens: list[int]
    score: float
    """Log-probability under the search's own criterion (natural log)."""
    token_log_probs: list[float] = field(default_factory=list)
    """Natural log of each token's probability, for confidence."""


@torch.inference_mode()
def search(
    model: SpeechTextModel,
    encoding: SpeechEncoding,
    options: SearchOptions,
    scorers: Sequence[Scorer] = (),
) -> list[list[Hypothesis]]:
    """The n best hypotheses of every utterance, best first.

    Args:
        model: The joint model.
        encoding: Encoded speech.
        options: How to search.
        scorers: What to listen to besides; greedy CTC listens to nothing.
    """
    if options.decoder == "ctc":
        best = greedy_ctc(model.ctc_log_probs(encoding), encoding.enc_lengths)
        return [[hypothesis] for hypothesis in best]
    return BeamSearch(model, encoding, options, scorers).run()


def greedy_ctc(
    log_probs: Float[Tensor, "batch enc_frames vocab"], lengths: Int[Tensor, " batch"]
) -> list[Hypothesis]:
    """Best token per frame, repeats merged, blanks dropped.

    A token's probability is the highest one among its frames.
    """
    peaks, best = log_probs.max(dim=-1)
    results = []
    for row, scores, length in zip(best.tolist(), peaks.tolist(), lengths.tolist(), strict=True):
        hypothesis = Hypothesis([], sum(scores[:length]))
        previous = BLANK
        for token, score in zip(row[:length], scores[:length], strict=True):
            if token not in (BLANK, previous):
                hypothesis.tokens.append(token)
                hypothesis.token_log_probs.append(score)
            elif token != BLANK:
                hypothesis.token_log_probs[-1] = max(hypothesis.token_log_probs[-1], score)
            previous = token
        results.append(hypothesis)
    return results


class BeamSearch:
    """One batched search over utterances x beams; beam 1 is greedy search.

    Each step scores all tokens with the decoder, keeps the best few per hypothesis, scores
    those with CTC prefixes, and keeps the best ``beam`` of an utterance. An utterance ends when
    no open hypothesis can beat the ended ones, and then leaves the batch.
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
        self.joint = options.listens_to_ctc
        self.device = encoding.encoded.device
        self.cache = model.decode_init(encoding)
        self.limits = encoding.enc_lengths.clone() + 1  # tokens plus eos: one a frame at most
        batch = encoding.encoded.shape[0]
        self.utterances = list(range(batch))
        self.done: list[list[Hypothesis]] = [[] for _ in range(batch)]
        self.scorer: CtcPrefixScorer | None = None
        self.prefix: PrefixState | None = None
        if self.joint:
            log_probs = model.ctc_log_probs(encoding)
            self.scorer = CtcPrefixScorer(log_probs, encoding.mask, blank=BLANK, eos=EOS)
            self.prefix = self.scorer.start(1)
        self.weights = [scorer.weight for scorer in scorers]
        self.outside = [scorer.start(batch, self.device) for scorer in scorers]
        most = sum(scorer.weight * scorer.most_per_token for scorer in scorers)
        self.most_per_token = max(0.0, options.length_bonus) + most
        self.heard = torch.zeros(batch, 1, device=self.device)  # what scorers have added
        self.scores = torch.zeros(batch, 1, device=self.device)  # attention log-probability
        self.tokens = torch.zeros(batch, 1, 0, dtype=torch.long, device=self.device)
        self.token_scores = torch.zeros(batch, 1, 0, device=self.device)

    def run(self) -> list[list[Hypothesis]]:
        """Searches to the end."""
        last: Tensor | None = None
        while self.utterances:
            logits = self.model.decode_step(last, self.cache)
            heard = total_scores(self.outside, self.weights)
            self._grow(self._allowed(logits.log_softmax(dim=-1)), heard)
            last = self._retire()
            if last is not None:
                for state in self.outside:
                    state.advance(self.rows, last)
        count = self.options.n_best
        return [sorted(found, key=lambda h: -h.score)[:count] for found in self.done]

    def _allowed(self, log_probs: Tensor) -> Tensor:
        """(batch, beams, vocab) with impossible tokens ruled out."""
        log_probs = log_probs.view(len(self.utterances), -1, log_probs.shape[-1]).clone()
        log_probs[..., [BLANK, BOS, SIL]] = LOG_ZERO
        must_end = self.tokens.shape[-1] + 1 >= self.limits
        if bool(must_end.any()):
            ended = log_probs[must_end]
            only_eos = torch.full_like(ended, LOG_ZERO)
            only_eos[..., EOS] = ended[..., EOS]
            log_probs[must_end] = only_eos
        return log_probs

    def _candidates(self, log_probs: Tensor, heard: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens worth scoring with CTC, and the decoder's log-probabilities of them.

        Those are the best without CTC, and always the end.
        """
        count = min(
            log_probs.shape[-1],
            max(self.options.beam + 2, 8) if self.joint else self.options.beam + 1,
        )
        if heard is None:
            values, tokens = log_probs.topk(count, dim=-1)
        else:
            share = 1.0 - self.options.ctc_weight if self.joint else 1.0
            tokens = (share * log_probs + heard).topk(count, dim=-1).indices
            values = log_probs.gather(-1, tokens)
        missing = (tokens != EOS).all(dim=-1)
        tokens[..., -1] = torch.where(missing, EOS, tokens[..., -1])
        values[..., -1] = torch.where(missing, log_probs[..., EOS], values[..., -1])
        return values, tokens

    def _grow(self, log_probs: Tensor, heard: Tensor | None) -> None:
        """Extends every hypothesis and keeps the best ``beam`` of each utterance."""
        batch, beams, _ = log_probs.shape
        if heard is not None:
            heard = heard.view_as(log_probs)
        values, tokens = self._candidates(log_probs, heard)
        count = tokens.shape[-1]
        attention = self.scores[:, :, None] + values
        combined = attention
        if self.scorer is not None and self.prefix is not None:
            weight = self.options.ctc_weight
            ctc = self.scorer.score(self.prefix, tokens)
            combined = (1 - weight) * attention + weight * ctc
        if heard is not None:
            added = self.heard[:, :, None] + heard.gather(-1, tokens)
            combined = combined + added
        steps = self.tokens.shape[-1] + 1
        bonus = self.options.length_bonus * (steps - (tokens == EOS).to(combined.dtype))
        combined = (combined + bonus).view(batch, -1)
        kept, picked = combined.topk(min(self.options.beam, beams * count), dim=-1)
        parents = picked // count
        chosen = tokens.view(batch, -1).gather(1, picked)
        self.combined = kept
        self.scores = attention.view(batch, -1).gather(1, picked)
        if heard is not None:
            self.heard = added.view(batch, -1).gather(1, picked)
        self.token_scores = self._append(
            self.token_scores, parents, values.reshape(batch, -1).gather(1, picked)
        )
        self.tokens = self._append(self.tokens, parents, chosen)
        if self.scorer is not None and self.prefix is not None:
            self.prefix = self.scorer.extend(self.prefix, parents, chosen)
        offset = torch.arange(batch, device=self.device)[:, None] * beams
        self.rows = (parents + offset).view(-1)

    @staticmethod
    def _append(history: Tensor, parents: Tensor, new: Tensor) -> Tensor:
        index = parents[:, :, None].expand(-1, -1, history.shape[-1])
        return torch.cat([history.gather(1, index), new[:, :, None]], dim=-1)

    def _retire(self) -> Tensor | None:
        """Stores ended hypotheses, drops finished utterances; returns the open last tokens."""
        newest = self.tokens[:, :, -1]
        open_scores = self.combined.masked_fill(newest == EOS, LOG_ZERO)
        ended = ((newest == EOS) & (self.combined > LOG_ZERO / 2)).nonzero().tolist()
        for row, beam in ended:
            self.done[self.utterances[row]].append(
                Hypothesis(
                    self.tokens[row, beam, :-1].tolist(),
                    float(self.combined[row, beam]),
                    self.token_scores[row, beam, :-1].tolist(),
                )
            )
        best_open = open_scores.max(dim=-1).values.tolist()
        alive = [row for row in range(len(self.utterances)) if self._open(row, best_open[row])]
        self.scores = self.scores.masked_fill(newest == EOS, LOG_ZERO)
        if len(alive) < len(self.utterances):
            self._keep(torch.tensor(alive, dtype=torch.long, device=self.device))
        if not alive:
            return None
        self.cache.reorder(self.rows)
        return self.tokens[:, :, -1].reshape(-1)

    def _open(self, row: int, best_open: float) -> bool:
        """Whether an utterance may still find something better than what has ended."""
        if best_open <= LOG_ZERO / 2:
            return False
        found = sorted((h.score for h in self.done[self.utterances[row]]), reverse=True)
        if len(found) < self.options.n_best:
            return True
        left = float(self.limits[row]) - self.tokens.shape[-1]
        reachable = best_open + self.most_per_token * left
        return reachable > found[self.options.n_best - 1]

    def _keep(self, alive: Tensor) -> None:
        """Shrinks every piece of state to the utterances still searched."""
        beams = self.tokens.shape[1]
        self.rows = self.rows.view(-1, beams)[alive].reshape(-1)
        self.heard = self.heard[alive] if self.outside else self.heard
        self.utterances = [self.utterances[row] for row in alive.tolist()]
        if not self.utterances:
            return
        self.limits = self.limits[alive]
        self.scores, self.combined = self.scores[alive], self.combined[alive]
        self.tokens, self.token_scores = self.tokens[alive], self.token_scores[alive]
        if self.scorer is not None and self.prefix is not None:
            self.scorer.keep_utterances(alive)
            self.prefix = self.prefix.keep_utterances(alive)
