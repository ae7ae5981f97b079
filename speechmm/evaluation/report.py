"""One set of transcripts scored against references: numbers, page, trn files."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechmm.errors import ManifestError
from speechmm.evaluation.error_rate import ErrorCounts, UtteranceErrors, score_texts, total_counts
from speechmm.evaluation.significance import bootstrap_rate, compare_systems
from speechmm.evaluation.transcripts import Text, Texts, read_texts, write_trn
from speechmm.text.normalize import normalize
from speechmm.writing import write_text

CLIPS = 10  # worst utterances whose audio goes into the page
CLIP_RATE = 16000  # Hz
CLIP_SECONDS = 20.0
META_KEYS = ("model", "checkpoint_sha256", "decoding", "git_commit", "seed", "rtf")


@dataclass
class Scored:
    """All utterances of one system, scored."""

    ids: list[str]
    references: list[str]
    hypotheses: list[str]
    sources: list[Text]
    words: list[UtteranceErrors]
    characters: list[UtteranceErrors]
    missing: list[str]
    """Ids without a hypothesis: all their words count as deleted."""
    extra: list[str]
    """Ids without a reference: not counted."""


def score_files(hypothesis: Path, reference: Path, normalizer: str) -> Scored:
    """Matches the two files by id (plain lines by order), normalises and scores.

    Raises:
        ManifestError: they have no utterance in common, or plain lines differ in number.
    """
    hyp, ref = read_texts(hypothesis), read_texts(reference)
    if hyp.ordered or ref.ordered:
        hyp = _by_order(hyp, ref, hypothesis, reference)
    missing = [id for id in ref.by_id if id not in hyp.by_id]
    extra = [id for id in hyp.by_id if id not in ref.by_id]
    if len(missing) == len(ref.by_id):
        raise ManifestError(
            f"{hypothesis}: no id in common with {reference} (for example "
            f"{next(iter(hyp.by_id))!r} and {next(iter(ref.by_id))!r}); expected the same ids. "
            "Score the transcripts of these references."
        )
    ids = list(ref.by_id)
    references = [normalize(ref.by_id[id].text, normalizer) for id in ids]
    found = [hyp.by_id.get(id, Text("")) for id in ids]
    hypotheses = [normalize(text.text, normalizer) for text in found]
    sources = [_richer(ref.by_id[id], text) for id, text in zip(ids, found, strict=True)]
    return Scored(
        ids,
        references,
        hypotheses,
        sources,
        score_texts(references, hypotheses),
        score_texts(references, hypotheses, unit="character"),
        missing,
        extra,
    )


def _by_order(hyp: Texts, ref: Texts, hypothesis: Path, reference: Path) -> Texts:
    if len(hyp.by_id) != len(ref.by_id):
        raise ManifestError(
            f"{hypothesis}: {len(hyp.by_id)} lines, but {reference} has {len(ref.by_id)}; plain "
            "lines are matched by order and must be as many. Use a format with ids."
        )
    return Texts(dict(zip(ref.by_id, hyp.by_id.values(), strict=True)), False)


def _richer(reference: Text, hypothesis: Text) -> Text:
    """Speaker from the reference, audio from whichever file knows it."""
    source = reference if reference.audio else hypothesis
    return Text(
        reference.text,
        reference.speaker,
        source.audio,
        source.start,
        source.duration,
        hypothesis.confidence,
    )


def make_report(
    scored: Scored, *, normalizer: str, command: str, meta: dict[str, Any]
) -> dict[str, Any]:
    """The contents of ``report.json``."""
    wrong = [int(one.counts.errors > 0) for one in scored.words]
    meta_part = {key: meta.get(key) for key in META_KEYS}
    return {
        "wer": _rate(scored.words),
        "cer": _rate(scored.characters),
        "ser": {
            "value": sum(wrong) / len(wrong),
            "wrong": sum(wrong),
            "utterances": len(wrong),
            "ci95": list(bootstrap_rate(wrong, [1] * len(wrong))),
        },
        "normalizer": normalizer,
        "utterances": len(scored.ids),
        "missing_hypotheses": scored.missing,
        "extra_hypotheses": scored.extra,
        "by_speaker": _by_speaker(scored),
        "confusions": _confusions(scored.words),
        "command": command,
        "transcribe_command": meta.get("command"),
        **meta_part,
    }


def _rate(scored: list[UtteranceErrors]) -> dict[str, Any]:
    counts = total_counts(scored)
    interval = bootstrap_rate(
        [one.counts.errors for one in scored], [one.counts.reference_words for one in scored]
    )
    return {**_counts(counts), "ci95": list(interval)}


def _counts(counts: ErrorCounts) -> dict[str, Any]:
    return {
        "value": counts.rate,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "hits": counts.hits,
        "reference_words": counts.reference_words,
    }


def _by_speaker(scored: Scored) -> dict[str, Any]:
    groups: dict[str, list[UtteranceErrors]] = {}
    for source, one in zip(scored.sources, scored.words, strict=True):
        if source.speaker:
            groups.setdefault(source.speaker, []).append(one)
    return {
        speaker: {**_counts(total_counts(rows)), "utterances": len(rows)}
        for speaker, rows in sorted(groups.items())
    }


def _confusions(scored: list[UtteranceErrors]) -> list[dict[str, Any]]:
    pairs = Counter(
        (pair.op, pair.reference, pair.hypothesis)
        for one in scored
        for pair in one.alignment
        if pair.op != "hit"
    )
    return [
        {"type": op, "reference": said, "hypothesis": heard, "count": count}
        for (op, said, heard), count in sorted(pairs.items(), key=lambda row: (-row[1], row[0]))
    ]


def add_comparison(report: dict[str, Any], first: Scored, second: Scored) -> None:
    """Adds the matched-pair comparison with a second system.

    Raises:
        ManifestError: the two were not scored on the same references.
    """
    if first.ids != second.ids or first.references != second.references:
        raise ManifestError(
            "--against: the second transcripts have other references; expected the same ones. "
            "Score both against one reference."
        )
    result = compare_systems(
        [one.counts.errors for one in first.words],
        [one.counts.errors for one in second.words],
        [one.counts.reference_words for one in first.words],
    )
    report["comparison"] = {
        "test": result.test,
        "p_value": result.p_value,
        "wer_difference": result.wer_difference,
        "ci95": list(result.ci95),
        "against": _rate(second.words),
    }


def write_report(report: dict[str, Any], scored: Scored, folder: Path) -> None:
    """Writes report.json, report.html, ref.trn and hyp.trn."""
    write_trn(dict(zip(scored.ids, scored.references, strict=True)), folder / "ref.trn")
    write_trn(dict(zip(scored.ids, scored.hypotheses, strict=True)), folder / "hyp.trn")
    write_text(folder / "report.html", render_page(report, scored))
    text = json.dumps(report, ensure_ascii=False, indent=1)
    write_text(folder / "report.json", text + "\n")


def render_page(report: dict[str, Any], scored: Scored) -> str:
    """The self-contained page; everything in it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    worst = sorted(range(len(scored.ids)), key=lambda i: -scored.words[i].counts.errors)
    clips = {i: _clip(scored.sources[i]) for i in worst[:CLIPS] if scored.words[i].counts.errors}
    rows = [
        {
            "id": scored.ids[i],
            "speaker": scored.sources[i].speaker,
            "errors": scored.words[i].counts.errors,
            "words": scored.words[i].counts.reference_words,
            "confidence": scored.sources[i].confidence,
            "pairs": scored.words[i].alignment,
            "audio": clips.get(i, ""),
        }
        for i in worst
    ]
    environment = Environment(
        loader=PackageLoader("speechmm.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(report=report, rows=rows)


def _clip(source: Text) -> str:
    """The audio of an utterance as a data URL of FLAC; "" where it cannot be read."""
    import soundfile

    from speechmm.audio.io import read_audio
    from speechmm.errors import AudioError

    if not source.audio or source.duration > CLIP_SECONDS:
        return ""
    try:
        waveform = read_audio(
            source.audio,
            sample_rate=CLIP_RATE,
            start=source.start,
            duration=source.duration or None,
        )
    except AudioError:
        return ""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.numpy(), CLIP_RATE, format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
