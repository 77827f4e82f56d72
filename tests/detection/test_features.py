"""Feature steps against scikit-learn and the definition of whitening."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler

from monai_ctmri.detection.features import FeatureSteps, checked_rows, principal_components
from monai_ctmri.errors import InputError


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(200, 6)) @ generator.normal(size=(6, 6)) * [1, 10, 0.1, 3, 1, 100] + 7.0


def test_standardising_is_scikit_learns_to_the_bit(rows):
    steps = FeatureSteps().fit(rows)
    np.testing.assert_array_equal(steps.transform(rows[:9] + 1), StandardScaler().fit(rows).transform(rows[:9] + 1))
    assert steps.components_ is None


def test_a_constant_column_is_only_centred(rows):
    constant = np.column_stack([rows, np.full(len(rows), 0.1)])
    steps = FeatureSteps().fit(constant)
    assert steps.scale_[-1] == 1.0
    np.testing.assert_allclose(steps.transform(constant)[:, -1], 0.0, atol=1e-15)


def test_with_every_step_off_nothing_changes(rows):
    np.testing.assert_array_equal(FeatureSteps(standardize=False).fit(rows).transform(rows), rows)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("count", [200, 4])
def test_whitened_rows_have_the_identity_as_covariance(rows, standardize, count):
    white = FeatureSteps(standardize=standardize, whiten=True).fit(rows[:count]).transform(rows[:count])
    assert white.shape == (count, min(6, count - 1))
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(white.T @ white / count, np.eye(white.shape[1]), atol=1e-8)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("count", [200, 5])
def test_components_by_explained_variance_are_scikit_learns(rows, share, count):
    standard = StandardScaler().fit_transform(rows[:count])
    found = FeatureSteps(explained_variance=share).fit(rows[:count]).transform(rows[:count])
    if share < 1.0:
        truth = PCA(n_components=share, svd_solver="full").fit_transform(standard)
    else:
        truth = PCA(n_components=min(6, count - 1), svd_solver="full").fit_transform(standard)
    assert found.shape == truth.shape
    np.testing.assert_allclose(np.abs(found), np.abs(truth), atol=1e-9)


def test_the_limit_of_components_keeps_the_leading_ones(rows):
    all_of_them = FeatureSteps(explained_variance=1.0).fit(rows).transform(rows)
    np.testing.assert_allclose(FeatureSteps(max_components=2).fit(rows).transform(rows), all_of_them[:, :2])


def test_rows_that_are_all_the_same_keep_one_component_and_stay_finite():
    steps = FeatureSteps(whiten=True).fit(np.full((4, 3), 2.0))
    np.testing.assert_array_equal(steps.transform(np.full((2, 3), 2.0)), np.zeros((2, 1)))
    assert np.isfinite(steps.transform(np.ones((1, 3)))).all()


@pytest.mark.parametrize("shape", [(50, 6), (6, 50), (7, 7)])
def test_principal_components_are_the_eigenvectors_of_the_covariance(shape):
    centred = np.random.default_rng(1).normal(size=shape)
    centred -= centred.mean(axis=0)
    variances, components = principal_components(centred)
    assert components.shape == (min(shape), shape[1])
    np.testing.assert_allclose(components @ components.T, np.eye(min(shape)), atol=1e-9)
    covariance = centred.T @ centred / len(centred)
    np.testing.assert_allclose(covariance @ components.T, components.T * variances, atol=1e-9)
    assert (np.diff(variances) <= 1e-12).all()
    assert (components.max(axis=1) >= -components.min(axis=1)).all()


@pytest.mark.parametrize("arguments", [{}, {"whiten": True}, {"standardize": False, "explained_variance": 0.9}])
def test_the_state_is_numpy_arrays_and_brings_the_same_numbers_back(rows, arguments):
    steps = FeatureSteps(**arguments).fit(rows)
    state = steps.state_dict()
    assert {type(value) for value in state.values()} == {np.ndarray}
    assert {value.dtype for value in state.values()} == {np.dtype("float64")}
    again = FeatureSteps(**arguments).load_state_dict(state)
    np.testing.assert_array_equal(again.transform(rows), steps.transform(rows))


def test_a_refit_forgets_the_components(rows):
    steps = FeatureSteps(whiten=True).fit(rows).set_params(whiten=False).fit(rows)
    assert steps.components_ is None
    assert set(steps.state_dict()) == {"mean_", "scale_"}


def test_before_fit_there_is_nothing_to_transform_or_save(rows):
    with pytest.raises(NotFittedError):
        FeatureSteps().transform(rows)
    with pytest.raises(NotFittedError):
        FeatureSteps().state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explained_variance": 0.0}, r"explained_variance: 0.0 is outside \(0, 1\]"),
        ({"explained_variance": 1.1}, r"1.1 is outside"),
        ({"max_components": 0}, "max_components: 0 is below 1"),
    ],
)
def test_bad_arguments_are_refused(rows, arguments, message):
    with pytest.raises(InputError, match=message):
        FeatureSteps(**arguments).fit(rows)


def test_checked_rows_names_what_is_wrong():
    assert checked_rows([[1, 2]], None).dtype == np.float64
    with pytest.raises(InputError, match="not a table of numbers"):
        checked_rows([["a"]], None)
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        checked_rows(np.ones(3), None)
    with pytest.raises(InputError, match="2 columns, fitted on 3"):
        checked_rows(np.ones((1, 2)), None, expected=3)
    with pytest.raises(InputError, match="1 names for 2 columns"):
        checked_rows(np.ones((1, 2)), ["a"])
    with pytest.raises(InputError, match="column 'b' holds inf in row 0"):
        checked_rows([[1.0, np.inf]], ["a", "b"])
