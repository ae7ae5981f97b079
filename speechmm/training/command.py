"""LightningCLI over our settings, with the run folder every training leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from speechmm.errors import CheckpointError, ConfigError
from speechmm.training.callbacks import BUNDLE, BundleWriter, TrainingCurves, TrainingProgress
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.module import JointModule

CHECKPOINTS = "checkpoints"
SELECTION = "val/selection"


class JointCLI(LightningCLI):
    """Parses the settings and builds trainer, module and data module; runs nothing by itself."""

    def __init__(self, arguments: list[str], *, command: str):
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        self.name = arguments[0]
        self.command = command
        super().__init__(
            JointModule,
            SpeechDataModule,
            args=arguments[1:],
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

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that refuses abbreviated flags."""
        return super().init_parser(allow_abbrev=False, exit_on_error=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what is neither Lightning's nor a component's."""
        parser.add_argument(
            "--ckpt_path", type=str, default=None, help="checkpoint to go on from, or 'last'"
        )
        parser.add_argument(
            "--patience",
            type=int,
            default=0,
            help="epochs without a better dev score before training stops; 0 never stops early",
        )
        parser.link_arguments("model.network.subsampling", "data.subsampling")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def fit(self) -> None:
        """Trains, from the last checkpoint where that is asked for and there is one."""
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self._checkpoint())

    def evaluate(self, name: str) -> None:
        """Measures a checkpoint on the dev (``validate``) or test (``test``) manifests."""
        run = self.trainer.validate if name == "validate" else self.trainer.test
        checkpoint = self._checkpoint() or str(self.checkpoints / "best.ckpt")
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
            folder.mkdir(parents=True, exist_ok=True)
            aside = folder / ".tmp-config.yaml"
            aside.write_text(self.parser.dump(self.config), encoding="utf-8")
            aside.replace(folder / "config.yaml")
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be written ({error.strerror}); expected a run folder with "
                "write permission and space. Set trainer.default_root_dir."
            ) from error

    def settings(self) -> dict[str, Any]:
        """Every setting as plain values, without where to go on from."""
        config = self.config.clone()
        config["ckpt_path"] = None
        plain = self.parser.dump(config, format="json")
        return {"settings": plain}

    def input_files(self) -> list[Path]:
        """The files a training depends on."""
        data = self.datamodule
        paths = [*data.train_paths, *data.dev_paths, data.tokenizer_path, data.cmvn_path]
        return [Path(path) for path in paths if path]

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer with our loggers and callbacks; the run folder is made here."""
        folder = Path(self.config.trainer.default_root_dir or "exp/run")
        checkpoint = ModelCheckpoint(
            dirpath=folder / CHECKPOINTS,
            filename="best",
            monitor=SELECTION,
            mode="min",
            save_last=True,
            save_top_k=1,
            enable_version_counter=False,
        )
        own: list[Any] = [checkpoint]
        if self.name == "fit":
            self._write_config(folder)
            own += [TrainingProgress(), TrainingCurves(folder)]
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
        return super().instantiate_trainer(callbacks=own, **kwargs)
