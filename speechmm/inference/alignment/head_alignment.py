"""Aligns texts to encoded speech with the alignment head, 10 ms a frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Segment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.inference.alignment.ctc_utterances import CtcPosteriors
from speechmm.inference.alignment.ctc_windows import CtcWindows, find_windows, window_costs
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.soft_edges import soften
from speechmm.inference.alignment.token_path import (
    TokenPath,
    find_paths,
    frames_needed,
    word_segments,
)
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.text.tokenizer import AlignedTokens


def align_encoded(
    model: SpeechTextModel,
    encoding: SpeechEncoding,
    texts: Sequence[AlignedTokens],
    *,
    windows: Sequence[CtcWindows | None],
    hop: float,
    ranges: bool = True,
) -> tuple[Float[Tensor, "batch frames tokens"], list[TokenPath]]:
    """Aligns a batch of texts to a batch of encoded speech.

    Args:
        model: Has the alignment head.
        encoding: The speech.
        texts: What is said in each utterance.
        windows: Where CTC finds the tokens of each utterance; None where the head is on its own.
        hop: Seconds from feature frame to feature frame.
        ranges: Whether the paths are to say how sure their edges are.

    Returns:
        The scores (log-probabilities over the tokens of each frame, where the speech is) and the paths.

    Raises:
        AlignmentError: An utterance has fewer frames than its text needs.
    """
    lengths = torch.tensor([len(text.ids) for text in texts])
    tokens = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in enumerate(texts):
        tokens[row, : len(text.ids)] = torch.tensor(text.ids)
    device = encoding.encoded.device
    with torch.inference_mode():
        scores = model.align_scores(encoding, tokens.to(device)).float()
        costs = window_costs(windows, scores, hop)
        paths = find_paths(scores, encoding.lengths, texts, costs)
        searched = scores if costs is None else scores - costs
        return scores, soften(paths, searched, encoding.lengths, texts, ranges=ranges)


def place_words(
    model: SpeechTextModel,
    features: LogMelConfig,
    ctc: CtcPosteriors | None,
    *,
    encoding: SpeechEncoding,
    texts: Sequence[AlignedTokens],
    seconds: Sequence[float],
) -> list[list[Segment] | None]:
    """The words of each text where the alignment head has them.

    Args:
        model: Has the alignment head.
        features: Say how long a frame is.
        ctc: Whose windows limit the head; None where CTC was not trained.
        encoding: The encoded speech.
        texts: What is said in each utterance.
        seconds: Of audio of each utterance.

    Returns:
        Words in seconds from the start of the utterance; None where it has no word, or more
        tokens than frames.
    """
    frames = encoding.lengths.tolist()
    fitting = [
        row
        for row, text in enumerate(texts)
        if len(text.ids) > 1 and frames_needed(text) <= frames[row]
    ]
    placed: list[list[Segment] | None] = [None] * len(texts)
    if not fitting:
        return placed
    chosen = encoding.select(torch.tensor(fitting, device=encoding.encoded.device))
    some, lengths = [texts[row] for row in fitting], [seconds[row] for row in fitting]
    windows: list[CtcWindows | None] = [None] * len(fitting)
    if ctc is not None:
        utterances = list(ctc.utterances(chosen, some, lengths))
        windows = find_windows(utterances, encoding.encoded.device)
    hop = features.frame_shift
    _, paths = align_encoded(model, chosen, some, windows=windows, hop=hop, ranges=False)
    grid = FrameGrid.of(features)
    for row, path in zip(fitting, paths, strict=True):
        clock = grid.clock(frames[row], seconds[row])
        placed[row] = word_segments(path, texts[row], clock)
    return placed
