"""Measures the mean and deviation of the log-mel features of a training set."""

from __future__ import annotations

from collections.abc import Callable

from speechmm.audio.cmvn import CmvnAccumulator, CmvnStats
from speechmm.data.cut_table import CutTable, spread
from speechmm.data.dataset import SpeechDataset
from speechmm.errors import SpeechmmError

CMVN_CUTS = 300
"""Utterances that the statistics are taken from."""


def measure_statistics(
    cuts: CutTable, dataset: SpeechDataset, leave_out: Callable[[str, str], object] | None
) -> CmvnStats:
    """The statistics of some utterances from all over a training set.

    Args:
        cuts: The training set.
        dataset: Reads their features.
        leave_out: Told the id of each that cannot be read, and why; None where that is an error.

    Raises:
        SpeechmmError: One cannot be read, and nobody is to be told.
    """
    accumulator = CmvnAccumulator()
    for cut in spread(cuts, CMVN_CUTS):
        try:
            accumulator.add(dataset.load(cut))
        except SpeechmmError as error:
            if leave_out is None:
                raise
            leave_out(cut.id, str(error))
    return accumulator.stats()
