"""``speechmm fit`` (and ``validate``, ``test``): Lightning's command line over our settings."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechmm.training.command import JointCLI

STAMP = "fit.json"

OVERVIEW = """\
usage: speechmm {name} --config FILE [--any.key VALUE ...]

Trains a joint model ("fit"), or measures a checkpoint ("validate", "test").
The run folder is trainer.default_root_dir; "fit" ends by writing its "bundle".

  --config FILE           settings (YAML); may be given several times, the later wins
  --any.key VALUE         replaces one setting, for example --trainer.max_epochs 20
  --ckpt_path last        goes on from the last checkpoint of the run folder; with none, from the
                          start. A finished run with unchanged settings and data is left alone
  --print_config          prints every setting with its value and ends
  --help_all              every setting with its meaning, unit and default (takes a few seconds)
  --version               prints the version

main settings (defaults and units: --help_all):
  data.train, data.dev    cuts manifests          data.tokenizer   tokenizer file
  data.batch_seconds      audio per batch (s)     data.speeds      speed factors
  model.network.*         dimensions              model.objectives.*    tasks and weights
  model.augment.*         SpecAugment, level      model.optimization.*  learning rate, averaging
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
    _quieten()
    from jsonargparse import ArgumentError

    from speechmm.errors import ConfigError
    from speechmm.training.command import JointCLI

    command = shlex.join(["speechmm", *arguments])
    try:
        cli = JointCLI(arguments, command=command)
    except ArgumentError as error:
        line = " ".join(str(error).split())
        raise ConfigError(f"{line} Run 'speechmm {arguments[0]} --help_all'.") from error
    config = cli.settings()
    if arguments[0] == "fit":
        stamp = fingerprint(config, cli.input_files())
        folder = Path(cli.trainer.default_root_dir)
        if _finished(folder, stamp):
            print(f"{folder}: trained already with these settings and data", file=sys.stderr)
            return 0
        cli.fit()
        if cli.trainer.interrupted:
            return 130
        if cli.trainer.is_global_zero:
            _write_stamp(folder, stamp)
    else:
        cli.evaluate(arguments[0])
    return _report(cli)


def fingerprint(config: dict[str, Any], files: list[Path]) -> str:
    """Changes when a setting, or the size or time of an input file changes."""
    rows = [config]
    for path in files:
        if path.is_file():
            stat = path.stat()
            rows.append({"path": str(path), "size": stat.st_size, "time": stat.st_mtime_ns})
    return hashlib.sha256(json.dumps(rows, sort_keys=True, default=str).encode()).hexdigest()


def _finished(folder: Path, stamp: str) -> bool:
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    complete = (folder / "bundle" / "model.safetensors").is_file()
    return bool(found.get("stamp") == stamp and complete)


def _write_stamp(folder: Path, stamp: str) -> None:
    aside = folder / f".tmp-{STAMP}"
    aside.write_text(json.dumps({"stamp": stamp}) + "\n", encoding="utf-8")
    aside.replace(folder / STAMP)


def _report(cli: JointCLI) -> int:
    skipped = cli.datamodule.skipped
    skipped.print(len(skipped) + cli.datamodule.num_utterances, noun="utterances")
    return int(skipped.exit_code)


def _quieten() -> None:
    """Lightning's advertisements and advice that does not apply to this toolkit."""
    import logging

    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
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
    ):
        warnings.filterwarnings("ignore", message=message)
