"""Conformal p-values and thresholds against counting by hand, and the guarantee they promise."""

from __future__ import annotations

import itertools
import logging
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from monai_ctmri.detection.calibration import ConformalCalibrator, binomial_interval, smallest_calibration_set
from monai_ctmri.errors import InputError

QUIET = "monai_ctmri.detection.calibration"


def counted(calibration: list[float], score: float) -> Fraction:
    return Fraction(1 + sum(one >= score for one in calibration), len(calibration) + 1)


def test_p_values_by_hand():
    calibrator = ConformalCalibrator().fit([3.0, 1.0, 2.0, 2.0])
    assert calibrator.p_value(0.5) == 5 / 5
    assert calibrator.p_value(1.0) == 5 / 5
    assert calibrator.p_value(1.5) == 4 / 5
    assert calibrator.p_value(2.0) == 4 / 5
    assert calibrator.p_value(2.5) == 2 / 5
    assert calibrator.p_value(3.0) == 2 / 5
    assert calibrator.p_value(3.1) == 1 / 5 == calibrator.smallest_p_value
    assert calibrator.p_value(np.inf) == 1 / 5
    assert calibrator.p_value(-np.inf) == 1.0


def test_p_values_equal_counting_and_keep_the_shape():
    generator = np.random.default_rng(0)
    calibration = generator.integers(0, 12, size=37).astype(float)
    scores = generator.integers(-2, 15, size=(5, 6)).astype(float)
    p_values = ConformalCalibrator().fit(calibration).p_value(scores)
    assert p_values.shape == (5, 6)
    for score, p in zip(scores.ravel(), p_values.ravel(), strict=True):
        assert p == float(counted(list(calibration), score))


def test_a_number_gives_a_float_and_a_batch_changes_nothing():
    calibrator = ConformalCalibrator().fit(np.arange(10))
    assert isinstance(calibrator.p_value(3), float)
    scores = np.linspace(-1, 11, 25)
    assert [calibrator.p_value(score) for score in scores] == calibrator.p_value(scores).tolist()
    assert calibrator.p_value([]).shape == (0,)


def test_p_values_fall_as_scores_rise():
    calibrator = ConformalCalibrator().fit(np.random.default_rng(1).normal(size=50))
    p_values = calibrator.p_value(np.linspace(-4, 4, 200))
    assert (np.diff(p_values) <= 0).all()
    assert p_values.min() == calibrator.smallest_p_value
    assert p_values.max() == 1.0


def test_the_order_of_the_calibration_scores_plays_no_part():
    scores = np.random.default_rng(2).normal(size=31)
    one, other = ConformalCalibrator().fit(scores), ConformalCalibrator().fit(scores[::-1].copy())
    assert one.threshold(0.1) == other.threshold(0.1)
    np.testing.assert_array_equal(one.scores_, np.sort(scores))


