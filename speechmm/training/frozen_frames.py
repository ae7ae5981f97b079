"""Computes once what the frozen part of an encoder makes of a corpus, and trains on that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any, Literal, cast

import lightning as L
import torch
from jaxtyping import Float
from lhotse import MonoCut
from torch import Tensor, nn

from speechmm.data.batch import Batch
from speechmm.data.dataset import SpeechDataset
from speechmm.data.stored_frames import StoredFrames
from speechmm.errors import ConfigError, SpeechmmError
from speechmm.files.atomic import write_text
from speechmm.files.json_text import to_json
from speechmm.models.encoder import Encoded, Layered, OwnScale
from speechmm.models.pretrained.description import describe
from speechmm.models.pretrained.stacked import StackedEncoder
from speechmm.models.speech_text import Mask, SpeechEncoding, SpeechTextModel
from speechmm.training.augmentation import AugmentationConfig
from speechmm.training.augmentation.pipeline import check_unchanged_features
from speechmm.training.data_module import SpeechDataModule
from speechmm.training.processes import gather_from_processes, share_of_process
from speechmm.training.sharding import shares_weights
from speechmm.training.tasks import TasksConfig

logger = logging.getLogger(__name__)

FORMAT = "speechmm-frames/2"
SETTINGS_FILE = "frames.json"
_NOT_BELOW = ("decoder_layers", "align_dim", "align_prior", "dropout")
Cut = int | Literal["top"]
"""Layers below a cut through an encoder; ``top`` is the end of one that cannot be cut elsewhere."""


def check_frozen_frames(folder: str | None, augmentation: AugmentationConfig) -> None:
    """Refuses changes of the sound where an encoder's frames are stored.

    Raises:
        ConfigError: The first of them.
    """
    if folder is not None:
        reason = f"model.frozen_frames ({folder}) keeps what the encoder made of the recordings"
        check_unchanged_features(augmentation, reason)


def find_cut(model: SpeechTextModel, tasks: TasksConfig, folder: str) -> Cut:
    """How far up an encoder nothing learns, now or later.

    Args:
        model: With ``requires_grad`` of all that ever learns.
        tasks: Those that read what is half-way up are given it.
        folder: Of the setting, for the message.

    Raises:
        ConfigError: Something learns right at the bottom.
    """
    encoder = model.encoder
    middle = [task.name for task in tasks.active if task.reads_middle]
    where = f"model.frozen_frames is {folder} and"
    if not isinstance(encoder, Layered):
        if not _frozen(cast(nn.Module, encoder)):
            raise ConfigError(
                f"{where} the encoder, which can be cut at its end alone, learns; expected all of it to be "
                "frozen. Set model.freeze to [encoder], without thaw_at, or leave frozen_frames out."
            )
        if middle:
            raise ConfigError(
                f"{where} task {middle[0]} reads the encoder half-way up, of which nothing is kept; "
                "expected no such task. Set model.tasks.asr.intermediate_weight and "
                "tasks.match.weight to 0."
            )
        return "top"
    cut_off = middle and not isinstance(encoder, StackedEncoder)  # which has its middle above
    top = encoder.depth // 2 if cut_off else encoder.depth
    found = [n for n in range(top + 1) if all(map(_frozen, encoder.parts_below(n)))]
    if not found or not found[-1]:
        raise ConfigError(
            f"{where} the first layer of the encoder, or what is below it, learns; expected at least these "
            "to be frozen for good. Extend model.freeze (Whisper: encoder.conv1, encoder.conv2, "
            "encoder.layers.0), or leave frozen_frames out."
        )
    return found[-1]


class FrozenFrames:
    """The frames of a training: stored where they enter what learns."""

    def __init__(self, folder: Path, model: SpeechTextModel, cut: Cut, log_mel: Any):
        """Names the folder after all that decides what is in it.

        Args:
            folder: Of the setting; the frames are in a folder of it.
            model: Its weights are in place.
            cut: See :func:`find_cut`.
            log_mel: Settings of the features.
        """
        self.cut = cut
        settings = _settings(model, cut, log_mel)
        stamp = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        lower = getattr(model.encoder, "lower", model.encoder)
        self.store = StoredFrames(folder / f"frames-{stamp[:16]}", lower.width)
        self._settings = settings

    def compute(self, model: SpeechTextModel, data: SpeechDataModule, trainer: L.Trainer) -> None:
        """Computes the frames that are not there yet: of every process its share, then waits for all.

        Utterances that cannot be read are left to the training, which names them.

        Raises:
            ConfigError: The folder cannot be written to.
        """
        if trainer.is_global_zero:
            write_text(self.store.folder / SETTINGS_FILE, to_json(self._settings), ours=True)
        dataset = SpeechDataset(
            data.text_tokenizer, data.features, keep_samples=model.reads_waveforms
        )
        missing = [cut for cut in data.cuts() if not _is_there(self.store, cut)]
        gather_from_processes(None)  # all have the same list before the first file is written
        was_training = model.training
        model.eval()
        began = time.monotonic()
        for cut in share_of_process(missing, trainer, what="frozen_frames"):
            try:
                batch = dataset[[cut]]
            except SpeechmmError:
                continue
            assert isinstance(batch, Batch)
            batch = trainer.precision_plugin.convert_input(batch.to(_weight(model).device))
            frames, lengths = below(model, batch, self.cut)
            self.store.save(cut, frames[0, : int(lengths[0])])
        model.train(was_training)
        gather_from_processes(None)  # nobody reads before all have written
        if trainer.is_global_zero:
            layers = "the whole encoder" if self.cut == "top" else f"{self.cut} layers"
            logger.info(
                "frozen_frames: %s of %d utterances computed in %.0f s, in %s",
                layers,
                len(missing),
                time.monotonic() - began,
                self.store.folder,
            )

    def encode(
        self,
        model: SpeechTextModel,
        batch: Batch,
        features: Float[Tensor, "batch frames n_mels"],
        mask: Mask | None = None,
    ) -> SpeechEncoding:
        """The encoding of a batch of stored frames.

        Args:
            model: Whose upper layers go on from there.
            batch: With stored frames.
            features: Normalised, for the alignment head.
            mask: Masks the frames.
        """
        assert batch.stored_frames is not None
        assert batch.stored_lengths is not None
        frames, lengths = batch.stored_frames.to(_weight(model).dtype), batch.stored_lengths
        if mask is not None:
            frames = mask(frames, lengths)
        if self.cut == "top":
            encoded = Encoded(frames, lengths, frames)
        else:
            encoded = cast(Layered, model.encoder).above(frames, lengths, self.cut)
        return model.encoding_of(encoded, features, batch.feature_lengths)


@torch.no_grad()
def below(model: SpeechTextModel, batch: Batch, cut: Cut) -> tuple[Tensor, Tensor]:
    """Frames of a batch at a cut through the encoder, and how many of each row are valid."""
    inputs, lengths = batch.features, batch.feature_lengths
    if model.reads_waveforms:
        assert batch.waveforms is not None
        samples, lengths = batch.waveforms
        inputs = samples[:, :, None]
    else:
        inputs = model.normalise(inputs, lengths)
    if cut == "top":
        encoded = model.encoder(inputs, lengths)
        return encoded.frames, encoded.lengths
    return cast(Layered, model.encoder).below(inputs, lengths, cut)


def _settings(model: SpeechTextModel, cut: Cut, log_mel: Any) -> dict[str, Any]:
    """What decides about the frames, as JSON has it."""
    encoder = model.encoder
    parts = [cast(nn.Module, encoder)] if cut == "top" else cast(Layered, encoder).parts_below(cut)
    digest = hashlib.sha256()
    tensors = [tensor for part in parts for tensor in part.state_dict().values()]
    if not (model.reads_waveforms or isinstance(encoder, OwnScale)):
        tensors += [model.cmvn_mean, model.cmvn_std]
    for tensor in tensors:
        whole = tensor.detach().cpu().contiguous()
        digest.update(f"{whole.dtype} {tuple(whole.shape)}".encode())
        digest.update(whole.flatten().view(torch.uint8).numpy().tobytes())
    info = describe(encoder)
    about: dict[str, Any] = {
        "format": FORMAT,
        "layers": cut,
        "weights": digest.hexdigest(),
        "encoder": None if info is None else dataclasses.asdict(info),
        "network": None if info is not None else _network(model),
        "features": dataclasses.asdict(log_mel),
    }
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def _network(model: SpeechTextModel) -> dict[str, Any]:
    """The dimensions of an encoder of this toolkit, as far as weights do not show them."""
    known = dataclasses.asdict(model.config)
    return {name: value for name, value in known.items() if name not in _NOT_BELOW}


def _is_there(store: StoredFrames, cut: MonoCut) -> bool:
    try:
        return store.path(cut).is_file()
    except SpeechmmError:  # whose audio is not one file: the training will say so
        return True


def _weight(model: SpeechTextModel) -> Tensor:
    return next(model.parameters())


def _frozen(part: nn.Module) -> bool:
    return not any(weight.requires_grad for weight in part.parameters())


def start_frozen_frames(
    folder: str | None,
    model: SpeechTextModel,
    tasks: TasksConfig,
    data: SpeechDataModule,
    trainer: L.Trainer,
) -> FrozenFrames | None:
    """Computes what is missing, and has the batches of a data module hold it; without a folder, nothing.

    Raises:
        ConfigError: Nothing is frozen that could be kept, weights are shared out, or nothing can be
            written.
    """
    if folder is None:
        return None
    if shares_weights(trainer):
        raise ConfigError(
            f"model.frozen_frames is {folder} and trainer.strategy shares weights out; expected each "
            "process to hold all of them. Set the strategy to ddp, or leave frozen_frames out."
        )
    found = FrozenFrames(Path(folder), model, find_cut(model, tasks, folder), data.features)
    found.compute(model, data, trainer)
    data.stored = found.store
    data.keep_samples = False
    return found
