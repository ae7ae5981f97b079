"""Searches and sums over states against every path there is."""

import itertools

import numpy as np
import pytest

from speechmm.errors import AlignmentError
from speechmm.inference.alignment.state_graph import PAUSE, StateGraph

WORDS = [-1, 0, 1, -1, 2, -1]  # two units, then one; silence around and between
SILENT = [unit < 0 for unit in WORDS]


def every_path(graph: StateGraph, scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """The score of each path that the graph allows, one move at a time."""
    frames, states = len(scores), len(graph.columns)
    found = {(state,): float(graph.begin[state]) for state in range(states)}
    for _ in range(frames - 1):
        found = {
            (*path, path[-1] + ahead): value + float(graph.enter[path[-1] + ahead, ahead])
            for (path, value), ahead in itertools.product(found.items(), range(5))
            if path[-1] + ahead < states and np.isfinite(graph.enter[path[-1] + ahead, ahead])
        }
    whole = {
        path: value
        + float(graph.finish[path[-1]])
        + sum(scores[t, graph.columns[s]] for t, s in enumerate(path))
        for path, value in found.items()
    }
    return {path: value for path, value in whole.items() if np.isfinite(value)}


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("frames", [3, 4, 6])
def test_the_best_path_and_the_sum_are_those_of_all_paths(frames: int, scale: float) -> None:
    """Flattened, a path has that power of its probability: moves and pauses with the scores."""
    graph = StateGraph.of(WORDS, SILENT)
    scores = np.random.default_rng(frames).normal(size=(frames, 10)).astype(np.float32)
    paths = every_path(graph, scores)
    assert tuple(graph.best_path(scores)) == max(paths, key=paths.__getitem__)
    weights = np.exp(scale * np.array(list(paths.values())))
    expected = np.zeros((frames, len(WORDS)))
    for path, weight in zip(paths, weights / weights.sum(), strict=True):
        expected[np.arange(frames), graph.tokens[list(path)]] += weight
    found = graph.occupancy(scores, tokens=len(WORDS), scale=scale)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_token_may_last_one_frame_and_none_may_be_left_out() -> None:
    graph = StateGraph.of(WORDS, SILENT)
    scores = np.zeros((3, 10), np.float32)
    assert graph.tokens[graph.best_path(scores)].tolist() == [1, 2, 4]
    with pytest.raises(AlignmentError, match="2 frames cannot hold"):
        graph.best_path(scores[:2])
    assert not graph.occupancy(scores[:2], tokens=len(WORDS)).any()


def test_first_and_last_frames_have_their_own_states() -> None:
    graph = StateGraph.of(WORDS, SILENT)
    tokens = np.array([0, 0, 1, 1, 1, 2, 4, 4, 5])
    states = graph.split(tokens)
    assert (graph.tokens[states] == tokens).all()
    parts = (graph.columns[states] - 1) % 3
    assert parts[[2, 3, 4]].tolist() == [0, 1, 2]
    assert parts[[6, 7]].tolist() == [0, 2]  # two frames: the first and the last
    assert parts[5] == 0  # one frame: the first alone
    assert graph.columns[states][[0, 1, 8]].tolist() == [0, 0, 0]
    moves = np.diff(states)
    assert all(np.isfinite(graph.enter[s, m]) for s, m in zip(states[1:], moves, strict=True))


def pause_frames(nats: float, frames: int) -> int:
    """How long the pause is between two words of a unit each, where ``frames`` frames speak for one."""
    graph = StateGraph.of([-1, 0, -1, 1, -1], [True, False, True, False, True])
    scores = np.full((20, 7), -30.0, np.float32)
    scores[:8, 1:4] = scores[8 + frames :, 4:7] = 0.0
    scores[8 : 8 + frames] = 0.0
    scores[8 : 8 + frames, 0] = nats
    return int((graph.tokens[graph.best_path(scores)] == 2).sum())


def test_a_pause_between_words_needs_more_evidence_than_a_closure_has() -> None:
    """A few quiet frames before a stop are its closure; silence at the ends costs nothing to begin."""
    assert pause_frames(1.0, frames=3) == 0
    assert pause_frames(6.0, frames=3) == 3
    assert pause_frames(1.0, frames=10) == 10
    graph = StateGraph.of(WORDS, SILENT)
    silences = np.flatnonzero(graph.columns == 0)
    entered = [graph.enter[state, 1] for state in silences[1:]]
    np.testing.assert_allclose(entered, [PAUSE, 0.0])
    assert not graph.enter[silences, 0].any()
    assert not graph.begin[:2].any()