def test_threshold_and_p_value_agree_for_every_small_set_with_ties():
    """All multisets of up to 5 scores from 4 levels, all levels and places between, all alphas that matter."""
    logging.getLogger(QUIET).setLevel(logging.ERROR)
    levels = [0.0, 1.0, 2.0, 3.0]
    asked = [-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    for n in range(1, 6):
        ranks = {rank / (n + 1) for rank in range(1, n + 1)}
        alphas = sorted(ranks | {r - 1e-9 for r in ranks} | {r + 1e-9 for r in ranks} | {0.01, 0.99})
        for calibration in itertools.combinations_with_replacement(levels, n):
            calibrator = ConformalCalibrator().fit(calibration)
            p_values = calibrator.p_value(asked)
            for alpha in alphas:
                flagged = np.asarray(asked) > calibrator.threshold(alpha)
                np.testing.assert_array_equal(flagged, p_values <= alpha, err_msg=f"{calibration} {alpha}")
    logging.getLogger(QUIET).setLevel(logging.NOTSET)


@pytest.mark.parametrize("decimals", [1, 9])  # many ties, none
@pytest.mark.parametrize("n", [9, 19, 28, 99, 100, 999])
def test_threshold_and_p_value_agree_where_floats_round(n, decimals, caplog):
    """Alphas in per cent: products such as 0.29 * 100 fall below the integer they mean."""
    generator = np.random.default_rng(n)
    calibration = np.round(generator.normal(size=n), decimals)
    calibrator = ConformalCalibrator().fit(calibration)
    asked = np.unique(np.concatenate([calibration, calibration + 0.05, calibration - 0.05]))
    p_values = calibrator.p_value(asked)
    with caplog.at_level(logging.ERROR, logger=QUIET):
        for alpha in [*(percent / 100 for percent in range(1, 100)), 0.001, 0.005, 0.999]:
            np.testing.assert_array_equal(asked > calibrator.threshold(alpha), p_values <= alpha)


def test_threshold_is_the_smallest_value_that_works():
    calibrator = ConformalCalibrator().fit(np.arange(1, 20))  # n = 19: alpha .05 allows rank 1, .1 rank 2
    assert calibrator.threshold(0.05) == 19.0
    assert calibrator.threshold(0.1) == 18.0
    assert calibrator.p_value(np.nextafter(18.0, 19.0)) <= 0.1 < calibrator.p_value(18.0)


def test_rounding_trap_by_hand():
    assert 0.29 * 100 < 29  # the trap itself
    assert ConformalCalibrator().fit(np.arange(99)).threshold(0.29) == 70.0  # the 29th largest of 0..98


def test_too_small_a_set_flags_nothing_and_says_so(caplog):
    calibrator = ConformalCalibrator().fit(np.arange(18))
    with caplog.at_level(logging.WARNING, logger=QUIET):
        assert calibrator.threshold(0.05) == np.inf
    assert len(caplog.records) == 1
    assert "18 calibration scores are too few for alpha = 0.05" in caplog.text
    assert "at least 19 are needed" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=QUIET):
        assert np.isfinite(ConformalCalibrator().fit(np.arange(19)).threshold(0.05))
    assert not caplog.records


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("n", [20, 39])
def test_false_alarms_stay_below_alpha_for_exchangeable_normals(alpha, n):
    """1,000 draws of calibration set and case; the count is binomial with rate floor(alpha (n + 1)) / (n + 1)."""
    generator = np.random.default_rng(2024)
    alarms = 0
    for _ in range(1000):
        scores = generator.gamma(0.7, size=n + 1)
        calibrator = ConformalCalibrator().fit(scores[:n])
        alarms += scores[n] > calibrator.threshold(alpha)
    exact = int(Fraction(str(alpha)) * (n + 1)) / (n + 1)
    low, high = binomial_interval(alarms, 1000, confidence=0.999)
    assert low <= alpha
    assert low <= exact <= high


def test_p_values_of_normals_are_uniform():
    generator = np.random.default_rng(3)
    draws = generator.normal(size=(1000, 51))
    p_values = [ConformalCalibrator().fit(row[:50]).p_value(row[50]) for row in draws]
    # Smeared over the step below each p-value, they are uniform on (0, 1) exactly.
    smeared = np.array(p_values) - generator.uniform(size=1000) / 51
    assert kstest(smeared, "uniform").pvalue > 0.001


def test_ties_only_lower_the_false_alarm_rate():
    generator = np.random.default_rng(4)
    alarms = 0
    for _ in range(1000):
        scores = generator.integers(0, 3, size=31)
        alarms += ConformalCalibrator().fit(scores[:30]).p_value(scores[30]) <= 0.2
    assert alarms / 1000 <= 0.2


def test_fit_returns_itself_copies_and_refits():
    given = np.array([2.0, 1.0])
    calibrator = ConformalCalibrator()
    assert calibrator.fit(given) is calibrator
    given[:] = 100.0
    assert calibrator.p_value(3.0) == 1 / 3
    assert calibrator.fit([5.0]).smallest_p_value == 0.5


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0]], 3.0, ["a"], [1.0, np.nan], [np.inf, 1.0]])
def test_bad_calibration_scores_are_refused_in_one_line(scores):
    with pytest.raises(InputError) as caught:
        ConformalCalibrator().fit(scores)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5.0, np.nan])
def test_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(InputError, match="alpha"):
        ConformalCalibrator().fit([1.0]).threshold(alpha)


def test_a_score_that_is_nan_is_refused():
    with pytest.raises(InputError, match="NaN"):
        ConformalCalibrator().fit([1.0]).p_value([0.0, np.nan])


@pytest.mark.parametrize("ask", [lambda c: c.p_value(1.0), lambda c: c.threshold(0.1), lambda c: c.smallest_p_value])
def test_use_before_fit_is_refused(ask):
    with pytest.raises(RuntimeError, match="fit it"):
        ask(ConformalCalibrator())


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (1, 20), (10, 20), (19, 20), (20, 20), (3, 1000)])
def test_binomial_interval_equals_scipy(k, n, confidence):
    truth = binomtest(k, n).proportion_ci(confidence_level=confidence, method="exact")
    assert binomial_interval(k, n, confidence) == pytest.approx((truth.low, truth.high), abs=1e-9)


