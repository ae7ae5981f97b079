"""Recorded passes compute what passes compute, and recording leaves no trace."""

import csv
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speechmm.training.cuda_graphs import RecordedPasses


class Network(nn.Module):
    """A layer, random numbers, a running mean, and a parameter that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.idle = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(()))

    def compute(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Losses of a batch."""
        out = self.dropout(self.layer(x))
        with torch.no_grad():
            self.mean.lerp_(out.mean(), 0.1)
        square = (out - y).square().mean()
        return {"square": square, "loss": 2 * square + self.mean, "out": out.detach()}


class Recorder:
    """Runs a module as making its recording would, and gives the module in place of a recording."""

    def __init__(self) -> None:
        self.shapes: list[torch.Size] = []

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        for _ in range(3):
            module(*inputs)
        self.shapes.append(inputs[0].shape)
        return module


def run(passes: Any, network: Network, rows: list[int], device: str = "cpu") -> list[Tensor]:
    """Losses, other outputs, gradients and means of one batch after the other."""
    return [
        one for step, count in enumerate(rows) for one in take(passes, network, step, count, device)
    ]


def take(passes: Any, network: Network, step: int, rows: int, device: str) -> list[Tensor]:
    torch.manual_seed(step)
    x, y = (torch.randn(rows, 4).to(device) for _ in range(2))
    network.zero_grad()
    losses = passes(network.compute, (x, y))
    (3 * losses["loss"]).backward()
    assert network.idle.grad is None or not network.idle.grad.any()
    assert network.layer.weight.grad is not None
    found = [losses["square"].detach(), losses["out"], losses["loss"].detach()]
    return [*found, network.layer.weight.grad.clone(), network.mean.clone()]


def plainly(compute: Any, tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = compute(*tensors)
    return found


TINY = {"d_model": 16, "heads": 2, "ff_dim": 16, "encoder_layers": 1, "decoder_layers": 1}
ROWS = [2, 3, 2, 2, 5, 3, 3, 7]


def networks(device: str) -> tuple[Network, Network]:
    torch.manual_seed(0)
    one, other = Network().to(device), Network().to(device)
    other.load_state_dict(one.state_dict())
    return one, other


def test_a_shape_is_recorded_when_it_comes_again_and_changes_nothing() -> None:
    one, other = networks("cpu")
    recorder = Recorder()
    found = run(RecordedPasses(one, recorder), one, ROWS)
    torch.testing.assert_close(found, run(plainly, other, ROWS), rtol=0, atol=0)
    assert [shape[0] for shape in recorder.shapes] == [2, 3]


def test_no_more_shapes_are_recorded_than_there_is_room_for() -> None:
    one, _ = networks("cpu")
    recorder = Recorder()
    run(RecordedPasses(one, recorder, most=1), one, [*ROWS, 5, 7])
    assert [shape[0] for shape in recorder.shapes] == [2]


def test_where_recording_fails_passes_run_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    one, other = networks("cpu")

    def fails(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        module(*inputs)
        raise RuntimeError("CUDA error: out of memory\nCompile with ...")

    found = run(RecordedPasses(one, fails), one, ROWS)
    torch.testing.assert_close(found, run(plainly, other, ROWS), rtol=0, atol=0)
    assert caplog.messages == ["no more passes are recorded: CUDA error: out of memory"]


def test_outputs_outlive_the_next_replay() -> None:
    one, _ = networks("cpu")
    kept = torch.zeros(2, 4)

    def over_the_last(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        def replay(*tensors: Tensor) -> tuple[Tensor, ...]:
            loss, square, out = module(*tensors)
            kept.copy_(out)
            return loss, square, kept

        module(*inputs)
        return replay

    passes = RecordedPasses(one, over_the_last)
    x = torch.randn(2, 4)
    outputs = [passes(one.compute, (x, x))["out"] for _ in range(3)]
    assert not torch.equal(outputs[1], outputs[2])


def losses_of(shop: Any, name: str) -> list[float]:
    with (shop.root / "runs" / name / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [float(row[key]) for row in rows for key in sorted(row) if "loss" in key and row[key]]


@pytest.mark.usefixtures("no_picture")
def test_a_training_that_records_learns_the_same(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, dev = shop.corpus("train", 12), shop.corpus("dev", 2)
    tasks = {"align": {"warmup_steps": 2}, "guided_attention": {"weight": 0.3}}
    model = {
        "network": {**TINY, "dropout": 0.0},  # which padding would draw otherwise
        "tasks": tasks,
        "augmentation": {"recombination": {"share": 0.5, "after_epochs": 1}},
    }
    trainer = {"max_epochs": 4}
    plain = shop.config("plain", train, dev, model=model, trainer=trainer)
    assert shop.fit(plain).code == 0
    recorder = Recorder()
    recorded = functools.partial(RecordedPasses, record=recorder)
    monkeypatch.setattr("speechmm.training.module.RecordedPasses", recorded)
    monkeypatch.setattr("speechmm.training.module.choose_for", lambda *_: "graphs")
    again = shop.config("recorded", train, dev, model=model, trainer=trainer)
    assert shop.fit(again).code == 0
    assert recorder.shapes
    assert losses_of(shop, "recorded") == pytest.approx(losses_of(shop, "plain"), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_replays_give_what_passes_give() -> None:
    one, other = networks("cuda")
    found = run(RecordedPasses(one), one, ROWS, "cuda")
    torch.testing.assert_close(found, run(plainly, other, ROWS, "cuda"))
