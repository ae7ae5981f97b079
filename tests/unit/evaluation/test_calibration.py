"""Calibration: hand-computed errors, and data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from speechmm.evaluation.calibration import (
    calibration_line,
    equal_mass_error,
    expected_calibration_error,
    fit_calibration,
    logit,
    reliability,
)
from speechmm.evaluation.text_lines import UtteranceText


def test_the_error_by_hand() -> None:
    confidences = [0.95, 0.95, 0.95, 0.95, 0.15, 0.15]
    correct = [True, True, True, False, False, False]
    assert expected_calibration_error(confidences, correct, bins=10) == pytest.approx(
        (4 * 0.2 + 2 * 0.15) / 6
    )
    low, high = reliability(confidences, correct, bins=10)
    assert (low.low, low.words, low.correct) == (0.1, 2, 0.0)
    assert (high.high, high.words, high.correct) == (1.0, 4, 0.75)
    assert high.confidence == pytest.approx(0.95)


def test_certainty_has_a_place() -> None:
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [True, False]) == 0.5
    assert expected_calibration_error([], []) == 0.0


@pytest.mark.parametrize(("scale", "bias"), [(0.5, 0.3), (2.0, -1.0), (1.0, 0.0)])
def test_a_known_line_is_found(scale: float, bias: float) -> None:
    random = np.random.default_rng(0)
    confidences = random.uniform(0.02, 0.98, 40_000)
    chance = 1 / (1 + np.exp(-(scale * logit(confidences.tolist()) + bias)))
    correct = random.random(len(chance)) < chance
    found = fit_calibration(confidences.tolist(), correct.tolist())
    assert found == pytest.approx((scale, bias), abs=0.08)


def test_slope_and_intercept_are_those_of_a_general_optimiser() -> None:
    random = np.random.default_rng(3)
    confidences = random.beta(5, 1, 2000)
    correct = random.random(2000) < 1 / (1 + np.exp(-(0.6 * logit(confidences.tolist()) - 0.4)))
    x, sign = logit(confidences.tolist()), 2.0 * correct - 1
    oracle = optimize.minimize(
        lambda w: np.logaddexp(0, -sign * (w[0] * x + w[1])).mean(), [1.0, 0.0], tol=1e-9
    )
    found = calibration_line(confidences.tolist(), correct.tolist())
    assert found == pytest.approx(tuple(oracle.x), abs=0.01)
    assert 0.5 < found[0] < 0.7  # overconfident


def test_bins_of_equal_mass() -> None:
    confidences = [0.9, 0.1, 0.8, 0.2, 0.95, 0.6]
    correct = [True, False, False, False, True, True]
    by_hand = (abs(0.1 + 0.2 - 0) + abs(0.6 + 0.8 - 1) + abs(0.9 + 0.95 - 2)) / 6
    assert equal_mass_error(confidences, correct, bins=3) == pytest.approx(by_hand)
    assert equal_mass_error([0.7], [True]) == pytest.approx(0.3)
    assert equal_mass_error([], []) == 0.0
    # All words between 0.9 and 1: one bin of equal width hides what equally many words show.
    values = [0.91] * 50 + [0.99] * 50
    right = [True] * 50 + [True] * 40 + [False] * 10
    assert expected_calibration_error(values, right, bins=10) == pytest.approx(0.05)
    assert equal_mass_error(values, right, bins=2) == pytest.approx((0.09 + 0.19) / 2)


def test_order_is_kept_where_confidences_are_wrong() -> None:
    for confidences, correct in (
        ([0.9] * 30 + [0.2] * 30, [False] * 30 + [True] * 30),
        ([0.9], [False]),
    ):
        scale, bias = fit_calibration(confidences * 5, correct * 5)
        low, high = 1 / (1 + np.exp(-(scale * logit([0.2, 0.9]) + bias)))
        assert scale > 0 and low < high
        assert scale * logit([0.9])[0] + bias < 1.0


def test_all_right_stays_finite() -> None:
    scale, bias = fit_calibration([0.6, 0.9, 0.7] * 20, [True] * 60)
    assert np.isfinite([scale, bias]).all()
    assert 1 / (1 + np.exp(-(scale * logit([0.7])[0] + bias))) > 0.9


def test_letters_that_files_count_as_words_make_up_those_between_spaces() -> None:
    said = UtteranceText(
        "北京 人 ab", word_labels=("北", "京", "人", "ab"), word_confidences=(0.9, 0.5, 0.8, 0.7)
    )
    assert said.confidences_between_spaces() == (0.5, 0.8, 0.7)
    other = replace(said, text="北京")
    assert other.confidences_between_spaces() == other.word_confidences
    unnamed = replace(said, word_labels=())
    assert unnamed.confidences_between_spaces() == unnamed.word_confidences
