"""Combinations against scipy and the formula; the continued p-values against ranks and the exponential tail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, combine_pvalues, norm

from monai_ctmri.detection.p_value_combination import combine_p_values, continued_p_values, tail_size
from monai_ctmri.errors import InputError

P_VALUES = np.random.default_rng(0).uniform(0.001, 0.999, size=(40, 5))
WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0, 1.0])


def test_fisher_equals_scipy():
    ours = combine_p_values(P_VALUES, "fisher")
    for row, statistic in zip(P_VALUES, ours, strict=True):
        truth = combine_pvalues(row, method="fisher")
        assert statistic == pytest.approx(truth.statistic)
        assert chi2.sf(statistic, 10) == pytest.approx(truth.pvalue)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_stouffer_equals_scipy(weights):
    ours = combine_p_values(P_VALUES, "stouffer", weights)
    for row, statistic in zip(P_VALUES, ours, strict=True):
        truth = combine_pvalues(row, method="stouffer", weights=weights)
        assert statistic == pytest.approx(truth.statistic)
        assert norm.sf(statistic) == pytest.approx(truth.pvalue)


def test_minimum_equals_scipy():
    ours = combine_p_values(P_VALUES, "minimum")
    truth = [combine_pvalues(row, method="tippett").pvalue for row in P_VALUES]
    np.testing.assert_allclose(np.exp(-ours), truth, rtol=1e-10)


def test_the_minimum_of_tiny_p_values_keeps_its_order():
    statistic = combine_p_values(np.array([[1e-30, 0.5], [1e-20, 0.5], [1e-16, 0.5]]), "minimum")
    np.testing.assert_allclose(np.exp(-statistic), [2e-30, 2e-20, 2e-16], rtol=1e-9)  # Sidak becomes Bonferroni


def test_rank_mean_by_hand():
    np.testing.assert_allclose(combine_p_values(np.array([[0.2, 0.4], [0.9, 0.1]]), "rank_mean"), [0.7, 0.5])
    weighted = combine_p_values(np.array([[0.2, 0.4]]), "rank_mean", np.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted, [1 - (0.6 + 0.4) / 4])


def test_weighted_fisher_by_hand():
    weighted = combine_p_values(np.array([[0.2, 0.4]]), "fisher", np.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted, [-2 * (3 * np.log(0.2) + np.log(0.4))])


@pytest.mark.parametrize("method", ["fisher", "stouffer", "minimum", "rank_mean"])
def test_smaller_p_values_give_a_higher_statistic_and_one_score_keeps_its_order(method):
    assert (combine_p_values(P_VALUES * 0.5, method) > combine_p_values(P_VALUES, method)).all()
    alone = combine_p_values(P_VALUES[:, :1], method)
    np.testing.assert_array_equal(np.argsort(alone), np.argsort(-P_VALUES[:, 0]))


@pytest.mark.parametrize(
    "p_values", [np.zeros((1, 2)), np.ones((1, 2)), np.full((1, 1), np.nan), np.empty((3, 0)), np.full(3, 0.5)]
)
def test_impossible_p_values_are_refused(p_values):
    with pytest.raises(InputError, match="p-values"):
        combine_p_values(p_values, "fisher")


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="method"):
        combine_p_values(P_VALUES, "sum")
    with pytest.raises(InputError, match="weights"):
        combine_p_values(P_VALUES, "minimum", WEIGHTS)


def test_evenly_spaced_values_get_the_middle_rank():
    values = np.random.default_rng(1).permutation(50.0 * np.arange(40)).reshape(-1, 1)
    p_values = continued_p_values(values)[:, 0]
    order = np.argsort(-values[:, 0])
    np.testing.assert_allclose(p_values[order][3:], (np.arange(3, 40) + 0.5) / 40)  # the upper four are the tail


def test_between_its_neighbours_a_value_counts_by_distance():
    bulk = [0.0, 1.0, 2.0, 4.0, 6.0, 7.0, 8.0, 9.0, 9.5, 10.0]  # the upper four are the tail
    for value, expected in ((2.5, 8 - 0.25), (3.0, 8 - 0.5), (3.9, 8 - 0.95), (5.0, 7 - 0.5), (-3.0, 11 - 0.5)):
        p_values = continued_p_values(np.array([*bulk, value]).reshape(-1, 1))[:, 0]
        assert p_values[-1] == pytest.approx(expected / 11)


def test_p_values_fall_strictly_as_values_rise():
    generator = np.random.default_rng(4)
    for size in (2, 3, 11, 60, 400):
        values = np.sort(generator.standard_t(2, size=size)).reshape(-1, 1)
        p_values = continued_p_values(values)[:, 0]
        assert (np.diff(p_values) < 0).all()
        assert (p_values > 0.0).all()
        assert (p_values < 1.0).all()


def test_in_the_tail_the_p_value_falls_exponentially():
    values = np.concatenate([np.zeros(36), [1.0, 2.0, 3.0, 9.0]]).reshape(-1, 1)
    p_values = continued_p_values(values)[:, 0]
    scale = (0 + 1 + 2 + 8) / 4
    np.testing.assert_allclose(p_values[36:], 3.5 / 40 * np.exp(-np.array([0, 1, 2, 8]) / scale))
    np.testing.assert_allclose(p_values[:36], (40 - 36 / 2) / 40)


def test_far_and_further_differ_and_nothing_reaches_zero():
    generator = np.random.default_rng(2)
    found = []
    for distance in (4.0, 8.0, 1e3, 1e9):
        for size in (20, 5000):
            p_value = continued_p_values(np.append(generator.normal(size=size), distance).reshape(-1, 1))[-1, 0]
            assert 0.0 < p_value < 1.0 / size
    bulk = generator.normal(size=(80, 1))
    for distance in (4.0, 8.0, 1e3):
        found.append(continued_p_values(np.vstack([bulk, [[distance]]]))[-1, 0])
    assert found[0] > found[1] > found[2]


def test_order_and_columns_play_no_part():
    generator = np.random.default_rng(3)
    values, shuffle = generator.gamma(1.0, size=(60, 3)), generator.permutation(60)
    p_values = continued_p_values(values)
    np.testing.assert_allclose(continued_p_values(values[shuffle]), p_values[shuffle], rtol=1e-12)
    for column in range(3):
        np.testing.assert_array_equal(continued_p_values(values[:, [column]])[:, 0], p_values[:, column])


def test_equal_values_share_the_middle_of_their_ranks():
    np.testing.assert_allclose(continued_p_values(np.ones((4, 1)))[:, 0], 0.5)
    p_values = continued_p_values(np.array([[0.0]] * 5 + [[1.0]] * 5))[:, 0]
    np.testing.assert_allclose(p_values, np.repeat([0.75, 0.25], 5))


def test_tail_size():
    assert [tail_size(count) for count in (2, 5, 41, 95, 1000, 100000)] == [2, 4, 5, 10, 100, 100]
