"""Reads alignments by utterance, from alignment files or cuts manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from speechmm.alignments import Alignment, Segment, read_alignments
from speechmm.alignments.kinds import kind_of
from speechmm.alignments.silences import is_silence
from speechmm.errors import ManifestError


def read_alignment_set(path: Path) -> dict[str, Alignment]:
    """Alignments by id, from what `read_alignments` reads or a cuts manifest with alignments.

    Raises:
        AlignmentError: The file is missing or broken.
        ManifestError: It is a broken manifest, or one without alignments, or an id is there twice.
    """
    rows: Iterable[Alignment] = (
        _from_cuts(path) if kind_of(path) == "cuts" else read_alignments(path)
    )
    found: dict[str, Alignment] = {}
    for row in rows:
        if row.id in found:
            raise ManifestError(
                f'{path}: id "{row.id}" is there twice; expected one alignment an id. Remove one.'
            )
        found[row.id] = row
    if not found:
        raise ManifestError(
            f"{path}: no cut has an alignment; expected supervisions with start and end of their "
            "words. Choose a manifest with reference alignments."
        )
    return found


def speakers_of(path: Path) -> dict[str, str]:
    """Who says each utterance, by id, where the file is a cuts manifest."""
    from speechmm.evaluation.text_sets import read_text_set

    if kind_of(path) != "cuts":
        return {}
    return {id: one.speaker for id, one in read_text_set(path).by_id.items()}


def spoken_segments(alignment: Alignment, unit: str) -> list[Segment]:
    """The segments of a unit, without those that say there was a pause."""
    return [one for one in alignment.units.get(unit, ()) if not is_silence(one.label)]


def _from_cuts(path: Path) -> Iterator[Alignment]:
    from speechmm.data.manifest import read_cuts, reference_alignment

    for cut in read_cuts(path):
        found = reference_alignment(cut)
        if found is not None:
            yield found
