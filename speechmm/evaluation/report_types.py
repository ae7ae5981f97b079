"""Types what ``report.json`` and ``alignment.json`` hold, key by key, in the order they are written.

Rates are fractions, an interval is [low, high] at 95 %, None where nothing can be resampled. Reports
of earlier versions may lack keys that were added since: only what `load_report` checks is sure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict, cast

from speechmm.errors import ManifestError
from speechmm.files.json_text import fits, read_json
from speechmm.files.provenance import Efficiency

Interval = list[float] | None


class CountsRow(TypedDict):
    """Errors in units; of characters "reference_words" counts characters."""

    value: float
    substitutions: int
    deletions: int
    insertions: int
    hits: int
    reference_words: int


class RateRow(CountsRow):
    """Errors and their interval, utterances resampled."""

    ci95: Interval


class WerRow(RateRow):
    """Errors over everything."""

    ci95_speakers: Interval
    """Speakers resampled; None with few of them."""


class SerRow(TypedDict):
    """Utterances with an error."""

    value: float
    wrong: int
    utterances: int
    ci95: Interval
    ci95_speakers: Interval


class GroupRow(CountsRow):
    """Errors of a group of utterances."""

    utterances: int


class SpeakerRow(GroupRow):
    """Errors of one speaker, or in one language."""

    ci95: Interval


class _LengthRange(TypedDict):
    words_from: int
    words_to: int | None


class LengthRow(_LengthRange, GroupRow):
    """Errors by words of the reference, both ends included."""


class _DurationRange(TypedDict):
    seconds_from: float
    seconds_to: float | None


class DurationRow(_DurationRange, GroupRow):
    """Errors by seconds of audio."""


class _ConfidenceRange(TypedDict):
    confidence_from: float
    confidence_to: float


class ConfidenceRow(_ConfidenceRange, GroupRow):
    """Errors by confidence of the utterance."""


PositionRow = TypedDict(
    "PositionRow",
    {
        "from": float,
        "to": float,
        "reference_words": int,
        "substitutions": int,
        "deletions": int,
        "insertions": int,
    },
)
"""Errors in a part of the utterance, from 0 (its start) to 1."""


class ConfusionRow(TypedDict):
    """How often one unit was taken for another, left out or put in."""

    type: str
    """substitution, deletion or insertion."""
    reference: str
    hypothesis: str
    count: int


class BinRow(TypedDict):
    """Words of about the same confidence."""

    low: float
    high: float
    words: int
    confidence: float
    correct: float


class WordConfidence(TypedDict):
    """How far the confidences of words are from the share of right ones."""

    words: int
    correct: int
    expected_calibration_error: float
    equal_mass_error: float
    """The same with bins of equally many words."""
    slope: float
    """Of the log-odds of being right over those of the confidence; below 1 for overconfidence."""
    intercept: float
    bins: list[BinRow]


class WordCount(TypedDict):
    """A word and how often it occurs."""

    word: str
    count: int


class OutOfVocabulary(TypedDict):
    """How words fare that the training texts do not have."""

    vocabulary: int
    share: float
    reference_words: int
    wrong: int
    known_reference_words: int
    known_wrong: int
    most_frequent: list[WordCount]


class OtherRate(TypedDict):
    """The word error rate with another normalizer."""

    wer: float
    utterances: int


class Bootstrap(TypedDict):
    """How intervals were made."""

    draws: int
    seed: int
    resampled: str


class OtherSystem(TypedDict):
    """The system a report compares with."""

    hypothesis: str
    missing_hypotheses: list[str]
    wer: RateRow


class ComparisonRow(TypedDict):
    """This system against another on the same references."""

    test: str
    p_value: float
    wer_difference: float
    ci95: Interval
    ci95_speakers: Interval
    segments: int
    probability_better: float
    against: OtherSystem


class TranslationScore(TypedDict):
    """BLEU or chrF, 0 to 100."""

    score: float
    ci95: Interval
    ci95_speakers: Interval
    signature: str
    """Of sacrebleu: how it was counted."""


class TranslationDifference(TypedDict):
    """The score of another system, and how far this one is above it."""

    score: float
    difference: float
    ci95: Interval
    """Of the difference, paired bootstrap."""
    probability_better: float


class TranslationComparison(TypedDict):
    """This system against another on the same references."""

    bleu: TranslationDifference
    chrf: TranslationDifference


class TranslationReport(TypedDict):
    """How good translations are."""

    bleu: TranslationScore
    chrf: TranslationScore


class _Measured(TypedDict):
    wer: WerRow
    cer: WerRow
    ser: SerRow
    normalizer: str
    respelled_words: int
    """Right words that differ from the reference in what scores leave out (ß and ss, ς and σ, ...)."""
    unscored_words: int
    """Words of hypotheses left out: an stm says of their times that nothing is scored."""
    untimed_hypotheses: list[str]
    """Ids with such times whose hypotheses have no times of words: they are counted whole."""
    unspaced_share: float
    """Share of the references' letters that belong to scripts without spaces between words."""
    utterances: int
    speakers: int
    matched_by: str
    """id or order."""
    missing_hypotheses: list[str]
    extra_hypotheses: list[str]
    utterance_speakers: dict[str, str]
    """By id, where they are known."""
    by_speaker: dict[str, SpeakerRow]
    by_language: dict[str, SpeakerRow]
    """By the codes of the languages of the references, where they are known."""
    by_length: list[LengthRow]
    by_duration: list[DurationRow]
    by_position: list[PositionRow]
    by_confidence: list[ConfidenceRow]
    confidence: WordConfidence | None
    confusions: list[ConfusionRow]
    character_confusions: list[ConfusionRow]
    model: str | None
    checkpoint_sha256: str | None
    decoding: dict[str, Any] | None
    git_commit: str | None
    seed: int | None
    rtf: float | None
    efficiency: Efficiency | None
    command: str
    transcribe_command: str | None
    audio_seconds: float | None
    bootstrap: Bootstrap


