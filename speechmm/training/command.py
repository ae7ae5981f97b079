"""Builds trainer, module and data module from settings: LightningCLI with our run folder."""

from __future__ import annotations

import json
import logging
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NoReturn

import torch
from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.atomic import write_text
from speechmm.training.callbacks.bundle_writer import BUNDLE, BundleWriter
from speechmm.training.callbacks.curves import TrainingCurves
from speechmm.training.callbacks.metrics import RestoreMetrics
from speechmm.training.callbacks.progress import TrainingProgress
from speechmm.training.callbacks.terminate import TerminateAllRanks
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.lm_data import TextDataModule
from speechmm.training.lm_module import LanguageModule
from speechmm.training.module import JointModule
from speechmm.training.renamed_settings import upgrade_arguments
from speechmm.training.tasks import TasksConfig
from speechmm.training.trainable import SELECTION, TrainingData, TrainingModule

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
KINDS: dict[str, tuple[type[TrainingModule], type[TrainingData]]] = {
    "joint": (JointModule, SpeechDataModule),
    "lm": (LanguageModule, TextDataModule),
}
"""What can be trained: a joint model, or a language model for shallow fusion."""

Refuse = Callable[[ArgumentParser, str, Exception], NoReturn]


class TrainingCLI(LightningCLI):
    """Parses the settings and builds trainer, module and data module; runs nothing by itself."""

    def __init__(self, arguments: list[str], *, kind: str, command: str, refuse: Refuse):
        """Parses ``arguments``, the first of which is the name of the command.

        Args:
            arguments: Name and flags.
            kind: What is trained: one of ``KINDS``.
            command: The whole command line, to remember in the bundle.
            refuse: Called with the parser, its complaint and the error; must raise.
        """
        set_parsing_settings(
            docstring_parse_attribute_docstrings=True,
            # fields of the built-in tasks are plain settings
            subclasses_disabled=[type(task) for task in TasksConfig().all],
        )
        self.refuse = refuse
        self.kind = kind
        self.name = arguments[0]
        self.command = command
        super().__init__(
            *KINDS[kind],
            args=upgrade_arguments(arguments[1:]),
            run=False,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            parser_kwargs={"prog": f"speechmm {arguments[0]}"},
            trainer_defaults={
                "use_distributed_sampler": False,
                "gradient_clip_val": 1.0,
                "num_sanity_val_steps": 0,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "log_every_n_steps": 10,
            },
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; what is wrong is said by ``refuse``."""
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, UnicodeDecodeError) as error:  # the latter from a config file
            self.refuse(parser, str(error), error)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that refuses abbreviated flags."""
        return super().init_parser(allow_abbrev=False, exit_on_error=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what is neither Lightning's nor a component's."""
        parser.add_argument(
            "--kind",
            type=str,
            default=self.kind,
            choices=list(KINDS),
            help="what is trained: a joint speech-text model, or a language model (lm)",
        )
        parser.add_argument(
            "--ckpt_path", type=str, default=None, help="checkpoint to go on from, or 'last'"
        )
        parser.add_argument(
            "--patience",
            type=int,
            default=0,
            help="epochs without a better dev score before training stops; 0 never stops early",
        )
        if self.kind == "joint":
            parser.link_arguments("model.network.subsampling", "data.subsampling")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def fit(self) -> None:
        """Trains, from the last checkpoint where that is asked for and there is one.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another network or tokenizer.
        """
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            _check_readable(checkpoint)
        self.restore_metrics.set_aside()
        try:
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint)
        except MisconfigurationException as error:
            if "restored a checkpoint" not in str(error):
                raise
            raise CheckpointError(
                f"{checkpoint}: {str(error).splitlines()[0]} Expected a training longer than that. "
                "Raise trainer.max_epochs, or leave out --ckpt_path to start anew."
            ) from error
        except RuntimeError as error:
            if checkpoint is None or "loading state_dict" not in str(error):
                raise
            raise CheckpointError(
                f"{checkpoint}: does not fit the settings ({str(error).splitlines()[-1].strip()}); "
                "expected a checkpoint of the same network and tokenizer. Leave out --ckpt_path, "
                "or set another trainer.default_root_dir."
            ) from error

    def start_over(self) -> None:
        """Puts the checkpoints of other settings or data aside, so that training starts anew."""
        for name in ("last", "best"):
            path = self.checkpoints / f"{name}.ckpt"
            if path.is_file():
                aside = path.with_name(f"earlier-{name}.ckpt")
                path.replace(aside)
                logger.warning("%s: of other settings or data; kept as %s", path, aside.name)

    def evaluate(self, name: str) -> None:
        """Measures a checkpoint on the dev (``validate``) or test (``test``) manifests.

        Raises:
            CheckpointError: there is no checkpoint, or it is damaged.
        """
        run = self.trainer.validate if name == "validate" else self.trainer.test
        checkpoint = self._checkpoint() or str(self.checkpoints / "best.ckpt")
        _check_readable(checkpoint)
        run(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True)

    @property
    def checkpoints(self) -> Path:
        """Where this run keeps its checkpoints."""
        return Path(self.trainer.default_root_dir) / CHECKPOINTS

    def _checkpoint(self) -> str | None:
        """The checkpoint file asked for.

        Raises:
            CheckpointError: there is no such file.
        """
        asked = self.config.ckpt_path
        if asked == "last":
            last = self.checkpoints / "last.ckpt"
            return str(last) if last.is_file() else None
        if asked is not None and not Path(asked).is_file():
            raise CheckpointError(
                f"--ckpt_path: {asked} is not a file; expected a checkpoint or the word last. "
                f"Look into {self.checkpoints}."
            )
        return None if asked is None else str(asked)

    def _write_config(self, folder: Path) -> None:
        try:
            write_text(folder / "config.yaml", self.parser.dump(self.config))
        except ConfigError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            raise ConfigError(
                f"{folder}: cannot be written ({reason}); expected a run folder with "
                "write permission and space. Set trainer.default_root_dir."
            ) from error

    def settings(self) -> dict[str, Any]:
        """Every setting as plain values, without where to go on from."""
        config = self.config.clone()
        config["ckpt_path"] = None
        plain: dict[str, Any] = json.loads(self.parser.dump(config, format="json"))
        return plain

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer with our loggers and callbacks; the run folder is made here."""
        folder = Path(self.config.trainer.default_root_dir or "exp/run")
        shared: dict[str, Any] = {
            "dirpath": folder / CHECKPOINTS,
            "save_top_k": 1,
            "enable_version_counter": False,
        }
        # The last one is saved after the best one, whose name it holds. ModelCheckpoint(save_last)
        # would not do: it saves only in epochs that are the best so far.
        own: list[Any] = [
            ModelCheckpoint(filename="best", monitor=SELECTION, mode="min", **shared),
            ModelCheckpoint(filename="last", **shared),
        ]
        if self.name == "fit":
            self._write_config(folder)
            self.restore_metrics = RestoreMetrics(folder)
            own += [TrainingProgress(), TerminateAllRanks(), self.restore_metrics]
            own.append(TrainingCurves(folder))
            own.append(BundleWriter(folder / BUNDLE, self.command))
            if self.config.patience:
                own.append(EarlyStopping(SELECTION, patience=self.config.patience, mode="min"))
        loggers = [
            CSVLogger(folder.parent, name=folder.name, version=""),
            TensorBoardLogger(folder.parent, name=folder.name, version=""),
        ]
        self.config.trainer.default_root_dir = str(folder)
        if self.config.trainer.logger is None:
            kwargs["logger"] = loggers if self.name == "fit" else False
        try:
            return super().instantiate_trainer(callbacks=own, **kwargs)
        except MisconfigurationException as error:
            first_line = str(error).splitlines()[0]
            raise ConfigError(f"trainer: {first_line} Correct the config.") from error


def _check_readable(checkpoint: str) -> None:
    """Opens a checkpoint, whose weights stay on the disk."""
    try:
        torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, UnpicklingError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise CheckpointError(
            f"{checkpoint}: cannot be read ({reason or type(error).__name__}); expected a whole "
            'checkpoint of "speechmm fit". Give another one, or remove it to train from the start.'
        ) from error
