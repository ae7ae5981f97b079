"""Measures log-mel features of a training set, their mean and deviation, and how long utterances are."""

from __future__ import annotations

from collections.abc import Callable

from speechmm.audio.cmvn import CmvnAccumulator, CmvnStats
from speechmm.data.cut_table import CutTable, spread
from speechmm.data.dataset import SpeechDataset
from speechmm.errors import SpeechmmError
from speechmm.models.bundle_config import UtteranceSeconds

CMVN_CUTS = 300
"""Utterances that the statistics are taken from."""
USUAL_SHARE = 0.95
"""Of the training utterances are at most as long as what is called usual."""


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


def measure_lengths(cuts: CutTable) -> UtteranceSeconds:
    """How long the utterances of a training set are."""
    lengths = sorted(cuts.durations.tolist())
    return UtteranceSeconds(
        median=round(lengths[len(lengths) // 2], 2),
        usual=round(lengths[int(USUAL_SHARE * len(lengths))], 2),
    )
