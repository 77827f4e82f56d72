"""Adjusted p-values against scipy and the definition, the rate they promise, and the count of false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control

from monai_ctmri.detection.calibration import ConformalCalibrator
from monai_ctmri.detection.false_discovery import benjamini_hochberg, realised_rate
from monai_ctmri.errors import InputError


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("levels", [None, 11])  # without and with ties
def test_adjusted_p_values_equal_scipy(size, levels):
    generator = np.random.default_rng(size)
    p_values = generator.uniform(size=size) ** 2
    if levels is not None:
        p_values = np.ceil(p_values * levels) / levels
    np.testing.assert_allclose(benjamini_hochberg(p_values), false_discovery_control(p_values, method="bh"), rtol=1e-12)


def test_by_hand():
    # .005 * 4 / 1 = .02; .01 * 4 / 2 = .02; .03 * 4 / 3 = .04; .5 * 4 / 4 = .5
    np.testing.assert_allclose(benjamini_hochberg([0.5, 0.01, 0.03, 0.005]), [0.5, 0.02, 0.04, 0.02])
    assert benjamini_hochberg([]).shape == (0,)
    np.testing.assert_array_equal(benjamini_hochberg([1.0, 1.0]), [1.0, 1.0])
    np.testing.assert_array_equal(benjamini_hochberg([0.3]), [0.3])


def test_flagging_by_the_adjusted_value_is_the_step_up_rule():
    generator = np.random.default_rng(0)
    for _ in range(200):
        p_values = generator.uniform(size=12) ** 3
        ascending = np.sort(p_values)
        passed = np.flatnonzero(ascending <= 0.1 * np.arange(1, 13) / 12)
        limit = ascending[passed[-1]] if passed.size else -1.0
        np.testing.assert_array_equal(benjamini_hochberg(p_values) <= 0.1, p_values <= limit)


def test_order_kept_input_untouched_never_below_the_p_value():
    given = np.random.default_rng(1).uniform(size=50)
    before, shuffle = given.copy(), np.random.default_rng(2).permutation(50)
    adjusted = benjamini_hochberg(given)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(benjamini_hochberg(given[shuffle]), adjusted[shuffle])
    assert (adjusted >= given).all()
    assert (adjusted <= 1.0).all()


def test_conformal_p_values_of_one_calibration_set_keep_the_false_discovery_rate():
    """80 normals and 20 abnormal cases against the same 199 calibration cases, 400 times; q = .1."""
    generator = np.random.default_rng(3)
    shares, found = [], []
    for _ in range(400):
        calibrator = ConformalCalibrator().fit(generator.normal(size=199))
        scores = np.concatenate([generator.normal(size=80), 3.5 + generator.normal(size=20)])
        flagged = benjamini_hochberg(calibrator.p_value(scores)) <= 0.1
        shares.append(flagged[:80].sum() / max(flagged.sum(), 1))
        found.append(flagged[80:].mean())
    error = np.std(shares) / 20
    assert np.mean(shares) <= 0.1 + 3 * error
    assert np.mean(found) > 0.5  # the bound is not kept by finding nothing


def test_a_lone_finding_needs_enough_calibration_cases():
    for calibration_cases, expected in ((198, False), (199, True)):
        calibrator = ConformalCalibrator().fit(np.linspace(0, 1, calibration_cases))
        p_values = calibrator.p_value(np.append(np.full(19, 0.2), 5.0))
        assert bool(benjamini_hochberg(p_values)[-1] <= 0.1) is expected


@pytest.mark.parametrize("p_values", [[0.1, np.nan], [-0.1], [1.1], [[0.1]], 0.3, ["a"]])
def test_what_is_no_list_of_p_values_is_refused(p_values):
    with pytest.raises(InputError, match="p-values"):
        benjamini_hochberg(p_values)


def test_realised_rate_by_hand():
    result = realised_rate([0.05, 0.01, 0.2, 1.0, 0.051], alpha=0.05)
    truth = binomtest(2, 5).proportion_ci(method="exact")
    assert (result.flagged, result.cases, result.rate) == (2, 5, 0.4)
    assert (result.low, result.high) == pytest.approx((truth.low, truth.high))
    assert str(result) == "2 of 5 normals flagged at alpha = 0.05: 0.400 [0.053, 0.853]"
    assert result.exceeds_alpha is True
    assert realised_rate([0.5] * 20, 0.05).exceeds_alpha is False


def test_the_interval_holds_the_rate_of_the_calibration_set():
    """Scores uniform on (0, 1): the rate of one calibration set is 1 - threshold, known exactly."""
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(500):
        calibrator = ConformalCalibrator().fit(generator.uniform(size=59))
        result = realised_rate(calibrator.p_value(generator.uniform(size=80)), 0.1)
        held += result.low <= 1.0 - calibrator.threshold(0.1) <= result.high
    assert held / 500 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 500)


def test_the_confidence_widens_the_interval():
    narrow, wide = (realised_rate([0.01] * 3 + [0.5] * 17, 0.05, confidence) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.rate < narrow.high < wide.high


@pytest.mark.parametrize(("p_values", "alpha"), [([], 0.05), ([0.5], 0.0), ([0.5], 1.0), ([2.0], 0.05)])
def test_a_rate_of_nothing_is_refused(p_values, alpha):
    with pytest.raises(InputError):
        realised_rate(p_values, alpha)
