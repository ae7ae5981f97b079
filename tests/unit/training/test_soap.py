"""SOAP against its definition in double precision, and what turning must not change."""

import copy

import pytest
import torch
from torch import nn

from speechmm.training.optimization import OptimizationConfig, make_optimizer
from speechmm.training.soap import EVERY_STEPS, Soap


def soap(weights: list[nn.Parameter], lr: float = 0.01, weight_decay: float = 0.0) -> Soap:
    group = {"params": weights, "turned": True, "weight_decay": weight_decay}
    return Soap([group], lr=lr, betas=(0.9, 0.95))


def definition(
    weight: torch.Tensor, gradients: list[torch.Tensor], lr: float, decay: float
) -> torch.Tensor:
    """Algorithm 3 of the paper on the left side, loops and all, for a (rows <= columns) matrix."""
    mean = torch.zeros_like(weight)
    squares = torch.zeros_like(weight)
    covariance = 0.05 * gradients[0] @ gradients[0].T  # the first gradient moves nothing
    basis = torch.linalg.eigh(covariance)[1].flip(1)
    for step, gradient in enumerate(gradients[1:], 1):
        turned = basis.T @ gradient
        mean = 0.9 * mean + 0.1 * gradient
        squares = 0.95 * squares + 0.05 * turned**2
        size = (squares / (1 - 0.95**step)).sqrt() + 1e-8
        update = basis @ ((basis.T @ mean) / (1 - 0.9**step) / size)
        weight = (1 - lr * decay) * weight - lr * update
        covariance = 0.95 * covariance + 0.05 * gradient @ gradient.T
        if step % EVERY_STEPS == 0:
            values = (basis.T @ covariance @ basis).diagonal()
            order = values.argsort(descending=True)
            basis = torch.linalg.qr(covariance @ basis[:, order])[0]
            squares = squares[order]
    return weight


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (4, 3, 5)])
def test_soap_is_its_definition(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64)
    mixing = torch.randn(shape[0], shape[0], dtype=torch.float64)
    gradients = [
        (mixing @ torch.randn(shape, dtype=torch.float64).flatten(1)).view(shape) for _ in range(34)
    ]
    weight = nn.Parameter(start.clone())
    optimizer = soap([weight], weight_decay=0.1)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    flat, flat_gradients = start.flatten(1), [one.flatten(1) for one in gradients]
    if flat.shape[0] > flat.shape[1]:
        expected = definition(flat.T, [one.T for one in flat_gradients], 0.01, 0.1).T
    else:
        expected = definition(flat, flat_gradients, 0.01, 0.1)
    assert torch.allclose(weight.detach().flatten(1), expected, atol=1e-9)


def losses(turning: torch.Tensor, optimizer_of) -> list[float]:
    """Of a regression whose weights and targets are turned by an orthogonal matrix."""
    torch.manual_seed(1)
    inputs, targets = torch.randn(64, 12), torch.randn(64, 6)
    scales = torch.logspace(0, -2, 6)
    weight = nn.Parameter(turning @ (0.3 * torch.randn(6, 12)))
    optimizer = optimizer_of([weight])
    seen = []
    for _ in range(40):
        optimizer.zero_grad()
        difference = inputs @ (turning.T @ weight).T - targets
        loss = (difference.square() * scales).mean()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    return seen


def test_soap_does_not_mind_how_the_smaller_side_is_turned_and_adam_does() -> None:
    torch.manual_seed(2)
    turning = torch.linalg.qr(torch.randn(6, 6))[0]
    straight, turned = (losses(one, soap) for one in (torch.eye(6), turning))
    assert straight == pytest.approx(turned, rel=1e-3)
    straight, turned = (
        losses(one, lambda weights: torch.optim.AdamW(weights, lr=0.01))
        for one in (torch.eye(6), turning)
    )
    assert straight != pytest.approx(turned, rel=1e-2)


def test_a_basis_that_is_the_identity_leaves_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "speechmm.training.soap.eigenbasis",
        lambda matrices: torch.eye(matrices.shape[-1]).expand_as(matrices),
    )
    torch.manual_seed(3)
    ours = nn.Parameter(torch.randn(5, 8))
    theirs = nn.Parameter(ours.detach().clone())
    optimizers = (
        soap([ours], weight_decay=0.1),
        torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1),
    )
    ours.grad = torch.randn(5, 8)
    optimizers[0].step()  # the first gradient moves nothing
    for _ in range(EVERY_STEPS - 1):
        gradient = torch.randn(5, 8)
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_gradients_of_zero_are_no_harm() -> None:
    weight = nn.Parameter(torch.randn(4, 6))
    before = weight.detach().clone()
    optimizer = soap([weight])
    for _ in range(2 * EVERY_STEPS):
        weight.grad = torch.zeros(4, 6)
        optimizer.step()
    assert torch.equal(weight, before)
    weight.grad = torch.randn(4, 6)
    optimizer.step()
    assert weight.isfinite().all() and not torch.equal(weight, before)


class Parts(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 40)
        self.linear = nn.Linear(40, 64)
        self.narrow = nn.Linear(40, 8)
        self.conv = nn.Conv1d(64, 48, 3)
        self.frozen = nn.Linear(40, 40).requires_grad_(False)


def test_make_optimizer_turns_wide_matrices_only() -> None:
    parts = Parts()
    optimizer = make_optimizer(parts, OptimizationConfig(optimizer="soap", weight_decay=0.5))
    named = {id(weight): name for name, weight in parts.named_parameters()}
    groups = {
        (group["turned"], group["weight_decay"]): {named[id(w)] for w in group["params"]}
        for group in optimizer.param_groups
    }
    assert groups == {
        (True, 0.5): {"linear.weight", "conv.weight"},
        (False, 0.5): {"embedding.weight", "narrow.weight"},
        (False, 0.0): {"linear.bias", "narrow.bias", "conv.bias"},
    }


def test_a_saved_optimizer_goes_on_exactly() -> None:
    torch.manual_seed(4)
    first = Parts()
    inputs = torch.randint(50, (2 * EVERY_STEPS + 5, 7, 20))

    def train(parts: Parts, optimizer: torch.optim.Optimizer, batches: torch.Tensor) -> None:
        for batch in batches:
            optimizer.zero_grad()
            hidden = parts.linear(parts.embedding(batch))
            loss = parts.conv(hidden.transpose(1, 2)).square().mean()
            (loss + parts.narrow(parts.embedding(batch)).square().mean()).backward()
            optimizer.step()

    config = OptimizationConfig(optimizer="soap")
    optimizer = make_optimizer(first, config)
    train(first, optimizer, inputs[:13])
    second = copy.deepcopy(first)
    resumed = make_optimizer(second, config)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(first, optimizer, inputs[13:])
    train(second, resumed, inputs[13:])
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
