"""SOAP: AdamW in the eigenbasis of each matrix's gradients, on the matrix's smaller side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from speechmm.models.precision import at_least_float32

EVERY_STEPS = 10
"""Steps between two looks at the basis; Vyas et al. lose little up to 100."""


Turning = tuple[Tensor, Tensor, dict[str, Tensor]]
"""A matrix, its gradient, and their state."""


class Soap(torch.optim.Optimizer):
    """One-sided SOAP (Vyas et al. 2024, arXiv:2409.11321, algorithm 3 with one of its two bases).

    A gradient G of (rows, columns), rows <= columns, is turned by Q (rows, rows): Q^T G, where Q
    holds the eigenvectors of the running mean of G G^T, largest eigenvalue first. Adam's means and
    AdamW's step are those of the turned gradient, and the step is turned back. As in the authors'
    code, the first gradient of a matrix only starts the mean, with the weight of any other, and gives
    the first Q, found exactly; the matrix moves from the second on. Q is followed by one power
    iteration and a QR decomposition every ``EVERY_STEPS`` steps. A matrix with fewer columns than
    rows is its transpose here; of a kernel with more dimensions all but the first are one. Parameters
    in groups with ``turned`` False get AdamW as it is.

    Weights in 16 bits are the rounded values of weights in float32, which are kept in the state
    and learn: most steps are smaller than what 16 bits can tell apart.

    Each turned matrix costs 6 * min(rows, columns) * rows * columns operations a step, however
    large the batch; matrices of one shape go together. All processes find the same bases from the
    same gradients; parameters cut over several processes (FSDP) are not matrices any more and
    need AdamW.

    Args:
        groups: parameter groups, each with ``params`` and ``weight_decay``, and ``turned`` True
            for matrices to turn; the mean of G G^T forgets as fast as the squares do.
        lr: step size, as AdamW's.
        betas: of groups that do not name their own.
        eps: added to the root of the squares.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "turned": False, "steps": 0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient; returns what ``closure`` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rounded = [weight for weight in group["params"] if weight.grad is not None]
            if not rounded:
                continue
            weights = [self._exact(weight) for weight in rounded]
            gradients = [
                weight.grad.to(one.dtype) for weight, one in zip(rounded, weights, strict=True)
            ]
            states = [
                self._moments(weight, wide(gradient) if group["turned"] else gradient)
                for weight, gradient in zip(rounded, gradients, strict=True)
            ]
            if group["turned"]:
                turned_step(weights, gradients, states, group)
            else:
                apply_adamw(weights, gradients, states, group, group["weight_decay"])
            if weights[0] is not rounded[0]:
                torch._foreach_copy_(rounded, weights)
        return loss

    def _exact(self, weight: Tensor) -> Tensor:
        """The weight itself, or what it is rounded from."""
        if weight.dtype.itemsize >= 4:
            return weight
        state = self.state[weight]
        if "weight" not in state:
            state["weight"] = weight.detach().float()
        exact: Tensor = state["weight"]
        return exact

    def _moments(self, weight: Tensor, like: Tensor) -> dict[str, Tensor]:
        """Step count and Adam's two means of one parameter, made when first asked for."""
        state: dict[str, Tensor] = self.state[weight]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            for mean in ("exp_avg", "exp_avg_sq"):
                state[mean] = torch.zeros_like(like, memory_format=torch.contiguous_format)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a saved state, every value of which keeps its precision."""
        super().load_state_dict(state_dict)
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for number, saved in state_dict["state"].items():
            weight = weights[number]
            self.state[weight] = {
                name: value.to(weight.device, copy=True) for name, value in saved.items()
            }


def turned_step(
    weights: list[Tensor],
    gradients: list[Tensor],
    states: list[dict[str, Tensor]],
    group: dict[str, Any],
) -> None:
    """A step of matrices in their bases, which then learn from the gradients."""
    fresh: list[Turning] = []
    moving: list[Turning] = []
    for weight, gradient, state in zip(weights, gradients, states, strict=True):
        (moving if "basis" in state else fresh).append((wide(weight), wide(gradient), state))
    memory = group["betas"][1]
    if moving:
        group["steps"] += 1  # each weight's own count is on its device, and asking it would wait
    for alike in by_shape(moving):
        stacked = torch.stack([gradient for _, gradient, _ in alike])
        bases = torch.stack([state["basis"] for *_, state in alike])
        turned = (bases.mT @ stacked).unbind()
        updates = [torch.zeros_like(one) for one in turned]
        apply_adamw(updates, list(turned), [state for *_, state in alike], group, 0.0)
        matrices = [matrix for matrix, *_ in alike]
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, list((bases @ torch.stack(updates)).unbind()))
        covariances = [state["covariance"] for *_, state in alike]
        torch._foreach_lerp_(covariances, list((stacked @ stacked.mT).unbind()), 1 - memory)
        if group["steps"] % EVERY_STEPS == 0:
            follow([state for *_, state in alike])
    for alike in by_shape(fresh):
        stacked = torch.stack([gradient for _, gradient, _ in alike])
        covariances = list(((1 - memory) * (stacked @ stacked.mT)).unbind())
        bases = eigenbasis(torch.stack(covariances))
        for (*_, state), covariance, basis in zip(alike, covariances, bases, strict=True):
            state["covariance"], state["basis"] = covariance.clone(), basis.clone()


def by_shape(matrices: Iterable[Turning]) -> Iterable[list[Turning]]:
    """Those of one shape together."""
    found: dict[torch.Size, list[Turning]] = {}
    for one in matrices:
        found.setdefault(one[0].shape, []).append(one)
    return found.values()


def apply_adamw(
    weights: list[Tensor],
    gradients: list[Tensor],
    states: list[dict[str, Tensor]],
    group: dict[str, Any],
    weight_decay: float,
) -> None:
    """Fused AdamW on the weights in place; their states move on."""
    adamw(
        weights,
        gradients,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        fused=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=weight_decay,
        eps=group["eps"],
        maximize=False,
    )


def wide(weight: Tensor) -> Tensor:
    """A view of the weight as a matrix (rows, columns) with rows <= columns."""
    matrix = weight.view(len(weight), -1)
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def eigenbasis(matrices: Tensor) -> Tensor:
    """Eigenvectors of symmetric matrices as columns, largest eigenvalue first."""
    vectors: Tensor = torch.linalg.eigh(at_least_float32(matrices))[1]
    return vectors.flip(-1).to(matrices.dtype)


def follow(states: list[dict[str, Tensor]]) -> None:
    """Moves bases towards the eigenvectors of their covariances, and the first means with them.

    One step of orthogonal iteration (algorithm 4) for matrices of one shape. The mean of the
    gradients is turned into the new basis; the squares only take the new order, as they cannot be
    turned.
    """
    bases, covariances, means, squares = (
        torch.stack([state[name] for state in states])
        for name in ("basis", "covariance", "exp_avg", "exp_avg_sq")
    )
    product = covariances @ bases
    order = (bases * product).sum(1).argsort(descending=True, dim=1)[:, None, :]
    found = torch.linalg.qr(product.gather(2, order.expand_as(product)))[0]
    means = found.mT @ (bases @ means)
    squares = squares.gather(1, order.mT.expand_as(squares))
    for state, basis, mean, square in zip(states, found, means, squares, strict=True):
        state["basis"].copy_(basis)
        state["exp_avg"].copy_(mean)
        state["exp_avg_sq"].copy_(square)
