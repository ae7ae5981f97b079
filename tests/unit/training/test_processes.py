"""Two processes train as one on the joined batch, and none waits for another for ever."""

import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn

from speechmm.training.accumulation import Accumulation
from speechmm.training.processes import all_sum, mean_over_processes


def _child(rank: int, meeting: str, work: Callable[[int], Any], results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    try:
        results[rank] = work(rank)
    finally:
        dist.destroy_process_group()


def in_two_processes(work: Callable[[int], Any]) -> list[Any]:
    """What the work gives in each of two processes."""
    context = multiprocessing.get_context("fork")
    with TemporaryDirectory() as folder, context.Manager() as manager:
        meeting = f"file://{folder}/meeting"
        results = manager.dict()
        children = [
            context.Process(target=_child, args=(rank, meeting, work, results)) for rank in range(2)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        return [results[rank] for rank in range(2)]


COUNTS = (5, 2)


def _means(rank: int) -> tuple[float, float, float]:
    weight = torch.tensor(2.0, requires_grad=True)
    values = weight * torch.arange(1.0, COUNTS[rank] + 1)
    total = all_sum(values.sum())  # every process's values depend on it
    loss = mean_over_processes((values * total).mean(), torch.tensor(COUNTS[rank]))
    loss.backward()
    nothing = mean_over_processes(weight * 0.0, torch.tensor(0)) if rank else weight.new_zeros(())
    if not rank:
        mean_over_processes(weight * 3.0, torch.tensor(4))
    assert nothing.item() == 0.0
    assert weight.grad is not None
    return loss.item(), weight.grad.item(), total.item()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.timeout(120)
def test_means_and_gradients_are_those_of_the_joined_batch() -> None:
    found = in_two_processes(_means)
    weight = torch.tensor(2.0, requires_grad=True)
    values = torch.cat([weight * torch.arange(1.0, count + 1) for count in COUNTS])
    loss = (values * values.sum()).mean()
    loss.backward()
    assert sum(one[0] for one in found) / 2 == pytest.approx(loss.item())
    assert sum(one[1] for one in found) / 2 == pytest.approx(weight.grad.item())
    assert {one[2] for one in found} == {values.sum().item()}


def test_accumulated_batches_weigh_by_tokens() -> None:
    """Also where the last step of an epoch has fewer batches than the others."""
    rows = [torch.randn(count, 3) for count in (4, 9, 2)]
    for batches in (rows, rows[:2]):
        network, joined = nn.Linear(3, 1), nn.Linear(3, 1)
        joined.load_state_dict(network.state_dict())
        accumulation = Accumulation(3)
        for index, batch in enumerate(batches):
            loss = network(batch).square().mean()
            loss = accumulation.weigh(loss, torch.tensor(len(batch)), index)
            (loss / 3).backward()  # as Lightning does
            if index == 0:
                state = accumulation.state(network)
                network.zero_grad()
                accumulation = Accumulation(3)
                accumulation.load_state(state, network)
        accumulation.average(network)
        joined(torch.cat(batches)).square().mean().backward()
        for one, other in zip(network.parameters(), joined.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)
