"""Reads the best CTC token of every frame: no search, the fastest decoder."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from speechmm.inference.engine.finite import refuse_nan
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.text.tokenizer import BLANK


def greedy_ctc(
    log_probs: Float[Tensor, "batch enc_frames vocab"], lengths: Int[Tensor, " batch"]
) -> list[Hypothesis]:
    """Best token per frame, repeats merged, blanks dropped; read from the device in one copy.

    A token's probability is the highest one among its frames.

    Raises:
        CheckpointError: A score is not a number.
    """
    peaks, best = log_probs.float().max(dim=-1)
    # (batch, 1 + two times enc_frames): floats travel as the integers of the same bits
    packed = [lengths[:, None].to(torch.int32), best.to(torch.int32), peaks.view(torch.int32)]
    numbers = torch.cat(packed, dim=1).cpu().numpy()
    return [_merged(*np.split(row[1:], 2), length=int(row[0])) for row in numbers]


def _merged(best: NDArray[np.int32], peaks: NDArray[np.int32], *, length: int) -> Hypothesis:
    """The tokens of one utterance from the best one of every frame."""
    best, scores = best[:length], peaks[:length].view(np.float32)
    refuse_nan(bool(np.isnan(scores).any()))
    # a run of frames with one token begins wherever the token is another than before
    begins = np.flatnonzero(np.diff(best, prepend=-1))
    highest = np.maximum.reduceat(scores, begins) if length else scores
    tokens = best[begins]
    spoken = tokens != BLANK
    return Hypothesis(
        tokens[spoken].tolist(), float(scores.sum(dtype=np.float64)), highest[spoken].tolist()
    )
