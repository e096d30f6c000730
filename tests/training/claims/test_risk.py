"""Bounds and thresholds against values worked out by hand."""

import numpy as np
import pytest

from moe_pipeline.training.claims.risk import samples_needed, steps_that_hold, upper_bound


@pytest.mark.parametrize(("n", "confidence"), [(10, 0.95), (160, 0.95), (40, 0.9)])
def test_without_a_loss_the_bound_is_the_root_of_one_over_delta(n: int, confidence: float) -> None:
    # (1 + R)^n = 1 / delta
    assert upper_bound(np.zeros(n), confidence) == pytest.approx((1 / (1 - confidence)) ** (1 / n) - 1)


def test_one_loss_among_two_by_hand() -> None:
    # confidence 0.5: (1 + R) (1 + R - 1/2) = 2, so R^2 + 1.5 R - 1.5 = 0 and R = (-1.5 + sqrt(8.25)) / 2
    assert upper_bound(np.array([0.5, 0.0]), 0.5) == pytest.approx((-1.5 + 8.25**0.5) / 2)
    assert upper_bound(np.array([0.0, 0.5]), 0.5) == upper_bound(np.array([0.5, 0.0]), 0.5)


def test_too_few_samples_show_nothing() -> None:
    assert upper_bound(np.zeros(4), 0.95) == 1.0  # 2^4 = 16 < 20
    assert upper_bound(np.zeros(5), 0.95) < 1.0  # 2^5 = 32
    assert upper_bound(np.array([]), 0.95) == 1.0


def test_1500_scans_hold_two_thousandths() -> None:
    assert samples_needed(0.002, 0.95) == 1500
    assert upper_bound(np.zeros(1500), 0.95) <= 0.002 < upper_bound(np.zeros(1499), 0.95)


def test_the_bound_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    mean = 0.02 * 0.3
    drawn = (random.random((400, 500)) < 0.02) * 0.3  # one in fifty loses 0.3
    covered = [upper_bound(losses, 0.9) >= mean for losses in drawn]
    assert np.mean(covered) >= 0.9


def test_a_gain_counts_by_hand() -> None:
    # confidence 0.5: (1 + R + 1/2) (1 + R - 1/2) = 2, so (1 + R)^2 = 2.25 and R = 0.5
    assert upper_bound(np.array([-0.5, 0.5]), 0.5) == pytest.approx(0.5)


def test_the_bound_covers_a_signed_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    drawn = (random.random((400, 500)) < 0.1) * random.choice([-0.3, 0.35], (400, 500))  # mean 0.0025
    covered = [upper_bound(losses, 0.9) >= 0.0025 for losses in drawn]
    assert np.mean(covered) >= 0.9


def test_a_fixed_sequence_ends_at_the_first_setting_that_does_not_hold() -> None:
    # 100 samples without a loss: 20^(1/100) - 1 = 0.0304; with one loss of 1: R (1 + R)^99 = 20, so R = 0.0604
    nothing, harm = np.zeros(100), np.eye(100)[0]
    assert steps_that_hold([nothing, nothing, harm, nothing], 0.031, 0.95) == 2
    assert steps_that_hold([nothing, nothing, harm, nothing], 0.061, 0.95) == 4
    assert steps_that_hold([nothing], 0.01, 0.95) == 0
