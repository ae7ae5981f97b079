"""Reads cuts manifests and serves batches: the Lightning data module of joint models."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from jaxtyping import Float
from lhotse import CutSet
from torch import Tensor
from torch.utils.data import DataLoader

from speechmm.audio.cmvn import CmvnAccumulator, CmvnStats
from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.data.dataset import SpeechDataset, check_cuts, expand_speeds
from speechmm.data.manifest import cut_text, read_cuts
from speechmm.data.sampling import make_sampler
from speechmm.errors import ConfigError, ManifestError
from speechmm.models.bundle_config import UtteranceSeconds
from speechmm.training.trainable import TrainingData

logger = logging.getLogger(__name__)

CMVN_CUTS = 300  # utterances that the feature statistics are taken from
USUAL_SHARE = 0.95  # of the training utterances are at most as long as what is called usual


class SpeechDataModule(TrainingData):
    """Reads cuts manifests and serves bucketed batches of log-mel features and tokens."""

    def __init__(  # noqa: PLR0917 (jsonargparse wants plain arguments)
        self,
        train: Sequence[str],
        dev: Sequence[str],
        tokenizer: str,
        test: Sequence[str] = (),
        features: LogMelConfig = LogMelConfig(),  # noqa: B008 (frozen)
        cmvn: str | None = None,
        batch_seconds: float = 60.0,
        speeds: Sequence[float] = (1.0,),
        num_workers: int = 1,
        cache_gb: float = 1.0,
        subsampling: int = 4,
        strict: bool = False,
        seed: int = 0,
    ):
        """Keeps the settings; nothing is read before ``setup``.

        Args:
            train: Cuts manifests to train on.
            dev: Cuts manifests to choose the best weights by.
            tokenizer: File written by ``speechmm tokenizer``.
            test: Cuts manifests for ``speechmm test``.
            features: Settings of the log-mel features.
            cmvn: ``cmvn.json`` of a feature store; None measures a sample of the training set.
            batch_seconds: Audio per batch in seconds, padding included.
            speeds: Speed factors; the training set is used once with each.
            num_workers: Processes that read audio while the model trains; 0 reads in between.
            cache_gb: Training features that every reading process keeps in memory; 1.0 holds
                about 9 hours. What does not fit is read and transformed again every epoch.
            subsampling: Feature frames per encoder frame, to leave out utterances too short for
                their text; linked to the network's.
            strict: Stop at the first utterance that cannot be used instead of leaving it out.
            seed: Start of the batch order.
        """
        super().__init__(tokenizer, strict=strict, seed=seed)
        self.train_paths, self.dev_paths, self.test_paths = list(train), list(dev), list(test)
        self.features = features
        self.cmvn_path = cmvn
        self.batch_seconds = batch_seconds
        self.speeds = tuple(speeds)
        self.num_workers = num_workers
        self.cache_gb = cache_gb
        self.subsampling = subsampling
        self.cmvn_stats: CmvnStats | None = None
        self.utterance_seconds: UtteranceSeconds | None = None
        """Length of the training utterances."""
        self._splits: dict[str, CutSet] = {}
        self._batches: dict[int, int] = {}
        positive = batch_seconds > 0 and self.speeds and min(self.speeds) > 0
        if not positive or num_workers < 0 or cache_gb < 0:
            raise ConfigError(
                f"data: batch_seconds {batch_seconds}, speeds {self.speeds}, num_workers "
                f"{num_workers}, cache_gb {cache_gb}; expected positive seconds and speeds, no "
                "negative number of workers or gigabytes. Correct the config."
            )

    def input_files(self) -> list[Path]:
        """The files a training depends on."""
        paths = [*self.train_paths, *self.dev_paths, self.tokenizer_path, self.cmvn_path]
        return [Path(path) for path in paths if path]

    def setup(self, stage: str) -> None:
        """Reads and checks the manifests that the stage needs.

        Raises:
            ManifestError: a manifest is missing, or nothing of it can be used.
        """
        known = len(self.skipped)
        self._read_splits(stage)
        if self._is_rank_zero:
            for item, reason in self.skipped.items[known:]:
                logger.warning("left out %s: %s", item, reason)

    def _read_splits(self, stage: str) -> None:
        if stage == "fit" and "train" not in self._splits:
            train = self._read("train", self.train_paths)
            self.cmvn_stats = (
                CmvnStats.load(Path(self.cmvn_path)) if self.cmvn_path else self._measure(train)
            )
            lengths = sorted(cut.duration for cut in train)
            self.utterance_seconds = UtteranceSeconds(
                median=round(lengths[len(lengths) // 2], 2),
                usual=round(lengths[int(USUAL_SHARE * len(lengths))], 2),
            )
            self._splits["train"] = self._fast_enough(expand_speeds(train, self.speeds))
        if stage in ("fit", "validate") and "dev" not in self._splits:
            self._splits["dev"] = self._read("dev", self.dev_paths)
        if stage == "test":
            self._splits["test"] = self._read("test", self.test_paths)

    def _read(self, name: str, paths: list[str]) -> CutSet:
        if not paths:
            raise ConfigError(
                f"data.{name}: no manifest; expected at least one cuts file. Add it to the config."
            )
        cuts = self._distinct(paths)
        total = len(cuts)
        good, report = check_cuts(cuts, self.text_tokenizer, self.features, self.subsampling)
        self.skipped.extend(report)
        self._tell_unknown(name, good)
        self._read_utterances += len(good)
        if not len(good):
            why = report.items[0][1] if report.items else "it has no cuts"
            raise ManifestError(
                f"data.{name}: none of {total} utterances can be used (the first: {why}); "
                "expected some. Check the manifest and the tokenizer."
            )
        return good

    def _distinct(self, paths: list[str]) -> CutSet:
        """The cuts of several manifests, each id once."""
        first: dict[str, str] = {}
        cuts = []
        for path in paths:
            for cut in read_cuts(path, self.skipped):
                if cut.id in first:
                    self.skipped.add(cut.id, f"{path}: {first[cut.id]} has this id already")
                else:
                    first[cut.id] = path
                    cuts.append(cut)
        return CutSet.from_cuts(cuts)

    def _tell_unknown(self, name: str, cuts: CutSet) -> None:
        """Warns of characters that will be learned as unknown."""
        found = [self.text_tokenizer.unknown_characters(cut_text(cut)) for cut in cuts]
        unknown = sorted(set().union(*found))
        if unknown and self._is_rank_zero:
            logger.warning(
                "data.%s: %d of %d utterances have characters that the tokenizer does not know "
                "and the model learns as one unknown sign: %s",
                name,
                sum(map(bool, found)),
                len(found),
                " ".join(unknown[:20]) + (" ..." if len(unknown) > 20 else ""),
            )

    def _fast_enough(self, cuts: CutSet) -> CutSet:
        """Leaves out copies that speeding up has made too short for their text."""
        if max(self.speeds) <= 1.0:
            return cuts
        good, report = check_cuts(
            cuts, self.text_tokenizer, self.features, self.subsampling, read_audio=False
        )
        if report and self._is_rank_zero:
            logger.warning(
                "data.train: left out %d of %d copies at other speeds, too short for their text",
                len(report),
                len(cuts),
            )
        return good

    @property
    def _is_rank_zero(self) -> bool:
        """Whether this process is the one that warns."""
        return self.trainer is None or self.trainer.is_global_zero

    def _measure(self, cuts: CutSet) -> CmvnStats:
        dataset = SpeechDataset(self.text_tokenizer, self.features)
        step = max(1, len(cuts) // CMVN_CUTS)
        accumulator = CmvnAccumulator()
        for index, cut in enumerate(cuts):
            if index % step == 0:
                accumulator.add(dataset[CutSet.from_cuts([cut])].features[0])
        return accumulator.stats()

    def training_features(self, ids: Set[str]) -> dict[str, Float[Tensor, "frames n_mels"]]:
        """Features of these training utterances, by id; those that are not in the set are left out."""
        dataset = SpeechDataset(self.text_tokenizer, self.features)
        wanted = (cut for cut in self._splits["train"] if cut.id in ids)
        return {cut.id: dataset[CutSet.from_cuts([cut])].features[0] for cut in wanted}

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Training batches of one process in the first epoch; later ones differ by a few."""
        if world_size not in self._batches:
            sampler = self._sampler("train", shuffle=True, world_size=world_size, rank=0)
            self._batches[world_size] = max(1, sum(1 for _ in sampler))
        return self._batches[world_size]

    def _sampler(self, name: str, *, shuffle: bool, world_size: int, rank: int) -> Any:
        return make_sampler(
            self._splits[name],
            self.batch_seconds,
            shuffle=shuffle,
            seed=self.seed,
            world_size=world_size,
            rank=rank,
        )

    def _loader(self, name: str, *, shuffle: bool, world_size: int, rank: int) -> DataLoader[Batch]:
        workers = self.num_workers if shuffle else min(1, self.num_workers)
        return DataLoader(
            SpeechDataset(self.text_tokenizer, self.features, round(self.cache_gb * 1e9)),
            batch_size=None,
            sampler=self._sampler(name, shuffle=shuffle, world_size=world_size, rank=rank),
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
        )
