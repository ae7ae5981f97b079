"""Boundary errors of alignments against a reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechmm.alignments import Alignment, Segment, read_alignments
from speechmm.errors import ManifestError
from speechmm.evaluation.error_rate import score_texts
from speechmm.evaluation.significance import bootstrap_rate
from speechmm.writing import write_text

THRESHOLDS_MS = (10, 20, 25, 50, 100)


def read_any(path: Path) -> dict[str, Alignment]:
    """Alignments by id, from a file of alignments or a cuts manifest that has them.

    Raises:
        ManifestError: A cuts manifest without any alignment.
    """
    if path.name.endswith(".gz") or (path.suffix == ".jsonl" and _is_manifest(path)):
        from speechmm.data.manifest import read_cuts, reference_alignment

        known = {cut.id: reference_alignment(cut) for cut in read_cuts(path)}
        found = {id: one for id, one in known.items() if one is not None}
        if not found:
            raise ManifestError(
                f"{path}: no cut has an alignment; expected supervisions with one. "
                "Choose a manifest with reference alignments."
            )
        return found
    return {one.id: one for one in read_alignments(path)}


def _is_manifest(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as stream:
            row = json.loads(stream.readline())
    except (OSError, ValueError):
        return False
    return isinstance(row, dict) and "recording" in row


def boundary_report(
    hypotheses: dict[str, Alignment], references: dict[str, Alignment]
) -> dict[str, Any]:
    """Start and end errors of every reference unit, by kind of unit.

    Units are matched by order within the utterance where both have as many, else through the
    best alignment of their labels; unmatched ones count as missing or extra.

    Raises:
        ManifestError: No utterance or no kind of unit in common.
    """
    common = [id for id in references if id in hypotheses]
    if not common:
        raise ManifestError(
            "alignments: no id in common with the reference; expected the same utterance ids. "
            "Align the utterances of the reference."
        )
    kinds = {kind for id in common for kind in references[id].units}
    kinds &= {kind for id in common for kind in hypotheses[id].units}
    if not kinds:
        raise ManifestError(
            "alignments: no kind of unit in common with the reference; expected for example "
            '"word" in both. Align with another --unit.'
        )
    report: dict[str, Any] = {
        kind: _score_kind(kind, common, hypotheses, references) for kind in sorted(kinds)
    }
    report["utterances"] = len(common)
    report["missing_utterances"] = [id for id in references if id not in hypotheses]
    return report


def _score_kind(
    kind: str,
    ids: Sequence[str],
    hypotheses: dict[str, Alignment],
    references: dict[str, Alignment],
) -> dict[str, Any]:
    errors: list[list[float]] = []
    missing = extra = 0
    for id in ids:
        truth = references[id].units.get(kind, [])
        found = hypotheses[id].units.get(kind, [])
        pairs = _matched(truth, found)
        missing += len(truth) - len(pairs)
        extra += len(found) - len(pairs)
        errors.append(
            [1000 * abs(edge) for a, b in pairs for edge in (b.start - a.start, b.end - a.end)]
        )
    values = np.asarray([value for row in errors for value in row])
    if not len(values):
        return {"boundaries": 0, "missing": missing, "extra": extra}
    low, high = bootstrap_rate([sum(row) for row in errors], [len(row) for row in errors])
    return {
        "boundaries": len(values),
        "mean_ms": float(values.mean()),
        "median_ms": float(np.median(values)),
        "ci95_ms": [low, high],
        "within_ms": {
            str(limit): float((values <= limit + 1e-6).mean()) for limit in THRESHOLDS_MS
        },
        "missing": missing,
        "extra": extra,
    }


def _matched(truth: Sequence[Segment], found: Sequence[Segment]) -> list[tuple[Segment, Segment]]:
    if len(truth) == len(found):
        return list(zip(truth, found, strict=True))
    labels = ["_".join(one.label.lower().split()) or "_" for one in truth]
    heard = ["_".join(one.label.lower().split()) or "_" for one in found]
    (scored,) = score_texts([" ".join(labels)], [" ".join(heard)])
    pairs = []
    i = j = 0
    for pair in scored.alignment:
        if pair.op in ("hit", "substitution"):
            pairs.append((truth[i], found[j]))
        i += pair.op != "insertion"
        j += pair.op != "deletion"
    return pairs


def write_boundary_report(report: dict[str, Any], folder: Path) -> None:
    """Writes ``alignment.json``."""
    write_text(folder / "alignment.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def boundary_lines(report: dict[str, Any], command: str) -> list[str]:
    """The section of RESULTS.md."""
    lines = []
    for kind, row in report.items():
        if isinstance(row, dict) and "mean_ms" in row:
            low, high = row["ci95_ms"]
            lines.append(
                f"- {kind} edges: mean **{row['mean_ms']:.1f} ms** (95 % interval {low:.1f} to "
                f"{high:.1f}), median {row['median_ms']:.1f} ms, within 20 ms "
                f"{100 * row['within_ms']['20']:.1f} %, {row['boundaries']} edges, "
                f"{row['missing']} missing, {row['extra']} extra"
            )
    return [*lines, f"- command: `{command}`"]
