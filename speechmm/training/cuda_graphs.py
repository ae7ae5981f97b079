"""Records forward and backward passes as CUDA graphs: one for each shape of a batch that comes again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechmm.data.batch import Batch

logger = logging.getLogger(__name__)

MOST_SHAPES = 64
"""Shapes that are recorded. Each holds gradients of its own; what passes keep for their backward pass lies
in memory that all of them share."""
SEEN_BEFORE = 1
"""Times that a shape must have come before it is worth recording, which takes as long as a few passes."""

_READ = ("feature_lengths", "tokens", "token_lengths", "align_tokens", "align_lengths", "languages")
LOSS = "loss"
"""The output that gradients are taken of."""

Compute = Callable[..., dict[str, Tensor]]
"""Tensors of a batch to outputs by name, ``LOSS`` among them."""


def recorded_names(batch: Batch) -> list[str]:
    """What tasks read of a batch in a recorded pass: the tensors of these names."""
    return [name for name in _READ if getattr(batch, name) is not None]


class RecordedPasses:
    """Runs the passes of a network, from recordings where their shapes came before.

    A recorded pass costs its host two launches in place of thousands. It computes the same, from the same
    random numbers, as long as ``compute`` asks the host nothing that changes from step to step. No graph of
    an earlier loss may be alive when a pass is recorded. Where recording fails, passes run as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        record: Callable[[nn.Module, tuple[Tensor, ...]], Any] | None = None,
        most: int = MOST_SHAPES,
    ):
        """Records nothing yet.

        Args:
            network: Whose parameters get gradients.
            record: Makes a callable of the same outputs of a module and example inputs; PyTorch's
                ``make_graphed_callables`` when not given.
            most: Shapes to record.
        """
        self._network = network
        self._record = _recorder() if record is None else record
        self._most = most
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._recorded: dict[tuple[Any, ...], tuple[_Pass, Callable[..., tuple[Tensor, ...]]]] = {}

    def __call__(self, compute: Compute, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """What ``compute`` gives for the tensors; of a recording, the loss alone has a gradient.

        Args:
            compute: The same function of the tensors and the network at every call.
            tensors: Of one batch, none of which has a gradient.
        """
        inputs = tuple(tensors)
        key = tuple((one.shape, one.dtype) for one in inputs)
        recorded = self._recorded.get(key)
        if recorded is None:
            self._seen[key] += 1
            if self._seen[key] <= SEEN_BEFORE or len(self._recorded) >= self._most:
                return compute(*inputs)
            try:
                recorded = self._recorded[key] = self._make(compute, inputs)
            except RuntimeError as error:
                logger.warning("no more passes are recorded: %s", str(error).partition("\n")[0])
                self._most = 0
                return compute(*inputs)
        module, run = recorded
        loss, *others = run(*inputs)
        # the next replay writes over what this one gives
        return {LOSS: loss, **dict(zip(module.others, map(torch.clone, others), strict=True))}

    def _make(
        self, compute: Compute, inputs: tuple[Tensor, ...]
    ) -> tuple[_Pass, Callable[..., tuple[Tensor, ...]]]:
        """Records; the passes that this takes leave no trace in running means and random numbers."""
        device = inputs[0].device
        buffers = list(self._network.buffers())
        before = [one.clone() for one in buffers]
        module = _Pass(self._network, compute)
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                run = self._record(module, inputs)
        finally:
            if buffers:
                torch._foreach_copy_(buffers, before)
        return module, run


class _Pass(nn.Module):
    """A function of tensors as a module, so that the parameters it reads are known."""

    def __init__(self, network: nn.Module, compute: Compute):
        super().__init__()
        self.network = network
        self._compute = compute
        self.others: tuple[str, ...] = ()
        """Names of the outputs after the loss, once it has run."""
        self.train(network.training)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The loss, and the other outputs without gradients."""
        found = self._compute(*tensors)
        loss = found.pop(LOSS)
        self.others = tuple(found)
        return loss, *(one.detach() for one in found.values())


def _recorder() -> Callable[[nn.Module, tuple[Tensor, ...]], Any]:
    """PyTorch's, with one memory for all shapes: they never run at the same time."""
    pool = torch.cuda.graph_pool_handle()
    # gradients are added up on the stream that recorded, which the engine waits for
    warn = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", None)
    if warn is not None:
        warn(False)

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        # weights that autocast keeps in 16 bits would be kept from one replay to the next
        with torch.autocast(
            "cuda",
            torch.get_autocast_dtype("cuda"),
            torch.is_autocast_enabled("cuda"),
            cache_enabled=False,
        ):
            return torch.cuda.make_graphed_callables(
                module, inputs, num_warmup_iters=1, allow_unused_input=True, pool=pool
            )

    return record
