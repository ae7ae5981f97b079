"""Scores hypotheses by the alignment head: how likely the audio is, given each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from speechmm.data.batch import pad_tokens
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.models.forward_sum import gather_tokens
from speechmm.models.kernels import dispatch as kernels
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.recognised_text import align_recognised
from speechmm.text.tokenizer import SIL, Tokenizer

LEAST_PER_FRAME = -20.0
"""Log-likelihood of a frame (nats) under a text that has more tokens than the audio has frames."""


@torch.inference_mode()
def rescore(
    model: SpeechTextModel,
    tokenizer: Tokenizer,
    encoding: SpeechEncoding,
    results: Sequence[Sequence[Hypothesis]],
    weight: float,
) -> list[list[Hypothesis]]:
    """The hypotheses of every utterance in a new order, by the search and by the alignment.

    Args:
        model: Has the alignment head.
        tokenizer: Of the model.
        encoding: The speech.
        results: Of each utterance, its hypotheses.
        weight: Of the log-likelihood of :func:`log_likelihoods` beside the score of the search. Both are of
            the whole utterance, and every hypothesis has the same audio to explain.

    Returns:
        The same, best first, with the sum as score; of equal ones the first stays first.
    """
    aligned = model.align_log_probs(encoding).float()
    scores = torch.zeros(len(results), max((len(row) for row in results), default=0))
    for rank in range(scores.shape[1]):  # one after the other: all at once would need much memory
        texts = [row[rank].tokens if rank < len(row) else [] for row in results]
        ids = [align_recognised(tokenizer, text).ids for text in texts]
        tokens, lengths = (one.to(aligned.device) for one in pad_tokens(ids))
        found = log_likelihoods(aligned, encoding.lengths, tokens, lengths, tokens == SIL)
        scores[:, rank] = found.cpu()
    combined = [
        [replace(one, score=one.score + weight * by) for one, by in zip(row, own, strict=False)]
        for row, own in zip(results, scores.tolist(), strict=True)
    ]
    return [sorted(row, key=lambda one: -one.score) for row in combined]


def log_likelihoods(
    log_probs: Float[Tensor, "batch frames vocab"],
    lengths: Int[Tensor, " batch"],
    tokens: Int[Tensor, "batch tokens"],
    token_lengths: Int[Tensor, " batch"],
    skippable: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, " batch"]:
    """Log of the mean likelihood of each utterance over all monotonic alignments to its text, nats.

    Up to what only the audio decides: the scores of frames are posteriors over priors. The mean and not
    the sum, as a longer text has more alignments: every alignment is as likely as any other.

    Args:
        log_probs: Of :meth:`SpeechTextModel.align_log_probs`.
        lengths: Valid frames.
        tokens: Of each text, silences included.
        token_lengths: Valid tokens.
        skippable: Tokens that may have no frame.
    """
    scores = gather_tokens(log_probs, tokens)
    sums, counts = (
        kernels.forward_backward(one, lengths, token_lengths, skippable, compiled=False)[0]
        for one in (scores, torch.zeros_like(scores))
    )
    least = LEAST_PER_FRAME * lengths.to(sums.dtype)
    return torch.where(counts > float("-inf"), sums - counts, least).float()
