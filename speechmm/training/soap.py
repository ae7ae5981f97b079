"""SOAP: AdamW in the eigenbasis of each matrix's gradients, on the matrix's smaller side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

EVERY_STEPS = 10
"""Steps between two looks at the basis; Vyas et al. lose little up to 100."""


class Soap(torch.optim.Optimizer):
    """One-sided SOAP (Vyas et al. 2024, arXiv:2409.11321, algorithm 3 with one of its two bases).

    A gradient G of (rows, columns), rows <= columns, is turned by Q (rows, rows): Q^T G, where Q
    holds the eigenvectors of the running mean of G G^T, largest eigenvalue first. Adam's means and
    AdamW's step are those of the turned gradient, and the step is turned back. Q is found exactly
    at the first step and followed afterwards by one power iteration and a QR decomposition every
    ``EVERY_STEPS`` steps. A matrix with fewer columns than rows is its transpose here; of a kernel
    with more dimensions all but the first are one. Parameters in groups with ``turned``
    False get AdamW as it is.

    Each turned matrix costs 6 * min(rows, columns) * rows * columns operations a step, however
    large the batch. All processes find the same bases from the same gradients; parameters cut over
    several processes (FSDP) are not matrices any more and need AdamW.

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
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights and group["turned"]:
                self._turned_step(weights, group)
            elif weights:
                gradients = [weight.grad for weight in weights]
                states = [self._moments(weight, weight.grad) for weight in weights]
                apply_adamw(weights, gradients, states, group, group["weight_decay"])
        return loss

    def _turned_step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """A step in the bases, which then learn from the gradients."""
        gradients = [wide(weight.grad) for weight in weights if weight.grad is not None]
        states = []
        for weight, gradient in zip(weights, gradients, strict=True):
            state = self._moments(weight, gradient)
            if "basis" not in state:
                state["covariance"] = gradient @ gradient.T
                state["basis"] = eigenbasis(state["covariance"])
            states.append(state)
        turned = [state["basis"].T @ one for one, state in zip(gradients, states, strict=True)]
        updates = [torch.zeros_like(one) for one in turned]
        apply_adamw(updates, turned, states, group, 0.0)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for weight, update, state in zip(weights, updates, states, strict=True):
            wide(weight).add_(state["basis"] @ update)
        group["steps"] += 1  # each weight's own count is on its device, and asking it would wait
        for gradient, state in zip(gradients, states, strict=True):
            state["covariance"].lerp_(gradient @ gradient.T, 1 - group["betas"][1])
            if group["steps"] % EVERY_STEPS == 0:
                follow(state)

    def _moments(self, weight: Tensor, like: Tensor) -> dict[str, Tensor]:
        """Step count and Adam's two means of one parameter, made when first asked for."""
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            for mean in ("exp_avg", "exp_avg_sq"):
                state[mean] = torch.zeros_like(like, memory_format=torch.contiguous_format)
        return state


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


def eigenbasis(matrix: Tensor) -> Tensor:
    """Eigenvectors of a symmetric matrix as columns, largest eigenvalue first."""
    vectors: Tensor = torch.linalg.eigh(matrix.float())[1]
    return vectors.flip(1).contiguous().to(matrix.dtype)


def follow(state: dict[str, Tensor]) -> None:
    """Moves a basis towards the eigenvectors of its covariance, and the first means with it.

    One step of orthogonal iteration (algorithm 4). The mean of the gradients is turned into the
    new basis; the squares only take the new order, as they cannot be turned.
    """
    basis = state["basis"]
    product = (state["covariance"] @ basis).float()
    order = (basis.float() * product).sum(0).argsort(descending=True)
    found = torch.linalg.qr(product[:, order])[0].to(basis.dtype)
    mean, squares = state["exp_avg"], state["exp_avg_sq"]
    mean.copy_(found.T @ (basis @ mean))
    squares.copy_(squares[order])
    basis.copy_(found)