def test_binomial_interval_by_hand():
    # None of n: the upper bound u solves (1 - u)**n = 0.025.
    low, high = binomial_interval(0, 30)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert all(isinstance(bound, float) for bound in (low, high))


def test_binomial_interval_takes_numpy_integers_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert binomial_interval(np.int64(0), np.int64(5)) == binomial_interval(0, 5)
        assert binomial_interval(5, 5)[1] == 1.0


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0), (1.5, 3)])
def test_binomial_interval_refuses_impossible_counts(k, n):
    with pytest.raises(InputError, match="binomial interval"):
        binomial_interval(k, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_binomial_interval_refuses_impossible_confidence(confidence):
    with pytest.raises(InputError, match="confidence"):
        binomial_interval(1, 2, confidence)


def weighted_by_hand(scores, subjects, score) -> Fraction:
    """Each subject counts once, by the share of its slices that score as high."""
    total = Fraction(1)
    for subject in set(subjects):
        own = [one for one, whose in zip(scores, subjects, strict=True) if whose == subject]
        total += Fraction(sum(one >= score for one in own), len(own))
    return total / (len(set(subjects)) + 1)


SLICES = [3.0, 1.0, 2.0, 2.0, 5.0, 0.0, 4.0]
WHOSE = ["a", "a", "a", "b", "b", "c", "d"]


def test_subjects_count_once_however_many_slices_they_have():
    calibrator = ConformalCalibrator().fit(SLICES, WHOSE)
    assert calibrator.units_ == 4
    assert calibrator.smallest_p_value == 1 / 5 == calibrator.p_value(6.0)
    for score in np.arange(-0.5, 6.0, 0.5):
        assert calibrator.p_value(score) == pytest.approx(float(weighted_by_hand(SLICES, WHOSE, score)), abs=1e-9)


def test_the_p_value_is_the_mean_over_all_draws_of_one_slice_a_subject():
    own = [[score for score, whose in zip(SLICES, WHOSE, strict=True) if whose == subject] for subject in "abcd"]
    for score in (0.0, 1.5, 2.0, 3.5, 5.0):
        draws = [ConformalCalibrator().fit(draw).p_value(score) for draw in itertools.product(*own)]
        assert ConformalCalibrator().fit(SLICES, WHOSE).p_value(score) == pytest.approx(np.mean(draws), abs=1e-9)


def test_one_slice_a_subject_is_the_plain_calibration():
    scores = np.random.default_rng(5).normal(size=33)
    asked = np.linspace(-3, 3, 50)
    plain = ConformalCalibrator().fit(scores)
    owned = ConformalCalibrator().fit(scores, list(range(33)))
    np.testing.assert_array_equal(plain.p_value(asked), owned.p_value(asked))
    assert plain.threshold(0.1) == owned.threshold(0.1)


@pytest.mark.parametrize("decimals", [0, 9])  # many ties, none
def test_threshold_and_p_value_agree_with_subjects(decimals, caplog):
    generator = np.random.default_rng(6)
    scores = np.round(generator.normal(size=200), decimals)
    calibrator = ConformalCalibrator().fit(scores, generator.integers(0, 60, size=200))
    asked = np.unique(np.concatenate([scores, scores + 0.05, scores - 0.05]))
    p_values = calibrator.p_value(asked)
    with caplog.at_level(logging.ERROR, logger=QUIET):
        for alpha in [percent / 100 for percent in range(1, 100)]:
            np.testing.assert_array_equal(asked > calibrator.threshold(alpha), p_values <= alpha)


def alarm_counts(draws: int, draw, alphas=(0.01, 0.05, 0.1)) -> dict[float, int]:
    p_values = np.array([draw() for _ in range(draws)])
    return {alpha: int((p_values <= alpha).sum()) for alpha in alphas}


def test_false_alarms_at_the_three_rates_of_the_benchmark():
    generator = np.random.default_rng(7)

    def draw():
        scores = generator.standard_t(3, size=100)
        return ConformalCalibrator().fit(scores[:99]).p_value(scores[99])

    for alpha, alarms in alarm_counts(1000, draw).items():  # 99 cases: the rate is alpha itself
        low, high = binomial_interval(alarms, 1000, confidence=0.999)
        assert low <= alpha <= high


def slices_of(generator, subject_count: int, most: int, own_spread: float):
    """Scores with a level of the subject's own, and whose they are."""
    counts = generator.integers(1, most + 1, size=subject_count)
    owner = np.repeat(np.arange(subject_count), counts)
    return generator.normal(size=subject_count)[owner] + own_spread * generator.normal(size=owner.size), owner


@pytest.mark.parametrize("own_spread", [0.05, 1.0])
def test_false_alarms_stay_below_alpha_with_several_slices_a_subject(own_spread):
    generator = np.random.default_rng(8)

    def draw():
        scores, owner = slices_of(generator, 100, 6, own_spread)
        new = generator.choice(np.flatnonzero(owner == 99))
        return ConformalCalibrator().fit(scores[owner < 99], owner[owner < 99]).p_value(scores[new])

    for alpha, alarms in alarm_counts(1000, draw).items():
        assert binomial_interval(alarms, 1000, confidence=0.999)[0] <= alpha


def test_slices_taken_for_cases_break_the_promise_and_subjects_keep_it():
    generator = np.random.default_rng(9)
    naive, honest = [], []
    for _ in range(1000):
        levels = generator.normal(size=10)
        scores, owner = np.repeat(levels[:9], 12), np.repeat(np.arange(9), 12)
        naive.append(ConformalCalibrator().fit(scores).p_value(levels[9]))
        honest.append(ConformalCalibrator().fit(scores, owner).p_value(levels[9]))
    # The new subject scores highest of ten in a tenth of the draws; 108 "cases" make that p = 1 / 109.
    assert binomial_interval(int((np.array(naive) <= 0.01).sum()), 1000, confidence=0.999)[0] > 0.01
    assert (np.array(honest) <= 0.01).sum() == 0
    assert binomial_interval(int((np.array(honest) <= 0.1).sum()), 1000, confidence=0.999)[0] <= 0.1


def test_a_set_too_small_for_alpha_warns_at_fit(caplog):
    with caplog.at_level(logging.WARNING, logger=QUIET):
        calibrator = ConformalCalibrator(alpha=0.01).fit(np.arange(60), np.arange(60) // 2)
    assert "30 calibration subjects are too few for alpha = 0.01: the smallest p-value is 0.03226" in caplog.text
    assert calibrator.warning_ is not None
    assert calibrator.warning_ in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=QUIET):
        assert ConformalCalibrator(alpha=0.01).fit(np.arange(99)).warning_ is None
        assert ConformalCalibrator().fit([1.0]).warning_ is None
    assert not caplog.records


def test_smallest_calibration_set():
    assert [smallest_calibration_set(alpha) for alpha in (0.5, 0.1, 0.05, 0.01, 0.001)] == [1, 9, 19, 99, 999]
    for alpha in np.random.default_rng(10).uniform(0.003, 1.0, size=200):
        n = smallest_calibration_set(alpha)
        assert 1 / (n + 1) <= alpha
        assert n == 1 or 1 / n > alpha
    with pytest.raises(InputError, match="alpha"):
        smallest_calibration_set(0.0)


@pytest.mark.parametrize("alpha", [None, 0.01])
def test_a_loaded_state_gives_the_same_p_values(alpha):
    calibrator = ConformalCalibrator(alpha).fit(SLICES, WHOSE)
    state = calibrator.state_dict()
    assert all(isinstance(value, np.ndarray | int | float) for value in state.values())
    loaded = ConformalCalibrator().load_state_dict(state)
    state["scores"][:] = 0.0  # the state is a copy on both sides
    asked = np.linspace(-1, 6, 40)
    np.testing.assert_array_equal(loaded.p_value(asked), calibrator.p_value(asked))
    assert (loaded.alpha, loaded.warning_, loaded.units_) == (alpha, calibrator.warning_, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.array([2.0, 1.0])},
        {"scores": np.array([])},
        {"tail": np.array([1.0, 0.0])},
        {"units": 7},
        {"units": "many"},
        {"scores": None},
        {"tail": np.array([2.0, 1.0, 3.0])},
    ],
)
def test_a_spoilt_state_is_refused(change):
    state = ConformalCalibrator().fit([1.0, 2.0]).state_dict() | change
    with pytest.raises(InputError, match="calibrator state"):
        ConformalCalibrator().load_state_dict(state)
    with pytest.raises(InputError, match="calibrator state"):
        ConformalCalibrator().load_state_dict({})


def test_one_subject_a_score_is_demanded():
    with pytest.raises(InputError, match="2 subjects for 3 scores"):
        ConformalCalibrator().fit([1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(InputError, match="alpha"):
        ConformalCalibrator(alpha=1.5).fit([1.0])
