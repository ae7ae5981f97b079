"""Makes waveforms of log-mel: by Griffin-Lim's algorithm, or by a trained vocoder of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from speechmm.audio.griffin_lim import griffin_lim, within_full_scale
from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import CheckpointError
from speechmm.inference.synthesis.onnx_vocoder import load_graph
from speechmm.models.pretrained.folder import WEIGHTS
from speechmm.models.pretrained.hifigan import read_hifigan
from speechmm.models.vocoder_mel import VocoderMel

Generator = Callable[[Tensor], Tensor]
"""From the vocoder's log-mel [frames, n_mels] to samples [frames * hop_length]."""
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
CONTEXT = 64
"""Frames before and after that a vocoder hears whose reach is not known."""


@runtime_checkable
class Vocoder(Protocol):
    """Makes a waveform."""

    @property
    def centred(self) -> bool:
        """Whether frame ``i`` is heard around ``i`` hops; else it begins there."""
        ...

    def __call__(self, mels: Sequence[Float[Tensor, "_ n_mels"]]) -> Float[Tensor, " samples"]:
        """The samples of pieces one after the other, of natural log mel power; on the CPU."""
        ...


class GriffinLim:
    """The vocoder that is built in: without weights, a hop shorter than its frames."""

    centred = True

    def __init__(self, mel: LogMelConfig):
        self.mel = mel

    def __call__(self, mels: Sequence[Float[Tensor, "_ n_mels"]]) -> Float[Tensor, " samples"]:
        """The samples of pieces, each made on its own; if any is too loud, all are scaled alike."""
        # a frame more of each, so that all of its frames have a whole hop
        parts = [griffin_lim(torch.cat([one, one[-1:]]), self.mel) for one in mels]
        whole = torch.cat(parts)[: (sum(map(len, mels)) - 1) * self.mel.hop_length]
        return within_full_scale(whole)


class NeuralVocoder:
    """A trained vocoder: every frame has a hop of samples."""

    def __init__(self, path: Path, mel: VocoderMel, generator: Generator, reach: int):
        """Takes a generator.

        Args:
            path: Where it is from, for messages.
            mel: What it takes.
            generator: Makes the samples.
            reach: Frames on either side that a sample depends on.
        """
        self.path, self.mel, self.generator, self.reach = path, mel, generator, reach

    @property
    def centred(self) -> bool:
        """Of its training data."""
        return self.mel.center

    def __call__(self, mels: Sequence[Float[Tensor, "_ n_mels"]]) -> Float[Tensor, " samples"]:
        """The samples of pieces, as if they were made at once.

        Each piece is made with as much of its neighbours as its samples depend on.

        Raises:
            CheckpointError: The generator fails, or gives other samples than it should.
        """
        whole = self.mel.of(torch.cat(list(mels)))
        parts, first = [], 0
        for piece in mels:
            end = first + len(piece)
            begin = max(0, first - self.reach)
            made = self._made(whole[begin : end + self.reach])
            hop = self.mel.bands.hop_length
            parts.append(made[(first - begin) * hop : (end - begin) * hop])
            first = end
        return torch.cat(parts).clamp(-1.0, 1.0)

    def _made(self, log_mel: Float[Tensor, "frames n_mels"]) -> Float[Tensor, " samples"]:
        samples = self.generator(log_mel).detach().float().cpu().flatten()
        expected = len(log_mel) * self.mel.bands.hop_length
        if len(samples) != expected:
            raise CheckpointError(
                f"{self.path}: {len(log_mel)} frames gave {len(samples)} samples; expected {expected}, "
                "hop_length for each. Correct the description of the vocoder."
            )
        if not samples.isfinite().all():
            raise CheckpointError(
                f"{self.path}: its samples are not numbers; expected finite ones. The vocoder is damaged, "
                "or its log-mel is another one than described: correct that, or take another vocoder."
            )
        return samples


def load_vocoder(
    path: Path, mel: LogMelConfig, *, device: torch.device | str = "cpu"
) -> NeuralVocoder:
    """A vocoder from a file or folder of the user's.

    Args:
        path: A folder with ``config.json`` and ``model.safetensors`` of HiFi-GAN, another
            ``.safetensors`` file with ``config.json`` beside it, or an ``.onnx`` graph with
            a description beside it, ``<name>.json`` or ``config.json``.
        mel: What the model speaks.
        device: Where HiFi-GAN runs; graphs run on the CPU.

    Raises:
        CheckpointError: It is missing, damaged, or a pickle, which could run code.
        ConfigError: It takes another log-mel, or the extra onnx is not installed.
    """
    path = Path(path)
    _refuse_pickles(path)
    if path.suffix.lower() == ".onnx":
        generator, description = load_graph(path)
        vocoder = NeuralVocoder(path, description, generator, CONTEXT)
    else:
        is_file = path.suffix.lower() == ".safetensors" and not path.is_dir()
        model, description = read_hifigan(
            path.parent if is_file else path, path if is_file else None
        )
        model = model.to(device)

        def generate(log_mel: Tensor) -> Tensor:
            made: Tensor = model(log_mel[None].to(device))[0]
            return made

        vocoder = NeuralVocoder(path, description, generate, model.config.reach)
    description.check(mel, path)
    return vocoder


def _refuse_pickles(path: Path) -> None:
    """Refuses what only ``torch.load`` reads, and says how it becomes what is read here.

    Raises:
        CheckpointError: It is such a file, or a folder with nothing else, or nothing.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file or folder; expected a vocoder: a folder with config.json and "
            f"{WEIGHTS}, or an .onnx file. Check the path."
        )
    found = path
    if path.is_dir() and not list(path.glob("*.safetensors*")):
        found = next((one for one in sorted(path.iterdir()) if one.suffix in PICKLES), path)
    if found.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{found}: is a pickle, which could run code; expected {WEIGHTS}. If you trust it: "
            "weights = torch.load(FILE, weights_only=True); safetensors.torch.save_file("
            f'weights.get("generator", weights), "{WEIGHTS}"), with its config.json beside it.'
        )
    if path.is_file() and path.suffix.lower() not in (".onnx", ".safetensors"):
        raise CheckpointError(
            f"{path}: is no vocoder that is known; expected a folder with config.json and {WEIGHTS}, "
            "a .safetensors or an .onnx file. Give one of these."
        )
