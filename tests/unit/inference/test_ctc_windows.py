"""The windows of CTC against a sum over all its paths."""

import itertools

import numpy as np
import pytest
import torch

from speechmm.inference.alignment.ctc_labels import CtcLabels
from speechmm.inference.alignment.ctc_utterances import CtcUtterance, place_by_ctc
from speechmm.inference.alignment.ctc_windows import (
    MAX_NATS,
    WINDOW_OUTER_SHARE,
    CtcWindows,
    find_windows,
    window_costs,
)
from speechmm.inference.alignment.frame_times import FrameClock
from speechmm.inference.alignment.viterbi import ctc_states
from speechmm.text.tokenizer import AlignedTokens

SUBSAMPLING = 4


def windows_of(one: CtcUtterance) -> CtcWindows | None:
    """Of an utterance alone, and the same in a batch beside a longer one."""
    longer = utterance(np.zeros((60, one.log_probs.shape[1]), np.float32), one.labels, one.tokens)
    (alone,) = find_windows([one], torch.device("cpu"))
    beside, _ = find_windows([one, longer], torch.device("cpu"))
    if alone is None or beside is None:
        assert alone is beside
        return alone
    assert np.array_equal(alone.first, beside.first) and np.array_equal(alone.last, beside.last)
    return alone


def utterance(log_probs: np.ndarray, labels: CtcLabels, tokens: int) -> CtcUtterance:
    clock = FrameClock(hop=0.04, frames=len(log_probs), duration=0.04 * len(log_probs))
    return CtcUtterance(
        log_probs=log_probs, labels=labels, tokens=tokens, clock=clock, subsampling=SUBSAMPLING
    )


def occupancies(log_probs: np.ndarray, ids: list[int]) -> np.ndarray:
    """(frames, labels): the probability of being in each label, by all paths one after another."""
    columns, skippable = ctc_states(ids)
    states, found = len(columns), np.zeros((len(log_probs), len(columns)))
    for path in itertools.product(range(states), repeat=len(log_probs)):
        steps = np.diff(path)
        legal = (
            path[0] <= 1 and path[-1] >= states - 2 and (steps >= 0).all() and (steps <= 2).all()
        )
        jumped = [path[index] + 1 for index in np.flatnonzero(steps == 2)]
        if legal and all(skippable[state] for state in jumped):
            score = np.exp(log_probs[np.arange(len(path)), columns[list(path)]].sum())
            found[np.arange(len(path)), path] += score
    return found[:, 1::2] / found.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("ids", [[1, 2], [1, 1], [2]])
@pytest.mark.parametrize("seed", range(3))
def test_a_window_holds_all_but_the_outer_tenths_of_the_occupancy(
    seed: int, ids: list[int]
) -> None:
    logits = np.random.default_rng(seed).normal(size=(6, 3)) * 2
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    count = len(ids)
    # Silence, one aligned token a label, silence.
    labels = CtcLabels(ids, [1 + k for k in range(count)], [1] * count, [0] * count)
    windows = windows_of(utterance(log_probs, labels, count + 2))
    assert windows is not None
    found = occupancies(log_probs, ids)
    heard = (found * np.exp(log_probs[:, ids])).sum(axis=0) / found.sum(axis=0)
    assert windows.trust == pytest.approx(heard.mean(), abs=0.006)
    share = found.cumsum(axis=0)
    share /= share[-1:]
    first = [int(np.flatnonzero(one > WINDOW_OUTER_SHARE)[0]) for one in share.T]
    last = [int(np.flatnonzero(one >= 1 - WINDOW_OUTER_SHARE)[0]) for one in share.T]
    inside = slice(1, count + 1)
    assert (windows.first[inside] / SUBSAMPLING).tolist() == first
    assert (windows.last[inside] / SUBSAMPLING).tolist() == last
    assert windows.first[[0, -1]].tolist() == [-np.inf] * 2
    assert windows.last[[0, -1]].tolist() == [np.inf] * 2


def test_a_label_of_several_tokens_gives_them_one_window_and_a_space_none() -> None:
    sure = np.full((5, 3), -20.0, np.float32)
    sure[range(5), [0, 1, 1, 2, 2]] = -0.01
    windows = windows_of(utterance(sure, CtcLabels([1, 2], [0, 3], [3, 0], [0, -1]), 4))
    assert windows is not None
    # A space that is not emitted says nothing of the letters.
    sure[3:, 2], sure[3:, 0] = -20.0, -0.01
    unspaced = windows_of(utterance(sure, CtcLabels([1, 2], [0, 3], [3, 0], [0, -1]), 4))
    assert unspaced is not None
    assert windows.trust == pytest.approx(unspaced.trust) == pytest.approx(np.exp(-0.01), abs=0.006)
    assert windows.first.tolist() == [4.0, 4.0, 4.0, -np.inf]
    assert windows.last.tolist() == [8.0, 8.0, 8.0, np.inf]


def test_a_text_with_more_labels_than_frames_has_no_window_and_no_words() -> None:
    text = AlignedTokens([0, 5, 5, 0], [-1, 0, 0, -1], ["aa"])
    dense = utterance(np.zeros((2, 3), np.float32), CtcLabels([1, 1], [1, 2], [1, 1], [0, 0]), 4)
    assert windows_of(dense) is None  # the blank between equal labels needs a third frame
    assert place_by_ctc(dense, text) is None
    enough = utterance(np.zeros((3, 3), np.float32), dense.labels, 4)
    assert windows_of(enough) is not None
    assert [word.label for word in place_by_ctc(enough, text) or []] == ["aa"]
    wordless = utterance(np.zeros((3, 3), np.float32), CtcLabels([], [], [], []), 1)
    assert place_by_ctc(wordless, AlignedTokens([0], [-1], [])) is None


def test_a_ctc_that_has_learned_only_how_often_labels_come_limits_the_head_little() -> None:
    """The costs of a window follow what CTC has earned, utterance by utterance."""
    usual = np.log(np.array([0.9, 0.05, 0.05], np.float32))  # blank nearly everywhere
    labels = CtcLabels([1, 2], [1, 2], [1, 1], [0, 0])
    nothing = utterance(np.tile(usual, (40, 1)), labels, 4)
    knowing = np.full((40, 3), -20.0, np.float32)
    knowing[:, 0] = -1e-4
    knowing[[5, 30], [1, 2]], knowing[[5, 30], 0] = -1e-4, -20.0
    windows = find_windows([nothing, utterance(knowing, labels, 4)], torch.device("cpu"))
    costs = window_costs(windows, torch.zeros(2, 160, 4), hop=0.01)
    assert costs is not None
    assert costs[0].max() <= 0.05 * MAX_NATS + 1e-5
    assert costs[1].max() == pytest.approx(MAX_NATS, rel=1e-3)
    assert not costs[:, :, [0, 3]].any()
