"""Runs ``speechmm fit`` (and ``validate``, ``test``): Lightning's command line over our settings."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import signal
import sys
import threading
import time
import warnings
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from speechmm.cli.streams import EXIT_TERMINATED
from speechmm.data.loader_server import start_if_likely
from speechmm.data.skips import SkipReport
from speechmm.errors import ConfigError, SpeechmmError

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from speechmm.training.command import TrainingCLI
    from speechmm.training.run_folder import Finished

_UNKNOWN_KEY = re.compile(
    r"Group '([^']+)' does not accept option '([^']+)'|Option '([^']+)' is not accepted"
)
_LOST_PROCESS = re.compile(
    r"DataLoader worker \(pid[^)]*\)[^.]*(?:killed by signal: \w+|exited unexpectedly)[^.]*"
    r"|Connection (?:closed|reset) by peer|[Cc]onnection was likely closed|Broken pipe"
    r"|Socket closed|remote process exited"
)
_NO_CONFIG = re.compile(r"Problems parsing config|Unexpected config")

OVERVIEW = """\
usage: speechmm {name} --config FILE [--any.key VALUE ...]

Trains ("fit") a joint model, or with "kind: lm" in its config a language model for shallow
fusion, or measures a checkpoint ("validate", "test").
The run folder is trainer.default_root_dir; "fit" ends by writing its "bundle".

  --config FILE           settings (YAML); may be given several times, the later wins
  --any.key VALUE         replaces one setting, for example --trainer.max_epochs 20
  --ckpt_path last        goes on from the last checkpoint of the run folder; with none, or after
                          a change of settings or data, from the start. A finished run with
                          unchanged settings and data is left alone
  --ckpt_path FILE        goes on from this checkpoint, with other settings too
  --init_from BUNDLE      starts from the weights of a bundle, with its dimensions and features
  --init_from universal   starts where the universal aligner has the words (docs/alignment.md)
  --model.pretrained DIR  puts the heads on an encoder of others: Whisper, wav2vec 2.0, ... (both:
                          docs/fine-tuning.md)
  --print_config          prints every setting with its value and ends
  --help_all              every setting with its meaning, unit and default (takes a few seconds)
  --version               prints the version

main settings (defaults and units: --help_all):
  data.train, data.dev    cuts manifests          data.tokenizer   tokenizer file
  data.batch_seconds      audio per batch (s)     data.speeds      speed factors
  model.network.*         dimensions              model.tasks.*         tasks and weights
  model.augmentation.*    SpecAugment, noise, ... model.optimization.*  learning rate, averaging
  trainer.max_epochs      length of the training  patience         epochs without gain before a stop
  trainer.*               everything of Lightning's Trainer: devices, strategy, precision, ...

exit codes: 0 trained; 2 a mistake in settings or data; 3 trained, some utterances left out (named)
"""


def run(argv: list[str]) -> int:
    """Runs one of Lightning's subcommands; ``argv[0]`` is its name."""
    name, rest = argv[0], argv[1:]
    if any(flag in rest for flag in ("-h", "--help")):
        print(OVERVIEW.format(name=name), end="")
        return 0
    if "--version" in rest:
        from speechmm import __version__

        print(f"speechmm {__version__}")
        return 0
    return _run_lightning([name, *("--help" if flag == "--help_all" else flag for flag in rest)])


def _run_lightning(arguments: list[str]) -> int:
    _filter_warnings()
    if arguments[0] == "fit":
        start_if_likely()
    from speechmm.training.command import TrainingCLI

    files = [file for flag, file in pairwise(arguments) if flag == "--config"]
    files += [flag.partition("=")[2] for flag in arguments if flag.startswith("--config=")]
    refuse = partial(_refuse, where=", ".join(files) or "--config")
    command = shlex.join(["speechmm", *arguments])
    kind = _kind(arguments, files)
    _end_with_parent()
    cli = TrainingCLI(arguments, kind=kind, command=command, refuse=refuse)
    try:
        return _run(cli)
    finally:
        cli.release_lock()


def _run(cli: TrainingCLI) -> int:
    if cli.name != "fit":
        _run_trainer(cli)
    else:
        finished = _fit(cli)
        if finished is not None:
            return _report(finished.skipped, finished.utterances)
    if not cli.trainer.is_global_zero:  # the first process speaks for all of them
        return 0
    return _report(cli.datamodule.skipped, cli.datamodule.num_utterances)


