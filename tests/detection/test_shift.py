"""The shift check's size and power by simulation, its count test by enumeration, and what it says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest

from monai_ctmri.detection.calibration import ConformalCalibrator, binomial_interval
from monai_ctmri.detection.shift import ShiftCheck
from monai_ctmri.errors import InputError


def shifted_share(
    test: str, calibration_cases: int, cases: int, draws: int, change=lambda new: new, seed: int = 0
) -> int:
    generator = np.random.default_rng(seed)
    alarms = 0
    for _ in range(draws):
        check = ShiftCheck(test, false_alarm_rate=0.05, alpha=0.1).fit(generator.gamma(2.0, size=calibration_cases))
        alarms += check.check(change(generator.gamma(2.0, size=cases))).shifted
    return alarms


@pytest.mark.parametrize("test", ["both", "shape", "alarms"])
@pytest.mark.parametrize(("calibration_cases", "cases"), [(20, 60), (99, 40)])
def test_alarms_without_a_shift_stay_at_the_rate_asked_for(test, calibration_cases, cases):
    alarms = shifted_share(test, calibration_cases, cases, 300)
    assert binomial_interval(alarms, 300, confidence=0.999)[0] <= 0.05


def test_p_values_against_the_uniform_distribution_would_cry_wolf():
    """Why both tests compare two samples: 20 calibration cases, 200 good normals; the naive test alarms too often."""
    generator = np.random.default_rng(1)
    naive, ours = 0, 0
    for _ in range(150):
        calibration, new = generator.normal(size=20), generator.normal(size=200)
        p_values = ConformalCalibrator().fit(calibration).p_value(new) - generator.uniform(size=200) / 21
        naive += kstest(p_values, "uniform").pvalue <= 0.05
        ours += ShiftCheck("shape", false_alarm_rate=0.05).fit(calibration).check(new).shifted
    assert binomial_interval(naive, 150, confidence=0.999)[0] > 0.2
    assert binomial_interval(ours, 150, confidence=0.999)[0] <= 0.05


@pytest.mark.parametrize(
    ("test", "change", "least"),
    [
        ("both", lambda new: new * 1.6, 0.8),
        ("shape", lambda new: new * 0.6, 0.8),
        ("alarms", lambda new: new * 1.6, 0.8),
        ("both", lambda new: np.where(np.arange(new.size) % 4 == 0, new + 6.0, new), 0.8),  # a quarter of the cases
    ],
)
def test_a_shift_is_found(test, change, least):
    assert shifted_share(test, 99, 80, 100, change) / 100 >= least


def test_the_alarms_test_does_not_answer_to_lower_scores():
    assert shifted_share("alarms", 99, 80, 100, lambda new: new * 0.5) / 100 <= 0.05


def test_the_count_test_equals_the_enumeration_of_all_orders():
    """7 calibration cases, 5 new: all ways the 12 ranks can fall are alike; rank 2 is the threshold at alpha .25."""
    calibration_cases, cases = 7, 5
    counts = []
    for places in itertools.combinations(range(12), cases):
        old = [place for place in range(12) if place not in places]
        counts.append(sum(place > old[-2] for place in places))
    generator = np.random.default_rng(2)
    for _ in range(20):
        old, new = generator.normal(size=calibration_cases), generator.normal(0.5, size=cases)
        result = ShiftCheck("alarms", alpha=0.25, minimum_cases=5).fit(old).check(new)
        assert result.p_value == pytest.approx(np.mean(np.array(counts) >= result.flagged))
        assert result.expected == pytest.approx(np.mean(counts))


def test_both_is_twice_the_smaller():
    generator = np.random.default_rng(3)
    old, new = generator.normal(size=50), generator.normal(0.4, size=30)
    both, shape, alarms = (ShiftCheck(test).fit(old).check(new).p_value for test in ("both", "shape", "alarms"))
    assert both == min(1.0, 2 * min(shape, alarms))
    assert shape == pytest.approx(ks_2samp(new, old, method="exact").pvalue)


def test_direction_and_sentence():
    generator = np.random.default_rng(4)
    check = ShiftCheck(false_alarm_rate=0.01).fit(generator.normal(size=100))
    higher = check.check(generator.normal(1.5, size=60))
    assert (higher.shifted, higher.direction, higher.cases) == (True, "higher", 60)
    assert higher.expected == pytest.approx(60 * 5 / 101)
    assert f"{higher.flagged} of 60 new normals are flagged at alpha = 0.05, 3.0 are expected" in str(higher)
    assert "they score higher: calibrate anew" in higher.sentence
    assert check.check(generator.normal(-1.5, size=60)).direction == "lower"
    wider = check.check(generator.normal(0.0, 5.0, size=200))
    assert (wider.shifted, wider.direction) == (True, "mixed")
    same = check.check(generator.normal(size=60))
    assert same.shifted is False
    assert "they fit the calibration" in same.sentence
    assert "rate of alarms without a shift 0.01" in same.sentence


def test_too_few_cases_give_no_verdict():
    check = ShiftCheck(minimum_cases=10).fit(np.arange(30.0))
    result = check.check(np.full(9, 100.0))
    assert (result.p_value, result.shifted, result.flagged) == (None, None, 9)
    assert "no verdict: 9 new normals and 30 calibration cases, 10 of each are needed" in result.sentence
    assert check.check(np.full(10, 100.0)).shifted is True
    assert ShiftCheck(minimum_cases=10).fit(np.arange(9.0)).check(np.arange(50.0)).shifted is None


def test_a_calibration_too_small_to_flag_anything_still_sees_the_shape():
    result = ShiftCheck(alpha=0.01).fit(np.arange(40.0)).check(np.arange(40.0) + 100.0)
    assert (result.flagged, result.expected) == (0, 0.0)
    assert result.shifted is True


def test_equal_scores_do_not_alarm():
    result = ShiftCheck().fit(np.zeros(50)).check(np.zeros(50))
    assert (result.p_value, result.shifted) == (1.0, False)


def test_slices_of_a_subject_count_as_one_case():
    """One subject of thirty is far off, with forty slices: as slices a shift, as subjects none."""
    generator = np.random.default_rng(5)
    old = generator.normal(size=60)
    new, whose = np.append(generator.normal(size=29), np.full(40, 4.0)), [*range(29), *[29] * 40]
    assert ShiftCheck().fit(old).check(new).shifted is True
    result = ShiftCheck().fit(old, range(60)).check(new, whose)
    assert (result.shifted, result.cases) == (False, 30)
    np.testing.assert_allclose(
        ShiftCheck().fit([1.0, 3.0, 5.0], ["a", "b", "a"]).calibrator_.scores_, [3.0, 3.0]
    )  # the means of 1 and 5, and of 3


def test_large_samples_take_the_asymptotic_test():
    generator = np.random.default_rng(6)
    old, new = generator.normal(size=1200), generator.normal(0.2, size=1200)
    result = ShiftCheck("shape").fit(old).check(new)
    assert result.p_value == pytest.approx(ks_2samp(new, old, method="asymp").pvalue)
    assert result.shifted is True


def test_a_loaded_state_gives_the_same_result():
    generator = np.random.default_rng(7)
    check = ShiftCheck("alarms", 0.02, 0.1, 5).fit(generator.normal(size=30))
    state = check.state_dict()
    assert all(isinstance(value, np.ndarray | float | int | str) for value in state.values())
    new = generator.normal(1.0, size=20)
    assert ShiftCheck().load_state_dict(state).check(new) == check.check(new)
    for spoilt in ({}, state | {"alpha": "x"}, state | {"scores": np.array([np.nan])}, state | {"test": "odd"}):
        with pytest.raises(InputError):
            ShiftCheck().load_state_dict(spoilt)


@pytest.mark.parametrize("options", [{"test": "t"}, {"false_alarm_rate": 0.0}, {"alpha": 1.0}, {"minimum_cases": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        ShiftCheck(**options).fit([1.0, 2.0])


def test_bad_scores_and_use_before_fit():
    with pytest.raises(RuntimeError, match="fit it"):
        ShiftCheck().check([1.0])
    with pytest.raises(RuntimeError, match="fit it"):
        ShiftCheck().state_dict()
    check = ShiftCheck().fit(np.arange(20.0))
    for scores in ([], [np.nan], [[1.0]]):
        with pytest.raises(InputError):
            check.check(scores)
    with pytest.raises(InputError, match="subjects"):
        check.check([1.0, 2.0], ["a"])
