"""Has orders spoken and describes what came of them as cuts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from speechmm.data.corpora.synth.voices import Order, Spoken, speak_all
from speechmm.data.skips import SkipReport
from speechmm.data.utterances import Utterance, make_split_cuts
from speechmm.errors import ConfigError

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.supervision import AlignmentItem

    from speechmm.alignments import Segment


def spoken_cuts(
    orders: Sequence[Order],
    splits: Sequence[str],
    report: SkipReport,
    *,
    num_workers: int | None = None,
) -> dict[str, list[MonoCut]]:
    """Speaks all orders; the cuts of each split, with the times of words and phones.

    Args:
        orders: The folder of an order's file is named after its split.
        splits: All there are, in their order.
        report: Where utterances that could not be spoken are noted.
        num_workers: Processes; None for one a core, 4 at most.

    Raises:
        ConfigError: A folder cannot be written to.
    """
    _make_folders(orders)
    workers = min(4, os.cpu_count() or 1) if num_workers is None else num_workers
    utterances: dict[str, list[Utterance]] = {split: [] for split in splits}
    for spoken in _with_progress(speak_all(orders, num_workers=workers), len(orders)):
        if spoken.error:
            report.add(spoken.order.id, spoken.error)
        else:
            utterances[spoken.order.path.parent.name].append(_to_utterance(spoken))
    return make_split_cuts(utterances, report, check="header")


def _make_folders(orders: Sequence[Order]) -> None:
    for folder in sorted({order.path.parent for order in orders}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be made ({error.strerror}); expected a folder that can be "
                "written to. Choose another output folder."
            ) from error


def _to_utterance(spoken: Spoken) -> Utterance:
    order = spoken.order
    return Utterance(
        id=order.id,
        audio=order.path,
        text=order.text,
        speaker=order.speaker.name,
        language=order.language,
        alignment={"word": _to_items(spoken.words), "phone": _to_items(spoken.phones)},
    )


def _to_items(segments: list[Segment]) -> list[AlignmentItem]:
    from lhotse.supervision import AlignmentItem

    return [
        AlignmentItem(segment.label, round(segment.start, 6), round(segment.duration, 6))
        for segment in segments
    ]


def _with_progress(spoken: Iterable[Spoken], total: int) -> Iterable[Spoken]:
    if not sys.stderr.isatty():
        return spoken
    from rich.console import Console
    from rich.progress import track

    return track(spoken, "speaking", total=total, console=Console(stderr=True))
