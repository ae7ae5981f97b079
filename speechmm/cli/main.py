"""Runs the ``speechmm`` program: finds the command, and turns failures into exit codes."""

import difflib
import importlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from speechmm import __version__
from speechmm.cli.streams import standard_streams, terminated_as_exit
from speechmm.errors import ConfigError, SpeechmmError
from speechmm.files.pipes import forget_pipes
from speechmm.files.protection import forget_inputs

EXIT_OK = 0
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
_NO_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)
_LESS_MEMORY = "Give less at once (--batch-seconds, data.batch_seconds), or use a larger machine."


class Command(NamedTuple):
    """Where a command lives and what it does in one line."""

    module: str
    summary: str


COMMANDS = {
    "prepare": Command("prepare", "turn a corpus into manifests: train, dev and test"),
    "features": Command("features", "store log-mel features and their statistics (optional)"),
    "tokenizer": Command("tokenizer", "train a text tokenizer: char, bpe, unigram or phone"),
    "ngram": Command("ngram", "estimate a word n-gram language model, for transcribe --lm"),
    "fit": Command("train", "train a model; ends by writing a bundle"),
    "validate": Command("train", "measure a checkpoint on the dev split"),
    "test": Command("train", "measure a checkpoint on the test split"),
    "transcribe": Command(
        "transcribe", "speech recognition: audio to text, subtitles or time-marked words"
    ),
    "align": Command(
        "align", "forced alignment: when each word and character of a given text was said"
    ),
    "synthesize": Command("synthesize", "text to speech, with the times of words and tokens"),
    "pseudo-label": Command(
        "pseudo_label", "transcripts of unlabelled audio that are fit to train on"
    ),
    "score": Command("score", "word error rate report: numbers, HTML, trn files"),
    "score-alignment": Command("score_alignment", "boundary errors of alignments in milliseconds"),
    "calibrate": Command("calibrate", "calibrate word confidences on a set with texts"),
    "export": Command("export", "write a bundle as ONNX graphs (extra onnx)"),
    "import": Command("import_encoder", "name the pretrained encoder that a folder holds"),
    "compare": Command("compare", "several reports in one table, with significance"),
    "check-alignment": Command(
        "check_alignment", "judge an alignment by recognition, without a reference"
    ),
    "check-flags": Command("check_flags", "how well align detects transcripts that are wrong"),
    "info": Command("info", "what a bundle, an audio file or a manifest holds"),
}
TRAINING_COMMANDS = ("fit", "validate", "test")  # LightningCLI reads the command's name itself

EPILOG = """\
Run "speechmm COMMAND --help" for the arguments of one command.

exit codes:
  0  all went well
  2  a mistake in what was given: one line on stderr says what and what to do
  3  finished, but some inputs were skipped, or alignments flagged: each is named on stderr
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the program's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    where = f"speechmm {name}" if name in COMMANDS else "speechmm"
    with standard_streams(), terminated_as_exit():
        try:
            return _run(where, name, arguments[1:])
        finally:
            forget_inputs()
            forget_pipes()


def _run(where: str, name: str, arguments: list[str]) -> int:  # noqa: PLR0911 (an end each)
    """The exit code of one command, whatever happens to it."""
    try:
        code = _dispatch(name, arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help and --version of a command end this way
        return stop.code if isinstance(stop.code, int) else EXIT_OK
    except SpeechmmError as error:
        return _refuse(where, str(error))
    except BrokenPipeError:
        # The reader of our output left: keep Python from complaining again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        return _refuse(where, _describe(error))
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
            raise
        return _refuse(where, f"out of memory ({error or 'MemoryError'}). {_LESS_MEMORY}")
    except KeyboardInterrupt:
        print(f"{where}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def transcribe_main(argv: Sequence[str] | None = None) -> int:
    """The ``transcribe`` program: ``speechmm transcribe`` under its own name."""
    return main(["transcribe", *(sys.argv[1:] if argv is None else argv)])


def _dispatch(name: str, arguments: list[str]) -> int:
    if name in ("-h", "--help"):
        print(_overview())
        return EXIT_OK
    if name == "--version":
        print(f"speechmm {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        raise ConfigError(_unknown(name))
    if name in TRAINING_COMMANDS:
        arguments = [name, *arguments]
    _configure_logging()
    command = importlib.import_module(f"speechmm.cli.{COMMANDS[name].module}")
    code: int = command.run(arguments)
    return code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: speechmm [--help] [--version] COMMAND [ARGUMENT ...]",
            "",
            "One small model that recognises speech and says when each word was said.",
            "",
            "commands:",
            *lines,
            "",
            EPILOG.rstrip(),
        ]
    )


def _unknown(name: str) -> str:
    choices = ", ".join(COMMANDS)
    if not name:
        return f"no command was given; expected one of {choices}. Run 'speechmm --help'."
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else "Run 'speechmm --help'."
    return f"'{name}' is not a command; expected one of {choices}. {hint}"


def _configure_logging() -> None:
    """Our own messages from INFO, everybody else's from WARNING, all on stderr."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("speechmm").setLevel(logging.INFO)


def _describe(error: OSError) -> str:
    """What the system refused and where, with what to look at."""
    reason = error.strerror or str(error) or type(error).__name__
    place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{place}{reason}. Check that the path exists, may be written and has space; then rerun."


def _refuse(where: str, message: str) -> int:
    print(f"{where}: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_MISTAKE
