"""Layers compile once for all shapes, and padding to few shapes changes no loss."""

import math
import subprocess
import sys

import lightning as L
import pytest
import torch

from speechmm.errors import ConfigError
from speechmm.training.compiling import choose, choose_for, padded_size
from speechmm.training.sharding import FullyShared

SCRIPT = """
import copy, torch
import torch._dynamo as dynamo
from torch import nn
from speechmm.models.attention import Rotary, attention_bias
from speechmm.models.transformer import EncoderLayer
from speechmm.training.compiling import compile_layers

plain = EncoderLayer(16, 2, 16, 3, 0.0)
layer = copy.deepcopy(plain)
compile_layers(nn.ModuleList([layer]), "layers", backend="aot_eager")
assert layer.state_dict().keys() == plain.state_dict().keys()
graphs = []
for rows, frames in [(3, 16), (4, 24), (2, 32), (5, 40), (3, 16)]:
    x = torch.randn(rows, frames, 16)
    mask = torch.arange(frames)[None] < torch.arange(frames - rows, frames)[:, None]
    bias = attention_bias(mask, like=x)
    inputs = (x, Rotary(0, frames, 8, like=x), bias, mask[:, :, None].float())
    found, expected = layer(*inputs), plain(*inputs)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    graphs.append(dynamo.utils.counters["stats"]["unique_graphs"])
assert graphs[1:] == [2, 2, 2, 2], graphs
assert not dynamo.utils.counters["graph_break"]
"""


def test_a_layer_is_compiled_twice_at_most() -> None:
    """In a process of its own: shape checks of the test suite are no part of a model."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [1, 8, 9, 100, 1000, 1025])
def test_sizes_are_few_and_not_much_larger(size: int) -> None:
    assert 0 <= padded_size(size, 8, "layers") - size < 8
    graphs = padded_size(size, 8, "graphs")
    assert graphs % 8 == 0 and graphs - size < max(8, size / 7)
    assert len({padded_size(one, 8, "graphs") for one in range(1024, 2049)}) <= 9


def test_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose(cpu, lambda: math.inf) == "off"
    monkeypatch.setattr(torch.utils._triton, "has_triton", lambda: True)
    assert choose(gpu, lambda: 500.0) == "graphs"  # too short to be worth compiling
    assert choose(gpu, lambda: math.inf) == "both"
    assert choose(gpu, lambda: 500.0, recordable=False) == "off"
    assert choose(gpu, lambda: math.inf, recordable=False) == "layers"
    monkeypatch.setattr(torch.utils._triton, "has_triton", lambda: False)
    assert choose(gpu, lambda: math.inf) == "graphs"


def test_what_does_not_go_with_compiling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    shared = L.Trainer(**quiet, strategy=FullyShared())

    def steps() -> float:
        return math.inf

    assert choose_for(shared, "auto", steps) == "off"
    with pytest.raises(ConfigError, match=r"compile is layers and .* expected off"):
        choose_for(shared, "layers", steps)
    accumulating = L.Trainer(**quiet, accumulate_grad_batches=2)
    assert choose_for(accumulating, "layers", steps) == "layers"
    for how in ("graphs", "both"):
        with pytest.raises(ConfigError, match=rf"compile is {how} and .* expected a CUDA GPU"):
            choose_for(accumulating, how, steps)
        with monkeypatch.context() as patch, pytest.raises(ConfigError, match="expected 1 of each"):
            patch.setattr(type(accumulating.strategy), "root_device", torch.device("cuda"))
            choose_for(accumulating, how, steps)
