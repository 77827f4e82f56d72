"""Fused p-values of normals are uniform under any dependence; findings come through; missing scores are handled."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from scipy.stats import chi2, kstest
from sklearn.metrics import roc_auc_score

from monai_ctmri.detection.calibration import ConformalCalibrator, binomial_interval
from monai_ctmri.detection.fusion import ScoreFusion
from monai_ctmri.errors import InputError

METHODS = ["fisher", "stouffer", "minimum", "rank_mean"]


def as_rows(values, names="abcdefgh") -> list[dict[str, float]]:
    return [{name: float(value) for name, value in zip(names, row, strict=False) if value == value} for row in values]


def dependent(generator, cases: int, scores: int, shared: float = 0.95) -> np.ndarray:
    """Scores of normals with a strong common part and heavy tails of different weight."""
    common = generator.normal(size=(cases, 1))
    values = shared * common + np.sqrt(1 - shared**2) * generator.normal(size=(cases, scores))
    return np.exp(values * np.linspace(0.2, 1.5, scores))


@pytest.mark.parametrize("method", METHODS)
def test_fused_p_values_of_normals_are_uniform_under_strong_dependence(method):
    generator = np.random.default_rng(0)
    p_values, smeared = [], []
    for _ in range(250):
        values = dependent(generator, 42, 4)
        p_values += ScoreFusion(method).fit(as_rows(values[:39])).p_value(as_rows(values[41:])).tolist()
        smeared.append(p_values[-1] - generator.uniform() / 40)
    assert kstest(smeared, "uniform").pvalue > 0.001
    for alpha in (0.05, 0.1):
        alarms = int((np.array(p_values) <= alpha).sum())
        low, high = binomial_interval(alarms, 250, confidence=0.999)
        assert low <= alpha <= high


def test_textbook_p_values_would_break_the_promise_there():
    generator = np.random.default_rng(1)
    normals, new = dependent(generator, 400, 4), dependent(generator, 400, 4)
    each = [ConformalCalibrator().fit(normals[:, place]).p_value(new[:, place]) for place in range(4)]
    textbook = chi2.sf(-2 * np.log(each).sum(axis=0), 8)
    assert binomial_interval(int((textbook <= 0.05).sum()), 400, confidence=0.999)[0] > 0.05
    ours = ScoreFusion("fisher").fit(as_rows(normals)).p_value(as_rows(new))
    assert binomial_interval(int((ours <= 0.05).sum()), 400, confidence=0.999)[0] <= 0.05


def test_a_normal_joined_to_the_others_ranks_as_if_all_were_new():
    """Whichever of 8 rows is the new one, their 8 p-values are 1/8, 2/8 ... 1: exact by enumeration."""
    rows = as_rows(np.random.default_rng(2).gamma(1.0, size=(8, 3)))
    for method in METHODS:
        p_values = [
            ScoreFusion(method, minimum_rows=2).fit(rows[:out] + rows[out + 1 :]).p_value([rows[out]])[0]
            for out in range(8)
        ]
        assert (np.sort(p_values) >= np.arange(1, 9) / 8 - 1e-12).all()
        if method != "minimum":  # where two rows may tie, which makes the p-value larger, never smaller
            np.testing.assert_allclose(np.sort(p_values), np.arange(1, 9) / 8)


@pytest.mark.parametrize("method", METHODS)
def test_one_score_alone_is_the_conformal_p_value(method):
    generator = np.random.default_rng(3)
    normals, new = generator.gamma(1.0, size=(57, 1)), generator.gamma(2.0, size=(30, 1))
    fused = ScoreFusion(method).fit(as_rows(normals)).fuse(as_rows(new))
    truth = ConformalCalibrator().fit(normals[:, 0]).p_value(new[:, 0])
    np.testing.assert_allclose([result.p_value for result in fused], truth)
    np.testing.assert_allclose([result.p_values["a"] for result in fused], truth)
    by_score = np.argsort([result.score for result in fused], kind="stable")
    np.testing.assert_array_equal(new[by_score, 0], np.sort(new[:, 0]))  # no ties, nor beyond all normals


def test_one_informative_score_among_noise_comes_through():
    generator = np.random.default_rng(4)
    normals, healthy, ill = (generator.normal(size=(size, 5)) for size in (80, 120, 120))
    ill[:, 2] += 4.0
    truth = np.repeat([0, 1], 120)
    areas = {}
    for method in METHODS:
        fusion = ScoreFusion(method).fit(as_rows(normals))
        areas[method] = roc_auc_score(truth, fusion.decision_function(as_rows(np.vstack([healthy, ill]))))
    assert areas["minimum"] > 0.96  # the informative score alone reaches .998
    assert areas["fisher"] > 0.93
    assert min(areas.values()) > 0.7
    heavy = ScoreFusion("fisher", weights={"c": 5.0}).fit(as_rows(normals))
    assert roc_auc_score(truth, heavy.decision_function(as_rows(np.vstack([healthy, ill])))) > areas["fisher"]


def test_weak_signals_that_agree_add_up():
    generator = np.random.default_rng(5)
    normals, healthy, ill = (generator.normal(size=(size, 6)) for size in (80, 120, 120))
    ill += 0.8
    cases, truth = np.vstack([healthy, ill]), np.repeat([0, 1], 120)
    best_single = max(roc_auc_score(truth, cases[:, place]) for place in range(6))
    for method in ("fisher", "stouffer", "rank_mean"):
        fused = ScoreFusion(method).fit(as_rows(normals)).decision_function(as_rows(cases))
        assert roc_auc_score(truth, fused) > best_single + 0.05


def test_beyond_all_normals_the_score_still_orders():
    generator = np.random.default_rng(6)
    fusion = ScoreFusion().fit(as_rows(generator.normal(size=(40, 3))))
    results = fusion.fuse([{"a": far, "b": far, "c": far} for far in (4.0, 6.0, 9.0, 50.0, 1e6)])
    assert {result.p_value for result in results} == {1 / 41}
    assert (np.diff([result.score for result in results]) > 0).all()
    assert np.isfinite(results[-1].score)


def test_within_the_normals_the_score_is_minus_log_p():
    generator = np.random.default_rng(7)
    results = ScoreFusion().fit(as_rows(generator.normal(size=(200, 2)))).fuse(as_rows(generator.normal(size=(100, 2))))
    bulk = [result for result in results if result.p_value > 0.15]
    assert len(bulk) > 60
    # Linear between normals: the share behind the score lies between this step of the p-value and the next.
    for result in bulk:
        assert result.p_value - 1e-9 <= 10**-result.score <= result.p_value + 1 / 201 + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_order_and_batch_play_no_part(method):
    generator = np.random.default_rng(8)
    values = generator.gamma(1.0, size=(30, 4))
    new = as_rows(generator.gamma(1.5, size=(12, 4)))
    fusion = ScoreFusion(method).fit(as_rows(values))
    together = fusion.fuse(new)
    assert together == [fusion.fuse([row])[0] for row in new]
    assert together[::-1] == fusion.fuse(new[::-1])
    turned = ScoreFusion(method).fit(as_rows(values[generator.permutation(30)]))
    assert turned.p_value(new).tolist() == [result.p_value for result in together]
    np.testing.assert_allclose(turned.decision_function(new), [result.score for result in together], rtol=1e-9)
    backwards = [dict(reversed(row.items())) for row in new]
    assert fusion.fuse(backwards) == together


def test_cases_are_compared_with_normals_that_have_the_same_scores():
    generator = np.random.default_rng(9)
    both, ct_only = generator.normal(size=(30, 2)), 5.0 + generator.normal(size=(25, 1))
    rows = as_rows(both, ["ct", "mri"]) + as_rows(ct_only, ["ct"])
    fusion = ScoreFusion().fit(rows)
    of_both, of_ct = fusion.fuse([{"ct": 5.0, "mri": 0.0}, {"ct": 5.0}])
    assert (of_both.cases, of_both.fused, of_both.note) == (30, ("ct", "mri"), None)
    assert (of_ct.cases, of_ct.fused, of_ct.note) == (25, ("ct",), None)
    assert of_both.p_values["ct"] == 1 / 31  # against the normals with both
    assert of_ct.p_value == ConformalCalibrator().fit(ct_only[:, 0]).p_value(5.0) > 0.2
    np.testing.assert_array_equal(np.isnan(fusion.rows_).sum(axis=0), [0, 25])


def test_without_such_normals_those_with_more_scores_serve_and_it_is_said(caplog):
    generator = np.random.default_rng(10)
    both = generator.normal(size=(30, 2))
    rows = as_rows(both, ["ct", "mri"]) + [{"mri": 0.0}] * 3
    fusion = ScoreFusion().fit(rows)
    with caplog.at_level(logging.WARNING, logger="monai_ctmri.detection.fusion"):
        of_ct, again = fusion.fuse([{"ct": 1.0}, {"ct": 1.0}])
    assert of_ct == again
    assert of_ct.cases == 30
    assert (
        of_ct.note
        == "0 normals have the same scores, 20 are needed; compared with 30 that have at least the scores combined"
    )
    assert len(caplog.records) == 1  # once a pattern, not once a case
    assert of_ct.p_value == ConformalCalibrator().fit(both[:, 0]).p_value(1.0)
    of_mri = fusion.fuse([{"mri": 2.0}])[0]
    assert of_mri.cases == 33
    assert "3 normals have the same scores" in of_mri.note


def test_scores_never_seen_together_fall_back_to_those_that_were():
    generator = np.random.default_rng(11)
    rows = as_rows(generator.normal(size=(30, 2)), ["ct", "ct2"]) + as_rows(generator.normal(size=(25, 1)), ["mri"])
    result = ScoreFusion().fit(rows).fuse([{"ct": 0.0, "ct2": 0.5, "mri": 9.0}])[0]
    assert (result.fused, result.cases) == (("ct", "ct2"), 30)
    assert result.note.endswith("left out: mri")
    assert result.p_values["mri"] == 1 / 26  # reported all the same


def test_where_nothing_has_enough_normals_the_most_are_taken():
    generator = np.random.default_rng(12)
    rows = as_rows(generator.normal(size=(6, 2)), ["ct", "mri"]) + as_rows(generator.normal(size=(4, 1)), ["ct"])
    result = ScoreFusion(minimum_rows=20).fit(rows).fuse([{"ct": 1.0, "mri": 1.0}])[0]
    assert (result.fused, result.cases) == (("ct",), 10)
    assert "left out: mri" in result.note


def test_few_normals_of_one_pattern_are_used_and_said_at_fit(caplog):
    with caplog.at_level(logging.WARNING, logger="monai_ctmri.detection.fusion"):
        fusion = ScoreFusion().fit(as_rows(np.random.default_rng(13).normal(size=(7, 2))))
    assert "fusion rests on 7 normals, 20 are asked for" in caplog.text
    result = fusion.fuse([{"a": 9.0, "b": 9.0}])[0]
    assert (result.p_value, result.cases, result.note) == (1 / 8, 7, None)


def test_false_alarms_with_missing_scores_stay_below_alpha():
    generator = np.random.default_rng(14)
    p_values = []
    for _ in range(250):
        values = dependent(generator, 60, 3)
        values[generator.uniform(size=60) < 0.5, 2] = np.nan  # every second case has no third score
        values[np.isnan(values[:, 2]), 0] *= 4.0  # and scores differently then
        rows = as_rows(values)
        p_values.append(ScoreFusion(minimum_rows=15).fit(rows[:59]).p_value(rows[59:])[0])
    for alpha in (0.05, 0.1):
        alarms = int((np.array(p_values) <= alpha).sum())
        assert binomial_interval(alarms, 250, confidence=0.999)[0] <= alpha


def test_with_subjects_one_row_each_is_kept():
    generator = np.random.default_rng(15)
    owner = np.repeat(np.arange(25), 4)
    values = np.column_stack([owner, generator.normal(size=100)])
    state_before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the process-wide state is what is looked at
    fusion = ScoreFusion(random_state=3).fit(as_rows(values), owner)
    assert sorted(fusion.rows_[:, 0].tolist()) == list(range(25))
    np.testing.assert_array_equal(ScoreFusion(random_state=3).fit(as_rows(values), owner).rows_, fusion.rows_)
    assert not np.array_equal(ScoreFusion(random_state=4).fit(as_rows(values), owner).rows_, fusion.rows_)
    assert np.random.get_state()[1].tolist() == state_before  # noqa: NPY002
    with pytest.raises(InputError, match="subjects"):
        ScoreFusion().fit(as_rows(values), owner[:-1])


def test_only_the_names_asked_for_count():
    generator = np.random.default_rng(16)
    rows = as_rows(generator.normal(size=(30, 3)))
    fusion = ScoreFusion(names=["c", "a"]).fit(rows)
    assert fusion.names_ == ["a", "c"]
    assert fusion.fuse([{"a": 1.0, "b": 99.0, "c": 0.0}]) == fusion.fuse([{"a": 1.0, "b": -99.0, "c": 0.0}])


@pytest.mark.parametrize(("method", "weights"), [*itertools.product(METHODS, [None]), ("fisher", {"b": 2.0})])
def test_a_loaded_state_gives_the_same_results(method, weights):
    generator = np.random.default_rng(17)
    values = generator.normal(size=(45, 3))
    values[:22, 2] = np.nan
    fusion = ScoreFusion(method, weights=weights, minimum_rows=10).fit(as_rows(values))
    state = fusion.state_dict()
    for value in state.values():
        assert isinstance(value, np.ndarray | int | float | str) or all(isinstance(one, str) for one in value)
    loaded = ScoreFusion().load_state_dict(state)
    state["rows"][:] = 0.0
    new = [{"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0, "c": 1.5}, {"c": 2.0}]
    assert loaded.fuse(new) == fusion.fuse(new)


def test_a_spoilt_state_is_refused():
    state = ScoreFusion(minimum_rows=2).fit(as_rows(np.eye(4))).state_dict()
    for change in ({"names": ["a"]}, {"rows": np.zeros(4)}, {"method": "sum"}, {"weights": np.ones(2)}, {"rows": "x"}):
        with pytest.raises(InputError):
            ScoreFusion().load_state_dict(state | change)
    with pytest.raises(InputError, match="fusion state"):
        ScoreFusion().load_state_dict({})


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"method": "sum"}, [{"a": 1.0}] * 3),
        ({"names": "ab"}, [{"a": 1.0}] * 3),
        ({"names": []}, [{"a": 1.0}] * 3),
        ({"names": ["b"]}, [{"a": 1.0}] * 3),
        ({"names": ["a", "b"]}, [{"a": 1.0}] * 3),
        ({"weights": {"b": 1.0}}, [{"a": 1.0}] * 3),
        ({"weights": {"a": 0.0}}, [{"a": 1.0}] * 3),
        ({"weights": {"a": 1.0}, "method": "minimum"}, [{"a": 1.0}] * 3),
        ({"minimum_rows": 1}, [{"a": 1.0}] * 3),
        ({}, [{"a": 1.0}]),
        ({}, [{"a": 1.0}, {}]),
        ({}, [{"a": 1.0}, {"a": float("nan")}]),
    ],
)
def test_bad_options_and_rows_are_refused_in_one_line(options, rows):
    with pytest.raises(InputError) as caught:
        ScoreFusion(**options).fit(rows)
    assert "\n" not in str(caught.value)


def test_cases_that_cannot_be_judged_are_refused():
    fusion = ScoreFusion(minimum_rows=2).fit([{"a": 1.0}, {"a": 2.0}, {"a": 3.0, "b": 1.0}])
    for row in ({}, {"z": 1.0}, {"b": 1.0}, {"a": float("inf")}):
        with pytest.raises(InputError):
            fusion.fuse([row])
    assert fusion.fuse([]) == []
    with pytest.raises(RuntimeError, match="fit it"):
        ScoreFusion().fuse([{"a": 1.0}])
