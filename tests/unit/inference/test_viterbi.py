"""The Viterbi search against exhaustive search, torchaudio, and its own limits."""

import itertools
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

import speechmm
from speechmm.errors import AlignmentError
from speechmm.inference.alignment import viterbi
from speechmm.inference.alignment.viterbi import (
    ctc_states,
    monotonic_path,
    monotonic_paths,
    required_frames,
)


def legal(path: tuple[int, ...], skippable: np.ndarray) -> bool:
    """Whether a path obeys the rules, written down without any dynamic programming."""
    visited = [-1, *path, len(skippable)]
    for before, after in itertools.pairwise(visited):
        edge = before == -1 or after == len(skippable)
        move = after - before
        if move not in (0, 1, 2) or (edge and move == 0):
            return False
        if move == 2 and not skippable[before + 1]:
            return False
    return True


def exhaustive(log_probs: np.ndarray, skippable: np.ndarray) -> list[int]:
    """The best path of all there are."""
    frames, states = log_probs.shape
    best, best_path = -np.inf, []
    for path in itertools.combinations_with_replacement(range(states), frames):
        if legal(path, skippable):
            score = float(log_probs[np.arange(frames), list(path)].sum())
            if score > best:
                best, best_path = score, list(path)
    return best_path


def random_case(seed: int, frames: int, states: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(frames, states)).astype(np.float32) * 3,
        random.random(states) < 0.5,
    )


@pytest.mark.parametrize("seed", range(60))
def test_path_is_the_best_of_all_paths(seed: int) -> None:
    frames, states = 1 + seed % 8, 1 + seed % 6
    log_probs, skippable = random_case(seed, frames, states)
    best_path = exhaustive(log_probs, skippable)
    if not best_path:
        assert required_frames(skippable) > frames
        with pytest.raises(AlignmentError, match="needs at least"):
            monotonic_path(log_probs, skippable=skippable)
        return
    assert required_frames(skippable) <= frames
    assert monotonic_path(log_probs, skippable=skippable).tolist() == best_path


@pytest.mark.parametrize("frames", [7, 33, 400, 1001])
def test_blocks_give_the_same_path_as_one_pass(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_probs, skippable = random_case(frames, frames, 9)
    skippable[::2] = False
    skippable[7] = False
    skippable[4] = True
    whole = monotonic_path(log_probs, skippable=skippable) if frames >= 8 else None
    monkeypatch.setattr(viterbi, "ONE_PASS_BYTES", 1)
    if whole is None:
        with pytest.raises(AlignmentError, match="needs at least"):
            monotonic_path(log_probs, skippable=np.zeros(9, np.bool_))
    else:
        assert monotonic_path(log_probs, skippable=skippable).tolist() == whole.tolist()


def test_batch_gives_the_paths_of_its_items() -> None:
    random = np.random.default_rng(0)
    frames, tokens = np.array([12, 5, 30, 9]), np.array([5, 1, 9, 7])
    log_probs = random.normal(size=(4, 30, 9)).astype(np.float32)
    skippable = np.zeros((4, 9), np.bool_)
    skippable[:, ::2] = True
    paths = monotonic_paths(log_probs, frames, tokens, skippable=skippable)
    for item, path in enumerate(paths):
        alone = log_probs[item, : frames[item], : tokens[item]]
        expected = monotonic_path(alone, skippable=skippable[item, : tokens[item]])
        assert path.tolist() == expected.tolist()


@pytest.mark.filterwarnings("ignore:.*forced_align.*")
@pytest.mark.parametrize("seed", range(5))
def test_ctc_states_give_torchaudios_alignment(seed: int) -> None:
    random = np.random.default_rng(seed)
    tokens = random.integers(1, 4, 12)  # a small vocabulary: many equal neighbours
    log_probs = random.normal(size=(60, 4)).astype(np.float32)
    log_probs -= np.log(np.exp(log_probs).sum(1, keepdims=True))
    columns, skippable = ctc_states(tokens.tolist())
    path = monotonic_path(log_probs, skippable=skippable, columns=columns)
    expected, _ = torchaudio.functional.forced_align(
        torch.tensor(log_probs)[None], torch.tensor(tokens, dtype=torch.int32)[None]
    )
    assert columns[path].tolist() == expected[0].tolist()


def test_ctc_blank_between_equal_tokens_is_required() -> None:
    _, skippable = ctc_states([5, 5, 6])
    assert skippable.tolist() == [True, False, False, False, True, False, True]
    assert required_frames(skippable) == 4


def test_of_equal_paths_the_one_that_moves_up_earliest_is_taken() -> None:
    path = monotonic_path(np.zeros((6, 3), np.float32))
    assert path.tolist() == [0, 1, 2, 2, 2, 2]


def test_long_audio_keeps_its_precision() -> None:
    """Float32 sums of hours would lose differences of a fraction; the search does not."""
    frames = 300_000
    log_probs = np.full((frames, 2), -30.0, np.float32)
    log_probs[: frames // 2, 0] += 1e-3
    log_probs[frames // 2 :, 1] += 1e-3
    assert np.flatnonzero(np.diff(monotonic_path(log_probs))).tolist() == [frames // 2 - 1]


def test_refuses_what_has_no_path() -> None:
    with pytest.raises(AlignmentError, match="at least 3 frames and the audio has 2"):
        monotonic_path(np.zeros((2, 3), np.float32))
    with pytest.raises(AlignmentError, match="no tokens"):
        monotonic_path(np.zeros((2, 0), np.float32))
    with pytest.raises(AlignmentError, match="probability zero"):
        monotonic_path(np.full((4, 3), -np.inf, np.float32))
    with pytest.raises(AlignmentError, match="item 1"):
        monotonic_paths(
            np.zeros((2, 4, 3), np.float32),
            np.array([4, 2]),
            np.array([3, 3]),
            skippable=np.zeros((2, 3), np.bool_),
        )


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(frames: int, tokens: int) -> None:
        viterbi._check_memory(frames, tokens, viterbi._block_frames(frames, tokens))

    with monkeypatch.context() as patch:
        patch.setattr(viterbi, "MEMORY_LIMIT_BYTES", 500 * 2**20)
        check(360_000, 100_000)  # an hour
        patch.setattr(viterbi, "MEMORY_LIMIT_BYTES", 2 * 2**20)
        check(3_000, 500)
        with pytest.raises(AlignmentError, match="GiB to align"):
            check(360_000, 100_000)
    with pytest.raises(AlignmentError, match=r"GiB to align; expected at most 2 GiB"):
        viterbi._check_memory(3_600_000, 1_000_000, 4_000)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root can write all")
def test_a_read_only_install_without_a_home_still_aligns(tmp_path: Path) -> None:
    """Numba finds no place for its cache and must not need one."""
    package = tmp_path / "speechmm"
    shutil.copytree(
        Path(speechmm.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("__pycache__", ".tmp*"),
    )
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(
            stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH
        )
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    code = (
        "import numpy as np; from speechmm.inference.alignment.viterbi import monotonic_path;"
        "print(monotonic_path(np.zeros((3, 2), np.float32)).tolist())"
    )
    drop = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    result = subprocess.run(
        [*drop, sys.executable, "-B", "-c", code],
        cwd="/",
        env={"PYTHONPATH": str(tmp_path), "HOME": "/nonexistent", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755)
    assert result.stdout.strip() == "[0, 1, 1]", result.stderr
