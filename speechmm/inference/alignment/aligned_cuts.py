"""Aligned utterances as a cuts manifest, for lhotse and what is built on it."""

from collections.abc import Iterable
from pathlib import Path

from lhotse import MonoCut

from speechmm.alignments import Alignment
from speechmm.data.aligned_cuts import with_alignment
from speechmm.data.manifest import make_cut, write_cuts
from speechmm.inference.engine.sources import Source


def write_aligned_cuts(
    sources: Iterable[Source], alignments: Iterable[Alignment], out: Path
) -> int:
    """Writes every alignment as a cut, one after another as they come; returns how many.

    A source that was a cut stays that cut; an audio file becomes a cut of all of it.

    Args:
        sources: Files and cuts, of which some were aligned.
        alignments: What was found; their ids are those of the sources.
        out: ``.jsonl`` or ``.jsonl.gz``; it appears whole or not at all.

    Raises:
        ConfigError: The place cannot be written.
        AlignmentError: A cut has several supervisions, and its alignment no words.
    """
    by_id = {source.id: source for source in sources}
    return write_cuts((_cut(by_id[one.id], one) for one in alignments), out)


def _cut(source: Source, alignment: Alignment) -> MonoCut:
    text = source.transcript()
    cut = source.cut
    if cut is None:
        cut = make_cut(id=source.id, audio=source.audio, text=" ".join(text.split()))
    return with_alignment(cut, alignment, text=text)
