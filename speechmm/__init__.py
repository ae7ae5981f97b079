"""speechmm: joint speech-text models that recognise and align speech.

Importing it costs nothing: torch is imported by `load`, lightning by ``speechmm.training``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from speechmm.inference.api import Model, TextAligner

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


def load_aligner(
    path: "str | Path | None" = None,
    *,
    language: "str | None" = None,
    lexicon: "str | Path | None" = None,
) -> "TextAligner":
    """An aligner without a model: the one that ships, for any language, or one that has learned.

    Args:
        path: A folder that ``speechmm align --learn --save`` wrote; None for the one that ships.
        language: The voice of espeak-ng that pronounces the words, such as ``de``; None chooses by the
            script of each text, and takes phones with blanks between them as they are.
        lexicon: A file that pronounces the words it lists.

    Raises:
        CheckpointError: The folder is no aligner, or a file of it is missing or damaged.
        ConfigError: There is no such voice, or the aligner has no use for it.
    """
    from speechmm.inference.api import load_aligner as load_text_aligner

    return load_text_aligner(path, language=language, lexicon=lexicon)
