"""Alignments by utterance from whatever holds them, and which of two sets belong together."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from speechmm.alignments import Alignment, read_alignments
from speechmm.errors import ManifestError
from speechmm.files.atomic import safe_name


def read_alignment_set(path: Path) -> dict[str, Alignment]:
    """Alignments by id, from what `read_alignments` reads or a cuts manifest with alignments.

    Raises:
        AlignmentError: The file is missing or broken.
        ManifestError: It is a broken manifest, or one without alignments, or an id is there twice.
    """
    rows: Iterable[Alignment] = _from_cuts(path) if _is_manifest(path) else read_alignments(path)
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


def match_ids(
    hypotheses: dict[str, Alignment], references: Collection[str]
) -> dict[str, Alignment]:
    """The hypotheses under the ids of the references.

    Files cannot always hold an id as it is: a file may be named after it, a CTM has no spaces in it.
    Where the id itself is not found, these forms of it are looked for.
    """
    known: dict[str, str] = {}
    for form in _FORMS:
        for id in references:
            known.setdefault(form(id), id)
    named = {known.get(id, id): id for id in hypotheses}
    return {new: hypotheses[id] for new, id in named.items()}


_FORMS: tuple[Callable[[str], str], ...] = (str, safe_name, lambda id: "_".join(id.split()))


def _is_manifest(path: Path) -> bool:
    """Whether the first row has supervisions, as lhotse's cuts do."""
    if not path.is_file():
        return False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            row = json.loads(next((line for line in file if line.strip()), b""))
    except (OSError, EOFError, ValueError):
        return False  # not rows of JSON, or damaged: the other reader says what is wrong
    return isinstance(row, dict) and "supervisions" in row


def _from_cuts(path: Path) -> Iterator[Alignment]:
    from speechmm.data.manifest import read_cuts, reference_alignment

    for cut in read_cuts(path):
        found = reference_alignment(cut)
        if found is not None:
            yield found
