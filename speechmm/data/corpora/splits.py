"""Train, dev and test: the names people give them, and making those a corpus does not have."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from speechmm.data.skips import SkipReport
from speechmm.data.splits import split_by_speaker
from speechmm.data.utterances import Utterance
from speechmm.errors import ManifestError

if TYPE_CHECKING:
    from lhotse import MonoCut

logger = logging.getLogger(__name__)

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("dev", "development", "valid", "validation", "val", "cv"), "dev"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
"""What a corpus may call a split, and what we do."""


def hold_out_last(
    utterances: list[Utterance], count: int, share: float
) -> dict[str, list[Utterance]]:
    """The last ``count`` ids are test, as many before are dev; each at most ``share`` of all."""
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    size = min(count, max(1, int(len(ordered) * share)))
    first_test = max(0, len(ordered) - size)
    first_dev = max(0, first_test - size)
    return {
        "train": ordered[:first_dev],
        "dev": ordered[first_dev:first_test],
        "test": ordered[first_test:],
    }


def draw_missing(
    splits: dict[str, list[MonoCut]], *, dev: float, test: float, seed: int
) -> dict[str, list[MonoCut]]:
    """Take dev and test out of train where the corpus has none, by speaker where known.

    Args:
        splits: What the corpus has; "train" must be there.
        dev: Share of train's seconds to take when there is no dev, in [0, 1); 0 takes none.
        test: Likewise.
        seed: Another seed draws others.
    """
    shares = {
        name: share if name not in splits else 0.0 for name, share in (("dev", dev), ("test", test))
    }
    wanted = [name for name, share in shares.items() if share > 0]
    drawn = split_by_speaker(splits["train"], dev=shares["dev"], test=shares["test"], seed=seed)
    if wanted and len(splits) > 1:
        logger.info("%s: the corpus has none, taken from train", " and ".join(wanted))
    return {**splits, "train": drawn["train"], **{name: drawn[name] for name in wanted}}


def require_utterances(splits: dict[str, list[MonoCut]], report: SkipReport, where: str) -> None:
    """Refuse a corpus in which nothing, or nothing of one split, can be used.

    Raises:
        ManifestError: Says which split is empty, and the first reason why something was skipped.
    """
    empty = [split for split in ("train", *(splits.keys() - {"train"})) if not splits.get(split)]
    if not empty:
        return
    skipped = ""
    if report.items:
        item, reason = report.items[0]
        skipped = f"; {len(report)} were skipped, the first is {item}: {reason}"
    if not any(splits.values()):
        raise ManifestError(
            f"{where}: no usable utterance{skipped}; expected audio with transcripts. "
            "Check the folder and the format of its transcripts."
        )
    total = sum(map(len, splits.values()))
    raise ManifestError(
        f"{where}: no usable utterance for {' and '.join(empty)} ({total} in the others{skipped}); "
        "expected one or more in every split. Add utterances, or change the split."
    )
