"""Trainings in 16 bits: near those in float32, resumable, and their bundles are in float32."""

import copy
import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from safetensors.torch import load_file
from torch import nn

from speechmm.training.averaging import Averages
from speechmm.training.optimization import OptimizationConfig, make_optimizer
from speechmm.training.precision import clip_gradients

NETWORK = {"d_model": 32, "ff_dim": 48, "attention_window": 2, "conv_kernel": 3}

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(scope="module")
def sets(shop) -> tuple[Path, Path]:
    return shop.corpus("train", 8), shop.corpus("dev", 2)


def train(shop, sets: tuple[Path, Path], precision: str, optimizer: str, **trainer: Any) -> Path:
    """Six steps of a tiny model in its own folder."""
    name = f"{precision}-{optimizer}"
    config = shop.config(name, *sets, trainer={"precision": precision, "max_epochs": 2, **trainer})
    flags = [f"--model.network.{key}={value}" for key, value in NETWORK.items()]
    outcome = shop.fit(
        config, *flags, f"--model.optimization.optimizer={optimizer}", "--ckpt_path=last"
    )
    assert outcome.code == 0, outcome.err
    return shop.root / "runs" / name


def last(run: Path, name: str) -> float:
    with (run / "metrics.csv").open(newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row[name]][-1]


@pytest.fixture(scope="module", params=["adamw", "soap"])
def exact(request: pytest.FixtureRequest, shop, sets) -> tuple[str, Path]:
    return request.param, train(shop, sets, "32-true", request.param)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_16_bits_train_as_float32_does(precision: str, exact, shop, sets) -> None:
    optimizer, reference = exact
    run = train(shop, sets, precision, optimizer)
    for name in ("train/loss", "val/loss"):
        assert last(run, name) == pytest.approx(last(reference, name), rel=0.01)
    weights = load_file(run / "bundle" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    own = {value.dtype for name, value in state["current_model_state"].items() if "weight" in name}
    assert own == {torch.bfloat16 if precision == "bf16-true" else torch.float32}
    prior = state["current_model_state"]["network.heads.align.label_prior"]
    assert prior.dtype == torch.float32


def test_a_training_in_16_bits_goes_on_exactly(shop, sets) -> None:
    precision = "bf16-true"
    train(shop, sets, precision, "adamw", default_root_dir=str(shop.root / "through"))
    through = shop.root / "through"
    stopped = {"default_root_dir": str(shop.root / "stopped")}
    train(shop, sets, precision, "adamw", max_epochs=1, **stopped)
    train(shop, sets, precision, "adamw", **stopped)
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        for folder in (through, shop.root / "stopped")
    )
    for part in ("current_model_state", "state_dict"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), name


def test_weights_in_16_bits_learn_what_they_cannot_tell_apart() -> None:
    weight = nn.Linear(4, 4).to(torch.bfloat16)
    optimizer = make_optimizer(weight, OptimizationConfig(learning_rate=1e-5, weight_decay=0.0))
    before = weight.weight.detach().clone()
    for _ in range(1000):
        optimizer.zero_grad()
        weight.weight.grad = torch.ones_like(weight.weight)
        optimizer.step()
    moved = (before - weight.weight.detach()).float()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), rtol=0, atol=2e-3)
    # a saved state keeps its digits
    other = make_optimizer(weight, OptimizationConfig())
    other.load_state_dict(optimizer.state_dict())
    kept = [state["weight"] for state in other.state.values()]
    assert kept and all(value.dtype == torch.float32 for value in kept)
    assert torch.equal(kept[0], optimizer.state[weight.weight]["weight"])


def test_averages_of_16_bits_are_in_float32() -> None:
    model = nn.Linear(3, 3).to(torch.bfloat16)
    averages = Averages(model, torch.device("cpu"), 0.9)
    by_hand = model.weight.detach().float()
    for step in range(30):
        averages.update_parameters(model)
        if step:
            by_hand.lerp_(model.weight.detach().float(), 1 - min(0.9, (1 + step) / (10 + step)))
        with torch.no_grad():
            model.weight.add_(0.1)
    torch.testing.assert_close(averages.module.weight.detach(), by_hand)


@pytest.mark.parametrize("optimizer", ["adamw", "soap"])
def test_scaled_gradients_are_clipped_and_infinite_ones_skipped(optimizer: str) -> None:
    """What 16-mixed does on a GPU, here with the scaler of a CPU."""
    torch.manual_seed(0)
    scaled = nn.Linear(4, 4)
    plain = copy.deepcopy(scaled)
    config = OptimizationConfig(optimizer=optimizer)
    optimizers = [make_optimizer(model, config) for model in (scaled, plain)]
    plugin = MixedPrecision("16-mixed", "cpu")
    assert plugin.scaler is not None
    inputs = torch.randn(8, 4)
    for step in range(6):
        for one in optimizers:
            one.zero_grad()
        broken = step == 3
        plugin.scaler.scale(scaled(inputs).square().sum()).backward()
        if broken:
            scaled.weight.grad[0, 0] = torch.inf
        elif not getattr(optimizers[0], "_step_supports_amp_scaling", False):
            plugin.scaler.unscale_(optimizers[0])  # as Lightning does
        clip_gradients(plugin, optimizers[0], 0.5, None)
        plugin.scaler.step(optimizers[0])
        plugin.scaler.update()
        if not broken:
            plain(inputs).square().sum().backward()
            assert float(nn.utils.clip_grad_norm_(plain.parameters(), 0.5)) > 0.5
            optimizers[1].step()
    for one, other in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
