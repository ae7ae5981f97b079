"""Aligns recordings by a small CTC network that learns from them, with the label prior divided out or not.

    python tools/ctc_baseline.py RECORDINGS OUT.jsonl [--language VOICE] [--prior 0.3] [--epochs 24]

What ``speechmm align --learn`` is compared with: the same units, the same network (two convolutions over
90 ms of log-mel, frames of 10 ms) and the same recordings, learned by CTC and placed by its best path,
as torchaudio's ``forced_align`` does. With ``--prior`` above 0 so much of the prior of the labels is
divided out, while learning and when placing. Source: Huang et al. 2024, "Less peaky and more accurate
CTC forced alignment by label priors" (the prior here is a running mean over steps). ``speechmm
score-alignment`` reads OUT.jsonl.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechmm.alignments import Alignment, write_alignments
from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.skips import SkipReport
from speechmm.inference.alignment.corpus_aligner import centred
from speechmm.inference.alignment.ctc_labels import CtcLabels, align_labels
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.token_path import token_segments, word_segments
from speechmm.inference.alignment.viterbi import ctc_states
from speechmm.inference.engine.sources import Source, find_sources
from speechmm.models.forward_sum import forward_sum_loss, gather_tokens, label_scores
from speechmm.models.local_network import LocalNetwork
from speechmm.text.align_units import RARE
from speechmm.text.tokenizer import AlignedTokens
from speechmm.training.aligner_utterances import (
    Utterance,
    batches_of_like_length,
    read_utterances,
    units_of,
)

FEATURES = LogMelConfig(n_mels=40)
BATCH_FRAMES = 3000
LEARNING_RATE = 3e-3
PRIOR_STEP = 0.02  # of the running mean


def labels_of(aligned: AlignedTokens) -> CtcLabels:
    """The labels of a text: a unit each, 0 is the blank; silences have none."""
    places = [place for place, word in enumerate(aligned.word_indices) if word >= 0]
    units = [aligned.ids[place] + 1 for place in places]
    words = [aligned.word_indices[place] for place in places]
    return CtcLabels(units, places, [1] * len(places), words)


def ctc_loss(scores: Tensor, lengths: Tensor, batch: Sequence[Utterance]) -> Tensor:
    """The sum over all paths of CTC, nats a frame; scores need not be normalised.

    Args:
        scores: (batch, frames, classes).
        lengths: Valid frames.
        batch: The utterances.
    """
    states = [ctc_states(labels_of(one.text.aligned).ids) for one in batch]
    sizes = torch.tensor([len(columns) for columns, _ in states])
    columns = torch.zeros(len(batch), int(sizes.max()), dtype=torch.long)
    skippable = torch.zeros(columns.shape, dtype=torch.bool)
    for row, (own, may_skip) in enumerate(states):
        columns[row, : len(own)] = torch.from_numpy(own)
        skippable[row, : len(own)] = torch.from_numpy(may_skip)
    return forward_sum_loss(gather_tokens(scores, columns), lengths, sizes, skippable)[0]


def learn(
    utterances: Sequence[Utterance], classes: int, *, prior: float, epochs: int, seed: int
) -> tuple[LocalNetwork, Tensor]:
    """A network, and the log of the label prior."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = LocalNetwork(FEATURES.n_mels, classes).train()
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.02)
    marginal = torch.full((classes,), 1.0 / classes)
    for epoch in range(epochs):
        rate = LEARNING_RATE * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
        optimizer.param_groups[0]["lr"] = rate
        losses = []
        for batch in batches_of_like_length(utterances, BATCH_FRAMES, random):
            lengths = torch.tensor([len(one.log_mel) for one in batch])
            rows = [one.log_mel for one in batch]
            log_mel = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            log_probs = network(centred(log_mel, lengths), lengths)
            marginal.lerp_(label_scores(log_probs, lengths, 0.0)[1], PRIOR_STEP)
            loss = ctc_loss(log_probs - prior * marginal.clamp(min=1e-6).log(), lengths, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: {np.mean(losses):.3f} nats a frame", flush=True)
    return network.eval(), marginal.clamp(min=1e-6).log()


@torch.inference_mode()
def place(network: LocalNetwork, log_prior: Tensor, one: Utterance, source: Source) -> Alignment:
    """Where the best path of CTC has the words and units of an utterance."""
    lengths = torch.tensor([len(one.log_mel)])
    scores = (network(centred(one.log_mel[None], lengths), lengths)[0] - log_prior).numpy()
    aligned = one.text.aligned
    path = align_labels(scores, labels_of(aligned), len(aligned.ids), name=one.name)
    seconds = source.duration(FEATURES.sample_rate)
    clock = FrameGrid.of(FEATURES).clock(len(one.log_mel), seconds)
    units = {
        "word": word_segments(path, aligned, clock),
        "phone": token_segments(path, aligned, one.text.labels, clock),
    }
    return Alignment(id=source.id, duration=seconds, units=units)


def main(argv: Sequence[str] | None = None) -> None:
    """Learns, places and writes."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("recordings", help="a folder with texts beside the audio, or a manifest")
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--language", help="the voice of espeak-ng that pronounces the texts")
    parser.add_argument("--prior", type=float, default=0.0, help="how much of it is divided out")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    start = time.process_time()
    skipped = SkipReport(strict=False)
    sources = find_sources([arguments.recordings], skipped)
    units = units_of(sources, arguments.language, None, RARE)
    found = read_utterances(sources, units, FEATURES, skipped.add, most_frames=10**7)
    utterances = list(found)
    network, log_prior = learn(
        utterances,
        1 + len(units.units),
        prior=arguments.prior,
        epochs=arguments.epochs,
        seed=arguments.seed,
    )
    by_name = {one.name: one for one in sources}
    prior = arguments.prior * log_prior
    placed = (place(network, prior, one, by_name[one.name]) for one in utterances)
    write_alignments(placed, arguments.out, "jsonl")
    skipped.print(None, noun="utterances")
    print(f"{len(utterances)} utterances, {time.process_time() - start:.0f} s of CPU")


if __name__ == "__main__":
    main()
