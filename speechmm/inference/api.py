"""Loads a bundle as a model that transcribes and aligns (``speechmm.load``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alignment, Transcript
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.models.bundle import Bundle, load_bundle

Audio = str | Path | Float[Tensor, " samples"]


class Model:
    """A joint model ready to use: it transcribes, and it aligns."""

    def __init__(self, bundle: Bundle, *, device: torch.device | str = "cpu") -> None:
        self.bundle = bundle
        self.device = torch.device(device)

    def transcribe(self, audio: Audio, *, options: SearchOptions | None = None) -> Transcript:
        """What was said, with the times of the words.

        Args:
            audio: A file of any length, or mono audio in memory at the rate of the model.
            options: How to search; None means the defaults.

        Raises:
            AudioError: The audio cannot be read.
        """
        if options is None:
            return self._transcriber.transcribe(audio)
        return Transcriber(self.bundle, options=options, device=self.device).transcribe(audio)

    def align(
        self,
        audio: Audio,
        text: str,
        *,
        units: Sequence[str] | None = None,
    ) -> Alignment:
        """When each word of a text, and each of its tokens, was said.

        Args:
            audio: A file of any length, or mono audio in memory at the rate of the model.
            text: What is said in it.
            units: "word" and the finest one ("phone" or "char"); None means both.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: The text has no words, or more than the audio can hold.
            ConfigError: A unit this model does not have.
        """
        if units is None:
            return self._aligner.align(audio, text)
        return Aligner(self.bundle, units=units, device=self.device).align(audio, text)

    @cached_property
    def _transcriber(self) -> Transcriber:
        return Transcriber(self.bundle, device=self.device)

    @cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self.bundle, device=self.device)


def load(
    path: str | Path, *, device: torch.device | str = "cpu", quantize: str | None = None
) -> Model:
    """Loads a bundle folder.

    Args:
        path: The folder ``speechmm fit`` wrote.
        device: Where the model runs.
        quantize: "int8" for 8-bit weights on a CPU.

    Raises:
        CheckpointError: A file of the bundle is missing, damaged or does not fit the others.
    """
    return Model(load_bundle(path, device=device, quantize=quantize), device=device)
