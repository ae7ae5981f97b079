"""speechmm: joint speech-text models that recognise and align speech.

Importing it costs nothing: torch is imported by `load`, lightning by ``speechmm.training``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from speechmm.inference.api import Model

__version__ = "0.1.0"


def load(
    path: "str | Path",
    *,
    adapter: "str | Path | None" = None,
    device: str = "cpu",
    quantize: "str | None" = None,
) -> "Model":
    """Loads a bundle as a model that transcribes and aligns.

    Args:
        path: A bundle folder, as ``speechmm fit`` writes it.
        adapter: The folder that a training with ``model.lora``, started from that bundle, wrote.
        device: Where to run it, in torch's words: ``cpu``, ``cuda``.
        quantize: "int8" for 8-bit weights on a CPU.

    Raises:
        CheckpointError: The folder is no bundle, or a file of it is missing or damaged.
    """
    from speechmm.inference.api import load as load_model

    return load_model(path, adapter=adapter, device=device, quantize=quantize)
