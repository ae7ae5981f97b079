"""Finds the mean spectrum of an utterance by its loud frames, so that silence does not move it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.models.front_end import length_mask

LOUD_FRAMES = 20
"""The loud level of an utterance is the one that so many frames (0.2 s) reach: a few clicks are
fewer, the shortest answer has more."""
QUIET_DB, CLEAR_DB = -35.0, -25.0
"""Below the loud level: a frame counts nothing at the first, in full from the second on, and in
between by its distance. In speech without noise three quarters of the frames are above -30 dB."""
_NATS_PER_DB = math.log(10.0) / 10.0


def frame_levels(
    features: Float[Tensor, "batch frames n_mels"],
) -> Float[Tensor, "batch frames"]:
    """The level of every frame: the log of its power summed over the mel bands, in nats.

    Args:
        features: Natural log of mel power.
    """
    return features.logsumexp(dim=-1)


def loud_level(
    levels: Float[Tensor, "batch frames"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 1"]:
    """The level that ``LOUD_FRAMES`` frames of an utterance reach; all of them in a shorter one.

    Args:
        levels: Of :func:`frame_levels`.
        lengths: Valid frames.
    """
    keep = length_mask(lengths, levels.shape[1])
    padded = F.pad(levels.masked_fill(~keep, -math.inf), (0, LOUD_FRAMES), value=-math.inf)
    reached = padded.topk(LOUD_FRAMES, dim=1).values[:, -1:]
    softest = levels.masked_fill(~keep, math.inf).amin(dim=1, keepdim=True)
    return torch.where(reached.isinf(), softest, reached)


def utterance_mean(
    values: Float[Tensor, "batch frames n_mels"],
    levels: Float[Tensor, "batch frames"],
    lengths: Int[Tensor, " batch"],
    quiet_share: float,
) -> Float[Tensor, "batch 1 n_mels"]:
    """The mean of each band over the loud frames of an utterance.

    Frames that are more than 35 dB below the loud level have no weight, however many there are:
    silence before, after or between words changes nothing. Neither does padding, nor the level of
    the recording. No value is read back from the device.

    Args:
        values: What the mean is of.
        levels: Of the frames, as :func:`frame_levels` has them.
        lengths: Valid frames.
        quiet_share: Largest share that the quiet frames have in the mean: 0 leaves them out, 1 is the
            plain mean of all frames.
    """
    keep = length_mask(lengths, values.shape[1])
    weight = keep.to(values.dtype)
    if quiet_share < 1.0:
        below = levels - loud_level(levels, lengths)
        loud = (below - QUIET_DB * _NATS_PER_DB) / ((CLEAR_DB - QUIET_DB) * _NATS_PER_DB)
        loud = loud.clamp(0.0, 1.0).masked_fill(~keep, 0.0).to(values.dtype)
        quiet = weight - loud
        most = quiet_share / (1.0 - quiet_share) * loud.sum(dim=1, keepdim=True)
        weight = loud + quiet * (most / quiet.sum(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
    total = weight.sum(dim=1)[:, None, None].clamp(min=1e-6)
    summed = (values.masked_fill(~keep[:, :, None], 0.0) * weight[:, :, None]).sum(
        dim=1, keepdim=True
    )
    return summed / total
