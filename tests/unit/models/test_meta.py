"""Modules without values have the names, shapes and types of ordinary ones."""

import torch
from torch import nn

from speechmm.models.meta import without_values


class Parts(nn.Module):
    """One of each kind of weight that PyTorch initialises differently."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.embedding = nn.Embedding(5, 3, padding_idx=0)
        self.convolution = nn.Conv1d(2, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.recurrent = nn.LSTM(3, 2, bidirectional=True)
        self.own = nn.Parameter(nn.init.normal_(tensor=torch.empty(2, 2), std=0.1))
        nn.init.xavier_uniform_(self.own)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("positions", torch.arange(7))


def test_they_are_like_ordinary_ones_and_nothing_is_drawn():
    torch.manual_seed(1)
    ordinary = Parts().state_dict()
    state = torch.get_rng_state()
    with without_values():
        empty = Parts()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.is_meta for value in empty.state_dict().values())
    kinds = {name: (value.shape, value.dtype) for name, value in empty.state_dict().items()}
    assert kinds == {name: (value.shape, value.dtype) for name, value in ordinary.items()}
    empty.load_state_dict(ordinary, assign=True)
    assert all(torch.equal(value, ordinary[name]) for name, value in empty.state_dict().items())


def test_afterwards_weights_have_values_again():
    with without_values():
        nn.Linear(2, 2)
    assert nn.Linear(2, 2).weight.abs().sum() > 0
