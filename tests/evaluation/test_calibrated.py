"""Which unit a calibration counts, and rates with their exact interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.calibrated import calibrate, rate


def test_subjects_are_the_unit_as_soon_as_they_can_flag():
    for subjects, alpha, unit in ((19, 0.05, "subjects"), (18, 0.05, "slices"), (9, 0.1, "subjects")):
        owners = [f"s{i // 3}" for i in range(3 * subjects)]
        found = calibrate(np.arange(len(owners)), owners, alpha)
        assert found.unit == unit
        assert found.units == (subjects if unit == "subjects" else 3 * subjects)
        assert found.reaches(alpha)


def test_neither_reaches_a_rate_too_small():
    found = calibrate([1.0, 2.0, 3.0], ["a", "a", "b"], 0.01)
    assert (found.unit, found.units) == ("slices", 3)
    assert not found.reaches(0.01)
    assert found.reaches(0.25)


def test_p_values_by_hand():
    scores = [1.0, 2.0, 3.0, 10.0]
    slices = calibrate(scores, ["a", "a", "a", "b"], 0.25)
    assert slices.unit == "slices"
    assert [slices.p_value(x) for x in (0.0, 2.5, 11.0)] == [1.0, 3 / 5, 1 / 5]
    subjects = calibrate(scores, ["a", "a", "a", "b"], 0.4)
    assert subjects.unit == "subjects"
    # of subject a two of three slices lie at or above 2, of b its only one
    assert subjects.p_value(2.0) == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert subjects.p_value(11.0) == pytest.approx(1 / 3)


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(InputError):
        calibrate([], [], 0.1)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 96), (7, 7)])
def test_a_rate_has_the_interval_of_scipy(k, n):
    found = rate([True] * k + [False] * (n - k))
    expected = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert (found["k"], found["n"], found["value"]) == (k, n, k / n)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert rate(np.arange(n) < k) == found


def test_a_rate_of_nothing_is_none():
    assert rate([]) == {"value": None, "low": None, "high": None, "k": 0, "n": 0}
