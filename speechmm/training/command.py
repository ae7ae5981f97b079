"""Builds trainer, module and data module from settings: LightningCLI with our run folder."""

from __future__ import annotations

import json
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from speechmm.errors import AlignmentError, CheckpointError, ConfigError
from speechmm.files.atomic import write_text
from speechmm.files.leftovers import remove_leftovers
from speechmm.training.callbacks.bundle_writer import BUNDLE, BundleWriter
from speechmm.training.callbacks.curves import TrainingCurves
from speechmm.training.callbacks.divergence import StopWhenDiverged
from speechmm.training.callbacks.metrics import MetricsTable, RestoreMetrics
from speechmm.training.callbacks.progress import TrainingProgress
from speechmm.training.callbacks.run_start import RunStart
from speechmm.training.callbacks.self_check import AlignmentSelfCheck
from speechmm.training.callbacks.terminate import TerminateAllRanks
from speechmm.training.checkpoints import (
    BEST,
    CHECKPOINTS,
    LAST,
    RunCheckpoint,
    WholeCheckpoints,
    check_checkpoint,
    keep_earlier,
    last_checkpoint,
    last_in_full,
    restoring,
)
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.folder_lock import FolderLock
from speechmm.training.lm_data import TextDataModule
from speechmm.training.lm_module import LanguageModule
from speechmm.training.module import JointModule
from speechmm.training.renamed_settings import upgrade_arguments
from speechmm.training.run_folder import RunFolder
from speechmm.training.sharding import chosen_strategy
from speechmm.training.starting_point import named_by_weights, starting_defaults
from speechmm.training.tasks import TasksConfig
from speechmm.training.trainable import SELECTION, TrainingData, TrainingModule
from speechmm.training.wrong_settings import check_divisors, check_given

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
        self.arguments = upgrade_arguments(arguments[1:])
        self.lock: FolderLock | None = None
        try:
            self._parse_and_build()
        except BaseException:
            self.release_lock()
            raise

    def release_lock(self) -> None:
        """Lets another training have the run folder."""
        if self.lock is not None:
            self.lock.release()

    def _parse_and_build(self) -> None:
        super().__init__(
            *KINDS[self.kind],
            args=self.arguments,
            run=False,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            parser_kwargs={"prog": f"speechmm {self.name}"},
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
            check_given(parser, self.config)
        except (
            ArgumentError,
            ValueError,
            TypeError,
            LookupError,
            RecursionError,
        ) as error:  # of YAML
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
            parser.add_argument(
                "--init_from",
                type=str | None,
                default=None,
                help="bundle to start from: weights by name, and its dimensions and features; or "
                "'universal': the aligner that ships says where words are, to begin with",
            )
            parser.set_defaults(starting_defaults(self.arguments))
            parser.link_arguments("model.network.subsampling", "data.subsampling")
            parser.link_arguments("init_from", "model.init_from")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    @cached_property
    def run_folder(self) -> RunFolder:
        """What the folder of this training holds."""
        path = Path(self.trainer.default_root_dir)
        return RunFolder(path, self.settings(), self.datamodule.input_files())

    def fit(self) -> None:
        """Trains, from the last checkpoint where that is asked for and there is one.

        Checkpoints of other settings or data are put aside as soon as the training begins.

        Raises:
            CheckpointError: the checkpoint is damaged, or of another network or tokenizer.
        """
        folder, asked = self.run_folder, self.config.ckpt_path
        goes_on = asked == "last" and folder.can_go_on()
        checkpoint = self._checkpoint() if goes_on or asked != "last" else None

        def begin() -> None:
            if not goes_on:
                keep_earlier(self.checkpoints, but=None if checkpoint is None else Path(checkpoint))
            folder.begin()

        self.run_start.begin = begin
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, RunCheckpoint) and checkpoint is not None:
                callback.own = Path(checkpoint).resolve().parent == self.checkpoints.resolve()
                callback.best_stays = goes_on or Path(checkpoint).name == LAST
        self.restore_metrics.set_aside()
        try:
            with restoring(checkpoint):
                self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoint)
        except AlignmentError as error:  # of the dev set, under weights that fit nothing
            raise AlignmentError(
                f"{self.trainer.default_root_dir}: the training has diverged by epoch "
                f"{self.trainer.current_epoch + 1}: {error} Lower model.optimization.learning_rate, "
                "keep trainer.gradient_clip_val; --ckpt_path "
                f"{last_in_full(self.trainer.default_root_dir)} then goes on from the last whole epoch."
            ) from error
        except MisconfigurationException as error:
            if "restored a checkpoint" not in str(error):
                raise ConfigError(
                    f"trainer: {str(error).splitlines()[0]} Correct the config."
                ) from error
            raise CheckpointError(
                f"{checkpoint}: {str(error).splitlines()[0]} Expected a training longer than that. "
                "Raise trainer.max_epochs, or leave out --ckpt_path to start anew."
            ) from error

    def evaluate(self, name: str) -> None:
        """Measures a checkpoint on the dev (``validate``) or test (``test``) manifests.

        Raises:
            CheckpointError: there is no checkpoint, or it is damaged.
        """
        run = self.trainer.validate if name == "validate" else self.trainer.test
        checkpoint = self._checkpoint() or str(self.checkpoints / BEST)
        check_checkpoint(Path(checkpoint))
        with restoring(checkpoint):
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
            last = last_checkpoint(self.checkpoints)
            return None if last is None else str(last)
        if asked is not None and not Path(asked).exists():
            raise CheckpointError(
                f"--ckpt_path: {asked} is not a file; expected a checkpoint or the word last. "
                f"Look into {self.checkpoints}."
            )
        if asked is None:
            return None
        check_checkpoint(Path(asked))
        return str(asked)

    def _write_config(self, folder: Path) -> None:
        try:
            write_text(folder / "config.yaml", self.parser.dump(self.config), ours=True)
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
        return named_by_weights(plain)

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
            RunCheckpoint(filename="best", monitor=SELECTION, mode="min", **shared),
            RunCheckpoint(filename="last", **shared),
        ]
        if self.name == "fit":
            if getattr(rank_zero_only, "rank", 0) == 0:
                self.lock = FolderLock(folder)
                remove_leftovers(folder)
                self._write_config(folder)
            self.restore_metrics = RestoreMetrics(folder)
            self.run_start = RunStart()
            # First: the line of the next one computes metrics in the first process alone.
            own.append(StopWhenDiverged())
            own += [
                TrainingProgress(),
                TerminateAllRanks(),
                self.restore_metrics,
                self.run_start,
            ]
            own.append(TrainingCurves(folder))
            own.append(BundleWriter(folder / BUNDLE, self.command))
            own.append(AlignmentSelfCheck(folder / BUNDLE))
            if self.config.patience:
                own.append(EarlyStopping(SELECTION, patience=self.config.patience, mode="min"))
        loggers = [
            MetricsTable(folder.parent, name=folder.name, version=""),
            TensorBoardLogger(folder.parent, name=folder.name, version=""),
        ]
        self.config.trainer.default_root_dir = str(folder)
        if self.config.trainer.logger is None:
            kwargs["logger"] = loggers if self.name == "fit" else False
        check_divisors(vars(self.config.trainer))
        try:
            return super().instantiate_trainer(
                callbacks=own, **self._plugins(), **self._strategy(), **kwargs
            )
        except (MisconfigurationException, ValueError, TypeError) as error:
            first_line = str(error).splitlines()[0]
            raise ConfigError(f"trainer: {first_line} Correct the config.") from error

    def _plugins(self) -> dict[str, Any]:
        """The plugins of the settings, and our way to write checkpoints where theirs is PyTorch's."""
        settings = self._get(self.config_init, "trainer", default={})
        given = settings.get("plugins") or []
        given = list(given) if isinstance(given, list | tuple) else [given]
        own_files = "deepspeed" in str(settings.get("strategy")).lower()
        return {"plugins": given if own_files else [*given, WholeCheckpoints()]}

    def _strategy(self) -> dict[str, Any]:
        """How several processes train together, where that is more than a name of Lightning's."""
        settings = self._get(self.config_init, "trainer", default={})
        return chosen_strategy(settings.get("strategy"), settings.get("precision"))
