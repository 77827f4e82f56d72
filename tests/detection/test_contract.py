"""What holds for every detector on feature rows, whatever it is."""

from __future__ import annotations

import os
import random
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.base import clone

from monai_ctmri.detection.mahalanobis import MahalanobisDetector
from monai_ctmri.detection.outlier import DETECTORS, OutlierDetector
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.errors import InputError

# One core has a minute for all of these: the networks learn next to nothing.
SHORT = {
    "AutoEncoder": {"epoch_num": 3},
    "DIF": {"n_ensemble": 4},
    "DeepSVDD": {"epochs": 3},
    "IForest": {"n_estimators": 30},
    "INNE": {"n_estimators": 40},
    "LUNAR": {"n_epochs": 5},
    "VAE": {"epoch_num": 3},
}
NAMES = [*DETECTORS, "Mahalanobis"]
COLUMNS = 6
NEW, FITTED = slice(0, 12), slice(12, 16)
every_detector = pytest.mark.parametrize("name", NAMES)


def make(name: str, **arguments: object) -> RowDetector:
    if name == "Mahalanobis":
        return MahalanobisDetector()
    return OutlierDetector(name, parameters=SHORT.get(name), **arguments)


def normal_rows(count: int, columns: int = COLUMNS, seed: int = 0) -> np.ndarray:
    """Correlated rows, each column with a scale of its own."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(columns, columns)) / np.sqrt(columns) + np.eye(columns)
    return generator.normal(size=(count, columns)) @ mixing * np.linspace(0.1, 10.0, columns) + 5.0


def questions() -> np.ndarray:
    """New normals, fitted rows themselves, and two rows far off on either side."""
    fitted = normal_rows(60)
    far = np.stack([fitted.mean(axis=0) + sign * 12 * fitted.std(axis=0) for sign in (1, -1)])
    return np.concatenate([normal_rows(12, seed=1), fitted[:4], far])


@cache
def fitted(name: str) -> RowDetector:
    return make(name).fit(normal_rows(60), feature_names=[f"latent_{i}" for i in range(COLUMNS)])


@cache
def batch_scores(name: str) -> np.ndarray:
    return fitted(name).decision_function(questions())


def process_state() -> tuple:
    legacy = np.random.get_state()  # noqa: NPY002 - the very state that must stay untouched
    return (
        random.getstate(),
        legacy[1].tobytes(),
        legacy[2:],
        torch.get_rng_state().numpy().tobytes(),
        os.environ.get("PYTHONHASHSEED"),
    )


@every_detector
def test_a_case_alone_scores_as_in_a_batch(name):
    together = batch_scores(name)
    alone = np.array([fitted(name).decision_function(row[None])[0] for row in questions()])
    np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(fitted(name).decision_function(questions()[::-1]), together[::-1], rtol=1e-6, atol=1e-12)


@every_detector
def test_higher_is_more_abnormal(name):
    scores = batch_scores(name)
    assert scores.shape == (18,)
    assert scores.dtype == np.float64
    assert scores[-2:].min() > np.median(scores[NEW])


@every_detector
def test_same_seed_same_scores_and_the_process_is_left_alone(name, capfd, monkeypatch):
    expected = batch_scores(name)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    random.seed(3)
    np.random.seed(4)  # noqa: NPY002
    torch.manual_seed(5)
    before = process_state()
    again = make(name).fit(normal_rows(60)).decision_function(questions())
    assert process_state() == before
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(again, expected)


@every_detector
def test_a_value_that_is_no_number_is_refused_with_its_column(name):
    rows = questions()
    rows[2, 4] = np.nan
    with pytest.raises(InputError, match="column 'latent_4' holds nan in row 2"):
        fitted(name).decision_function(rows)
    with pytest.raises(InputError, match="column 'latent_4' holds nan in row 2"):
        make(name).fit(rows, feature_names=[f"latent_{i}" for i in range(COLUMNS)])


@every_detector
@pytest.mark.parametrize(("count", "columns"), [(5, 3), (5, 600), (40, 600), (33, 1), (5000, 3)])
def test_few_and_many_rows_and_columns_are_taken(name, count, columns):
    detector = make(name).fit(normal_rows(count, columns))
    scores = detector.decision_function(normal_rows(3, columns, seed=2))
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    alone = detector.decision_function(normal_rows(3, columns, seed=2)[1:2])
    np.testing.assert_allclose(alone, scores[1:2], rtol=1e-6, atol=1e-12)


@every_detector
def test_the_constructor_only_stores_and_a_clone_is_unfitted(name):
    fresh = clone(fitted(name))
    assert fresh.get_params() == fitted(name).get_params()
    assert not [attribute for attribute in vars(fresh) if attribute.endswith("_")]
    assert {"steps_", "detector_", "n_features_in_", "feature_names_in_"} <= set(vars(fitted(name)))
