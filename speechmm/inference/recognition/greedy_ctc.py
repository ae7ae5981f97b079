"""Reads the best CTC token of every frame: no search, the fastest decoder."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.text.tokenizer import BLANK


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
