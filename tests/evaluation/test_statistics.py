"""Intervals against SciPy's bootstrap, the slow path, and the coverage they promise."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import scipy
from scipy import stats

from monai_ctmri.evaluation.metrics import auroc
from monai_ctmri.evaluation.statistics import (
    Interval,
    bootstrap_auroc,
    bootstrap_macro_auroc,
    bootstrap_macro_auroc_difference,
    cluster_bootstrap,
)


def cohort(
    seed: int, n_subjects: int = 40, slices: int = 6, effect: float = 1.0, between: float = 0.7, mixed: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores with ties and subjects; a shift of its own for each subject makes slices alike."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat(np.arange(n_subjects), slices)
    labels = generator.integers(0, 2, subjects.size) if mixed else (subjects % 2)
    shift = np.sqrt(between) * generator.normal(size=n_subjects)[subjects]
    noise = np.sqrt(1 - between) * generator.normal(size=subjects.size)
    return labels, np.round(effect * labels + shift + noise, 2), subjects


def macro(labels: np.ndarray, scores: np.ndarray, kinds: np.ndarray) -> float:
    """The mean of the AUROC of each kind against all normals."""
    present = np.unique(KINDS)
    return float(np.mean([auroc(*(x[(labels == 0) | (kinds == kind)] for x in (labels, scores))) for kind in present]))


KINDS = ("blood", "infarct", "shift")


def seeded(seed: int) -> dict[str, np.random.Generator]:
    """The generator under the name that this SciPy gives it (`rng` from 1.15)."""
    name = "rng" if tuple(int(part) for part in scipy.__version__.split(".")[:2]) >= (1, 15) else "random_state"
    return {name: np.random.default_rng(seed)}


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_fast_auroc_equals_the_slow_path_draw_for_draw(method: str, mixed: bool, seed: int) -> None:
    labels, scores, subjects = cohort(seed, n_subjects=12, mixed=mixed)
    fast = bootstrap_auroc(labels, scores, subjects, repeats=300, seed=seed, method=method)
    slow = cluster_bootstrap(auroc, subjects, labels, scores, repeats=300, seed=seed, method=method)
    assert fast.as_dict() == pytest.approx(slow.as_dict(), abs=1e-12)
    assert fast.value == pytest.approx(auroc(labels, scores))
    assert fast.method == method
    assert fast.low < fast.value < fast.high


def test_redraws_are_the_same_in_both_paths_and_counted() -> None:
    # one of four subjects is abnormal: a resample misses it with probability .75 ** 4, and all normals with .25 ** 4
    labels, scores, subjects = [1, 1, 0, 0, 0, 0, 0, 0], [2, 3, 1, 2.5, 0, 1, 2.2, 1], list("aabbccdd")
    fast = bootstrap_auroc(labels, scores, subjects, repeats=1000)
    slow = cluster_bootstrap(auroc, subjects, labels, scores, repeats=1000)
    assert fast.as_dict() == pytest.approx(slow.as_dict(), abs=1e-12)
    undefined = 0.75**4 + 0.25**4
    expected = 1000 * undefined / (1 - undefined)
    assert abs(fast.redrawn - expected) < 5 * np.sqrt(expected / (1 - undefined))


def test_macro_auroc_equals_the_slow_path_draw_for_draw() -> None:
    labels, scores, subjects = cohort(3, n_subjects=15)
    kinds = np.where(labels == 1, np.asarray(KINDS)[np.arange(labels.size) % 3], "")
    fast = bootstrap_macro_auroc(labels, scores, list(kinds), subjects, repeats=300)
    slow = cluster_bootstrap(macro, subjects, labels, scores, kinds, repeats=300)
    assert fast.as_dict() == pytest.approx(slow.as_dict(), abs=1e-9)
    assert fast.value == pytest.approx(macro(labels, scores, kinds))


def test_macro_auroc_of_one_kind_is_the_auroc() -> None:
    labels, scores, subjects = cohort(3, n_subjects=15)
    one = bootstrap_macro_auroc(labels, scores, ["blood"] * labels.size, subjects, repeats=100)
    assert one == bootstrap_auroc(labels, scores, subjects, repeats=100)


@pytest.mark.parametrize(("ours", "theirs"), [("bca", "BCa"), ("percentile", "percentile")])
@pytest.mark.parametrize("seed", [0, 4])
def test_one_slice_a_subject_agrees_with_scipy(ours: str, theirs: str, seed: int) -> None:
    labels, scores, subjects = cohort(seed, n_subjects=80, slices=1, effect=1.5, mixed=False)
    names = [f"{subject:03d}" for subject in subjects]
    mine = bootstrap_auroc(labels, scores, names, repeats=4000, method=ours, seed=9)
    other = stats.bootstrap(
        (labels, scores),
        auroc,
        paired=True,
        vectorized=False,
        n_resamples=4000,
        method=theirs,
        **seeded(9),
    ).confidence_interval
    # SciPy 1.17 draws the very same resamples, and then the ends are equal; the slack is for versions that draw others
    width = other.high - other.low
    assert mine.low == pytest.approx(other.low, abs=0.1 * width)
    assert mine.high == pytest.approx(other.high, abs=0.1 * width)


@pytest.mark.parametrize(("ours", "theirs"), [("bca", "BCa"), ("percentile", "percentile")])
def test_the_mean_of_a_skewed_sample_agrees_with_scipy(ours: str, theirs: str) -> None:
    sample = np.random.default_rng(1).exponential(size=40)
    mine = cluster_bootstrap(np.mean, np.arange(40), sample, repeats=5000, method=ours)
    other = stats.bootstrap((sample,), np.mean, n_resamples=5000, method=theirs, **seeded(0)).confidence_interval
    width = other.high - other.low
    assert (mine.low, mine.high) == pytest.approx((other.low, other.high), abs=0.06 * width)
    if ours == "bca":  # skew moves the whole interval up
        plain = cluster_bootstrap(np.mean, np.arange(40), sample, repeats=5000, method="percentile")
        assert mine.low > plain.low
        assert mine.high > plain.high


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_coverage_over_subjects_is_what_it_promises_and_over_slices_is_not(method: str) -> None:
    # each subject is of one class and scores have variance 1, so the true AUROC is Phi(effect / sqrt 2)
    truth = stats.norm.cdf(1.2 / np.sqrt(2))
    covered = {"subjects": 0, "slices": 0}
    for simulation in range(200):
        labels, scores, subjects = cohort(1000 + simulation, effect=1.2, slices=5, mixed=False)
        for unit, names in (("subjects", subjects), ("slices", np.arange(labels.size))):
            if unit == "slices" and simulation >= 60:
                continue
            interval = bootstrap_auroc(labels, scores, names, repeats=400, seed=simulation, method=method)
            covered[unit] += interval.low <= truth <= interval.high
    assert 0.88 <= covered["subjects"] / 200 <= 0.99
    assert covered["slices"] / 60 < 0.85


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_2000_repeats_of_500_slices_take_under_two_seconds(method: str) -> None:
    labels, scores, subjects = cohort(0, n_subjects=40, slices=13)
    start = time.perf_counter()
    bootstrap_auroc(labels[:500], scores[:500], subjects[:500], repeats=2000, method=method)
    assert time.perf_counter() - start < 2.0


def test_the_seed_decides_and_the_process_keeps_its_own() -> None:
    labels, scores, subjects = cohort(0)
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    first = bootstrap_auroc(labels, scores, subjects, repeats=200, seed=5)
    assert np.random.random() == expected  # noqa: NPY002
    assert first == bootstrap_auroc(labels, scores, subjects, repeats=200, seed=5)
    assert first != bootstrap_auroc(labels, scores, subjects, repeats=200, seed=6)


def test_the_order_of_rows_does_not_matter() -> None:
    labels, scores, subjects = cohort(2)
    order = np.random.default_rng(0).permutation(labels.size)
    shuffled = bootstrap_auroc(labels[order], scores[order], [f"{s}" for s in subjects[order]], repeats=200)
    assert shuffled == bootstrap_auroc(labels, scores, subjects, repeats=200)


def test_a_paired_difference_is_tighter_than_two_intervals() -> None:
    labels, scores, subjects = cohort(2)
    other = scores + 0.2 * np.random.default_rng(0).normal(size=scores.size)

    def difference(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
        return auroc(truth, first) - auroc(truth, second)

    interval = cluster_bootstrap(difference, subjects, labels, scores, other, repeats=400)
    alone = bootstrap_auroc(labels, scores, subjects, repeats=400)
    assert interval.value == pytest.approx(auroc(labels, scores) - auroc(labels, other))
    assert interval.high - interval.low < 0.5 * (alone.high - alone.low)


def test_more_confidence_is_wider() -> None:
    labels, scores, subjects = cohort(2)
    narrow, wide = (bootstrap_auroc(labels, scores, subjects, repeats=500, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide.confidence == 0.99


def test_one_subject_has_a_value_and_no_interval() -> None:
    interval = bootstrap_auroc([0, 1, 1, 0], [1, 2, 3, 2], ["a"] * 4)
    assert interval == cluster_bootstrap(auroc, ["a"] * 4, [0, 1, 1, 0], [1, 2, 3, 2])
    assert interval.value == 3.5 / 4
    assert interval.low is None
    assert interval.high is None
    assert interval.method == "none"
    assert "one subject" in interval.reason


def test_bca_falls_back_where_the_only_abnormal_subject_cannot_be_left_out() -> None:
    labels, scores, subjects = [1, 0, 0, 0, 1, 0], [2, 1, 3, 0, 1, 2.5], list("abcdae")
    interval = bootstrap_auroc(labels, scores, subjects, repeats=300)
    assert interval.method == "percentile"
    assert "without one of the subjects" in interval.reason
    plain = bootstrap_auroc(labels, scores, subjects, repeats=300, method="percentile")
    assert (interval.low, interval.high) == (plain.low, plain.high)


def test_a_perfect_score_says_that_its_width_means_nothing() -> None:
    interval = bootstrap_auroc([0, 0, 1, 1], [0, 1, 2, 3], list("abcd"), repeats=200)
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)
    assert interval.method == "percentile"
    assert "do not differ" in interval.reason


def test_bca_falls_back_where_the_value_lies_outside_its_resamples() -> None:
    # the number of distinct values on all rows is never reached by a resample of so many
    sample = np.arange(60.0)
    interval = cluster_bootstrap(
        lambda x: len(np.unique(x)) + 1e-3 * float(x.mean()), np.arange(60), sample, repeats=200
    )
    assert interval.method == "percentile"
    assert "outside" in interval.reason


def test_a_statistic_that_is_mostly_undefined_is_given_up() -> None:
    sample = np.arange(30.0)
    interval = cluster_bootstrap(
        lambda x: float(x.mean()) if np.array_equal(x, sample) else float("nan"), np.arange(30), sample, repeats=50
    )
    assert (interval.low, interval.high, interval.method) == (None, None, "none")
    assert interval.redrawn == 1000
    assert "undefined on 1000 of 1000" in interval.reason


def test_bca_ends_follow_the_formula_of_efron() -> None:
    sample = np.random.default_rng(8).gamma(1.5, size=25)
    interval = cluster_bootstrap(np.mean, [f"{i:02d}" for i in range(25)], sample, repeats=999, seed=4)
    draws = np.random.default_rng(4).integers(0, 25, size=(999, 25))
    resampled = sorted(sample[draw].mean() for draw in draws)
    bias = stats.norm.ppf(np.mean([value < sample.mean() for value in resampled]))
    left_out = np.array([np.delete(sample, i).mean() for i in range(25)])
    influence = left_out.mean() - left_out
    acceleration = (influence**3).sum() / 6 / (influence**2).sum() ** 1.5
    for end, tail in ((interval.low, 0.025), (interval.high, 0.975)):
        shifted = bias + stats.norm.ppf(tail)
        level = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
        assert end == pytest.approx(np.percentile(resampled, 100 * level))


def test_kinds_that_live_in_one_subject_each_give_a_value_and_no_interval() -> None:
    # all eight kinds are in a resample with a probability of about .63 ** 8 = .02, less than 1 in 20
    labels, kinds = [1] * 8 + [0] * 30, [f"kind{number}" for number in range(8)] + [""] * 30
    scores = np.random.default_rng(0).normal(size=38)
    interval = bootstrap_macro_auroc(labels, scores, kinds, list(range(38)), repeats=200)
    assert interval.value == pytest.approx(auroc(labels, scores))
    assert (interval.low, interval.high) == (None, None)
    assert "too few subjects" in interval.reason


def test_twins_in_every_subject_make_the_interval_tighter_than_subjects_apart() -> None:
    # normal and abnormal slices of one subject share its shift, which then cancels
    apart, together = [], []
    for seed in range(10):
        for mixed, widths in ((False, apart), (True, together)):
            labels, scores, subjects = cohort(seed, between=0.9, mixed=mixed)
            interval = bootstrap_auroc(labels, scores, subjects, repeats=200)
            widths.append(interval.high - interval.low)
    assert np.mean(together) < 0.7 * np.mean(apart)


def test_arrays_of_more_dimensions_are_resampled_by_row() -> None:
    table = np.random.default_rng(0).normal(size=(20, 3))
    both = cluster_bootstrap(lambda x: float(x[:, 1].mean()), np.arange(20) // 2, table, repeats=200)
    assert both == cluster_bootstrap(lambda x: float(x.mean()), np.arange(20) // 2, table[:, 1].copy(), repeats=200)
    assert both.n_subjects == 10


def test_as_dict_is_plain_json() -> None:
    labels, scores, subjects = cohort(0)
    for interval in (
        bootstrap_auroc(labels, scores, subjects, repeats=50),
        bootstrap_auroc([0, 1], [0, 1], ["a", "a"]),
        Interval(float("nan"), float("-inf"), float("inf"), 3, "bca"),
        Interval(np.float64(0.5), None, None, 1, "none", reason="x"),
    ):
        fields = json.loads(json.dumps(interval.as_dict(), allow_nan=False))
        assert set(fields) == {"value", "low", "high", "n_subjects", "method", "confidence", "redrawn", "reason"}
    assert Interval(float("nan"), float("-inf"), 1.0, 3, "bca").as_dict()["value"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "basic"}, "bca, percentile"),
        ({"repeats": 1}, "repeats"),
        ({"confidence": 95}, "confidence"),
        ({"subjects": ["a", "b"]}, "2 subjects"),
        ({"subjects": ["a", "", "b", "b"]}, "row 1 has no subject"),
        ({"subjects": ["a", "b", None, "b"]}, "row 2 has no subject"),
        ({"subjects": []}, "no rows|0 subjects"),
        ({"labels": [0, 0, 0, 0]}, "both normal and abnormal"),
        ({"scores": [0, 1, np.nan, 1]}, "not finite"),
    ],
)
def test_bad_input_is_refused_in_one_line_by_both_paths(change, message) -> None:
    given = {"labels": [0, 1, 0, 1], "scores": [0, 1, 2, 3], "subjects": list("abcd"), **change}
    labels, scores, subjects = given.pop("labels"), given.pop("scores"), given.pop("subjects")
    with pytest.raises(ValueError, match=message) as caught:
        bootstrap_auroc(labels, scores, subjects, **given)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap(auroc, subjects, labels, scores, **given)


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="3 kinds"):
        bootstrap_macro_auroc([0, 1], [0, 1], ["", "x", "y"], ["a", "b"])
    with pytest.raises(ValueError, match="differ in length"):
        cluster_bootstrap(np.mean, ["a", "b"])
    with pytest.raises(ValueError, match="not finite on all rows"):
        cluster_bootstrap(lambda x: float("nan"), ["a", "b"], [1, 2])


def test_the_difference_is_the_slow_bootstrap_of_the_difference():
    labels, scores, subjects = cohort(3)
    other = scores + np.random.default_rng(9).normal(size=scores.size)
    kinds = np.array(KINDS)[np.arange(labels.size) % 3]
    slow = cluster_bootstrap(
        lambda y, a, b, kind: macro(y, a, kind) - macro(y, b, kind), subjects, labels, scores, other, kinds, repeats=200
    )
    fast = bootstrap_macro_auroc_difference(labels, scores, other, list(kinds), subjects, repeats=200)
    assert fast.value == pytest.approx(macro(labels, scores, kinds) - macro(labels, other, kinds), abs=1e-12)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-9)
    assert fast.low < fast.value < fast.high


def test_a_paired_difference_of_like_scores_is_far_narrower_than_either_interval():
    labels, scores, subjects = cohort(4)
    kinds = ["blood"] * labels.size
    like = scores + 0.05 * np.random.default_rng(1).normal(size=scores.size)
    apart = bootstrap_macro_auroc_difference(labels, scores, like, kinds, subjects, repeats=300)
    alone = bootstrap_macro_auroc(labels, scores, kinds, subjects, repeats=300)
    assert apart.high - apart.low < 0.3 * (alone.high - alone.low)
    swapped = bootstrap_macro_auroc_difference(labels, like, scores, kinds, subjects, repeats=300)
    assert swapped.value == pytest.approx(-apart.value)


def test_a_score_against_itself_differs_by_nothing():
    labels, scores, subjects = cohort(5)
    same = bootstrap_macro_auroc_difference(labels, scores, scores, [""] * labels.size, subjects, repeats=50)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert same.reason
    with pytest.raises(ValueError, match=r"differ|give one"):
        bootstrap_macro_auroc_difference(labels, scores, scores[:-1], [""] * labels.size, subjects)
