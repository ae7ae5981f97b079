"""A recording read forwards, of which only a part is in memory."""

import pytest
import torch

from speechmm.inference.engine.sample_window import SampleWindow


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_any_part_ahead_is_that_of_the_whole(block: int) -> None:
    whole = torch.arange(500.0)
    window = SampleWindow(whole.split(block))
    places = [(0, 10), (5, 30), (30, 31), (200, 230), (210, 420), (480, 900), (600, 700)]
    for first, last in places:
        assert torch.equal(window[first:last], whole[first:last])
        window.forget(first)
    assert window.reach(0) == 500


def test_no_more_is_held_than_what_was_not_let_go() -> None:
    window = SampleWindow(torch.ones(100) for _ in range(1000))
    for first in range(0, 99_000, 250):
        assert len(window[first : first + 500]) == 500
        window.forget(first)
        assert window._held.untyped_storage().nbytes() <= 4 * 1200


def test_of_one_long_block_little_is_copied() -> None:
    whole = torch.zeros(10_000)
    window = SampleWindow([whole])
    for first in range(0, 5000, 10):
        window[first : first + 10]
        window.forget(first)
        assert window._held.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_what_was_let_go_is_not_there() -> None:
    window = SampleWindow([torch.zeros(100)])
    window.reach(100)
    window.forget(50)
    with pytest.raises(AssertionError, match="let go"):
        window[40:60]
