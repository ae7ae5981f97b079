"""Measures boundary errors of alignments against a reference, in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechmm.alignments import Alignment, Segment
from speechmm.alignments.ids import match_ids
from speechmm.errors import ManifestError
from speechmm.evaluation.alignment_sets import spoken_segments
from speechmm.evaluation.error_rate import score_units
from speechmm.evaluation.report_types import BoundaryReportRow, BoundaryRow, RangesRow
from speechmm.evaluation.significance import bootstrap_rate, sums_by_speaker
from speechmm.files.atomic import write_text
from speechmm.text.normalize import normalize

THRESHOLDS_MS = (10, 20, 25, 50, 100)
ROUNDING_MS = 1e-6  # an error of 20 ms is within 20 ms, whatever floats make of it
_SLACK = ROUNDING_MS / 1000


@dataclass(frozen=True)
class Match:
    """A unit of the reference and what was found of it."""

    id: str
    """Of the utterance."""
    audio: str
    """Path of its audio file, "" when not known."""
    audio_start: float
    """Where the utterance begins in that file, seconds."""
    reference: Segment
    hypothesis: Segment
    channels: tuple[int, ...] = ()
    """Those of the audio file that the utterance is the average of, from 0; empty means all."""

    @property
    def start_ms(self) -> float:
        """Hypothesis minus reference."""
        return 1000 * (self.hypothesis.start - self.reference.start)

    @property
    def end_ms(self) -> float:
        """Hypothesis minus reference."""
        return 1000 * (self.hypothesis.end - self.reference.end)

    @property
    def worst_ms(self) -> float:
        """The larger of the two errors."""
        return max(abs(self.start_ms), abs(self.end_ms))


@dataclass(frozen=True)
class BoundaryScore:
    """All utterances of two sets of alignments, compared."""

    units: dict[str, BoundaryRow]
    """What ``alignment.json`` holds, by kind of unit."""
    utterances: int
    """Of the reference."""
    missing: list[str]
    """Ids without an alignment: all their units count as missing."""
    extra: list[str]
    """Ids without a reference: they cannot be counted."""
    not_compared: list[str]
    """Kinds of unit that only one side has."""
    matches: dict[str, list[Match]]
    """By kind of unit."""


@dataclass
class _Edges:
    """The matched units of one kind."""

    matches: list[list[Match]] = field(default_factory=list)
    """By utterance."""
    missing: int = 0
    extra: int = 0
    relabelled: int = 0


def score_boundaries(
    hypotheses: Mapping[str, Alignment],
    references: Mapping[str, Alignment],
    *,
    speakers: Mapping[str, str] | None = None,
    seed: int = 0,
) -> BoundaryScore:
    """Start and end errors of every reference unit, by kind of unit.

    Units are matched by order within the utterance. Where labels differ (compared without case and
    punctuation) the alignment of the labels with the fewest edits decides which units are missing or
    extra; a unit under another label at the same place is matched.

    Args:
        hypotheses: By id.
        references: By id.
        speakers: By id of the references, where they are known.
        seed: Of the bootstrap.

    Raises:
        ManifestError: No utterance or no kind of unit in common.
    """
    found = match_ids(hypotheses, references.keys())
    common = [id for id in references if id in found]
    if not common:
        raise ManifestError(
            f"alignments: no id in common with the reference (for example {next(iter(found), '')!r} "
            f"and {next(iter(references), '')!r}); expected the same ids. Align the utterances of "
            "the reference."
        )
    asked = {kind for one in references.values() for kind in one.units}
    given = {kind for id in common for kind in found[id].units}
    if not asked & given:
        raise ManifestError(
            f"alignments: units {', '.join(sorted(given)) or 'none'}, and {', '.join(sorted(asked))} "
            "in the reference; expected one in common. Align with another --unit."
        )
    empty = Alignment(id="", duration=0.0)
    pairs = [(found.get(id, empty), reference) for id, reference in references.items()]
    edges = {kind: _edges(kind, pairs) for kind in sorted(asked & given)}
    names = [(speakers or {}).get(id, "") for id in references]
    return BoundaryScore(
        units={kind: _summary(one, names, seed) for kind, one in edges.items()},
        utterances=len(references),
        missing=[id for id in references if id not in found],
        extra=[id for id in found if id not in references],
        not_compared=sorted(asked ^ given),
        matches={kind: [m for row in one.matches for m in row] for kind, one in edges.items()},
    )


def _edges(kind: str, pairs: Sequence[tuple[Alignment, Alignment]]) -> _Edges:
    reference_rows = [spoken_segments(reference, kind) for _, reference in pairs]
    hypothesis_rows = [spoken_segments(hypothesis, kind) for hypothesis, _ in pairs]
    edges = _Edges()
    scored = score_units(
        [_labels(row) for row in reference_rows], [_labels(row) for row in hypothesis_rows]
    )
    for (hypothesis, reference), expected, found, one in zip(
        pairs, reference_rows, hypothesis_rows, scored, strict=True
    ):
        holder = reference if reference.audio else hypothesis
        edges.missing += one.counts.deletions
        edges.extra += one.counts.insertions
        edges.relabelled += one.counts.substitutions
        edges.matches.append(
            [
                Match(
                    reference.id,
                    holder.audio,
                    holder.start,
                    expected[chunk.reference_start + at],
                    found[chunk.hypothesis_start + at],
                    holder.channels,
                )
                for chunk in one.chunks
                if chunk.op in ("hit", "substitution")
                for at in range(chunk.reference_end - chunk.reference_start)
            ]
        )
    return edges


def _labels(segments: Sequence[Segment]) -> list[str]:
    """Labels to compare; one that is punctuation only stays as it is."""
    return [normalize(one.label, "basic") or one.label.strip() for one in segments]


def _summary(edges: _Edges, speakers: Sequence[str], seed: int) -> BoundaryRow:
    starts = np.asarray([m.start_ms for row in edges.matches for m in row], np.float64)
    ends = np.asarray([m.end_ms for row in edges.matches for m in row], np.float64)
    signed = np.concatenate([starts, ends])
    errors = np.abs(signed)
    by_utterance = np.asarray(
        [
            (sum(abs(m.start_ms) + abs(m.end_ms) for m in row), 2 * len(row))
            for row in edges.matches
        ],
        np.float64,
    )
    interval = bootstrap_rate(*by_utterance.T.tolist(), seed=seed)
    speaker_rows = sums_by_speaker(by_utterance, speakers)
    by_speaker = None
    if speaker_rows is not None:
        by_speaker = bootstrap_rate(*speaker_rows.T.tolist(), seed=seed)
    return {
        "boundaries": len(errors),
        "mean_ms": _mean(errors),
        "median_ms": float(np.median(errors)) if len(errors) else None,
        "within_ms": {str(limit): _mean(errors <= limit + ROUNDING_MS) for limit in THRESHOLDS_MS},
        "missing": edges.missing,
        "extra": edges.extra,
        "relabelled": edges.relabelled,
        "ci95_ms": None if interval is None else list(interval),
        "ci95_ms_speakers": None if by_speaker is None else list(by_speaker),
        "p95_ms": float(np.percentile(errors, 95)) if len(errors) else None,
        "start": {"mean_ms": _mean(np.abs(starts)), "bias_ms": _mean(starts)},
        "end": {"mean_ms": _mean(np.abs(ends)), "bias_ms": _mean(ends)},
        "ranges": _ranges([m for row in edges.matches for m in row]),
    }


def _ranges(matches: Sequence[Match]) -> RangesRow | None:
    """How many of the ranges hold the edge of the reference, by their width too."""
    rows = [
        (1000 * (pair[1] - pair[0]), pair[0] - _SLACK <= edge <= pair[1] + _SLACK)
        for one in matches
        for pair, edge in (
            (one.hypothesis.start_range, one.reference.start),
            (one.hypothesis.end_range, one.reference.end),
        )
        if pair is not None
    ]
    if not rows:
        return None
    widths, holding = np.asarray(sorted(rows), np.float64).T
    quarters = [part for part in np.array_split(np.arange(len(rows)), 4) if len(part)]
    return {
        "edges": len(rows),
        "median_ms": float(np.median(widths)),
        "holding": float(holding.mean()),
        "quarters": [
            {"median_ms": float(np.median(widths[part])), "holding": float(holding[part].mean())}
            for part in quarters
        ],
    }


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def write_boundary_report(score: BoundaryScore, folder: Path, *, command: str) -> None:
    """Writes ``alignment.json``: one entry per kind of unit and nothing beside them."""
    rows: dict[str, BoundaryReportRow] = {
        kind: {
            **row,
            "utterances": score.utterances,
            "missing_utterances": score.missing,
            "extra_utterances": score.extra,
            "command": command,
        }
        for kind, row in score.units.items()
    }
    text = json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "alignment.json", text + "\n", ours=True)
