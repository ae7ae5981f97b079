"""Speaks texts of any length with a bundle's voice, and says when each word and token is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from speechmm.alignments import Alignment, Segment
from speechmm.alignments.word_pieces import cut_unspaced
from speechmm.audio.writing import write_audio
from speechmm.errors import AlignmentError, ConfigError
from speechmm.inference.alignment.flags import text_flags
from speechmm.inference.alignment.frame_times import FrameGrid
from speechmm.inference.alignment.token_path import TokenPath, token_segments, word_segments
from speechmm.inference.alignment.units import FINEST_UNITS
from speechmm.inference.engine.finite import refuse_nan
from speechmm.inference.synthesis.text_pieces import cut_text, spoken_tokens
from speechmm.inference.synthesis.vocoders import GriffinLim, Vocoder, load_vocoder
from speechmm.models.bundle import Bundle
from speechmm.models.speaking import frames_per_encoder_frame, speak
from speechmm.models.speech_text import TTS
from speechmm.models.voice import TimedTokens, Voice
from speechmm.text.tokenizer import SIL, AlignedTokens

PIECE_SECONDS = 12.0
"""More of a text is not spoken at once: attention takes memory by the square, and few voices have
learned longer utterances."""
RATES = (0.25, 4.0)
"""How much slower and faster than usual a text can be spoken."""
MOST_NAMED = 12
"""Speakers that a message names."""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """A text as it was spoken."""

    samples: Float[Tensor, " samples"]
    """Mono, full scale 1, on the CPU."""
    sample_rate: int
    """Hz."""
    alignment: Alignment
    """When each word and token is said, in seconds; its flags name what is left out."""
    log_mel: Float[Tensor, "frames n_mels"] = field(repr=False)
    """What the samples were made of: natural log of mel power, for a vocoder of your own."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate

    def save(self, path: str | Path) -> None:
        """Writes 16-bit audio: FLAC where the name ends in .flac, else WAV.

        Raises:
            ConfigError: The place cannot be written.
        """
        write_audio(Path(path), self.samples.numpy(), self.sample_rate)


@dataclass(frozen=True)
class _Piece:
    aligned: AlignedTokens
    frames: NDArray[np.int64]
    """Of log-mel, of each token."""


