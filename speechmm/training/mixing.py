"""Mixes further speech into a training: each set by a share of its own, in batches of its own."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lhotse import MonoCut

from speechmm.data.cut_table import CutTable
from speechmm.data.large_sampling import LargeSampler
from speechmm.data.plan import BatchPlan
from speechmm.data.sampling import SamplerOfProcess
from speechmm.errors import ConfigError
from speechmm.training.unpaired import TextPool, WithTexts

SPOKEN_IN_TRAIN = "train-synthetic"
"""Name of the set of synthetic speech that is in ``data.train`` itself."""
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class MixedSet:
    """Speech that is trained on beside ``data.train``: old data, synthetic speech, pseudo-labels."""

    name: str
    """In ``metrics.csv``: ``train/<name>/loss`` and so on."""
    manifests: Sequence[str]
    """Cuts manifests, or folders of lhotse Shar."""
    share: float = 0.5
    """Seconds of it in an epoch, relative to those of data.train; 0 for none."""
    synthetic: bool = False
    """Whether it is synthetic speech, from which only recognition learns. So are cuts that say so
    themselves, as those of ``speechmm synthesize`` do; they have batches of their own."""

    def __post_init__(self) -> None:
        if (
            not _NAME.fullmatch(self.name)
            or not self.manifests
            or not 0 <= self.share < float("inf")
        ):
            raise ConfigError(
                f"data.mix: name {self.name!r}, {len(self.manifests)} manifests, share {self.share}; "
                "expected a name of small letters and digits, a manifest or more, and a share of 0 or "
                "more. Correct the config."
            )


def check_mix(sets: Sequence[MixedSet]) -> None:
    """Refuses sets that metrics could not tell apart.

    Raises:
        ConfigError: Two have one name.
    """
    names = [one.name for one in sets]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"data.mix: the names are {', '.join(names)}; expected each once. Correct the config."
        )


def all_manifests(
    train: Sequence[str], sets: Sequence[MixedSet], *, synthetic: bool = True
) -> list[str]:
    """What is trained on, the manifests of mixed sets after those of ``data.train``.

    Args:
        train: ``data.train``.
        sets: ``data.mix``.
        synthetic: Those of synthetic speech, too.
    """
    mixed = [one for one in sets if synthetic or not one.synthetic]
    return [*train, *(path for one in mixed for path in one.manifests)]


class MixedCuts:
    """The batches of one set, as many an epoch as its share asks for.

    All cuts come once, at each speed, before any comes again: passes go on from one epoch to the next. What
    comes in an epoch depends on the cuts, the seed and the epoch only, so that a training that was
    interrupted goes on exactly.
    """

    def __init__(
        self,
        config: MixedSet,
        cuts: CutTable,
        batch_seconds: float,
        train_seconds: float,
        seed: int = 0,
    ):
        """Plans nothing yet.

        Args:
            config: Name and share.
            cuts: At all speeds; at least one.
            batch_seconds: Audio per batch in seconds, padding included; a longer cut comes alone.
            train_seconds: Of an epoch without mixing, all processes together.
            seed: Of the order.
        """
        self.config = config
        self.cuts = cuts
        self.batch_seconds = batch_seconds
        self.train_seconds = train_seconds
        self.seed = seed
        self._ends: dict[
            int, list[int]
        ] = {}  # by number of processes: batches up to each pass's end
        self._planned: tuple[tuple[int, int], list[list[list[int]]]] | None = None

    def epoch_batches(self, epoch: int, world_size: int = 1) -> int:
        """Batches of each process in an epoch; from one epoch to another they differ by one at most."""
        return self._before(epoch + 1, world_size) - self._before(epoch, world_size)

    def _before(self, epoch: int, world_size: int) -> int:
        """Batches of each process in all epochs before this one."""
        wanted = epoch * self.config.share * self.train_seconds
        passes = wanted / float(self.cuts.durations.sum())
        return round(passes * len(self._plan(0, world_size)[0]))

    def _plan(self, number: int, world_size: int) -> list[list[list[int]]]:
        """The batches of a pass, by process."""
        if self._planned is None or self._planned[0] != (number, world_size):
            sampler = LargeSampler(
                self.cuts,
                self.batch_seconds,
                shuffle=True,
                seed=self.seed,
                world_size=world_size,
            )
            self._planned = (number, world_size), sampler.plan(number)
        return self._planned[1]

    def draw(self, epoch: int, world_size: int = 1, rank: int = 0) -> Iterator[BatchPlan]:
        """The batches of an epoch for one process.

        Args:
            epoch: From 0 on.
            world_size: Processes that train together.
            rank: Of the process.
        """
        first = self._before(epoch, world_size)
        for place in range(first, first + self.epoch_batches(epoch, world_size)):
            number, index = self._find(place, world_size)
            batch = [self._cut(one) for one in self._plan(number, world_size)[rank][index]]
            yield dataclasses.replace(
                BatchPlan.of(batch),
                source=self.config.name,
                synthetic=self.config.synthetic,
            )

    def _find(self, place: int, world_size: int) -> tuple[int, int]:
        """The pass of a batch, and its place there."""
        ends = self._ends.setdefault(world_size, [])
        while not ends or ends[-1] <= place:
            more = len(self._plan(len(ends), world_size)[0])
            ends.append((ends[-1] if ends else 0) + more)
        number = bisect_right(ends, place)
        return number, place - (ends[number - 1] if number else 0)

    def _cut(self, index: int) -> MonoCut:
        """A cut under a name that no other set has; one given again to fill up processes, too."""
        cut = self.cuts[index if index >= 0 else -1 - index]
        named: MonoCut = cut.with_id(f"{self.config.name}:{cut.id}")
        return named


def mix(
    train: CutTable,
    sets: Iterable[tuple[MixedSet, CutTable]],
    batch_seconds: float,
    seed: int = 0,
) -> tuple[CutTable, list[MixedCuts]]:
    """What the batches of ``data.train`` are made of, and the batches beside them.

    Natural and synthetic speech share no batch, so that all processes do the same in a step: where both
    are in one set, it becomes two, whose shares are as their lengths. The synthetic speech of
    ``data.train`` is a set of that kind too, unless there is no other there.

    Args:
        train: At all speeds.
        sets: At all speeds, at least one cut each.
        batch_seconds: As in :class:`MixedCuts`.
        seed: Of the order.
    """
    seconds = float(train.durations.sum())
    found = [part for one, cuts in sets for part in _by_origin(one, cuts)]
    whole = MixedSet(name=SPOKEN_IN_TRAIN, manifests=["data.train"], share=1.0)
    natural, *spoken = _by_origin(whole, train)
    found += spoken
    return natural[1], [MixedCuts(*part, batch_seconds, seconds, seed) for part in found]


def _by_origin(one: MixedSet, cuts: CutTable) -> list[tuple[MixedSet, CutTable]]:
    """The natural and the synthetic speech of a set, as far as there is some."""
    flags = cuts.synthetic
    if one.synthetic or not flags.any():
        return [(one, cuts)]
    parts = [(kind, cuts.keep(flags == kind)) for kind in (False, True)]
    seconds_of_all = float(cuts.durations.sum())
    found = []
    for synthetic, part in parts:
        if len(part):
            share = one.share * float(part.durations.sum()) / seconds_of_all
            found.append((dataclasses.replace(one, share=share, synthetic=synthetic), part))
    return found


class WithMixed(SamplerOfProcess):
    """The batches of another sampler, and among them, at equal distances, those of mixed sets."""

    def __init__(self, sampler: Any, mixed: Sequence[MixedCuts], **place: int):
        """Mixes these sets into a sampler; ``place`` as in :class:`SamplerOfProcess`."""
        super().__init__(sampler, **place)
        self.mixed = mixed

    def __iter__(self) -> Iterator[Any]:
        epoch, world_size = self._epoch, self.world_size
        drawn = [one.draw(epoch, world_size, self.rank) for one in self.mixed]
        counts = [one.epoch_batches(epoch, world_size) for one in self.mixed]
        # after which share of the epoch each comes: the same in all processes
        coming = sorted(
            ((index + 0.5) / count, place)
            for place, count in enumerate(counts)
            for index in range(count)
        )
        done = 0
        for number, batch in enumerate(self.sampler):
            while done < len(coming) and coming[done][0] * self.batches <= number:
                yield next(drawn[coming[done][1]])
                done += 1
            yield batch
        for _, place in coming[done:]:
            yield next(drawn[place])


def with_more(
    sampler: Any, texts: TextPool | None, mixed: Sequence[MixedCuts], **places: int
) -> Any:
    """Training batches with texts beside them, and batches of mixed sets among them, where there are any.

    Args:
        sampler: Gives plans or groups of cuts; has ``set_epoch``.
        texts: Without audio.
        mixed: The sets.
        places: ``batches`` of the sampler in an epoch, ``world_size`` and ``rank``.
    """
    if texts is not None:
        sampler = WithTexts(sampler, texts, **places)
    return WithMixed(sampler, mixed, **places) if mixed else sampler
