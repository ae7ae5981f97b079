"""RESULTS.md of a recipe: one section per result, written by the tool and replaced on a rerun."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

from speechmm.writing import write_text

HEADER = "# Results\n\nWritten by `speechmm score` and `speechmm score-alignment`; do not edit.\n"


def write_results(path: Path, title: str, lines: list[str]) -> None:
    """Writes or replaces the section ``title``; other sections stay."""
    begin, end = f"<!-- begin {title} -->", f"<!-- end {title} -->"
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    section = "\n".join([begin, f"## {title}", "", *lines, f"- date: {today}", end])
    text = path.read_text(encoding="utf-8") if path.is_file() else HEADER
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(text):
        text = pattern.sub(lambda _: section, text)
    else:
        text = text.rstrip("\n") + "\n\n" + section + "\n"
    write_text(path, text)


def wer_lines(report: dict[str, Any]) -> list[str]:
    """The section of a WER report."""
    wer, cer = report["wer"], report["cer"]
    errors = wer["substitutions"] + wer["deletions"] + wer["insertions"]
    low, high = wer["ci95"]
    return [
        f"- WER: **{100 * wer['value']:.2f} %** ({errors} errors in "
        f"{wer['reference_words']} words: {wer['substitutions']} S, "
        f"{wer['deletions']} D, {wer['insertions']} I), "
        f"95 % interval {100 * low:.2f} to {100 * high:.2f} %",
        f"- CER: {100 * cer['value']:.2f} %; utterances: {report['utterances']}",
        f"- normalizer: {report['normalizer']}",
        f"- commit: {report['git_commit'] or 'not known'}",
        f"- command: `{report['transcribe_command'] or 'not known'}`; `{report['command']}`",
    ]