def _fit(cli: TrainingCLI) -> Finished | None:
    """Trains, unless the run folder holds the result already, which is then returned."""
    finished = cli.run_folder.finished()
    if finished is not None:
        print(
            f"{cli.run_folder.path}: trained already with these settings and data", file=sys.stderr
        )
        return finished
    _run_trainer(cli)
    if cli.trainer.is_global_zero:
        cli.run_folder.finish(cli.datamodule.skipped, cli.datamodule.num_utterances)
    return None


def _kind(arguments: list[str], files: list[str]) -> str:
    """What is to be trained, which decides what settings there are; the later word wins.

    Whatever is wrong with it, or with a file, is said by the parser.
    """
    from speechmm.files.yaml_text import peek_settings
    from speechmm.training.command import KINDS

    found = ["joint"]
    for file in files:
        settings = peek_settings(file)
        found += [str(settings["kind"])] if "kind" in settings else []
    found += [value for flag, value in pairwise(arguments) if flag == "--kind"]
    found += [flag.partition("=")[2] for flag in arguments if flag.startswith("--kind=")]
    return next(kind for kind in reversed(found) if kind in KINDS)


def _run_trainer(cli: TrainingCLI) -> None:
    """Trains or measures; Lightning's way of ending after Ctrl-C becomes Python's again."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning ends after the step
    try:
        cli.fit() if cli.name == "fit" else cli.evaluate(cli.name)
    except SystemExit:
        if not (cli.trainer.interrupted or cli.trainer.received_sigterm):
            raise
    except SpeechmmError as error:  # of a process that reads audio: torch adds its traceback
        kind = type(error)
        raise kind(str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2]) from error
    except RuntimeError as error:
        _name_lost_process(cli, error)
        raise
    if cli.trainer.received_sigterm:
        raise SystemExit(EXIT_TERMINATED)
    if cli.trainer.interrupted:
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt


def _name_lost_process(cli: TrainingCLI, error: RuntimeError) -> None:
    """Raises one line for a process that was ended from outside, mostly for want of memory."""
    from speechmm.training.checkpoints import last_in_full

    found = _LOST_PROCESS.search(str(error))
    if found:
        raise ConfigError(
            f"{cli.trainer.default_root_dir}: a process of this training has ended ({found[0]}); "
            "expected it to live, which it does not where memory runs out. Lower data.num_workers or "
            "data.cache_gb; --ckpt_path last goes on. With less data.batch_seconds --ckpt_path "
            f"{last_in_full(cli.trainer.default_root_dir)} does."
        ) from error


def _end_with_parent() -> None:
    """Ends a process that Lightning started as soon as the one that started it is gone."""
    started_by_lightning = os.environ.get("LOCAL_RANK", "0") != "0"
    if not started_by_lightning or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(EXIT_TERMINATED)

    threading.Thread(target=watch, daemon=True).start()


def _refuse(parser: ArgumentParser, message: str, cause: Exception, *, where: str) -> NoReturn:
    """Raises what the parser complains of; ``where`` names the config files."""
    from speechmm.cli.arguments import refuse

    unknown = _UNKNOWN_KEY.match(message)
    if unknown:
        key = ".".join(part for part in unknown.groups() if part)
        known = (action.dest for action in parser._actions)
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "--help_all lists all"
        message = f"{key}: there is no such setting ({hint})"
    elif isinstance(cause, UnicodeDecodeError) or _NO_CONFIG.match(message):
        message = f"{where}: {message.rstrip('.')}; expected a YAML file with sections of settings"
    refuse(parser, message, cause)


def _report(skipped: SkipReport, good: int) -> int:
    """Names and counts what was left out; the exit code that says so."""
    skipped.print(len(skipped) + good, noun="utterances")
    return skipped.exit_code


def _filter_warnings() -> None:
    """Hides Lightning's advertisements and advice that does not apply to this toolkit."""
    import logging

    for source in (
        "pytorch.utilities.rank_zero",
        "fabric.utilities.seed",
        "fabric.utilities.distributed",
    ):
        logging.getLogger(f"lightning.{source}").setLevel(logging.WARNING)
    for message in (
        ".*isinstance.treespec, LeafSpec.*",
        ".*DynamicBucketingSampler with an eagerly read.*",
        ".*WeightAveraging callback with a model that overrides.*",
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*PyTorch API of nested tensors.*",
        ".*Experiment logs directory.*",
        ".*only one JsonargparseDeprecationWarning per type is shown.*",
        ".*could not find the monitored key.*",  # training without validation
        ".*LightningCLI's args parameter is intended to run from within Python.*",
        ".*smaller than the logging interval.*",
        ".*FSDP2-wrapped module .* returned a view tensor.*",  # nothing is added to it in place
    ):
        warnings.filterwarnings("ignore", message=message)
