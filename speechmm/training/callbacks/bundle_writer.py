"""Writes the best weights of a training as a bundle."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from speechmm.models.bundle_config import TrainingInfo
from speechmm.training.checkpoints import check_checkpoint
from speechmm.training.trainable import TrainingModule

logger = logging.getLogger(__name__)

BUNDLE = "bundle"


class BundleWriter(Callback):
    """Writes the best weights as a bundle when training ends."""

    def __init__(self, folder: Path, command: str):
        self.folder = folder
        self.command = command

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Loads the best checkpoint and saves it without its optimiser."""
        assert isinstance(pl_module, TrainingModule)
        pl_module.join_shares()
        if not trainer.is_global_zero:
            return
        assert pl_module.network is not None
        pl_module.network.float()  # averages of weights in 16 bits are in float32
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        score = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if best and not Path(best).is_file():
            logger.warning("%s: is gone; the bundle gets the weights of the end", best)
            score = None
        elif best:
            check_checkpoint(Path(best))
            state = torch.load(best, map_location="cpu", weights_only=True)
            weights = {
                name.removeprefix("network."): value
                for name, value in state["state_dict"].items()
                if name.startswith("network.")
            }
            pl_module.network.load_state_dict(weights)
        training = TrainingInfo(
            seed=pl_module.seed,
            steps=trainer.global_step,
            epochs=trainer.current_epoch,
            selection=None if score is None else round(float(score), 5),
            command=self.command,
        )
        pl_module.save(self.folder, training)
