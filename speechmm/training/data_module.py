"""Reads cuts manifests and serves batches: the Lightning data module of joint models."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from lhotse import CutSet, MonoCut
from torch.utils.data import DataLoader

from speechmm.audio.cmvn import CmvnStats
from speechmm.audio.log_mel import LogMelConfig
from speechmm.data import loader_server
from speechmm.data.batch import Batch, WaveformBatch, next_of_few
from speechmm.data.cut_table import CutTable, have_features, spread
from speechmm.data.dataset import SpeechDataset
from speechmm.data.guides import Guides
from speechmm.data.large_sampling import LargeSampler
from speechmm.data.sampling import make_sampler, objects_where_few
from speechmm.data.spoken import TargetReader
from speechmm.data.stored_frames import StoredFrames
from speechmm.data.translated import Languages
from speechmm.data.usable import (
    READ_FIRST_CUTS,
    READ_FIRST_SECONDS,
    TextCheck,
    UsableCuts,
    first_readable,
    read_usable,
)
from speechmm.errors import ConfigError, ManifestError
from speechmm.models.bundle_config import UtteranceSeconds
from speechmm.training.augmentation.planning import BatchPlanner, PlannedBatches
from speechmm.training.feature_statistics import measure_lengths, measure_statistics
from speechmm.training.mixing import MixedCuts, MixedSet, all_manifests, check_mix, mix, with_more
from speechmm.training.processes import gather_from_processes, most_workers, usable_cores
from speechmm.training.resumable import ResumableSampler
from speechmm.training.trainable import TrainingData
from speechmm.training.unpaired import TextPool, make_pool

logger = logging.getLogger(__name__)

COPY = re.compile(r"_dup\d+$")  # what lhotse adds to the id
CORES_TO_TRAIN = 2  # of those that a GPU's training process shares with its loader


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
        num_workers: int | None = None,
        cache_gb: float = 1.0,
        subsampling: int = 4,
        strict: bool = False,
        seed: int = 0,
        log_mel_on: Literal["auto", "workers", "device"] = "auto",
        batch_shapes: Literal["auto", "exact", "few"] = "auto",
        text: Sequence[str] = (),
        text_share: float = 0.5,
        mix: Sequence[MixedSet] = (),
    ):
        """Keeps the settings; nothing is read before ``setup``.

        Args:
            train: Cuts manifests, or folders of lhotse Shar, to train on.
            dev: The same to choose the best weights by.
            tokenizer: File written by ``speechmm tokenizer``.
            test: The same for ``speechmm test``.
            features: Settings of the log-mel features.
            cmvn: ``cmvn.json`` of a feature store; None measures a sample of the training set.
            batch_seconds: Audio per batch in seconds, padding included.
            speeds: Speed factors; the training set is used once with each.
            num_workers: Processes that read audio while the model trains; 0 reads in between. None
                is one a core for a GPU, less two that train; else one for eight cores, none for one.
            cache_gb: Training features, or audio, that all reading processes of a training process
                keep in memory together; 1.0 holds about 9 hours once. With several processes the same
                hour may be held several times. What does not fit is read again every epoch.
            subsampling: Feature frames per encoder frame, to leave out utterances too short for
                their text; linked to the network's.
            strict: Stop at the first utterance that cannot be used instead of leaving it out.
            seed: Start of the batch order.
            log_mel_on: Where features are computed: by the processes that read audio, or on the
                device that trains, from 16-bit audio. "auto" is a CUDA GPU, unless features are stored.
            batch_shapes: How far batches are padded: "exact" to their longest row, "few" a little
                further, to one of few lengths, for layers compiled for a shape. "auto" is "few" where
                layers are compiled.
            text: Texts without audio for the task text: cuts manifests, or text files with one
                sentence a line.
            text_share: Text beside every batch, as seconds it would last when spoken, relative to
                batch_seconds; 0 for none.
            mix: More speech to train on, each set by a share of its own (docs/mixing.md).
        """
        super().__init__(tokenizer, strict=strict, seed=seed)
        self.planner: BatchPlanner | None = None
        """Plans training batches; None takes them as they are."""
        self.keep_samples = False
        """Whether batches hold the waveforms, for an encoder that reads those."""
        self.stored: StoredFrames | None = None
        """What a frozen encoder made of the cuts, which batches hold then."""
        self.guides: Guides | None = None
        """Where the words of the training utterances are thought to be, which batches say then."""
        self.targets: TargetReader | None = None
        """Reads what a model that speaks is to say."""
        self.languages: Languages | None = None
        """Those that batches are to name."""
        self.compiled = False
        """Whether the layers of the model are, which are fastest with few shapes."""
        self.log_mel_on = log_mel_on
        self.batch_shapes = batch_shapes
        self.train_paths, self.dev_paths, self.test_paths = list(train), list(dev), list(test)
        self.text_paths = list(text)
        self.text_share = text_share
        self._texts: TextPool | None = None
        check_mix(mix)
        self.mix = [one for one in mix if one.share]
        self._mixed: list[MixedCuts] = []
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
        self._splits: dict[str, CutSet | CutTable] = {}
        self._stand_ins: dict[str, MonoCut | None] = {}
        self._left_out: set[str] = set()
        self._batches: dict[int, int] = {}
        positive = batch_seconds > 0 and self.speeds and min(self.speeds) > 0
        startable = 0 <= (num_workers or 0) <= most_workers()
        if not (positive and startable) or min(cache_gb, text_share) < 0:
            raise ConfigError(
                f"data: batch_seconds {batch_seconds}, speeds {self.speeds}, num_workers "
                f"{num_workers}, cache_gb {cache_gb}, text_share {text_share}; expected positive seconds "
                f"and speeds, 0 to {most_workers()} workers, no negative gigabytes, no negative share. "
                "Correct the config."
            )

    def input_files(self) -> list[Path]:
        """The files a training depends on."""
        paths = [*self.dev_paths, *self.text_paths, *all_manifests(self.train_paths, self.mix)]
        paths += [self.tokenizer_path, *([self.cmvn_path] if self.cmvn_path else [])]
        return [Path(path) for path in paths]

    def setup(self, stage: str) -> None:
        """Reads and checks the manifests that the stage needs.

        Raises:
            ManifestError: a manifest is missing, or nothing of it can be used.
        """
        known = len(self.skipped)
        if stage == "fit" and self._on_cuda and self.num_workers != 0:
            loader_server.start()
        self._read_splits(stage)
        if self.is_rank_zero:
            for item, reason in self.skipped.items[known:]:
                logger.warning("left out %s: %s", item, reason)

    def _read_splits(self, stage: str) -> None:
        if stage == "fit" and "train" not in self._splits:
            train = self._read("train", self.train_paths)
            self.cmvn_stats = (
                CmvnStats.load(Path(self.cmvn_path))
                if self.cmvn_path
                else self._measure(train.cuts)
            )
            self.utterance_seconds = measure_lengths(train.cuts)
            at_speeds = self._at_speeds("train", train)
            beside = self._read_mixed()
            natural, self._mixed = mix(at_speeds, beside, self.batch_seconds, self.seed)
            self._splits["train"] = objects_where_few(natural)
            if self.text_paths and self.text_share:
                self._texts = make_pool(
                    [Path(path) for path in self.text_paths],
                    at_speeds,
                    self.text_tokenizer,
                    self.features,
                    seconds=self.text_share * self.batch_seconds,
                    subsampling=self.subsampling,
                    seed=self.seed,
                    skipped=self.skipped,
                )
        if stage in ("fit", "validate") and "dev" not in self._splits:
            self._splits["dev"] = objects_where_few(self._read("dev", self.dev_paths).cuts)
        if stage == "test":
            self._splits["test"] = objects_where_few(self._read("test", self.test_paths).cuts)

    def _read_mixed(self) -> Iterator[tuple[MixedSet, CutTable]]:
        """The sets of ``mix`` and their cuts."""
        for one in self.mix:
            name = f"mix, {one.name}"
            yield one, self._at_speeds(name, self._read(name, list(one.manifests)))
            self._stand_ins["train"] = self._stand_ins.get("train") or self._stand_ins.get(name)

    @property
    def _check(self) -> TextCheck:
        return TextCheck(self.text_tokenizer, self.features, self.subsampling)

    def _read(self, name: str, paths: list[str]) -> UsableCuts:
        if not paths:
            raise ConfigError(
                f"data.{name}: no manifest; expected at least one cuts file. Add it to the config."
            )
        known = len(self.skipped)
        found = read_usable(paths, self._check, self.skipped)
        cuts = found.cuts
        if len(cuts) <= READ_FIRST_CUTS and cuts.durations.sum() <= READ_FIRST_SECONDS:
            found.leave_out_unreadable(self.features, self.skipped)
        else:
            strict = self.skipped.strict
            self._stand_ins[name] = None if strict else first_readable(cuts, self.features)
        if self.is_rank_zero:
            found.tell_unknown(name)
        self._read_utterances += len(found.cuts)
        if not len(found.cuts):
            reasons = [reason for _, reason in self.skipped.items[known:]]
            raise ManifestError(
                f"data.{name}: none of {found.total} utterances can be used (the first: "
                f"{reasons[0] if reasons else 'it has no cuts'}); "
                "expected some. Check the manifest and the tokenizer."
            )
        return found

    def _at_speeds(self, name: str, found: UsableCuts) -> CutTable:
        """The cuts at all speeds, but for copies that speeding up has made too short for their text."""
        cuts = found.at_speeds(self.speeds, self._check)
        if self.is_rank_zero:
            found.tell_too_fast(name, len(cuts), len(self.speeds))
        return cuts

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is the one that warns."""
        return self.trainer is None or self.trainer.is_global_zero

    def _measure(self, cuts: CutTable) -> CmvnStats:
        dataset = SpeechDataset(self.text_tokenizer, self.features)
        leave_out = self._leave_out if "train" in self._stand_ins else None
        return measure_statistics(cuts, dataset, leave_out)

    def sample(self, count: int) -> list[MonoCut]:
        """Training utterances from all over the corpus; none where training is not what is done."""
        cuts = self._splits.get("train", ())
        every = max(1, len(cuts) // count)
        return spread(cuts, count) if isinstance(cuts, CutTable) else list(cuts)[::every]

    def cuts(self) -> Iterator[MonoCut]:
        """All that have been read to train on and to measure, at all speeds."""
        yield from chain(*self._splits.values(), *(one.cuts for one in self._mixed))

    def training_sets(self) -> dict[str, Iterable[MonoCut]]:
        """The training utterances at all speeds: "" is ``data.train``, others are sets of ``data.mix``."""
        mixed = {one.config.name: one.cuts for one in self._mixed if not one.config.synthetic}
        return {"": self._splits["train"], **mixed}

    def are_copies(self, ids: Sequence[str]) -> bool:
        """Whether these are utterances that another process has, given again lest this one has none."""
        if not all(COPY.search(one) for one in ids):
            return False
        known = self._splits["test" if self.trainer and self.trainer.testing else "dev"]
        names = known.by_id if isinstance(known, CutTable) else {cut.id for cut in known}
        return not any(one in names for one in ids)

    def _leave_out(self, name: str, reason: str) -> bool:
        """Notes an utterance that turned out unreadable after training began; False if it is known."""
        for factor in self.speeds:
            name = name.removesuffix(f"_sp{factor}")
        if name in self._left_out:
            return False
        self._left_out.add(name)
        self.skipped.add(name, reason)
        self._read_utterances -= 1
        return True

    def teardown(self, stage: str) -> None:
        """Lets the first process, which names them in the end, know what the others left out."""
        own = [item for item in self.skipped.items if item[0] in self._left_out]
        for items in gather_from_processes(own):
            for name, reason in items:
                self._leave_out(name, reason)

    def batches_per_epoch(self, world_size: int = 1) -> int:
        """Training batches of one process in the first epoch; later ones differ by a few."""
        mixed = sum(one.epoch_batches(0, world_size) for one in self._mixed)
        return self._train_batches(world_size) + mixed

    def _train_batches(self, world_size: int) -> int:
        """The same of ``data.train`` alone."""
        if world_size not in self._batches:
            sampler = self._sampler("train", shuffle=True, world_size=world_size, rank=0)
            counted = sampler.plan(0)[0] if isinstance(sampler, LargeSampler) else sampler
            self._batches[world_size] = max(1, sum(1 for _ in counted))
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

    def _loader(
        self, name: str, *, shuffle: bool, world_size: int, rank: int
    ) -> DataLoader[Batch | WaveformBatch]:
        sampler = self._sampler(name, shuffle=shuffle, world_size=world_size, rank=rank)
        if name == "train" and self.planner is not None:
            cuts = self._splits[name]
            self.planner.check(cuts)
            by_id = cuts.by_id if isinstance(cuts, CutTable) else {cut.id: cut for cut in cuts}
            sampler = PlannedBatches(sampler, self.planner, by_id, rank)
        if name == "train":
            batches = self._train_batches(world_size)
            places = {"batches": batches, "world_size": world_size, "rank": rank}
            sampler = with_more(sampler, self._texts, self._mixed, **places)
        workers = self._workers(shuffle=shuffle)
        few = self.batch_shapes == "few" or (self.batch_shapes == "auto" and self.compiled)
        dataset = SpeechDataset(
            self.text_tokenizer,
            self.features,
            round(self.cache_gb * 1e9) // max(1, workers),
            waveforms=self._hands_over_audio(name),
            round_up=next_of_few if few else None,
            keep_samples=self.keep_samples,
            targets=self.targets,
            languages=self.languages,
            stored=self.stored,
            guides=self.guides if name == "train" else None,
            stand_in=self._stand_ins.get(name),
        )
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=ResumableSampler(sampler),
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=(4 if workers < 4 else 2) if workers else None,
            pin_memory=self._on_cuda,
            multiprocessing_context="forkserver" if workers and self._on_cuda else None,
        )

    @property
    def _on_cuda(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _hands_over_audio(self, name: str) -> bool:
        """Whether the device computes the features of a split."""
        if self.keep_samples:  # which are sent as they are
            return False
        if self.log_mel_on != "auto":
            return self.log_mel_on == "device"
        return self._on_cuda and not have_features(self._splits[name])

    def _workers(self, *, shuffle: bool) -> int:
        """Processes that read."""
        if self.num_workers is not None:
            return self.num_workers if shuffle else min(1, self.num_workers)
        cores = usable_cores() // (self.trainer.num_devices if self.trainer else 1)
        if not self._on_cuda:
            return min(4, (cores + 6) // 8)
        needed = self.batches_per_epoch(self.trainer.world_size) if self.trainer and shuffle else 4
        return max(1, min(cores - CORES_TO_TRAIN, needed))

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Batch | WaveformBatch:
        """Copies a batch while the host goes on."""
        moved: Batch | WaveformBatch = batch.to(device, non_blocking=device.type == "cuda")
        return moved

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Computes the features where the device has got audio."""
        if isinstance(batch, WaveformBatch):
            batch = batch.with_features(self.features)
            if self.trainer is not None:
                batch = self.trainer.precision_plugin.convert_input(batch)
        made: Batch = batch
        for name, reason in made.unreadable:
            if self._leave_out(name, reason):
                logger.warning("left out %s: %s", name, reason)
        return made
