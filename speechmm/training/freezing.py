"""Keeps weights as they are, for the whole training or until a step: by patterns of their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Sequence

import lightning as L
from torch import nn

from speechmm.errors import ConfigError
from speechmm.models.lora import LoraConfig, add_lora
from speechmm.training.sharding import shares_weights


class Freezing:
    """Which parameters of a network are frozen, and until when.

    In one process a frozen parameter costs no backward pass. Several processes wait for the gradients
    that were wanted when they began, so these are computed and thrown away until a parameter thaws.
    """

    def __init__(self, network: nn.Module, patterns: Sequence[str], thaw_at: Sequence[int]):
        """Finds the parameters, and freezes those that never thaw.

        Args:
            network: The model.
            patterns: Names of parameters or modules, with * and ?: "encoder", "encoder.layers.[01].*".
            thaw_at: The optimiser step at which the parameters of each pattern begin to learn, or one
                for all; 0, or none at all, for never. Of several patterns for a parameter the last counts.

        Raises:
            ConfigError: A pattern names nothing, or the steps are not as many.
        """
        steps = list(thaw_at) or [0]
        if len(steps) == 1 and (patterns or not thaw_at):
            steps = steps * len(patterns)
        if len(steps) != len(patterns) or any(step < 0 for step in steps):
            raise ConfigError(
                f"model.thaw_at: {len(thaw_at)} steps ({', '.join(map(str, thaw_at))}) for "
                f"{len(patterns)} patterns of model.freeze; expected one for each, or one for all, from "
                "0 on. Correct the config."
            )
        self._thaw: dict[str, int] = {}
        learning = {name: one for name, one in network.named_parameters() if one.requires_grad}
        names = list(learning)
        for pattern, step in zip(patterns, steps, strict=True):
            found = [name for name in names if _matches(name, pattern)]
            if not found:
                parts = sorted({".".join(name.split(".")[:2]) for name in names})
                raise ConfigError(
                    f"model.freeze: {pattern} names no weight; expected a name or a pattern of "
                    f"{', '.join(parts)} and what is below. Correct the config."
                )
            self._thaw |= dict.fromkeys(found, step)
        self._later = {name: step for name, step in self._thaw.items() if step}
        self._network = network
        for name, step in self._thaw.items():
            if not step:
                learning[name].requires_grad_(False)

    def __len__(self) -> int:
        return len(self._thaw)

    def __contains__(self, name: str) -> bool:
        """Whether a parameter is frozen, for a time or for good."""
        return name in self._thaw

    @property
    def thaws(self) -> bool:
        """Whether anything learns from some step on."""
        return bool(self._later)

    def describe(self) -> str:
        """How many weights are frozen, and until when, in one line."""
        parts, weights = [], dict(self._network.named_parameters())
        for step in sorted(set(self._thaw.values())):
            named = [name for name, own in self._thaw.items() if own == step]
            size = sum(weights[name].numel() for name in named)
            until = f"until step {step}" if step else "for good"
            parts.append(f"{len(named)} weights ({size / 1e6:.2f} M values) {until}")
        return f"frozen: {', '.join(parts)}"

    def learns(self, part: nn.Module, step: int) -> bool:
        """Whether anything of a part of the network learns in an optimiser step.

        Several processes want gradients of what is frozen, too: ``requires_grad`` does not tell.
        """
        still = {id(one) for one, thaws in self._to_thaw() if step < thaws}
        return any(one.requires_grad and id(one) not in still for one in part.parameters())

    def begin_step(self, step: int) -> None:
        """Freezes and thaws for the optimiser step that begins."""
        for one, thaws in self._to_thaw():
            one.requires_grad_(step >= thaws)

    def drop_gradients(self, step: int) -> None:
        """Throws away the gradients of what is frozen: the optimiser leaves such parameters alone."""
        for one, thaws in self._to_thaw():
            if step < thaws:
                one.grad = None

    def _to_thaw(self) -> Iterator[tuple[nn.Parameter, int]]:
        """The parameters and their steps: sharing weights out puts others in the place of the first."""
        if self._later:
            for name, one in self._network.named_parameters():
                if name in self._later:
                    yield one, self._later[name]


def check_lora_strategy(config: LoraConfig, trainer: L.Trainer) -> None:
    """Refuses updates of weights that are shared out.

    Raises:
        ConfigError: The strategy shares them out.
    """
    if config.rank and shares_weights(trainer):
        raise ConfigError(
            f"model.lora.rank is {config.rank} and trainer.strategy shares weights out; expected each "
            "process to hold all of them, as little learns. Set the strategy to ddp."
        )


def start_lora(
    network: nn.Module, config: LoraConfig, known: Collection[str], freezing: Freezing | None = None
) -> str:
    """Freezes what a training starts from and adds the low-rank updates that learn in its place.

    Args:
        network: It is changed.
        config: The updates.
        known: Names of the weights that it starts from; others, such as new heads, go on learning.
        freezing: What stays as it is, without an update too.

    Returns:
        What a user is told, in one line.

    Raises:
        ConfigError: Something is to thaw, or no layer is left that may change.
    """
    if freezing is not None and freezing.thaws:
        raise ConfigError(
            f"model.lora.rank is {config.rank} and model.thaw_at names a step; expected none, as what a "
            "training with LoRA starts from stays as it is. Leave thaw_at out."
        )
    for name, weight in network.named_parameters():
        if name in known:
            weight.requires_grad_(False)
    size = add_lora(
        network, config, {one for one in known if freezing is None or one not in freezing}
    )
    learning = sum(one.numel() for one in network.parameters() if one.requires_grad)
    values = f"{size / 1e6:.2f} M values in updates, {learning / 1e6:.2f} M learn in all"
    return f"lora: rank {config.rank}, {values}"


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern names a parameter, or a module that it is in."""
    parts = name.split(".")
    prefixes = (".".join(parts[: end + 1]) for end in range(len(parts)))
    return any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes)
