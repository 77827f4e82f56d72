"""Comparison within the group: by hand, the guarantee group by group, and what happens where a group is too small."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from monai_ctmri.detection.calibration import ConformalCalibrator, binomial_interval
from monai_ctmri.detection.grouped_calibration import GroupedCalibrator, group_name
from monai_ctmri.errors import InputError

LOGGER = "monai_ctmri.detection.grouped_calibration"


def test_by_hand():
    calibrator = GroupedCalibrator(minimum_size=2).fit([1.0, 2.0, 10.0, 20.0, 30.0], ["A", "A", "B", "B", "B"])
    of_a, of_b, of_other = calibrator.compare([5.0, 15.0, 15.0], ["A", "B", "C"])
    assert (of_a.p_value, of_a.units, of_a.fallback) == (1 / 3, 2, None)
    assert (of_b.p_value, of_b.units, of_b.fallback) == (3 / 4, 3, None)
    assert (of_other.p_value, of_other.units) == (3 / 6, 5)
    assert of_other.fallback == "group 'C' has no normal case"
    np.testing.assert_array_equal(calibrator.p_value([5.0, 15.0, 15.0], ["A", "B", "C"]), [1 / 3, 3 / 4, 3 / 6])
    assert calibrator.threshold(0.4, "A") == 2.0
    assert calibrator.threshold(0.4, "C") == 20.0


def test_a_small_group_is_compared_with_all_and_says_so(caplog):
    scores, groups = np.arange(10.0), ["big"] * 7 + ["small"] * 3
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        calibrator = GroupedCalibrator(minimum_size=5).fit(scores, groups)
    assert "group 'small' has 3 normals, 5 are needed" in caplog.text
    assert len(caplog.records) == 1
    result = calibrator.compare([8.5], ["small"])[0]
    assert result.p_value == ConformalCalibrator().fit(scores).p_value(8.5)
    assert result.fallback == "group 'small' has 3 normals, 5 are needed"
    assert calibrator.too_small_ == {"small": 3}


def test_a_group_that_cannot_reach_alpha_is_too_small():
    scores, groups = np.arange(125.0), ["A"] * 99 + ["B"] * 26
    assert set(GroupedCalibrator().fit(scores, groups).calibrators_) == {"A", "B"}
    strict = GroupedCalibrator(alpha=0.01).fit(scores, groups)
    assert set(strict.calibrators_) == {"A"}
    assert strict.warning_ is None
    assert "99 are needed" in strict.compare([0.0], ["B"])[0].fallback
    with_too_few = GroupedCalibrator(alpha=0.001).fit(scores, groups)
    assert "the smallest p-value is 0.007937" in with_too_few.warning_


def test_a_group_of_one_subject_is_small_however_many_slices():
    scores = np.arange(60.0)
    subjects = ["one"] * 30 + [f"s{i}" for i in range(30)]
    calibrator = GroupedCalibrator().fit(scores, ["A"] * 30 + ["B"] * 30, subjects)
    assert calibrator.too_small_ == {"A": 1}
    result = calibrator.compare([100.0], ["A"])[0]
    assert result.units == 31
    assert result.p_value == 1 / 32


def test_facts_name_a_group_in_any_order():
    assert group_name({"scanner": "X", "level": 2}) == "level=2|scanner=X" == group_name({"level": 2, "scanner": "X"})
    calibrator = GroupedCalibrator(minimum_size=1).fit([1.0, 2.0], [{"present": "ct"}, {"present": "ct+mri"}])
    assert calibrator.compare([3.0], [{"present": "ct"}])[0].group == "present=ct"
    assert calibrator.compare([3.0], ["present=ct"])[0].units == 1


def test_false_alarms_stay_below_alpha_in_every_group_where_one_for_all_does_not():
    """Three scanners with levels and spreads of their own; 1,000 draws of calibration set and one case a group."""
    generator = np.random.default_rng(0)
    sizes, levels, spreads = [99, 99, 119], np.array([0.0, 1.5, 0.5]), np.array([1.0, 1.0, 3.0])
    group = np.repeat([0, 1, 2], sizes)
    names = [f"scanner {g}" for g in group]
    asked = ["scanner 0", "scanner 1", "scanner 2"]
    own, pooled = [], []
    for _ in range(1000):
        scores = levels[group] + spreads[group] * generator.normal(size=group.size)
        new = levels + spreads * generator.normal(size=3)
        calibrator = GroupedCalibrator().fit(scores, names)
        own.append(calibrator.p_value(new, asked))
        pooled.append(calibrator.everyone_.p_value(new))
    for alpha in (0.01, 0.05, 0.1):
        for place in range(3):
            alarms = int((np.array(own)[:, place] <= alpha).sum())
            assert binomial_interval(alarms, 1000, confidence=0.999)[0] <= alpha
        if alpha >= 0.05:  # at .01 a thousand draws are too few to prove the excess
            unfair = int((np.array(pooled)[:, 2] <= alpha).sum())
            assert binomial_interval(unfair, 1000, confidence=0.999)[0] > alpha


def test_false_alarms_in_a_group_with_several_slices_a_subject():
    generator = np.random.default_rng(1)
    owner = np.repeat(np.arange(60), 4)
    groups = np.where(owner % 3 == 0, "upper", "lower")  # 20 and 40 subjects
    p_values = []
    for _ in range(1000):
        scores = generator.normal(size=60)[owner] + 0.2 * generator.normal(size=owner.size)
        new = generator.normal(size=2) + 0.2 * generator.normal(size=2)
        p_values.append(GroupedCalibrator().fit(scores, groups.tolist(), owner).p_value(new, ["upper", "lower"]))
    for place in range(2):
        for alpha in (0.05, 0.1):
            alarms = int((np.array(p_values)[:, place] <= alpha).sum())
            assert binomial_interval(alarms, 1000, confidence=0.999)[0] <= alpha


def test_a_case_alone_and_in_a_batch():
    generator = np.random.default_rng(2)
    calibrator = GroupedCalibrator(minimum_size=5).fit(generator.normal(size=60), ["A", "B", "C"] * 20)
    scores, groups = generator.normal(size=9), ["A", "B", "D"] * 3
    together = calibrator.compare(scores, groups)
    alone = [calibrator.compare([score], [group])[0] for score, group in zip(scores, groups, strict=True)]
    assert together == alone


@pytest.mark.parametrize("alpha", [None, 0.05])
def test_a_loaded_state_gives_the_same_results(alpha):
    generator = np.random.default_rng(3)
    scores, groups = generator.normal(size=70), ["a|b=1"] * 40 + ["x.y"] * 25 + ["few"] * 5
    calibrator = GroupedCalibrator(alpha=alpha).fit(scores, groups, generator.integers(0, 200, size=70))
    state = calibrator.state_dict()
    for value in state.values():
        assert isinstance(value, np.ndarray | int | float) or all(isinstance(one, str) for one in value)
    loaded = GroupedCalibrator().load_state_dict(state)
    asked = ["a|b=1", "x.y", "few", "never"]
    assert loaded.compare([0.1, 0.2, 2.0, 3.0], asked) == calibrator.compare([0.1, 0.2, 2.0, 3.0], asked)
    assert (loaded.alpha, loaded.minimum_size, loaded.warning_) == (alpha, 20, calibrator.warning_)


def test_a_spoilt_state_is_refused():
    state = GroupedCalibrator(minimum_size=1).fit([1.0, 2.0], ["A", "B"]).state_dict()
    for spoilt in ({}, state | {"groups": ["A", "B", "C"]}, state | {"too_small": ["A"]}, state | {"1.units": 9}):
        with pytest.raises(InputError, match="calibrator state"):
            GroupedCalibrator().load_state_dict(spoilt)


@pytest.mark.parametrize(
    ("scores", "groups"), [([1.0, 2.0], ["A"]), ([1.0], [""]), ([1.0], [3]), ([1.0], "A"), ([], []), ([np.nan], ["A"])]
)
def test_bad_input_is_refused_in_one_line(scores, groups):
    with pytest.raises(InputError) as caught:
        GroupedCalibrator(minimum_size=1).fit(scores, groups)
    assert "\n" not in str(caught.value)


def test_use_before_fit_and_bad_options():
    with pytest.raises(RuntimeError, match="fit it"):
        GroupedCalibrator().compare([1.0], ["A"])
    with pytest.raises(InputError, match="minimum_size"):
        GroupedCalibrator(minimum_size=0).fit([1.0], ["A"])
    with pytest.raises(InputError, match="scores"):
        GroupedCalibrator(1).fit([1.0], ["A"]).compare([[1.0]], ["A"])
