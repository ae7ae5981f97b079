"""Defines a batch: padded features, tokens and what else the parts of the toolkit share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from speechmm.alignments import Alignment
from speechmm.audio.log_mel import LogMelConfig
from speechmm.audio.packed import PackedClips


@dataclass
class UnpairedTexts:
    """Texts without audio, padded as those of a batch are."""

    tokens: Int[Tensor, "texts tokens"]
    token_lengths: Int[Tensor, "texts"]
    align_tokens: Int[Tensor, "texts align_tokens"]
    """What is stretched in time: ``Tokenizer.encode_aligned``."""
    align_lengths: Int[Tensor, "texts"]
    frame_lengths: Int[Tensor, "texts"]
    """Feature frames that each text is to last."""
    longest: int
    """Of ``frame_lengths``, as the host knows it, padding included."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "UnpairedTexts":
        """The same with every tensor changed."""
        return replace(self, **_changed(self, function))


@dataclass
class SpokenTargets:
    """What some rows of a batch sound like: what a model that speaks is to say."""

    rows: Int[Tensor, "targets"]
    """Of the batch, whose text is said from the first frame to the last."""
    mel: Float[Tensor, "targets mel_frames n_mels"]
    """Natural-log mel power of the recordings, without any change."""
    lengths: Int[Tensor, "targets"]
    """Valid frames."""
    log_pitch: Float[Tensor, "targets mel_frames"]
    """Natural log of the fundamental frequency in Hz; means nothing where it has no weight."""
    pitch_weight: Float[Tensor, "targets mel_frames"]
    """How much each frame says about the pitch: its level where it is voiced, else 0."""
    speakers: Int[Tensor, "targets"]
    """Their places among those of the training; -1 for others."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "SpokenTargets":
        """The same with every tensor changed."""
        return replace(self, **_changed(self, function))


@dataclass
class Translations:
    """What some rows of a batch say in another language; a row may be there several times."""

    rows: Int[Tensor, "translations"]
    """Of the batch."""
    languages: Int[Tensor, "translations"]
    """Into which: places among the languages of the training."""
    tokens: Int[Tensor, "translations tokens"]
    """``Tokenizer.encode`` of the translated text."""
    token_lengths: Int[Tensor, "translations"]
    """Valid tokens."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Translations":
        """The same with every tensor changed."""
        return replace(self, **_changed(self, function))


