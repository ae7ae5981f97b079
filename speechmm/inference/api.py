"""Loads a bundle as a model that transcribes and aligns (``speechmm.load``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.alignments import Alignment, Transcript
from speechmm.errors import AlignmentError
from speechmm.inference.alignment.aligner import Aligner
from speechmm.inference.alignment.aligner_folder import (
    UNIVERSAL,
    load_corpus_aligner,
    pronouncing,
)
from speechmm.inference.alignment.corpus_aligner import CorpusAligner
from speechmm.inference.alignment.trust import wrong_texts
from speechmm.inference.alignment.verification import wrong_transcript
from speechmm.inference.engine.samples import as_audio
from speechmm.inference.engine.sources import text_source
from speechmm.inference.recognition.options import SearchOptions
from speechmm.inference.recognition.transcriber import Transcriber
from speechmm.inference.synthesis.synthesizer import Speech, Synthesizer
from speechmm.models.adapter import load_any
from speechmm.models.bundle import Bundle
from speechmm.text.lexicon import read_lexicon


class Model:
    """A joint model ready to use: it transcribes, it aligns, and speaks if it has learned to."""

    def __init__(self, bundle: Bundle, *, device: torch.device | str = "cpu") -> None:
        self.bundle = bundle
        self.device = torch.device(device)
        _use_one_thread_after_fork()

    def transcribe(
        self,
        audio: object,
        *,
        options: SearchOptions | None = None,
        task: str | None = None,
        language: str | None = None,
        target_language: str | None = None,
        sample_rate: SupportsIndex | float | None = None,
    ) -> Transcript:
        """What was said, with the times of the words; or the same in another language.

        Args:
            audio: The path of a file of any length, or samples as
                :func:`~speechmm.inference.engine.samples.as_audio` takes them: numpy arrays, tensors
                and lists, floats or integers, one channel or several.
            options: How to search; None means the defaults, by the heads that the model has.
            task: "asr" or "translate"; None means that of the options.
            language: That is spoken, such as "de", of a model of several; None lets the decoder tell.
            target_language: To translate into; None where the model knows one only.
            sample_rate: Of samples, Hz; None means the rate of the model.

        Raises:
            AudioError: The audio cannot be read.
            ConfigError: A rate is given for a file, or the model has not learned the task or the language.
            CheckpointError: The model's scores are not numbers.
        """
        audio = self._as_audio(audio, sample_rate)
        asked = {"task": task, "language": language, "target_language": target_language}
        given: dict[str, Any] = {name: one for name, one in asked.items() if one is not None}
        if given:
            options = replace(options or SearchOptions(), **given)
        if options is None:
            return self._transcriber.transcribe(audio)
        return Transcriber(self.bundle, options=options, device=self.device).transcribe(audio)

    def align(
        self,
        audio: object,
        text: object,
        *,
        units: Sequence[str] | None = None,
        sample_rate: SupportsIndex | float | None = None,
    ) -> Alignment:
        """When each word of a text, and each of its tokens, was said.

        Args:
            audio: As for :meth:`transcribe`.
            text: What is said in it, a string.
            units: "word" and the finest one ("phone" or "char"); None means both.
            sample_rate: Of samples, Hz; None means the rate of the model.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: The text has no words, or more than the audio can hold.
            ConfigError: A unit this model does not have, or a rate is given for a file.
        """
        said = _as_text(text)
        audio = self._as_audio(audio, sample_rate)
        if units is None:
            return self._aligner.align(audio, said)
        return Aligner(self.bundle, units=units, device=self.device).align(audio, said)

    def synthesize(
        self,
        text: object,
        *,
        speaker: str | None = None,
        rate: float = 1.0,
        vocoder: str | Path | None = None,
    ) -> Speech:
        """A text as the model speaks it, with the times of its words and tokens.

        Args:
            text: A string of any length.
            speaker: Of the training; None means the first in alphabetical order.
            rate: 2 is twice as fast as usual, in [0.25, 4].
            vocoder: What makes the waveform of the log-mel: a folder of HiFi-GAN or an ``.onnx`` file
                (:func:`~speechmm.inference.synthesis.vocoders.load_vocoder`); None for Griffin-Lim.

        Raises:
            AlignmentError: No word of the text is left after the normalizer.
            ConfigError: The model has not learned to speak, nobody of that name, another rate, or a
                vocoder for another log-mel.
            CheckpointError: The vocoder is missing or damaged.
        """
        if not isinstance(text, str):
            raise AlignmentError(
                f"text: found {type(text).__name__}; expected a string of the words to speak."
            )
        path = None if vocoder is None else Path(vocoder)
        return self._synthesizer.synthesize(text, speaker=speaker, rate=rate, vocoder=path)

    def _as_audio(self, audio: object, rate: object) -> Path | Float[Tensor, " samples"]:
        return as_audio(audio, sample_rate=rate, model_rate=self.bundle.features.sample_rate)

    @cached_property
    def _transcriber(self) -> Transcriber:
        return Transcriber(self.bundle, device=self.device)

    @cached_property
    def _synthesizer(self) -> Synthesizer:
        return Synthesizer(self.bundle, device=self.device)

    @cached_property
    def _aligner(self) -> Aligner:
        return Aligner(self.bundle, device=self.device)


class TextAligner:
    """An aligner without a model, ready to use: it places the words and phones of a text."""

    def __init__(self, aligner: CorpusAligner) -> None:
        self.aligner = aligner

    def align(
        self, audio: object, text: object, *, sample_rate: SupportsIndex | float | None = None
    ) -> Alignment:
        """When each word of a text, and each of its phones or letters, was said.

        A text that is not what is said is flagged (``wrong_transcript``), as far as an aligner for all
        languages can tell from one recording.

        Args:
            audio: A path, or samples, as for :meth:`Model.transcribe`, of any length.
            text: What is said in it, a string: words, or phones with blanks between them.
            sample_rate: Of samples, Hz; None means 16,000.

        Raises:
            AudioError: The audio cannot be read.
            AlignmentError: The text has no words, or more than the audio can hold; or it is too long.
            ConfigError: A rate is given for a file.
        """
        said = _as_text(text)
        rate = self.aligner.features.sample_rate
        found = self.aligner.align(
            text_source(as_audio(audio, sample_rate=sample_rate, model_rate=rate), said)
        )
        if not (self.aligner.units.shared and wrong_texts([found])):
            return found
        return replace(found, flags=(*found.flags, wrong_transcript(found.duration)))


def load_aligner(
    path: str | Path | None = None,
    *,
    language: str | None = None,
    lexicon: str | Path | None = None,
) -> TextAligner:
    """The aligner that ships, or the one in a folder; see :func:`speechmm.load_aligner`."""
    aligner = load_corpus_aligner(UNIVERSAL if path is None else Path(path))
    words = None if lexicon is None else read_lexicon(Path(lexicon))
    return TextAligner(pronouncing(aligner, language, words))


def _as_text(text: object) -> str:
    if not isinstance(text, str):
        raise AlignmentError(
            f"text: found {type(text).__name__}; expected a string of the words that are said."
        )
    return text


def load(
    path: str | Path,
    *,
    adapter: str | Path | None = None,
    device: torch.device | str = "cpu",
    quantize: str | None = None,
) -> Model:
    """Loads a bundle folder.

    Processes that are forked afterwards, such as workers of ``multiprocessing``, may use the model on
    a CPU; each of them computes with one thread.

    Args:
        path: The folder ``speechmm fit`` wrote.
        adapter: What a training with ``model.lora`` that started from it changed.
        device: Where the model runs.
        quantize: "int8" for 8-bit weights on a CPU.

    Raises:
        CheckpointError: A file of the bundle is missing, damaged or does not fit the others.
    """
    bundle = load_any(path, adapter, device=device, quantize=quantize)
    return Model(bundle, device=device)


@cache
def _use_one_thread_after_fork() -> None:
    """A forked process has none of its parent's threads, and OpenMP would wait for them for ever."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