class Synthesizer:
    """Speaks with a bundle's voice."""

    def __init__(self, bundle: Bundle, *, device: torch.device | str = "cpu"):
        """Prepares a synthesiser.

        Args:
            bundle: A model that was trained on the task tts.
            device: Where the model runs, and a neural vocoder; Griffin-Lim runs on a CPU.

        Raises:
            ConfigError: The model has no voice.
        """
        bundle.require_heads([TTS], "speech synthesis")
        voice = bundle.model.voice
        assert voice is not None
        self.model, self.tokenizer, self.features = bundle.model, bundle.tokenizer, bundle.features
        self.voice: Voice = voice
        self.config = voice.config
        self.device = torch.device(device)
        self._vocoders: dict[Path | None, Vocoder] = {None: GriffinLim(self.config.mel)}

    def vocoder(self, path: Path | None) -> Vocoder:
        """The vocoder of a file or folder, read once; Griffin-Lim for None.

        Raises:
            CheckpointError: It is missing, damaged, or a pickle, which could run code.
            ConfigError: It takes another log-mel than the model speaks, or the extra onnx is missing.
        """
        if path not in self._vocoders:
            assert path is not None
            self._vocoders[path] = load_vocoder(path, self.config.mel, device=self.device)
        return self._vocoders[path]

    def synthesize(
        self,
        text: str,
        *,
        speaker: str | None = None,
        rate: float = 1.0,
        vocoder: Path | None = None,
        id: str = "speech",
    ) -> Speech:
        """Speaks one text.

        Args:
            text: Of any length; sentences are spoken one after the other.
            speaker: Of ``config.speakers``; None means the first of them.
            rate: 2 is twice as fast as usual, in [0.25, 4].
            vocoder: File or folder of the one that makes the waveform (:func:`load_vocoder`); None
                for Griffin-Lim.
            id: Of the alignment.

        Raises:
            AlignmentError: No word of the text is left after the normalizer.
            ConfigError: Nobody of that name, another rate, or a vocoder for another log-mel.
            CheckpointError: The model's scores or the vocoder's samples are not numbers, or the vocoder
                cannot be read.
        """
        sound = self.vocoder(vocoder)
        speakers = torch.tensor([self.check(speaker, rate)], device=self.device)

        def seconds_of(words: Sequence[str]) -> list[float]:
            return self._seconds(words, speakers, rate)

        with torch.inference_mode():
            texts = [
                spoken_tokens(self.tokenizer, words)
                for words in cut_text(text, seconds_of, PIECE_SECONDS)
            ]
            if not any(_is_spoken(aligned) for aligned in texts):
                raise AlignmentError(
                    f"{id}: no word of its text is left after the normalizer "
                    f'"{self.tokenizer.normalizer}"; expected at least one. Correct the text.'
                )
            pieces = [_Piece(aligned, self._frames(aligned, speakers, rate)) for aligned in texts]
            mels = [self._mel(piece, speakers) for piece in pieces if _is_spoken(piece.aligned)]
            samples = sound(mels)
        return self._speech(text, id, pieces, torch.cat(mels), samples, centred=sound.centred)

    def check(self, speaker: str | None, rate: float) -> int:
        """Refuses speakers and rates that cannot be spoken with.

        Returns:
            The place of the speaker in ``config.speakers``.

        Raises:
            ConfigError: Nobody of that name, or another rate.
        """
        if not RATES[0] <= rate <= RATES[1]:
            raise ConfigError(
                f"rate: found {rate:g}; expected {RATES[0]:g} to {RATES[1]:g}. Choose one of these."
            )
        known = self.config.speakers
        if speaker is None:
            return 0
        if speaker not in known:
            names = ", ".join(map(repr, known[:MOST_NAMED]))
            more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
            raise ConfigError(
                f"speaker: found {speaker!r}; expected one of {names}{more}. Choose one of these."
            )
        return known.index(speaker)

    def _batch(self, aligned: AlignedTokens) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([aligned.ids], device=self.device)
        return ids, torch.tensor([len(aligned.ids)], device=self.device)

    def _durations(self, aligned: AlignedTokens, speakers: Tensor) -> NDArray[np.float64]:
        """Frames of each token at the usual rate, with their fractions; inf and NaN are refused."""
        tokens, lengths = self._batch(aligned)
        vectors = self.voice.tokens(tokens, lengths, speakers)
        frames = self.voice.durations(self.voice.log_durations(vectors, lengths))[0]
        refuse_nan(bool(frames.isnan().any()))
        found: NDArray[np.float64] = frames.double().cpu().numpy()
        return found

    def _seconds(self, words: Sequence[str], speakers: Tensor, rate: float) -> list[float]:
        """How long each word lasts, the silence after it included."""
        aligned = spoken_tokens(self.tokenizer, words)
        seconds = [0.0] * len(words)
        owner = 0
        shift = self.config.mel.frame_shift / rate
        for frames, word in zip(
            self._durations(aligned, speakers), aligned.word_indices, strict=True
        ):
            owner = max(owner, word)
            seconds[owner] += float(frames) * shift
        return seconds

    def _frames(self, aligned: AlignedTokens, speakers: Tensor, rate: float) -> NDArray[np.int64]:
        """Whole frames of each token: edges are rounded, and what is spoken has one or more."""
        if not _is_spoken(aligned):
            return np.zeros(len(aligned.ids), np.int64)
        edges = np.rint(self._durations(aligned, speakers).cumsum() / rate).astype(np.int64)
        frames = np.diff(edges, prepend=0)
        least = np.array([token != SIL for token in aligned.ids], np.int64)
        least[[0, -1]] = 1  # the audio begins and ends in silence
        whole: NDArray[np.int64] = np.maximum(frames, least)
        return whole

    def _mel(self, piece: _Piece, speakers: Tensor) -> Float[Tensor, "frames n_mels"]:
        """Natural-log mel power of a piece."""
        tokens, lengths = self._batch(piece.aligned)
        total = int(piece.frames.sum())
        timed = TimedTokens(
            torch.from_numpy(piece.frames)[None].float().to(self.device),
            torch.tensor([total], device=self.device),
            total,
        )
        factor = frames_per_encoder_frame(self.model, self.features)
        said = speak(self.model, tokens, lengths, speakers, timed, factor=factor)
        refuse_nan(bool(said.mel.isnan().any()))
        return self.voice.log_mel(said.mel)[0].cpu()

    def _speech(
        self,
        text: str,
        id: str,
        pieces: Sequence[_Piece],
        log_mel: Tensor,
        samples: Tensor,
        *,
        centred: bool,
    ) -> Speech:
        """The waveform of all pieces, which meet in silence, with the times of their tokens."""
        mel = self.config.mel
        duration = len(samples) / mel.sample_rate
        clock = FrameGrid.of(mel).clock(len(log_mel), duration)
        if not centred:  # frames begin where others have their centres
            clock = replace(clock, offset=-0.5)
        aligned = _joined([piece.aligned for piece in pieces])
        frames = np.concatenate([piece.frames for piece in pieces])
        last = frames.cumsum()
        path = TokenPath(last - frames, last, np.zeros(len(frames), np.float32))
        labels = self.tokenizer.token_labels(aligned.ids)
        units = {
            "word": cut_unspaced(_sure(word_segments(path, aligned, clock))),
            FINEST_UNITS[self.tokenizer.kind]: _sure(token_segments(path, aligned, labels, clock)),
        }
        flags = tuple(text_flags(self.tokenizer, text))
        alignment = Alignment(id=id, duration=duration, units=units, flags=flags)
        return Speech(
            samples=samples, sample_rate=mel.sample_rate, alignment=alignment, log_mel=log_mel
        )


def _is_spoken(aligned: AlignedTokens) -> bool:
    """Whether there is more of it than silence."""
    return len(aligned.ids) > 1


def _joined(texts: Sequence[AlignedTokens]) -> AlignedTokens:
    """Texts one after the other."""
    joined = AlignedTokens([], [], [])
    for text in texts:
        before = len(joined.words)
        joined.ids.extend(text.ids)
        joined.word_indices.extend(one if one < 0 else one + before for one in text.word_indices)
        joined.words.extend(text.words)
    return joined


def _sure(segments: Sequence[Segment]) -> list[Segment]:
    """Segments without a confidence: nobody has measured what was made."""
    return [replace(one, confidence=None) for one in segments]
