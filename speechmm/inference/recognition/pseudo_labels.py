"""Labels audio with a model's own transcripts, where recognition, alignment and voice agree on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

import torch
from lhotse import MonoCut
from lhotse.utils import fastcopy

from speechmm.alignments import Alignment, Transcript
from speechmm.data.aligned_cuts import with_alignment
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError
from speechmm.inference.alignment.aligner import ONE_PASS_SECONDS, Aligner
from speechmm.inference.alignment.units import FINEST_UNITS
from speechmm.inference.engine.sources import Source
from speechmm.inference.recognition.repeats import REPEATED
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import Bundle

PSEUDO_LABEL = "pseudo_label"
"""Custom field of cuts whose text a model has recognised: its confidence."""
NOTHING_SAID, TOO_LONG, LOW_CONFIDENCE = "nothing_said", "too_long", "low_confidence"
NOT_ALIGNED, MISMATCH, UNLIKELY = "not_aligned", "mismatch", "unlikely"
OTHER_DURATIONS = "other_durations"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """From where on a transcript is believed."""

    confidence: float = 0.8
    """Least confidence of recognition, the mean of the words, 0 to 1."""
    alignment: float = 0.3
    """Least geometric mean probability of frames by the alignment head, 0 to 1."""
    durations: float = 0.6
    """Largest mean error of ``log(1 + frames)`` of tokens, as aligned and as the voice would say them."""

    def __post_init__(self) -> None:
        least = (self.confidence, self.alignment)
        if any(not 0.0 <= one <= 1.0 for one in least) or not self.durations >= 0.0:
            raise ConfigError(
                f"agreement: confidence, alignment are {least}, durations {self.durations}; expected 0 "
                "to 1 each, and 0 or more. Choose such values."
            )


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An utterance with what was recognised in it."""

    source: Source
    transcript: Transcript
    alignment: Alignment | None = None
    """None where there was nothing to align, or it could not be."""
    duration_error: float | None = None
    """None of a model without a voice."""
    reason: str = ""
    """Why the transcript is not believed; "" where it is."""

    def cut(self) -> MonoCut:
        """The utterance with the transcript in place of any text that it had, and when it was said.

        Its language is that which was recognised, where the utterance has none.
        """
        source, text = self.source, self.transcript.text
        assert self.alignment is not None
        cut = source.as_cut(text)
        aligned = with_alignment(cut, self.alignment, text=text)
        language = self.transcript.language or None
        supervisions = [
            fastcopy(one, language=one.language or language) for one in aligned.supervisions
        ]
        confidence = round(self.transcript.confidence or 0.0, 4)
        custom = (cut.custom or {}) | {PSEUDO_LABEL: confidence}
        out: MonoCut = fastcopy(aligned, supervisions=supervisions, custom=custom)
        return out


class PseudoLabeller:
    """Transcribes, aligns what it has written, and says which transcripts to train on."""

    def __init__(
        self, bundle: Bundle, transcriber: Transcriber, aligner: Aligner, agreement: Agreement
    ):
        """Prepares the work.

        Args:
            bundle: The model.
            transcriber: Of the same model.
            aligner: Likewise; it compares texts with CTC where the model has that.
            agreement: When a transcript is believed.

        Raises:
            ConfigError: The model writes phones.
        """
        if bundle.tokenizer.kind == "phone":
            raise ConfigError(
                f"{bundle.path}: it writes phones, which a training would pronounce as if they were words; "
                "expected a model that writes words. Take one whose tokenizer is of another kind."
            )
        self.bundle = bundle
        self.transcriber = transcriber
        self.aligner = aligner
        self.agreement = agreement

    def label(self, sources: Sequence[Source], skipped: SkipReport) -> Iterator[Labelled]:
        """Every source that can be read, in the order given.

        Args:
            sources: Of audio files and cuts; their texts are not looked at.
            skipped: Told of those that cannot be read.
        """
        by_id = {source.id: source for source in sources}
        rate = self.bundle.features.sample_rate
        found = []
        for transcript in self.transcriber.transcribe_sources(sources, skipped=skipped):
            source = by_id[transcript.id]
            one = Labelled(source=source, transcript=transcript)
            found.append(changed(one, reason=self._heard(one, source.duration(rate))))
        sure = [
            changed(one.source, text=one.transcript.text, text_file=None)
            for one in found
            if not one.reason
        ]
        alignments = {
            alignment.id: alignment
            for alignment in self.aligner.align_sources(sure, skipped=SkipReport())
        }
        for one in found:
            yield one if one.reason else self._compared(one, alignments.get(one.source.id))

    def _heard(self, one: Labelled, seconds: float) -> str:
        """Why recognition alone does not do."""
        if not one.transcript.text:
            return NOTHING_SAID
        if seconds > ONE_PASS_SECONDS:
            return TOO_LONG
        if any(flag.startswith(f"{REPEATED}:") for flag in one.transcript.flags):
            return REPEATED
        sure = (one.transcript.confidence or 0.0) >= self.agreement.confidence
        return "" if sure else LOW_CONFIDENCE

    def _compared(self, one: Labelled, alignment: Alignment | None) -> Labelled:
        """What the alignment and the voice say to a transcript."""
        if alignment is None:
            return changed(one, reason=NOT_ALIGNED)
        error = duration_error(self.bundle, one.transcript.text, alignment)
        reason = ""
        if alignment.flags:
            reason = MISMATCH
        elif (alignment.confidence or 0.0) < self.agreement.alignment:
            reason = UNLIKELY
        elif error is not None and error > self.agreement.durations:
            reason = OTHER_DURATIONS
        return changed(one, alignment=alignment, duration_error=error, reason=reason)


@torch.inference_mode()
def duration_error(bundle: Bundle, text: str, alignment: Alignment) -> float | None:
    """Mean absolute error of ``log(1 + frames)`` of tokens, as they were said and as the voice says them.

    The voice speaks as fast as the utterance as a whole.

    Args:
        bundle: The model; None is the answer where it has no voice.
        text: What is said.
        alignment: Of the text, with its tokens.
    """
    voice = bundle.model.voice
    if voice is None:
        return None
    aligned = bundle.tokenizer.encode_aligned(text)
    device = voice.mel_mean.device
    tokens = torch.tensor([aligned.ids], device=device)
    lengths = torch.tensor([len(aligned.ids)], device=device)
    vectors = voice.tokens(tokens, lengths, torch.tensor([-1], device=device))
    foreseen = voice.durations(voice.log_durations(vectors, lengths))[0].cpu()
    spoken = torch.tensor(aligned.word_indices) >= 0
    shift = voice.config.mel.frame_shift
    units = alignment.units[FINEST_UNITS[bundle.tokenizer.kind]]
    said = torch.tensor([one.end - one.start for one in units]) / shift
    expected = foreseen[spoken]
    expected = expected * (said.sum() / expected.sum().clamp(min=1e-6))
    return float((said.log1p() - expected.log1p()).abs().mean())