class Report(_Measured, total=False):
    """What ``report.json`` holds; the keys of this class are there when they were asked for."""

    other_normalizers: dict[str, OtherRate]
    out_of_vocabulary: OutOfVocabulary
    comparison: ComparisonRow
    translation: TranslationReport
    translation_comparison: TranslationComparison


class EdgeRow(TypedDict):
    """Errors of starts, or of ends, in milliseconds."""

    mean_ms: float | None
    bias_ms: float | None


class RangeQuarterRow(TypedDict):
    """A quarter of the ranges of edges, of about the same width."""

    median_ms: float
    holding: float


class RangesRow(TypedDict):
    """The ranges of edges: how many hold the edge of the reference, and how wide they are."""

    edges: int
    median_ms: float
    holding: float
    """Share; of well calibrated ranges 0.8."""
    quarters: list[RangeQuarterRow]
    """From the narrowest to the widest."""


class BoundaryRow(TypedDict):
    """Boundary errors of one kind of unit; None where no unit was matched."""

    boundaries: int
    mean_ms: float | None
    median_ms: float | None
    within_ms: dict[str, float | None]
    missing: int
    extra: int
    relabelled: int
    ci95_ms: Interval
    ci95_ms_speakers: Interval
    """Speakers resampled; None where they are not known or few."""
    p95_ms: float | None
    start: EdgeRow
    end: EdgeRow
    ranges: RangesRow | None
    """None where the alignments have none."""


class BoundaryReportRow(BoundaryRow):
    """What ``alignment.json`` holds for one kind of unit."""

    utterances: int
    missing_utterances: list[str]
    extra_utterances: list[str]
    command: str


def load_report(path: Path) -> Report:
    """Reads a ``report.json``, those of earlier versions too.

    Raises:
        ManifestError: It is missing, or holds no rates.
    """
    found = read_json(
        path, expected="a report of speechmm score --out", advice="Give the folder of a report."
    )
    rates = (found.get("wer"), found.get("cer"))
    intervals = [rate.get("ci95") for rate in rates if isinstance(rate, dict)]
    if not (
        fits(found, _SHAPE)
        and fits(found.get("rtf"), (float, None))
        and all(fits(one, ([float], None)) and len(one or "ab") == 2 for one in intervals)
    ):
        raise ManifestError(
            f"{path}: no report (no numbers under wer, cer and normalizer); expected what speechmm "
            "score --out writes. Give its folder."
        )
    for name in ("wer", "cer"):
        found[name].setdefault("ci95", None)
    return cast(Report, found)


_SHAPE = {
    "wer": {
        "value": float,
        "substitutions": int,
        "deletions": int,
        "insertions": int,
        "reference_words": int,
    },
    "cer": {"value": float},
    "normalizer": str,
}
