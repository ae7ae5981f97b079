"""Reads bundles of earlier versions: old names of settings and weights become today's."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

logger = logging.getLogger(__name__)

OLD_FORMAT = "speechmm-bundle/1"

_OLD_DIMENSIONS = {"utterance_mean": "utterance_cmn", "reach": "attention_window"}
_OLD_WEIGHTS = {
    "front_end.": "encoder.front_end.",
    "encoder.": "encoder.stack.",
    "token_embedding.": "heads.decoder.embedding.",
    "tag_embedding.": "heads.decoder.tags.",
    "decoder.": "heads.decoder.stack.",
    "token_head.": "heads.decoder.output.",
    "ctc_head.": "heads.ctc.",
    "alignment_head.": "heads.align.",
}
_MODALITY = "modality.weight"
"""A vector for speech (row 0) and for text, added to what the front end gave."""
_FRONT_END_BIAS = "encoder.front_end.norm.bias"


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """Today's config.json of a bundle that an earlier version wrote; others as they are."""
    if config.get("format") != OLD_FORMAT:
        return config
    logger.warning(
        "a bundle of format %s was read, which works until version 0.3; to keep it, load it and save "
        "it again with speechmm.models.bundle.save_bundle",
        OLD_FORMAT,
    )
    training = dict(config.get("training", {}))
    heads = training.pop("outputs", ["ctc", "decoder", "align"])
    if "objectives" in training:  # one flat set of settings for all tasks
        training["tasks"] = {"objectives": training.pop("objectives")}
    dimensions = {_OLD_DIMENSIONS.get(name, name): v for name, v in config["model"].items()}
    return config | {"model": dimensions, "heads": heads, "tags": ["asr"], "training": training}


def upgrade_weights(weights: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The weights by today's names, those of heads that were not trained left out.

    The speech vector becomes part of the bias of the front end's norm, after which it was added.
    """
    if config.get("format") != OLD_FORMAT:
        return weights
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        old = next((start for start in _OLD_WEIGHTS if name.startswith(start)), None)
        if name != _MODALITY:
            renamed[name if old is None else _OLD_WEIGHTS[old] + name.removeprefix(old)] = value
    renamed[_FRONT_END_BIAS] = renamed[_FRONT_END_BIAS] + weights[_MODALITY][0]
    return {
        name: value
        for name, value in renamed.items()
        if not name.startswith("heads.") or name.split(".")[1] in config["heads"]
    }
