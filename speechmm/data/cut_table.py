"""Holds the cuts of a split as rows of text, which become objects of lhotse when they are asked for.

100,000 cuts take 70 MB and the time to read them; as objects they take five times as much of both.
Copies at other speeds share the rows.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from lhotse import MonoCut

from speechmm.data.cut_rows import CutRow, make_object, says_synthetic
from speechmm.errors import ConfigError

FILES_TOGETHER = 1000
"""Cuts in files of their own that count as an archive where others are in archives."""
SAMPLED_ARCHIVES = 8
"""Archives, or up to twice as many, that a sample is taken from."""


class CutTable(Sequence[MonoCut]):
    """Cuts in an order, the whole corpus once for each speed factor."""

    def __init__(self) -> None:
        self.has_features = False
        """Whether any cut has stored features."""
        self._lines: list[bytes] = []
        self._ids: list[str] = []
        self._seconds = array("d")  # at the recorded speed
        self._rates = array("l")  # Hz
        self._shards = array("l")  # which archive, as numbered here
        self._synthetic = array("b")  # whether nobody said it
        self._archives: dict[Path | int, int] = {}
        # Of each item: its line, its speed factor, its seconds; (items,).
        self._places: np.ndarray | None = None
        self._factors: np.ndarray | None = None
        self._durations: np.ndarray | None = None

    def add(self, row: CutRow) -> None:
        """Appends a cut at its own speed; to be called before any other method."""
        self._lines.append(row.line)
        self._ids.append(row.data["id"])
        self._seconds.append(row.data["duration"])
        self._rates.append(_sampling_rate(row.data))
        self._synthetic.append(says_synthetic(row.data.get("custom")))
        archive = row.archive or len(self._lines) // FILES_TOGETHER
        self._shards.append(self._archives.setdefault(archive, len(self._archives)))
        self.has_features = self.has_features or "features" in row.data

    @classmethod
    def of(cls, cuts: Sequence[MonoCut]) -> CutTable:
        """These cuts."""
        table = cls()
        for cut in cuts:
            data = cut.to_dict()
            table.add(CutRow(json.dumps(data).encode(), data))
        return table

    def keep(self, wanted: Sequence[bool] | np.ndarray) -> CutTable:
        """The items that are wanted."""
        chosen = np.flatnonzero(np.asarray(wanted, dtype=bool))
        return self._with(self.places[chosen], self.factors[chosen], self.durations[chosen])

    def at_speeds(self, factors: Sequence[float]) -> CutTable:
        """The cuts once per speed factor; copies end their ids in ``_sp<factor>``.

        Stored features are of the original speed: the copies go back to the audio.

        Args:
            factors: 1.0 is the cut as it is, 1.1 is 10 % faster and higher.

        Raises:
            ConfigError: No factor, one twice, or one that is not positive.
        """
        if not factors or min(factors) <= 0 or len(set(factors)) < len(factors):
            raise ConfigError(
                f"speeds: found {list(factors)}; expected positive factors, each once, such as "
                "[0.9, 1.0, 1.1]. Correct the config."
            )
        rates = np.frombuffer(self._rates, dtype=np.dtype("l"))[self.places]
        durations = [_played(self.durations, rates, factor) for factor in factors]
        places = np.tile(self.places, len(factors))
        repeated = np.repeat(np.asarray(factors, dtype=float), len(self))
        return self._with(places, repeated, np.concatenate(durations))

    def _with(self, places: np.ndarray, factors: np.ndarray, durations: np.ndarray) -> CutTable:
        other = CutTable()
        other.__dict__.update(
            {name: value for name, value in self.__dict__.items() if name != "by_id"}
        )
        other._places, other._factors, other._durations = places, factors, durations
        return other

    @property
    def places(self) -> np.ndarray:
        """Of each item, which row it is made of; copies of a cut at several speeds have one row."""
        if self._places is None:
            self._places = np.arange(len(self._lines))
        return self._places

    @property
    def factors(self) -> np.ndarray:
        """Of each item its speed factor."""
        if self._factors is None:
            self._factors = np.ones(len(self._lines))
        return self._factors

    @property
    def durations(self) -> np.ndarray:
        """Of each item its seconds."""
        if self._durations is None:
            self._durations = np.array(self._seconds)
        return self._durations

    @property
    def archives(self) -> int:
        """How many archives hold the cuts; 0 where all are in files of their own."""
        return sum(isinstance(one, Path) for one in self._archives)

    @property
    def shards(self) -> np.ndarray:
        """Of each item the number of its archive, or of the group of files it is in."""
        numbers: np.ndarray = np.frombuffer(self._shards, dtype=np.dtype("l"))[self.places]
        return numbers

    @property
    def synthetic(self) -> np.ndarray:
        """Of each item whether it says that its speech is synthetic."""
        flags: np.ndarray = np.frombuffer(self._synthetic, dtype=np.bool_)[self.places]
        return flags

    @cached_property
    def by_id(self) -> Mapping[str, MonoCut]:
        """The cut of an id."""
        return _ById(self)

    def id(self, index: int) -> str:
        """The id of an item."""
        factor = float(self.factors[index])
        name = self._ids[self.places[index]]
        return name if factor == 1.0 else f"{name}_sp{factor}"

    def __len__(self) -> int:
        return len(self._lines) if self._places is None else len(self._places)

    @overload
    def __getitem__(self, index: int) -> MonoCut: ...

    @overload
    def __getitem__(self, index: slice) -> list[MonoCut]: ...

    def __getitem__(self, index: int | slice) -> MonoCut | list[MonoCut]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        place, factor = int(self.places[index]), float(self.factors[index])
        cut = make_object(json.loads(self._lines[place]))
        if factor == 1.0:
            return cut
        if cut.has_features:
            cut = cut.drop_features()
        changed: MonoCut = cut.perturb_speed(factor)
        return changed


class _ById(Mapping[str, MonoCut]):
    def __init__(self, table: CutTable) -> None:
        self._table = table
        self._index = {table.id(index): index for index in range(len(table))}

    def __getitem__(self, name: str) -> MonoCut:
        return self._table[self._index[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


def _sampling_rate(data: dict[str, Any]) -> int:
    """As lhotse has it: that of the stored features, where there are some."""
    rate: int = (data.get("features") or data["recording"])["sampling_rate"]
    return rate


def _played(seconds: np.ndarray, rates: np.ndarray, factor: float) -> np.ndarray:
    """Lengths at a speed, rounded to samples as lhotse's ``perturb_speed`` does."""
    if factor == 1.0:
        return seconds
    samples = np.floor(np.round(seconds * rates, 8) + 0.5)
    played = np.round(samples / factor, 8)
    played = np.floor(played + 0.5) if factor >= 1 else np.ceil(played - 0.5)
    changed: np.ndarray = played / rates
    return changed


def have_features(cuts: Iterable[MonoCut]) -> bool:
    """Whether any of the cuts has stored features."""
    if isinstance(cuts, CutTable):
        return cuts.has_features
    return any(cut.has_features for cut in cuts)


def spread(cuts: CutTable, count: int) -> list[MonoCut]:
    """Cuts from all over a table, ``count`` or up to twice as many; of few archives, if in archives."""
    places = np.arange(len(cuts))
    if cuts.archives:
        there = np.unique(cuts.shards)
        places = places[np.isin(cuts.shards, _every(there, SAMPLED_ARCHIVES))]
    return [cuts[index] for index in _every(places, count).tolist()]


def _every(items: np.ndarray, count: int) -> np.ndarray:
    """``count`` of them, or up to twice as many, at equal distances."""
    return items[:: max(1, len(items) // count)]
