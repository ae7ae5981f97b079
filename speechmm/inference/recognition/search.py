"""Turns encoded speech into token sequences with the decoder that the options name."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from speechmm.inference.recognition.beam_search import BeamSearch
from speechmm.inference.recognition.fusion.scorer import Scorer
from speechmm.inference.recognition.greedy_ctc import greedy_ctc
from speechmm.inference.recognition.hypothesis import Hypothesis
from speechmm.inference.recognition.options import SearchOptions
from speechmm.models.speech_text import SpeechEncoding, SpeechTextModel
from speechmm.models.text_decoder import Tag


@torch.inference_mode()
def search(
    model: SpeechTextModel,
    encoding: SpeechEncoding,
    options: SearchOptions,
    scorers: Sequence[Scorer] = (),
    *,
    tag: Tag = "asr",
) -> list[list[Hypothesis]]:
    """The n best hypotheses of every utterance, best first.

    Args:
        model: The joint model.
        encoding: Encoded speech.
        options: How to search.
        scorers: External scores (shallow fusion); greedy CTC takes none.
        tag: What the decoder is asked for.
    """
    if options.decoder == "ctc":
        best = greedy_ctc(model.ctc_log_probs(encoding), encoding.enc_lengths)
        return [[hypothesis] for hypothesis in best]
    return BeamSearch(model, encoding, options, scorers, tag=tag).run()
