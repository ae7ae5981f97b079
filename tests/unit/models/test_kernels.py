"""Every version of the kernels against all paths, one another, and what a GPU may not do."""

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechmm.models.forward_sum import forward_sum_loss
from speechmm.models.kernels import dispatch, loading, tensor_forward_backward, tensor_viterbi

Case = tuple[Tensor, Tensor, Tensor, Tensor]
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def random_batch(seed: int, *, batch: int = 4, frames: int = 7, tokens: int = 6) -> Case:
    """Padded utterances: long, short, of one frame or token, impossible, with -inf, with ties."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(batch, frames, tokens)) * 3
    if seed % 3 == 1:
        scores[random.random(scores.shape) < 0.15] = -np.inf
    if seed % 3 == 2:
        scores = scores.round()
    lengths = random.integers(1, frames + 1, batch)
    sizes = random.integers(1, tokens + 1, batch)
    skippable = random.random((batch, tokens)) < random.choice([0.0, 0.5, 1.0])
    return (
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(lengths),
        torch.tensor(sizes),
        torch.tensor(skippable),
    )


def all_paths(frames: int, skippable: list[bool]) -> list[tuple[int, ...]]:
    """Every monotonic path, by trying them all."""
    found = []
    for path in itertools.combinations_with_replacement(range(len(skippable)), frames):
        moves = list(itertools.pairwise((-1, *path, len(skippable))))
        inner = moves[1:-1]
        ends = moves[0][1] - moves[0][0], moves[-1][1] - moves[-1][0]
        if max(*ends, *(b - a for a, b in inner), 0) <= 2 and all(
            skippable[a + 1] for a, b in moves if b - a == 2
        ):
            found.append(path)
    return found


def enumerated(case: Case) -> tuple[Tensor, Tensor]:
    """Totals, and their gradients, in float64 over all paths."""
    scores = case[0].double().requires_grad_()
    totals, gradients = [], torch.zeros_like(scores)
    for item in range(len(scores)):
        frames, size = int(case[1][item]), int(case[2][item])
        paths = all_paths(frames, case[3][item, :size].tolist())
        sums = [sum(scores[item, t, k] for t, k in enumerate(path)) for path in paths]
        sums = [one for one in sums if one > -torch.inf]
        if not sums:
            totals.append(torch.tensor(-torch.inf, dtype=torch.float64))
            continue
        totals.append(torch.logsumexp(torch.stack(sums), 0))
        gradients += torch.autograd.grad(totals[-1], scores)[0].nan_to_num()
    return torch.stack(totals).detach(), gradients


def in_interpreter(function: str, cases: list[Case], folder: Path) -> list[tuple[Tensor, Tensor]]:
    """What a Triton kernel gives; a process of its own, as Triton must be told before its import."""
    torch.save(cases, folder / "cases.pt")
    code = (
        "import sys, torch, importlib; module, name = sys.argv[1].split('.');"
        "kernels = importlib.import_module('speechmm.models.kernels.' + module);"
        "cases = torch.load('cases.pt');"
        "torch.save([getattr(kernels, name)(*case) for case in cases], 'found.pt')"
    )
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    root = Path(dispatch.__file__).parents[3]
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{environment.get('PYTHONPATH', '')}"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, function],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return torch.load(folder / "found.pt")


def needs_triton() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")


def assert_sums(found: tuple[Tensor, Tensor], totals: Tensor, occupancy: Tensor) -> None:
    torch.testing.assert_close(found[0].double(), totals, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found[1].double(), occupancy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(24))
def test_sums_equal_those_over_all_paths(seed: int) -> None:
    case = random_batch(seed)
    expected = enumerated(case)
    assert_sums(dispatch.forward_backward(*case), *expected)
    assert_sums(dispatch.forward_backward(*case, compiled=False), *expected)


def test_the_device_kernel_sums_over_all_paths(tmp_path: Path) -> None:
    needs_triton()
    cases = [random_batch(seed) for seed in range(9)]
    found = in_interpreter("device_forward_backward.forward_backward", cases, tmp_path)
    for case, one in zip(cases, found, strict=True):
        assert_sums(one, *enumerated(case))


def misleading(frames: int, tokens: int) -> Case:
    """Scores that favour by far what no path can take."""
    torch.manual_seed(1)
    scores = torch.randn(1, frames, tokens) * 4
    scores[:, :, 0] += 30.0
    return scores, torch.tensor([frames]), torch.tensor([tokens]), torch.rand(1, tokens) < 0.2


def test_long_sums_are_exact() -> None:
    case = misleading(3000, 300)
    totals, occupancy = dispatch.forward_backward(*case)
    found = tensor_forward_backward.forward_backward(*case)
    assert (found[0] - totals).abs().item() < 1e-4
    assert (found[1] - occupancy).abs().max().item() < 1e-4


def test_the_device_kernel_sums_what_differs_by_thousands(tmp_path: Path) -> None:
    needs_triton()
    case = misleading(60, 50)  # the interpreter takes a hundredth of a second a frame
    (found,) = in_interpreter("device_forward_backward.forward_backward", [case], tmp_path)
    assert_sums(found, *(one.double() for one in dispatch.forward_backward(*case)))


@pytest.mark.parametrize("seed", range(30))
def test_searches_in_tensors_and_compiled_agree(seed: int) -> None:
    frames = 7 if seed % 2 else 80  # beyond the frames after which scores are brought back to 0
    case = random_batch(seed, batch=5, frames=frames, tokens=9)
    loading.load("viterbi")
    paths, possible = dispatch.best_paths(*case)
    others = tensor_viterbi.best_paths(*case)
    assert others[1].tolist() == possible.tolist()
    for item in possible.nonzero()[:, 0].tolist():
        length = int(case[1][item])
        assert others[0][item, :length].tolist() == paths[item, :length].tolist()


def test_the_device_search_agrees(tmp_path: Path) -> None:
    needs_triton()
    cases = [random_batch(seed, frames=7 + 40 * (seed % 2), tokens=9) for seed in range(9)]
    found = in_interpreter("device_viterbi.best_paths", cases, tmp_path)
    for case, (others, also) in zip(cases, found, strict=True):
        paths, possible = tensor_viterbi.best_paths(*case)
        assert also.tolist() == possible.tolist()
        for item in possible.nonzero()[:, 0].tolist():
            length = int(case[1][item])
            assert others[item, :length].tolist() == paths[item, :length].tolist()


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SUM_THREAD_CELLS", 0)
    case = random_batch(3, batch=9, frames=300, tokens=60)
    case = case[0].nan_to_num(neginf=-9.0), *case[1:]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = dispatch.forward_backward(*case)
        torch.set_num_threads(4)
        together = dispatch.forward_backward(*case)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone[0], together[0]) and torch.equal(alone[1], together[1])


def test_empty_utterances_have_no_path() -> None:
    scores, skippable = torch.zeros(2, 3, 2), torch.zeros(2, 2, dtype=torch.bool)
    case = scores, torch.tensor([0, 3]), torch.tensor([2, 0]), skippable
    for compiled in (True, False):
        totals, occupancy = dispatch.forward_backward(*case, compiled=compiled)
        assert totals.tolist() == [-torch.inf] * 2 and not occupancy.any()
    assert not tensor_viterbi.best_paths(*case)[1].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_are_exact_whatever_the_precision_of_scores(dtype: torch.dtype) -> None:
    case = random_batch(0, frames=60, tokens=9)
    scores = case[0].to(dtype).requires_grad_()
    loss, occupancy = forward_sum_loss(scores, *case[1:])
    loss.backward()
    exact, _ = forward_sum_loss(scores.detach().float(), *case[1:])
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    assert scores.grad is not None and scores.grad.dtype == dtype and scores.grad.isfinite().all()
    expected = -(occupancy / (case[1] * occupancy[:, 0].any(dim=1)).sum())
    torch.testing.assert_close(scores.grad, expected.to(dtype))


def test_only_impossible_utterances_lose_nothing() -> None:
    scores = torch.randn(2, 2, 5, requires_grad=True)
    loss, _ = forward_sum_loss(
        scores, torch.tensor([2, 2]), torch.tensor([5, 4]), torch.zeros(2, 5, dtype=torch.bool)
    )
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad is not None and not scores.grad.any()


@ON_GPU
@pytest.mark.parametrize("frames, tokens", [(7, 6), (300, 200), (1200, 400)])
def test_on_a_gpu_nothing_waits_and_all_agrees(
    frames: int, tokens: int, no_waits: Callable[[], Any]
) -> None:
    case = random_batch(3, batch=6, frames=frames, tokens=tokens)
    scores, *sizes = (one.cuda() for one in case)
    scores.requires_grad_()
    forward_sum_loss(scores, *sizes)[0].backward()  # compiled
    dispatch.best_paths(scores, *sizes)
    scores.grad = None
    with no_waits():
        loss, occupancy = forward_sum_loss(scores, *sizes)
        loss.backward()
        paths, possible = dispatch.best_paths(scores, *sizes)
        in_tensors = tensor_forward_backward.forward_backward(scores.detach(), *sizes)
        tensor_viterbi.best_paths(scores.detach(), *sizes)
    assert scores.grad is not None and scores.grad.isfinite().all()
    totals, expected = dispatch.forward_backward(*case)
    torch.testing.assert_close(occupancy.cpu(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(in_tensors[0].cpu(), totals)
    others, also = tensor_viterbi.best_paths(*case)
    assert also.tolist() == possible.tolist()
    for item in also.nonzero()[:, 0].tolist():
        length = int(case[1][item])
        assert paths[item, :length].tolist() == others[item, :length].tolist()
