"""Writes and reads aligners without a recogniser as folders; one ships."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from speechmm.audio.log_mel import LogMelConfig
from speechmm.errors import CheckpointError, ConfigError
from speechmm.files.atomic import write_folder_aside
from speechmm.files.checksum import file_sha256
from speechmm.files.json_text import fits, read_json
from speechmm.inference.alignment.corpus_aligner import CorpusAligner
from speechmm.inference.alignment.state_graph import state_columns
from speechmm.models.bundle import CONFIG_FILE, WEIGHTS_FILE, check_sha256
from speechmm.models.local_network import KERNEL, LocalNetwork
from speechmm.options import EACH
from speechmm.text.align_units import AlignUnits
from speechmm.text.lexicon import Lexicon
from speechmm.text.phonemes import known_voice

UNIVERSAL = Path(__file__).with_name("universal")
"""The folder of the aligner that ships: phones of all languages (recipes/universal)."""
FORMAT = "speechmm-corpus-aligner/1"


def save_corpus_aligner(aligner: CorpusAligner, folder: Path) -> None:
    """Writes a folder that :func:`load_corpus_aligner` reads, whole or not at all.

    Raises:
        ConfigError: The folder holds something else.
    """
    from safetensors.torch import save_file

    weights = {
        f"{number}.{name}": value.contiguous()
        for number, network in enumerate(aligner.networks)
        for name, value in network.state_dict().items()
    }
    with write_folder_aside(folder, mark=CONFIG_FILE) as aside:
        save_file(weights, aside / WEIGHTS_FILE)
        config = {
            "format": FORMAT,
            "language": aligner.units.language,
            "units": list(aligner.units.units),
            "spelled": aligner.units.spelled,
            "shared": aligner.units.shared,
            "needs_lexicon": aligner.units.needs_lexicon,
            "features": asdict(aligner.features),
            "width": aligner.networks[0].out.in_features,
            "kernel": aligner.networks[0].kernel,
            "networks": len(aligner.networks),
            "weights_sha256": file_sha256(aside / WEIGHTS_FILE),
        }
        text = json.dumps(config, ensure_ascii=False, indent=1) + "\n"
        (aside / CONFIG_FILE).write_text(text, encoding="utf-8")


def pronouncing(
    aligner: CorpusAligner, voice: str | None, lexicon: Lexicon | None = None
) -> CorpusAligner:
    """The same aligner with other pronunciations.

    Args:
        aligner: One with the phones of all languages, or of a lexicon.
        voice: Of espeak-ng, or the code of a language; ``EACH`` and None change nothing.
        lexicon: Pronounces the words it lists; None for none.

    Raises:
        ConfigError: The aligner has letters, or phones of another kind; or there is no such voice.
    """
    units = aligner.units
    if units.needs_lexicon and lexicon is None:
        raise ConfigError(
            "--lexicon: found none; expected one, as the aligner has learned the phones of a lexicon. Give "
            "it, or one with the same phones."
        )
    asked = {"--language": voice, "--lexicon": None if units.needs_lexicon else lexicon}
    for flag, value in asked.items():
        if value is not None and not units.shared:
            kind = "letters" if units.kind == "char" else "the phones of one language"
            raise ConfigError(
                f"{flag}: has no effect on an aligner that has learned {kind}; expected none. Leave it out."
            )
    if voice is not None and voice != EACH:
        units = replace(units, language=known_voice(voice))
    return replace(aligner, units=replace(units, lexicon=lexicon))


def is_corpus_aligner(folder: Path) -> bool:
    """Whether a folder says that it is one."""
    try:
        return read_config(folder).get("format") == FORMAT
    except CheckpointError:
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """The plain values of its config.json.

    Raises:
        CheckpointError: There is none, or it is no JSON object.
    """
    return read_json(
        folder / CONFIG_FILE,
        expected='the folder that "speechmm align --learn --save" writes',
        advice="Learn it again.",
        error=CheckpointError,
    )


_SHAPE = {
    "language": (str, None),
    "units": [str],
    "spelled": bool,
    "features": dict,
    "width": int,
    "networks": int,
    "weights_sha256": str,
}


def load_corpus_aligner(folder: Path) -> CorpusAligner:
    """Reads a folder that :func:`save_corpus_aligner` wrote.

    Raises:
        CheckpointError: It is missing, damaged or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder)
    problem = f'{folder}: not a usable aligner; expected what "speechmm align --save" wrote.'
    if config.get("format") != FORMAT or not fits(config, _SHAPE) or config["networks"] < 1:
        raise CheckpointError(f"{problem} Learn it again.")
    try:
        units = AlignUnits(
            tuple(config["units"]),
            config["language"],
            config["spelled"],
            config.get("shared", False),
            config.get("needs_lexicon", False),
        )
        features = LogMelConfig(**config["features"])
        check_sha256(folder / WEIGHTS_FILE, config, "aligner")
        weights = load_file(folder / WEIGHTS_FILE)
        networks = []
        for number in range(config["networks"]):
            network = LocalNetwork(
                features.n_mels,
                state_columns(len(units.units)),
                width=config["width"],
                kernel=config.get("kernel", KERNEL),
            )
            prefix = f"{number}."
            own = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
            network.load_state_dict(own)
            networks.append(network.eval())
    except (OSError, RuntimeError, TypeError, ConfigError, SafetensorError) as error:
        raise CheckpointError(f"{problem} It says: {str(error).splitlines()[0]}") from error
    return CorpusAligner(units, features, tuple(networks))
