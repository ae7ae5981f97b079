"""Calibration: hand-computed errors, and data whose truth is known."""

import numpy as np
import pytest

from speechmm.evaluation.calibration import (
    expected_calibration_error,
    fit_calibration,
    logit,
    reliability,
)


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


def test_all_right_stays_finite() -> None:
    scale, bias = fit_calibration([0.6, 0.9, 0.7] * 20, [True] * 60)
    assert np.isfinite([scale, bias]).all()
    assert 1 / (1 + np.exp(-(scale * logit([0.7])[0] + bias))) > 0.9
