"""Finds the parts of encoded audio in which anybody speaks, so that silence and noise are not searched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from speechmm.models.alignment_head import upsample_frames
from speechmm.models.bundle import Bundle
from speechmm.models.front_end import length_mask
from speechmm.models.speech_text import SpeechEncoding
from speechmm.text.tokenizer import BLANK, SIL

MAX_PAUSE_SECONDS = 1.0
"""Longer stretches without speech are left out of what is searched."""
MARGIN_SECONDS = 0.3
"""Of them is kept before speech and after it."""
MIN_SPEECH_SECONDS = 0.05
"""A part with less speech in it than this holds no word."""
NEAR_SECONDS = 0.5
"""A frame is speech only where CTC may write something no farther away."""
CTC_PROBABILITY = 0.1
"""Of anything but a blank, from which on CTC may write something: it errs often enough."""
SILENT_POWER = 1e-9
"""Power below which nothing is speech, -90 dB below full scale: half a step of 16 bits is -101."""
SILENCE = 0.5
"""Probability of silence above which the alignment head says so."""
SURE_SILENCE = 0.9
"""The same, where CTC does not check it."""
BELOW_LOUD_DB = 50.0
"""Of a model without CTC, what is softer than the loudest 100 ms by this is no speech."""
_LEVEL_SECONDS = 0.1
Span = tuple[int, int]


class SpeechGate:
    """Decides which samples of a batch are searched, from what the heads hear in every frame.

    A frame is speech where the alignment head does not say silence and CTC may write something near it;
    of a model that lacks one of them the other decides, and of one that lacks both the level. Where
    there is next to no power at all, nobody speaks.

    Of a model without CTC only soft audio at both ends of a recording is left out. Nothing but the decoder
    says where a text ends, and in parts that are shorter than what it was trained on, it writes in circles.
    And an alignment head that has learned little takes speech for silence: of AN4 it cost 5 % of the words,
    beside a decoder that had 0.6 % wrong. That nobody speaks at all it has to be sure of in every frame.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.model = bundle.model
        self.hop = bundle.features.hop_length
        self.sample_rate = bundle.features.sample_rate
        self.silent_labels = [BLANK]
        if bundle.tokenizer.separator is not None:
            self.silent_labels.append(bundle.tokenizer.separator)

    @torch.inference_mode()
    def spans(
        self, encoding: SpeechEncoding, waveforms: Sequence[Float[Tensor, " _"]]
    ) -> list[list[Span]]:
        """First sample and one past the last of each part to search; none where nobody speaks.

        Args:
            encoding: The encoded audio.
            waveforms: The audio itself.
        """
        speech = self._speech(encoding).cpu()
        found = []
        for row, (waveform, frames) in enumerate(
            zip(waveforms, encoding.lengths.tolist(), strict=True)
        ):
            level = self._level(waveform.cpu(), frames)
            parts = self._parts(speech[row, :frames] & (level > SILENT_POWER), len(waveform))
            if "ctc" not in self.model.heads and parts:
                loud = level > max(SILENT_POWER, float(level.max()) * 10 ** (-BELOW_LOUD_DB / 10))
                parts = self._parts(loud, len(waveform)) or parts
                parts = [(parts[0][0], parts[-1][1])]
            found.append(parts)
        return found

    def _speech(self, encoding: SpeechEncoding) -> Bool[Tensor, "batch frames"]:
        """The frames in which the heads of the model hear speech."""
        frames = encoding.features.shape[1]
        speech = length_mask(encoding.lengths, frames)
        if "align" in self.model.heads:
            silence = self.model.align_log_probs(encoding)[:, :, SIL].exp()
            speech = speech & (silence < (SILENCE if "ctc" in self.model.heads else SURE_SILENCE))
        if "ctc" in self.model.heads:
            log_probs = self.model.ctc_log_probs(encoding)
            silence = log_probs[:, :, self.silent_labels].exp().sum(dim=-1)
            wide = upsample_frames(
                silence[:, :, None], encoding.enc_lengths, frames, self.model.subsampling
            )[:, :, 0]
            reach = round(NEAR_SECONDS * self.sample_rate / self.hop)
            near = F.max_pool1d(1.0 - wide[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
            speech = speech & (near > CTC_PROBABILITY)
        return speech

    def _level(self, waveform: Float[Tensor, " samples"], frames: int) -> Float[Tensor, " frames"]:
        """The power around each frame."""
        centred = waveform - waveform.mean() if len(waveform) else waveform
        power = F.pad(centred.square(), (0, frames * self.hop - len(waveform)))
        power = power[: frames * self.hop].view(frames, self.hop).mean(dim=1)
        around = 2 * (round(_LEVEL_SECONDS * self.sample_rate / self.hop) // 2) + 1
        level: Tensor = F.avg_pool1d(
            power[None, None], around, stride=1, padding=around // 2, count_include_pad=False
        )[0, 0]
        return level

    def _parts(self, speech: Bool[Tensor, " frames"], samples: int) -> list[Span]:
        """The spans of speech of an utterance, its pauses shortened; all of it where none is long."""
        rate, hop = self.sample_rate, self.hop
        longest, margin = (round(s * rate / hop) for s in (MAX_PAUSE_SECONDS, MARGIN_SECONDS))
        places = speech.nonzero()[:, 0].tolist()
        runs: list[list[int]] = []  # first and last frame, and frames of speech
        for place in places:
            if runs and place - runs[-1][1] <= longest:
                runs[-1] = [runs[-1][0], place, runs[-1][2] + 1]
            else:
                runs.append([place, place, 1])
        enough = [run for run in runs if run[2] * hop >= MIN_SPEECH_SECONDS * rate]
        spans = []
        for first, last, _ in enough:
            a = 0 if first <= longest else (first - margin) * hop
            b = samples if (last + longest) * hop >= samples else (last + margin) * hop
            spans.append((a, b))
        return spans
