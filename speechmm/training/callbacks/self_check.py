"""Says at the end of a training how far its alignments are to be trusted, without a reference."""

from __future__ import annotations

import logging
import sys
from itertools import islice
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from speechmm.data.skips import SkipReport

logger = logging.getLogger(__name__)

UTTERANCES = 50
"""Of the dev set, from its beginning."""
_NAMED = 5


class AlignmentSelfCheck(Callback):
    """Aligns some of the dev set with the bundle that was written, and tells how sure its edges are."""

    def __init__(self, bundle: Path):
        self.bundle = bundle

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the median range of word edges, and the utterances that fit far worse than the others."""
        manifests = getattr(trainer.datamodule, "dev_paths", [])  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not manifests:
            return
        try:
            said = check_alignments(self.bundle, [Path(path) for path in manifests])
        except Exception as error:  # what is only told ends no training
            logger.warning("alignments of the dev set: not checked (%s)", error)
            return
        if said:
            print(said, file=sys.stderr, flush=True)


def check_alignments(folder: Path, manifests: list[Path]) -> str | None:
    """How far a bundle's alignments are to be trusted, in a line; None where it has not learned any.

    Args:
        folder: Of the bundle.
        manifests: Cuts with texts, of which the first are aligned.
    """
    from speechmm.data.manifest import read_cuts
    from speechmm.inference.alignment.aligner import Aligner
    from speechmm.inference.alignment.trust import outliers, trust
    from speechmm.inference.engine.sources import cut_sources
    from speechmm.models.bundle import load_bundle

    bundle = load_bundle(folder)
    if "align" not in bundle.heads:
        return None
    skipped = SkipReport()
    cuts = list(islice((cut for path in manifests for cut in read_cuts(path, skipped)), UTTERANCES))
    aligner = Aligner(bundle, units=["word"])
    found = list(aligner.align_sources(cut_sources(cuts, skipped), skipped=skipped))
    said = trust(found, "word") if found else None
    if said is None:
        return None
    far = sorted(outliers(found))
    named = (
        f" ({', '.join([*far[:_NAMED], *(['...'] if len(far) > _NAMED else [])])})" if far else ""
    )
    return f"alignments of {len(found)} dev utterances: {said}{named}"
