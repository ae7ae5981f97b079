"""Where tokens of training utterances are thought to be: at any speed, and in joined utterances."""

import math

import pytest
import torch
from lhotse import MonoCut

from speechmm.audio.log_mel import LogMelConfig
from speechmm.data.batch import Batch
from speechmm.data.dataset import SpeechDataset
from speechmm.data.guides import Guides
from speechmm.data.plan import BatchPlan, Piece, PlannedUtterance
from speechmm.text.tokenizer import Tokenizer

INF = math.inf
GO_HOME = [(0.1, 0.3), (0.4, 0.7)]
"""Seconds of the two words."""
WINDOWS = [(-INF, 10), *[(10, 30)] * 2, (30, 40), *[(40, 70)] * 4, (70, INF)]
"""Frames of 10 ms: silence, g, o, silence, h, o, m, e, silence."""


@pytest.fixture
def cuts(make_cuts) -> list[MonoCut]:
    return make_cuts(1.0, 0.8, 0.9)


@pytest.fixture
def read(tokenizer: Tokenizer, features: LogMelConfig):
    """Reads a batch of a plan, guided by the times of some utterances."""

    def read(plan, times, **settings) -> Batch:
        guides = Guides(times, tokenizer)
        found = SpeechDataset(tokenizer, features, guides=guides, **settings)[plan]
        assert isinstance(found, Batch) and found.guides is not None
        assert found.guides.shape == (*found.align_tokens.shape, 2)
        return found

    return read


def check(found: torch.Tensor, expected: list[tuple[float, float]]) -> None:
    torch.testing.assert_close(found[: len(expected)], torch.tensor(expected, dtype=torch.float32))
    assert not found[len(expected) :].any()


def test_a_token_is_in_its_word_and_silence_between_words(read, cuts: list[MonoCut]) -> None:
    batch = read(cuts, {("", "utt-0"): GO_HOME})
    check(batch.guides[0], WINDOWS)
    assert batch.guides[1:].isnan().all()


def test_times_follow_the_speed(read, cuts: list[MonoCut]) -> None:
    fast = cuts[0].perturb_speed(1.25)
    (found,) = read([fast], {("", fast.id): GO_HOME}).guides
    check(found, [(first / 1.25, last / 1.25) for first, last in WINDOWS])


def test_times_are_those_of_their_set(read, cuts: list[MonoCut]) -> None:
    times = {("", "utt-0"): GO_HOME}
    plan = BatchPlan([[PlannedUtterance(cuts[0])]], source="more")
    assert read(plan, times).guides.isnan().all()
    assert not read(plan, {("more", "utt-0"): GO_HOME}).guides.isnan().any()


def test_where_two_texts_meet_one_silence_is_left(read, cuts: list[MonoCut]) -> None:
    first, second, third = (PlannedUtterance(cut) for cut in cuts)
    times = {("", name): GO_HOME for name in ("utt-0", "utt-1")}
    batch = read(BatchPlan([[first, second], [second, third]]), times)
    later = [(start + 101, end + 101) for start, end in WINDOWS[1:]]  # 1 s has 101 frames
    check(batch.guides[0], [*WINDOWS[:-1], (70, 111), *later])
    assert batch.guides[1].isnan().all()  # of the third nothing is known


def test_words_put_together_in_training_have_no_times(read, cuts: list[MonoCut]) -> None:
    piece = Piece(cuts[0], (0, 1), 0, 35)
    plan = BatchPlan([[PlannedUtterance(cuts[0], (piece, piece))]])
    assert read(plan, {("", "utt-0"): GO_HOME}).guides.isnan().all()


def test_padding_for_few_shapes_has_no_window(read, cuts: list[MonoCut]) -> None:
    times = {("", "utt-0"): GO_HOME}
    check(read(cuts[:1], times, round_up=lambda length: length + 3).guides[0], WINDOWS)


@pytest.mark.parametrize(
    ("text", "times", "windows"),
    [
        # a word without length, as the aligner leaves one it cannot say: between its neighbours
        (
            "go a home",
            [(0.1, 0.3), (0.3, 0.3), (0.4, 0.7)],
            [*WINDOWS[:3], (30, 40), (30, 40), (30, 40), *WINDOWS[4:]],
        ),
        ("a go", [(0.0, 0.0), (0.1, 0.3)], [(-INF, 10)] * 3 + [(10, 30)] * 2 + [(30, INF)]),
        # a word without tokens: nobody asks where it is
        ("go - home", [(0.1, 0.3), (0.3, 0.3), (0.4, 0.7)], WINDOWS),
    ],
)
def test_words_that_were_not_placed(text: str, times, windows, read, make_cuts) -> None:
    check(read(make_cuts(1.0, text=text), {("", "utt-0"): times}).guides[0], windows)


def test_times_of_another_number_of_words_are_not_taken(read, make_cuts) -> None:
    cuts = make_cuts(1.0, text="go home now")
    assert read(cuts, {("", "utt-0"): GO_HOME}).guides.isnan().all()
