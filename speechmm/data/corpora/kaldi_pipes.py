"""Tells which file a ``wav.scp`` entry decodes, without running it.

``sph2pipe -f wav a.sph |`` means the audio of ``a.sph``, which libsndfile reads by itself. So
does every command that only changes the format, the rate or averages the channels; anything else
is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath

_ARCHIVE = re.compile(r"\.ark:\d+(\[.*\])?$")
_STDIN = ("-", "pipe:0", "pipe:", "/dev/stdin")
_STDOUT = ("-", "pipe:1", "pipe:", "/dev/stdout")


class PipeError(ValueError):
    """An entry that cannot be read without running a command."""


def decoded_file(entry: str) -> str:
    """The one file whose audio a ``wav.scp`` entry is.

    Raises:
        PipeError: It is an archive, or a command that may change the audio.
    """
    entry = entry.strip()
    if _ARCHIVE.search(entry):
        raise PipeError(f"found a place in an archive, '{entry}'; expected an audio file")
    if not entry.endswith("|"):
        return entry.strip("\"'") if entry[:1] in ("'", '"') else entry
    source = ""
    for stage in _stages(entry):
        found = _input_of(stage, entry)
        if found in _STDIN and source:
            continue
        if found in _STDIN or source:
            raise _refusal(entry)
        source = found
    return source


def picked_channel(entry: str) -> int | None:
    """The channel, from 0 on, that ``sph2pipe -c 2`` or ``sox ... remix 2`` takes; None for all."""
    picked = re.search(r"sph2pipe\s[^|]*-c\s+(\d+)|sox\s[^|]*\sremix\s+(\d+)", entry)
    return None if picked is None else int(picked[1] or picked[2]) - 1


def _stages(entry: str) -> list[list[str]]:
    """The words of every command of a pipe."""
    lexer = shlex.shlex(entry.rstrip("| \t"), posix=True, punctuation_chars="|;&<>()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    stages: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word == "|":
                stages.append([])
            else:
                stages[-1].append(word)
    except ValueError as error:  # a quote that is not closed
        raise _refusal(entry) from error
    return stages


def _input_of(words: list[str], entry: str) -> str:
    """The file a command decodes, "-" for what comes through the pipe."""
    if not words or any(set(word) & set("|;&<>()$`*?") for word in words):
        raise _refusal(entry)
    readers = {
        "cat": lambda given: _only([word for word in given if word != "-u"], entry),
        "sph2pipe": lambda given: _read_sph2pipe(given, entry),
        "flac": lambda given: _read_flac(given, entry),
        "sox": lambda given: _read_sox(given, entry),
        "ffmpeg": lambda given: _read_ffmpeg(given, entry),
    }
    program = PurePath(words[0]).name
    if program not in readers:
        raise _refusal(entry)
    return readers[program](words[1:])


def _read_sph2pipe(words: list[str], entry: str) -> str:
    files = _without_options(words, entry, bare="-p", with_value={"-f": None, "-c": ("1", "2")})
    return _only(files, entry, or_two=True)


def _read_flac(words: list[str], entry: str) -> str:
    files = []
    for word in words:
        if word.startswith("--"):
            if word not in ("--decode", "--stdout", "--silent", "--totally-silent"):
                raise _refusal(entry)
        elif word.startswith("-") and word != "-":
            if set(word[1:]) - set("cdsF"):
                raise _refusal(entry)
        else:
            files.append(word)
    return _only(files, entry)


def _read_sox(words: list[str], entry: str) -> str:
    """``sox [options] IN [options] OUT``, and one channel with "remix" at most."""
    values = {**dict.fromkeys(("-t", "-r", "--rate", "-b", "-e")), "-c": ("1",)}
    bare = "-G -D -R -S -q -V -V0 -V1 -V2 -V3 -s --no-dither"
    files = _without_options(words, entry, bare=bare, with_value=values)
    if len(files) > 2 and files[2:] == ["rate", *files[3:4]]:  # resampling, which we do anyway
        files = files[:2]
    if len(files) == 4 and files[2] == "remix" and re.fullmatch("[1-9]", files[3]):
        files = files[:2]  # `picked_channel` tells which
    return _only(files, entry, or_two=True)


def _read_ffmpeg(words: list[str], entry: str) -> str:
    values = {
        **dict.fromkeys(
            ("-f", "-ar", "-acodec", "-c:a", "-codec:a", "-loglevel", "-v", "-threads")
        ),
        "-ac": ("1",),
        "-i": None,
    }
    bare = "-y -nostdin -hide_banner -vn -bitexact"
    inputs = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "-i"]
    if _without_options(words, entry, bare=bare, with_value=values) not in (
        [name] for name in _STDOUT
    ):
        raise _refusal(entry)
    return _only(inputs, entry)


def _without_options(
    words: list[str],
    entry: str,
    *,
    bare: str,
    with_value: dict[str, tuple[str, ...] | None],
) -> list[str]:
    """The words that are not harmless options; a value may be limited to some."""
    files = []
    rest = iter(words)
    for word in rest:
        if word in with_value:
            value = next(rest, "")
            allowed = with_value[word]
            if allowed is not None and value not in allowed:
                raise _refusal(entry)
        elif word.startswith("-") and word != "-":
            if word not in bare.split():
                raise _refusal(entry)
        else:
            files.append(word)
    return files


def _only(files: Iterable[str], entry: str, *, or_two: bool = False) -> str:
    """The only input; ``or_two`` allows an output after it, which must be the pipe."""
    names = list(files)
    if or_two and len(names) == 2 and names[1] in _STDOUT:
        names = names[:1]
    if len(names) != 1:
        raise _refusal(entry)
    return names[0]


def _refusal(entry: str) -> PipeError:
    return PipeError(
        f"found the command '{entry[:200]}'; expected a file, cat, sph2pipe, flac, sox or ffmpeg "
        "that only decodes one file (commands are never run). Decode it to a file first"
    )
