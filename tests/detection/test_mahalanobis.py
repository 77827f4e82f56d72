"""Mahalanobis distance against its formula, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import chi2, kstest
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from monai_ctmri.detection.mahalanobis import MahalanobisDetector, ShrunkGaussian
from monai_ctmri.errors import InputError


def rows_of(count: int, columns: int, seed: int = 0) -> np.ndarray:
    mixing = np.random.default_rng(5).normal(size=(columns, columns))
    return np.random.default_rng(seed).normal(size=(count, columns)) @ mixing


@pytest.mark.parametrize(("count", "columns"), [(100, 5), (8, 20), (20, 20), (2, 3)])
@pytest.mark.parametrize("shrinkage", [0.2, 0.9, 1.0])
def test_the_distance_is_the_formula_with_the_full_covariance(count, columns, shrinkage):
    rows, new = rows_of(count, columns), rows_of(6, columns, seed=1)
    empirical = np.cov(rows, rowvar=False, bias=True)
    covariance = (1 - shrinkage) * empirical + shrinkage * np.trace(empirical) / columns * np.eye(columns)
    inverse = np.linalg.inv(covariance)
    expected = [mahalanobis(row, rows.mean(axis=0), inverse) for row in new]
    found = MahalanobisDetector(shrinkage=shrinkage, standardize=False).fit(rows).decision_function(new)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize(("count", "columns"), [(100, 5), (10, 40)])
def test_without_a_shrinkage_it_is_ledoit_and_wolfs(count, columns):
    rows, new = rows_of(count, columns), rows_of(6, columns, seed=1)
    scaler = StandardScaler().fit(rows)
    truth = LedoitWolf().fit(scaler.transform(rows))
    detector = MahalanobisDetector().fit(rows)
    assert detector.detector_.shrinkage_[0] == pytest.approx(truth.shrinkage_)
    np.testing.assert_allclose(
        detector.decision_function(new) ** 2, truth.mahalanobis(scaler.transform(new)), rtol=1e-7
    )


def test_squared_distances_of_new_normals_follow_chi_squared():
    rows, new = rows_of(4000, 4), rows_of(1000, 4, seed=1)
    squared = MahalanobisDetector(shrinkage=0.0).fit(rows).decision_function(new) ** 2
    assert kstest(squared, chi2(4).cdf).pvalue > 0.01


def test_units_of_the_columns_play_no_part_without_shrinkage():
    rows, new = rows_of(50, 4), rows_of(5, 4, seed=1)
    turned = np.random.default_rng(2).normal(size=(4, 4)) * [0.1, 1.0, 3.0, 10.0]
    plain = MahalanobisDetector(shrinkage=0.0, standardize=False).fit(rows).decision_function(new)
    other = MahalanobisDetector(shrinkage=0.0, standardize=False).fit(rows @ turned).decision_function(new @ turned)
    np.testing.assert_allclose(other, plain, rtol=1e-5)


def test_it_sees_a_broken_correlation_that_no_column_shows():
    generator = np.random.default_rng(3)
    base = generator.normal(size=(500, 1))
    rows = base + 0.05 * generator.normal(size=(500, 2))
    detector = MahalanobisDetector().fit(rows[:300])
    assert detector.decision_function([[1.0, -1.0]])[0] > 3 * detector.decision_function(rows[300:]).max()


def test_a_fitted_row_with_more_columns_than_rows_has_no_rest():
    rows = rows_of(5, 2000)
    gaussian = ShrunkGaussian().fit(rows, 1e-6)
    inside = gaussian.decision_function(rows)
    # In the span of the fitted rows (divisor N) the squared distance is N (1 - 1/N) (x'(XX')^-1 x form): N - 1.
    np.testing.assert_allclose(inside**2, 4.0, rtol=1e-2)
    assert gaussian.components_.shape == (5, 2000)


def test_whitening_and_explained_variance_reach_the_steps():
    rows = np.concatenate([rows_of(60, 3), rows_of(60, 3) @ np.ones((3, 4))], axis=1)
    detector = MahalanobisDetector(whiten=True, explained_variance=0.999).fit(rows)
    assert detector.steps_.transform(rows).shape[1] <= 3
    assert detector.n_features_in_ == 7


def test_its_state_is_numpy_arrays():
    fitted = MahalanobisDetector().fit(rows_of(20, 3)).detector_
    assert {type(value) for value in vars(fitted).values()} == {np.ndarray}


def test_names_are_kept_and_rows_checked():
    detector = MahalanobisDetector().fit(rows_of(20, 3), feature_names=["a", "b", "c"])
    with pytest.raises(InputError, match="column 'b' holds nan in row 0"):
        detector.decision_function([[0.0, np.nan, 0.0]])
    with pytest.raises(InputError, match="2 columns, fitted on 3"):
        detector.decision_function([[0.0, 0.0]])
    with pytest.raises(NotFittedError):
        MahalanobisDetector().decision_function([[0.0]])


@pytest.mark.parametrize(
    ("arguments", "rows", "message"),
    [
        ({"shrinkage": -0.1}, np.eye(3), r"-0.1 is outside \[0, 1\]"),
        ({"shrinkage": 1.1}, np.eye(3), r"1.1 is outside \[0, 1\]"),
        ({"shrinkage": 0.0}, rows_of(3, 8), "3 rows of 8 columns do not span every direction"),
        ({"shrinkage": 0.0}, np.column_stack([rows_of(30, 2), np.ones(30)]), "do not span every direction"),
        ({}, np.ones((4, 3)), "all rows are the same"),
        ({}, np.ones((1, 3)), "give at least 2 normal cases"),
        ({"explained_variance": 2.0}, np.eye(3), r"2.0 is outside \(0, 1\]"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(arguments, rows, message):
    with pytest.raises(InputError, match=message) as caught:
        MahalanobisDetector(**arguments).fit(rows)
    assert "\n" not in str(caught.value)
