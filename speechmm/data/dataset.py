"""Cuts to batches: which cuts can be trained on, how they are grouped, how they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lhotse import CutSet, MonoCut
from lhotse.dataset.sampling import DynamicBucketingSampler, SimpleCutSampler
from torch.utils.data import Dataset

from speechmm.audio.io import audio_info
from speechmm.audio.log_mel import LogMelConfig, compute_log_mel
from speechmm.data.batch import Batch, pad_tokens
from speechmm.data.features import load_features
from speechmm.data.manifest import audio_path, cut_text, load_waveform, reference_alignment
from speechmm.data.skips import SkipReport
from speechmm.errors import SpeechmmError
from speechmm.text.normalize import normalize
from speechmm.text.tokenizer import UNK, Tokenizer

MAX_BUCKETS = 20
CUTS_PER_BUCKET = 40
SAMPLER_BUFFER = 20_000  # cuts looked ahead; a smaller corpus is shuffled as a whole


class SpeechDataset(Dataset[Batch]):
    """Turns a group of cuts into a padded ``Batch``; holds no state and no randomness.

    Features are computed from the audio, or read where the cuts have stored ones.
    """

    def __init__(self, tokenizer: Tokenizer, features: LogMelConfig):
        self.tokenizer = tokenizer
        self.features = features

    def __getitem__(self, cuts: CutSet) -> Batch:
        """The batch of these cuts, in their order."""
        rows = [self._features(cut) for cut in cuts]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        texts = [cut_text(cut) for cut in cuts]
        tokens, token_lengths = pad_tokens([self.tokenizer.encode(text) for text in texts])
        align_tokens, align_lengths = pad_tokens(
            [self.tokenizer.encode_aligned(text).ids for text in texts]
        )
        return Batch(
            ids=[cut.id for cut in cuts],
            features=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            feature_lengths=lengths,
            tokens=tokens,
            token_lengths=token_lengths,
            align_tokens=align_tokens,
            align_lengths=align_lengths,
            texts=[normalize(text, self.tokenizer.normalizer) for text in texts],
            seconds=sum(cut.duration for cut in cuts),
            references=[reference_alignment(cut) for cut in cuts],
        )

    def _features(self, cut: MonoCut) -> torch.Tensor:
        if cut.has_features:
            return torch.from_numpy(load_features(cut)).float()
        waveform = load_waveform(cut, self.features.sample_rate)
        return compute_log_mel(waveform, self.features)


def expand_speeds(cuts: CutSet, factors: Sequence[float]) -> CutSet:
    """The corpus once per speed factor; 1.0 is the original.

    Raises:
        SpeechmmError: never here; a bad factor is refused when the audio is read.
    """
    copies = [
        cut if factor == 1.0 else cut.perturb_speed(factor) for factor in factors for cut in cuts
    ]
    return CutSet.from_cuts(copies)


def check_cuts(
    cuts: CutSet, tokenizer: Tokenizer, features: LogMelConfig, subsampling: int
) -> tuple[CutSet, SkipReport]:
    """The cuts a training can use, and why the others cannot be.

    Looks at every audio file's header, so that a training does not stop at a bad file hours later.
    """
    report = SkipReport()
    good = []
    for cut in cuts:
        reason = _why_unusable(cut, tokenizer, features, subsampling)
        if reason:
            report.add(cut.id, reason)
        else:
            good.append(cut)
    return CutSet.from_cuts(good), report


def _why_unusable(
    cut: MonoCut, tokenizer: Tokenizer, features: LogMelConfig, subsampling: int
) -> str:
    text = cut_text(cut)
    if not normalize(text, tokenizer.normalizer):
        return f"its text is empty ({text!r} before normalisation)"
    tokens = tokenizer.encode(text)
    if all(token == UNK for token in tokens):
        return "the tokenizer knows no character of its text"
    if not cut.has_features:
        try:
            audio_info(audio_path(cut))
        except SpeechmmError as error:
            return str(error)
    frames = features.num_frames(round(cut.duration * features.sample_rate))
    enc_frames = -(-frames // subsampling)
    repeats = sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))
    needed = max((len(tokens) + repeats) * subsampling, len(tokenizer.encode_aligned(text).ids))
    if enc_frames < len(tokens) + repeats or frames < needed // subsampling:
        return (
            f"{cut.duration:.2f} s of audio are shorter than its text of {len(tokens)} tokens, "
            f"which needs at least {needed * features.frame_shift:.2f} s"
        )
    if frames < len(tokenizer.encode_aligned(text).ids):
        return f"{cut.duration:.2f} s of audio are shorter than its text"
    return ""


def make_sampler(
    cuts: CutSet,
    batch_seconds: float,
    *,
    shuffle: bool,
    seed: int = 0,
    world_size: int = 1,
    rank: int = 0,
) -> DynamicBucketingSampler | SimpleCutSampler:
    """Groups cuts of like duration, ``batch_seconds`` of audio at a time, each cut once an epoch.

    Args:
        cuts: The split.
        batch_seconds: Audio per batch in seconds, padding included.
        shuffle: New groups in a new order every epoch (``set_epoch``); else sorted by duration.
        seed: With the epoch it decides the order.
        world_size: Processes that share the epoch.
        rank: Which of them this is.
    """
    count = len(cuts)
    shared = {"world_size": world_size, "rank": rank, "drop_last": False}
    if not shuffle:
        ordered = CutSet.from_cuts(sorted(cuts, key=lambda cut: (cut.duration, cut.id)))
        return SimpleCutSampler(ordered, max_duration=batch_seconds, shuffle=False, **shared)
    buckets = min(MAX_BUCKETS, count // CUTS_PER_BUCKET)
    if buckets < 2 or len({round(cut.duration, 3) for cut in cuts}) <= buckets:
        return SimpleCutSampler(
            cuts, max_duration=batch_seconds, shuffle=True, seed=seed, **shared
        )
    return DynamicBucketingSampler(
        cuts,
        max_duration=batch_seconds,
        num_buckets=buckets,
        shuffle=True,
        seed=seed,
        buffer_size=SAMPLER_BUFFER,
        **shared,
    )
