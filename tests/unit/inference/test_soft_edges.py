"""Edges between frames: the median of all paths."""

import numpy as np

from speechmm.inference.alignment.soft_edges import find_edges
from speechmm.inference.alignment.token_path import TokenEdges

NONE_LEFT_OUT = np.zeros(3, np.bool_)


def occupancy_of(*paths: tuple[float, list[int]]) -> np.ndarray:
    """The occupancy of weighted paths of tokens."""
    shares = np.zeros((len(paths[0][1]), 3), np.float32)
    for weight, path in paths:
        shares[np.arange(len(path)), path] += weight
    return shares


def edges_of(shares: np.ndarray, left_out: np.ndarray = NONE_LEFT_OUT) -> TokenEdges:
    return find_edges(shares, shares, left_out=left_out)


def test_one_path_has_its_own_edges() -> None:
    edges = edges_of(occupancy_of((1.0, [0, 0, 1, 1, 1, 2, 2])))
    np.testing.assert_allclose(edges.starts[:, 1], [0, 2, 5])
    np.testing.assert_allclose(edges.ends[:, 1], [2, 5, 7])


def test_two_paths_meet_in_the_middle_and_the_range_holds_both() -> None:
    early, late = [0, 1, 1, 1, 1, 1, 2], [0, 0, 0, 0, 0, 1, 2]
    edges = edges_of(occupancy_of((0.5, early), (0.5, late)))
    earliest, _, latest = edges.ends[0]
    assert earliest <= 1.5
    assert latest >= 4.5
    nearer = edges_of(occupancy_of((0.9, early), (0.1, late)))
    assert abs(nearer.ends[0, 1] - 1) < 0.5


def test_edges_never_cross() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), size=9).astype(np.float32)
    edges = edges_of(shares)
    assert (np.diff(edges.ends[:, 1]) >= 0).all()
    assert (edges.starts[:, 1] <= edges.ends[:, 1]).all()
    assert (np.diff(edges.ends, axis=1) >= 0).all()


def test_a_silence_that_is_left_out_has_no_length() -> None:
    path, with_silence = [0, 0, 0, 2, 2, 2], [0, 0, 1, 1, 2, 2]
    shares = occupancy_of((0.7, path), (0.3, with_silence))
    edges = edges_of(shares, np.array([False, True, False]))
    assert edges.ends[0, 1] == edges.starts[2, 1] == edges.starts[1, 1] == edges.ends[1, 1]
    assert 2 <= edges.ends[0, 1] <= 4
