"""Reads texts and serves batches of tokens: the Lightning data module of language models."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from speechmm.data.batch import pad_tokens
from speechmm.data.sampling import group_by_length
from speechmm.data.texts import read_texts
from speechmm.errors import ConfigError, ManifestError
from speechmm.text.normalize import normalize
from speechmm.training.resumable import ResumableSampler
from speechmm.training.trainable import TrainingData


@dataclass
class TextBatch:
    """Texts as tokens; padding is 0 and known by the lengths."""

    tokens: Int[Tensor, "batch tokens"]
    lengths: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def predictions(self) -> int:
        """Tokens that are predicted: those of the texts and their ends."""
        return int(self.lengths.sum()) + len(self)


class _Texts(Dataset[TextBatch]):
    def __init__(self, ids: list[list[int]]):
        self.ids = ids

    def __getitem__(self, indices: list[int]) -> TextBatch:
        tokens, lengths = pad_tokens([self.ids[index] for index in indices])
        return TextBatch(tokens, lengths)


class _TextSampler(Sampler[list[int]]):
    """Batches of texts of similar length, in another order each epoch, shared by the processes."""

    def __init__(
        self,
        lengths: list[int],
        batch_tokens: int,
        *,
        shuffle: bool,
        seed: int,
        world_size: int,
        rank: int,
    ):
        self.lengths = lengths
        self.batch_tokens = batch_tokens
        self.shuffle = shuffle
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._batches()
        # every process takes as many, or one would wait for another for ever
        surplus = len(batches) % self.world_size
        if self.shuffle:
            del batches[len(batches) - surplus :]
        elif surplus:
            batches += [[]] * (self.world_size - surplus)
        return iter(batches[self.rank :: self.world_size])

    def __len__(self) -> int:
        return sum(1 for _ in iter(self))

    def _batches(self) -> list[list[int]]:
        source = random.Random(self.seed * 7_919 + self.epoch)
        with_ends = [length + 1 for length in self.lengths]
        batches = group_by_length(with_ends, self.batch_tokens, source if self.shuffle else None)
        while self.shuffle and len(batches) < self.world_size:  # fewer texts than processes
            batches.append(batches[0])
        if self.shuffle:
            source.shuffle(batches)
        return batches


class TextDataModule(TrainingData):
    """Reads texts and serves batches of tokens."""

    def __init__(  # noqa: PLR0917 (jsonargparse wants plain arguments)
        self,
        train: Sequence[str],
        dev: Sequence[str],
        tokenizer: str,
        test: Sequence[str] = (),
        batch_tokens: int = 4000,
        strict: bool = False,
        seed: int = 0,
    ):
        """Keeps the settings; nothing is read before ``setup``.

        Args:
            train: Texts to train on: cuts manifests, or text files with one sentence a line.
            dev: Texts to choose the best weights by.
            tokenizer: That of the recogniser whose search it is for.
            test: Texts for ``speechmm test``.
            batch_tokens: Tokens per batch, padding included.
            strict: Stop at the first text that cannot be read instead of leaving it out.
            seed: Start of the batch order.
        """
        super().__init__(tokenizer, strict=strict, seed=seed)
        self.paths = {"train": list(train), "dev": list(dev), "test": list(test)}
        self.batch_tokens = batch_tokens
        self._splits: dict[str, list[list[int]]] = {}
        if batch_tokens < 1:
            raise ConfigError(
                f"data: batch_tokens is {batch_tokens}; expected 1 or more. Correct the config."
            )

    def input_files(self) -> list[Path]:
        """The files a training depends on."""
        return [Path(p) for p in (*self.paths["train"], *self.paths["dev"], self.tokenizer_path)]

    def setup(self, stage: str) -> None:
        """Reads the texts that the stage needs.

        Raises:
            ManifestError: a file is missing, or there is no text in it.
        """
        for name in {"fit": ["train", "dev"], "validate": ["dev"], "test": ["test"]}[stage]:
            if name not in self._splits:
                self._splits[name] = self._read(name)

    def _read(self, name: str) -> list[list[int]]:
        if not self.paths[name]:
            raise ConfigError(f"data.{name}: no file; expected at least one. Add it to the config.")
        tokenizer = self.text_tokenizer
        texts = [text for path in self.paths[name] for text in read_texts(Path(path), self.skipped)]
        ids = [tokenizer.encode(text) for text in texts if normalize(text, tokenizer.normalizer)]
        if not ids:
            raise ManifestError(
                f"data.{name}: no text is left after the normalizer {tokenizer.normalizer!r}; "
                "expected some. Check the files."
            )
        self._read_utterances += len(ids)
        return ids

    def _sampler(self, name: str, *, shuffle: bool, world_size: int, rank: int) -> _TextSampler:
        return _TextSampler(
            [len(ids) for ids in self._splits[name]],
            self.batch_tokens,
            shuffle=shuffle,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
        )

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Training batches of one process."""
        return max(1, len(self._sampler("train", shuffle=True, world_size=world_size, rank=0)))

    def _loader(
        self, name: str, *, shuffle: bool, world_size: int, rank: int
    ) -> DataLoader[TextBatch]:
        sampler = self._sampler(name, shuffle=shuffle, world_size=world_size, rank=rank)
        return DataLoader(
            _Texts(self._splits[name]), batch_size=None, sampler=ResumableSampler(sampler)
        )
