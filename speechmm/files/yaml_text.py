"""Looks into files of settings before their parser does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechmm.errors import SpeechmmError
from speechmm.files.text import read_text


def peek_settings(path: Path | str) -> dict[str, Any]:
    """The named values of a YAML file; none where it cannot be read, which its parser will say."""
    import yaml

    try:
        found = yaml.safe_load(read_text(Path(path)))
    except (SpeechmmError, ValueError, TypeError, LookupError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
