"""RESULTS.md of a recipe: one section per result, written by the tool and replaced on a rerun."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechmm.errors import ConfigError
from speechmm.files.atomic import write_text

HEADER = "# Results\n\nWritten by `speechmm score` and `speechmm score-alignment`; do not edit.\n"


def write_results(path: Path, title: str, lines: Sequence[str]) -> None:
    """Writes or replaces the section ``title``; the others, and what stands between, stay.

    A section that would say the same again keeps its date.

    Raises:
        ConfigError: The title cannot mark a section, or the file is not text.
    """
    if not title.strip() or "--" in title or "\n" in title:
        raise ConfigError(
            f'--title: found {title!r}; expected a line of words without "--". Choose another.'
        )
    begin, end = f"<!-- begin {title} -->", f"<!-- end {title} -->"
    text = _read(path)
    pattern = re.compile(re.escape(begin) + r"\n(.*?)\n" + re.escape(end), re.DOTALL)
    content = "\n".join([f"## {title}", "", *lines])
    before = pattern.search(text)
    if before and re.sub(r"\n- date: [\d-]+$", "", before[1]) == content:
        return
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    section = f"{begin}\n{content}\n- date: {today}\n{end}"
    if before:
        text = text[: before.start()] + section + text[before.end() :]
    else:
        text = text.rstrip("\n") + "\n\n" + section + "\n"
    write_text(path, text)


def _read(path: Path) -> str:
    if not path.exists():
        return HEADER
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); expected a Markdown file or none. "
            "Choose another path."
        ) from error


def wer_lines(report: dict[str, Any]) -> list[str]:
    """The section of a WER report."""
    wer, cer, ser = report["wer"], report["cer"], report["ser"]
    errors = wer["substitutions"] + wer["deletions"] + wer["insertions"]
    lines = [
        f"- WER: **{100 * wer['value']:.2f} %**, 95 % interval {_interval(wer['ci95'])} %: "
        f"{errors} errors in {wer['reference_words']} words ({wer['substitutions']} substitutions, "
        f"{wer['deletions']} deletions, {wer['insertions']} insertions)",
        f"- CER: {100 * cer['value']:.2f} %, 95 % interval {_interval(cer['ci95'])} %",
        f"- utterances: {report['utterances']}, {ser['wrong']} with an error"
        + (f"; {report['speakers']} speakers" if report["speakers"] else ""),
        f"- normalizer: {report['normalizer']}",
    ]
    if report["missing_hypotheses"] or report["extra_hypotheses"]:
        lines.append(
            f"- without a hypothesis (all words deleted): {len(report['missing_hypotheses'])}; "
            f"without a reference (not counted): {len(report['extra_hypotheses'])}"
        )
    if "comparison" in report:
        other = report["comparison"]
        lines.append(
            f"- against {other['against']['hypothesis']} "
            f"({100 * other['against']['wer']['value']:.2f} %): "
            f"{100 * other['wer_difference']:+.2f} points, 95 % interval "
            f"{_interval(other['ci95'])}, p = {other['p_value']:.4f} ({other['test']})"
        )
    if report["rtf"] is not None:
        lines.append(f"- real-time factor: {report['rtf']:.4f}")
    if report["checkpoint_sha256"]:
        lines.append(f"- model: `{report['model']}`, sha256 `{report['checkpoint_sha256']}`")
    if report["transcribe_command"]:
        lines.append(f"- transcribed with: `{report['transcribe_command']}`")
    return [
        *lines,
        f"- command: `{report['command']}`",
        f"- commit: {report['git_commit'] or 'not known'}",
    ]


def _interval(ends: Sequence[float] | None) -> str:
    return "not known" if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"
