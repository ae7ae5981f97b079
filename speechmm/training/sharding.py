"""Shares weights, gradients and the optimiser's state out over the processes of a training (FSDP2)."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from speechmm.errors import ConfigError
from speechmm.models.transformer import EncoderLayer
from speechmm.models.transformer_decoder import DecoderLayer

NAMES = ("fsdp", "fsdp2", "model_parallel")
"""What ``trainer.strategy`` calls it."""
FIRST_FORM = ("fsdp_cpu_offload", "FSDPStrategy")
PRECISIONS = ("None", "32", "32-true", "bf16", "bf16-mixed")
"""What ``trainer.precision`` may be: weights in float32."""
LAYERS = (EncoderLayer, DecoderLayer)
"""Gathered one after the other; all other weights are gathered together."""
STEPS = ("training_step", "validation_step", "test_step")


class FullyShared(ModelParallelStrategy):
    """Lightning's model-parallel strategy over all processes, with one file a checkpoint."""

    def __init__(self, **settings: Any):
        """Takes the settings of Lightning's strategy but for the sizes."""
        super().__init__(
            tensor_parallel_size=1, **({"save_distributed_checkpoint": False} | settings)
        )

    def setup_environment(self) -> None:
        """Gives every process its share."""
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()


def chosen_strategy(asked: Any, precision: Any) -> dict[str, Any]:
    """Arguments of a trainer beyond its settings, where its strategy shares weights out.

    Raises:
        ConfigError: It is FSDP in its first form, which our modules were not written for, or the
            precision is one that does not go with it.
    """
    name = asked if isinstance(asked, str) else type(asked).__name__
    if isinstance(asked, FSDPStrategy) or name in FIRST_FORM:
        raise ConfigError(
            f"trainer.strategy is {name}; expected fsdp, which is PyTorch's second form of it (FSDP2) over "
            "all processes. Write trainer.strategy: fsdp."
        )
    if name not in NAMES and not isinstance(asked, ModelParallelStrategy):
        return {}
    if str(precision) not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision is {precision} and trainer.strategy {name} shares weights out; expected "
            "32-true or bf16-mixed. Set one of them, or the strategy ddp."
        )
    ours = {"strategy": FullyShared()} if name in NAMES else {}
    return {"inference_mode": False, **ours}  # gathered weights must be ones that can be trained


def shares_weights(trainer: L.Trainer) -> bool:
    """Whether the trainer's strategy shares them out."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


def check_strategy(strategy: ModelParallelStrategy, optimizer: str) -> None:
    """Refuses what cannot be trained with weights that are shared out.

    Raises:
        ConfigError: An optimiser of whole matrices, tensors cut in parts, or checkpoints that are.
    """
    if optimizer == "soap":
        raise ConfigError(
            "model.optimization.optimizer is soap and trainer.strategy shares weights out; expected adamw, "
            "as soap turns whole matrices. Set model.optimization.optimizer to adamw, or the strategy ddp."
        )
    if strategy._tensor_parallel_size != 1 or strategy._save_distributed_checkpoint:
        raise ConfigError(
            "trainer.strategy: ModelParallelStrategy with tensor_parallel_size "
            f"{strategy._tensor_parallel_size} and save_distributed_checkpoint "
            f"{str(strategy._save_distributed_checkpoint).lower()}; expected 1 and false. Write them, and "
            "data_parallel_size: the number of processes; or trainer.strategy: fsdp."
        )


def share_out(network: nn.Module, trainer: L.Trainer, root: nn.Module | None = None) -> None:
    """Leaves each process its share of every weight; the rest is gathered when it is computed with.

    Args:
        network: Whose layers are gathered one by one.
        trainer: Of the strategy that has the processes.
        root: What holds all weights and runs the steps; None is the network.
    """
    strategy = trainer.strategy
    assert isinstance(strategy, ModelParallelStrategy)
    mesh = strategy.device_mesh["data_parallel"]
    for part in network.modules():
        if isinstance(part, LAYERS):
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
    root = network if root is None else root
    fully_shard(root, mesh=mesh, reshard_after_forward=True)
    for name in STEPS:
        if hasattr(root, name):
            register_fsdp_forward_method(root, name)


def gather(module: nn.Module) -> None:
    """Holds all weights in every process until :func:`release`: then nothing waits for another."""
    shared = [one for one in module.modules() if isinstance(one, FSDPModule)]
    for one in shared:
        one.set_reshard_after_forward(False, recurse=False)
        one.unshard()


def release(module: nn.Module) -> None:
    """Goes back to shares."""
    for one in module.modules():
        if isinstance(one, FSDPModule):
            one.set_reshard_after_forward(True, recurse=False)
            one.reshard()


def local(value: Tensor) -> Tensor:
    """What this process holds of a tensor, where it is shared out."""
    to_local = getattr(value, "to_local", None)
    return value if to_local is None else to_local()


def whole(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the host with the shares of all processes, each of which must call it."""
    found: dict[str, Tensor] = {}
    for name, value in values.items():
        full_tensor = getattr(value, "full_tensor", None)
        found[name] = (value if full_tensor is None else full_tensor()).detach().cpu()
    return found


def load_whole(module: nn.Module, values: dict[str, Any]) -> None:
    """Takes its share of whole tensors into every process; each has them all."""
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(module, values, options=options)