@dataclass
class Batch:
    """Padded utterances with everything that tasks need.

    Padding is zeros on the right; only the first ``*_lengths`` entries of a row mean anything.
    Id 0 is the blank, which no text contains, so padding never looks like text.
    """

    ids: list[str]
    """Cut ids, in row order."""
    features: Float[Tensor, "batch frames n_mels"]
    """Natural-log mel power, not yet normalised."""
    feature_lengths: Int[Tensor, "batch"]
    """Valid frames per row."""
    tokens: Int[Tensor, "batch tokens"]
    """``Tokenizer.encode`` of the text: without bos and eos, which the model adds."""
    token_lengths: Int[Tensor, "batch"]
    """Valid tokens per row."""
    align_tokens: Int[Tensor, "batch align_tokens"]
    """``Tokenizer.encode_aligned`` of the text: silence, word, silence, word, ..., silence."""
    align_lengths: Int[Tensor, "batch"]
    """Valid alignment tokens per row."""
    texts: list[str]
    """The reference texts as written."""
    seconds: float
    """Seconds of audio in the batch, padding not counted."""
    references: list[Alignment | None]
    """What the corpus knows about when things were said; never used in training."""
    speakers: list[str]
    """Who speaks; "" where the corpus does not say."""
    speeds: list[float]
    """How fast the recording is played: 1.1 is 10 % faster and higher."""
    recombined: list[bool]
    """Whether the row was put together in training: from words of others, or several utterances."""
    guides: Float[Tensor, "batch align_tokens 2"] | None = None
    """Where another aligner thinks that each of ``align_tokens`` is, to begin with: first and last frame,
    with fractions, infinite where there is no end; NaN in rows of which nothing is known."""
    frames: list[int] = field(default_factory=list)
    """``feature_lengths`` as the host knows them, so that nobody has to ask the device."""
    samples: Float[Tensor, "batch samples"] | None = None
    """The waveforms, where the encoder reads those."""
    sample_lengths: Int[Tensor, "batch"] | None = None
    """Valid samples per row."""
    stored_frames: Float[Tensor, "batch enc_frames width"] | None = None
    """What a frozen encoder, or its lower layers, made of the rows, where that is kept; in float16."""
    stored_lengths: Int[Tensor, "batch"] | None = None
    """Valid frames of these per row."""

    unpaired: UnpairedTexts | None = None
    """Texts that no row says, to train on beside them."""
    spoken: SpokenTargets | None = None
    """What rows sound like, for a model that speaks."""
    languages: Int[Tensor, "batch"] | None = None
    """Which is spoken: its place among the languages of the training; -1 where the corpus does not say."""
    translations: Translations | None = None
    """What rows say in other languages."""
    source: str = ""
    """Name of the mixed set it is of (``data.mix``); "" for the training set itself."""
    synthetic: bool = False
    """Whether nobody said it: synthetic speech, from which only recognition learns."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Utterances that were to be in it and could not be read: the id of each, and why."""

    def __post_init__(self) -> None:
        if not self.frames:
            self.frames = self.feature_lengths.tolist()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def waveforms(self) -> tuple[Tensor, Tensor] | None:
        """Samples and their lengths, where the encoder reads waveforms."""
        if self.samples is None or self.sample_lengths is None:
            return None
        return self.samples, self.sample_lengths

    @property
    def padding(self) -> float:
        """Share of the feature frames that are padding, in [0, 1)."""
        cells = self.features.shape[0] * self.features.shape[1]
        return 1.0 - sum(self.frames) / cells if cells else 0.0

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch with every tensor on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; torch's ``DataLoader`` calls this by name."""
        return self._map(lambda tensor: tensor.pin_memory())

    def duplicated(self) -> "Batch":
        """Every utterance two times: all of them, then all of them again; texts and targets once."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("unpaired", "spoken", "translations", "source", "synthetic"):
            del values[name]
        doubled: dict[str, Any] = {
            name: torch.cat([value, value]) if isinstance(value, Tensor) else value * 2
            for name, value in values.items()
            if value is not None
        }
        return replace(self, **doubled)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        changed = _changed(self, function)
        parts = {
            "unpaired": self.unpaired,
            "spoken": self.spoken,
            "translations": self.translations,
        }
        for name, part in parts.items():
            if part is not None:
                changed[name] = part.map(function)
        return replace(self, **changed)


def _changed(
    batch: Batch | UnpairedTexts | SpokenTargets | Translations,
    function: Callable[[Tensor], Tensor],
) -> dict[str, Any]:
    """Its tensors by their names, each of them changed."""
    values = {one.name: getattr(batch, one.name) for one in fields(batch)}
    return {name: function(value) for name, value in values.items() if isinstance(value, Tensor)}


@dataclass
class WaveformBatch:
    """A batch whose features are still to be computed, on the device it is copied to."""

    batch: Batch
    """All but the features, which have no frames."""
    clips: PackedClips
    """The audio of which they are made."""

    def __len__(self) -> int:
        return len(self.batch)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "WaveformBatch":
        """The same with every tensor on ``device``."""
        return WaveformBatch(
            self.batch.to(device, non_blocking=non_blocking),
            self.clips.map(lambda tensor: tensor.to(device, non_blocking=non_blocking)),
        )

    def pin_memory(self) -> "WaveformBatch":
        """The same in page-locked memory; torch's ``DataLoader`` calls this by name."""
        clips = self.clips.map(lambda tensor: tensor.pin_memory())
        return WaveformBatch(self.batch.pin_memory(), clips)

    def with_features(self, config: LogMelConfig) -> Batch:
        """The batch, its features computed where its audio is."""
        return replace(self.batch, features=self.clips.log_mel(config))


def next_of_few(length: int, multiple: int = 8) -> int:
    """The next of few lengths: 8 to an octave, multiples of 8, at most an eighth longer from 64 on.

    Batches padded to these have few shapes, so that layers compiled for a shape see it again.

    Args:
        length: To be padded.
        multiple: Of another power of 2.
    """
    step = max(multiple, 1 << max(0, (length - 1).bit_length() - 4))
    return -(-length // step) * step


def pad_tokens(
    rows: Sequence[Sequence[int]], round_up: Callable[[int], int] | None = None
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch"]]:
    """Stack id lists of different lengths, padded with 0 on the right, with their lengths.

    Args:
        rows: The ids.
        round_up: From the length of the longest row to that of all.
    """
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    longest = int(lengths.max()) if rows else 0
    longest = longest if round_up is None else round_up(longest)
    padded = torch.zeros(len(rows), longest, dtype=torch.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded, lengths
