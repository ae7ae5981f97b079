"""Plans batches: which utterances are recombined or concatenated, before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.cut_table import CutTable
from speechmm.data.plan import BatchPlan, Piece, PlannedUtterance
from speechmm.data.sampling import SamplerAround
from speechmm.data.waveforms import speed_factor
from speechmm.errors import ConfigError
from speechmm.files.archives import KEPT
from speechmm.training.augmentation.concatenation import ConcatenationConfig, draw_groups
from speechmm.training.augmentation.recombination import RecombinationConfig, draw_pieces
from speechmm.training.augmentation.word_bank import WordBank


class BatchPlanner:
    """Draws plans; each depends on the seed, the epoch, the place of the batch and the process only."""

    def __init__(
        self,
        recombination: RecombinationConfig,
        concatenation: ConcatenationConfig,
        bank: WordBank | None,
        log_mel: LogMelConfig,
        *,
        seed: int = 0,
    ):
        """Prepares the drawing.

        Args:
            recombination: How often utterances give way to words of others.
            concatenation: How often they follow one another.
            bank: Where the words are; None without recombination.
            log_mel: How long a frame is.
            seed: Of all choices.
        """
        self.recombination = recombination
        self.concatenation = concatenation
        self.bank = bank
        self.log_mel = log_mel
        self.seed = seed

    def check(self, cuts: Any) -> None:
        """Looks whether what may be recombined is within reach.

        Raises:
            ConfigError: The cuts are in so many archives that words from all over would be read slowly.
        """
        if self.bank is not None and isinstance(cuts, CutTable) and cuts.archives > KEPT:
            raise ConfigError(
                f"data.train: it is in {cuts.archives} archives, and words of recombined utterances come "
                f"from all over; expected {KEPT} archives at most. Prepare it with larger ones, train on "
                "manifests, or set model.augmentation.recombination.share to 0."
            )

    def begin_epoch(self, epoch: int) -> None:
        """Takes up what was learned in the epochs before."""
        if self.bank is not None:
            self.bank.begin_epoch(epoch)

    def plan(
        self,
        cuts: Iterable[MonoCut],
        by_id: Mapping[str, MonoCut],
        *,
        epoch: int,
        index: int,
        rank: int = 0,
    ) -> BatchPlan:
        """The plan of one batch.

        Args:
            cuts: Its utterances.
            by_id: Those whose words may be taken.
            epoch: Of the training, from 0 on.
            index: Of the batch in the epoch.
            rank: Of the process.
        """
        random = Random(f"{self.seed} {epoch} {index} {rank}")
        recombines = self.bank is not None and epoch >= self.recombination.after_epochs
        utterances = [
            self._recombined(cut, by_id, random) if recombines else PlannedUtterance(cut)
            for cut in cuts
        ]
        lengths = [self._frames(one) for one in utterances]
        groups = draw_groups(lengths, self.concatenation, random)
        if groups is None:
            return BatchPlan([[one] for one in utterances])
        return BatchPlan([[utterances[row] for row in group] for group in groups])

    def _recombined(
        self, cut: MonoCut, by_id: Mapping[str, MonoCut], random: Random
    ) -> PlannedUtterance:
        if random.random() >= self.recombination.share:
            return PlannedUtterance(cut)
        assert self.bank is not None
        speaker = (cut.supervisions[0].speaker or "") if cut.supervisions else ""
        sources, places = self.bank.pool((speaker, speed_factor(cut)), by_id)
        if len(sources) < 2:
            return PlannedUtterance(cut)
        frames = self._frames(PlannedUtterance(cut))
        drawn = draw_pieces(sources, places, frames, self.recombination, random)
        pieces = (Piece(by_id[one.id], words, a, b) for one, words, a, b in drawn)
        return PlannedUtterance(cut, tuple(pieces))

    def _frames(self, utterance: PlannedUtterance) -> int:
        if utterance.pieces:
            return sum(piece.end - piece.first for piece in utterance.pieces)
        return self.log_mel.num_frames(round(utterance.cut.duration * self.log_mel.sample_rate))


class PlannedBatches(SamplerAround):
    """Plans in place of the groups of cuts that another sampler gives."""

    def __init__(
        self, sampler: Any, planner: BatchPlanner, by_id: Mapping[str, MonoCut], rank: int = 0
    ):
        """Begins with epoch 0.

        Args:
            sampler: Gives groups of cuts; has ``set_epoch``.
            planner: Draws the plans.
            by_id: Utterances whose words may be taken.
            rank: Of the process.
        """
        super().__init__(sampler)
        self.planner = planner
        self.by_id = by_id
        self.rank = rank

    def __iter__(self) -> Iterator[BatchPlan]:
        epoch = self._epoch
        self.planner.begin_epoch(epoch)
        for index, cuts in enumerate(self.sampler):
            yield self.planner.plan(cuts, self.by_id, epoch=epoch, index=index, rank=self.rank)
