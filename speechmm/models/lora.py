"""Adds low-rank updates to weights that stay as they are (LoRA), and merges them into the weights.

Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3.
"""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from speechmm.errors import ConfigError

Network = TypeVar("Network", bound=nn.Module)

DOWN, UP = "down", "up"


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Which weights get low-rank updates, and how large they are."""

    rank: int = 0
    """Rank of the updates; 0 for none. All weights that a training starts from are frozen with them."""
    alpha: float = 16.0
    """The update is multiplied by alpha / rank, so that the learning rate suits every rank."""
    targets: Sequence[str] = ("*attention", "self_attn", "feed_forward", "fc[12]")
    """Names, with * and ?, of linear layers or of modules that hold them."""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0:
            raise ConfigError(
                f"model.lora: rank is {self.rank}, alpha {self.alpha}; expected no negative rank and a "
                "positive alpha. Correct the config."
            )


class LowRank(nn.Module):
    """The parametrisation W + alpha / rank * up @ down, which begins as W."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"], rank: int, scale: float):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, weight.shape[1]))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """The weight with its update."""
        return torch.addmm(weight, self.up, self.down, alpha=self.scale)


def add_lora(network: nn.Module, config: LoraConfig, among: Collection[str] | None = None) -> int:
    """Adds updates to the layers that the config names; the number of values they have.

    Args:
        network: It is changed.
        config: Which layers, and how large updates.
        among: Names of the weights that may have one; None for all.

    Raises:
        ConfigError: It names no layer.
    """
    found = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and _is_target(name, config.targets)
        and (among is None or f"{name}.weight" in among)
    ]
    if not found:
        raise ConfigError(
            f"model.lora.targets: {', '.join(config.targets)} names no linear layer that the training "
            'starts from and may change; expected names such as "*attention" or "encoder". Correct the '
            "config."
        )
    for module in found:
        rank = min(config.rank, *module.weight.shape)
        update = LowRank(module.weight, rank, config.alpha / config.rank)
        parametrize.register_parametrization(module, "weight", update)
    return sum(one.numel() for _, update in updates(network) for one in update.parameters())


def updates(network: nn.Module) -> Iterator[tuple[str, LowRank]]:
    """The updates of a network by the names of their weights."""
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            for update in module.parametrizations["weight"]:
                if isinstance(update, LowRank):
                    yield f"{name}.weight", update


def merged(network: Network) -> Network:
    """The network with its updates in its weights, and nothing beside them; itself where it has none."""
    names = [name.removesuffix(".weight") for name, _ in updates(network)]
    if not names:
        return network
    network = copy.deepcopy(network)
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        # torch's own removal would take the updates of the original away, too: copies share a class
        plain = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear,
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            device=layer.weight.device,
            dtype=layer.weight.dtype,
        )
        plain.weight.data.copy_(layer.weight)
        if layer.bias is not None:
            plain.bias.data.copy_(layer.bias)
        network.set_submodule(name, plain.train(layer.training))
    return network


def _is_target(name: str, targets: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(part, target) for part in name.split(".") for target in targets)
