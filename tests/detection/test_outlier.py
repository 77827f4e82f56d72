"""One-class detectors: the contract against scikit-learn and scipy, and what they must leave alone."""

from __future__ import annotations

import logging
import os
import pickle
import random
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from monai_ctmri.detection import outlier
from monai_ctmri.detection.outlier import DETECTORS, DetectorRecipe, OutlierDetector
from monai_ctmri.detection.repairs import NystroemOneClassSVM
from monai_ctmri.errors import InputError

NAMES = ["IForest", "OCSVM"]


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    generator = np.random.default_rng(11)
    return generator.normal(size=(80, 4)) * [1.0, 10.0, 0.1, 3.0] + [0.0, 100.0, -5.0, 1.0]


@pytest.fixture(scope="module")
def queries(normals: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(12)
    return np.concatenate([normals[:10], normals[:10] + generator.normal(size=(10, 4)) * normals.std(axis=0) * 6])


def process_state() -> tuple:
    legacy = np.random.get_state()  # noqa: NPY002 - the very state that must stay untouched
    return (
        random.getstate(),
        legacy[1].tobytes(),
        legacy[2],
        torch.get_rng_state().numpy().tobytes(),
        os.environ.get("PYTHONHASHSEED"),
    )


def test_the_registry_offers_both_families():
    assert {"IForest", "OCSVM"} <= set(DETECTORS)


@pytest.mark.parametrize("standardize", [True, False])
def test_isolation_forest_equals_scikit_learn(normals, queries, standardize):
    detector = OutlierDetector("IForest", contamination=0.1, standardize=standardize, random_state=3).fit(normals)
    scaler = StandardScaler().fit(normals)
    fitted, asked = (scaler.transform(rows) if standardize else rows for rows in (normals, queries))
    truth = IsolationForest(n_estimators=100, contamination=0.1, random_state=3).fit(fitted)
    np.testing.assert_allclose(detector.decision_function(queries), -truth.decision_function(asked), atol=1e-12)


def test_one_class_svm_equals_scikit_learn(normals, queries):
    detector = OutlierDetector("OCSVM").fit(normals)
    scaler = StandardScaler().fit(normals)
    truth = OneClassSVM(nu=0.1, gamma="scale").fit(scaler.transform(normals))
    expected = -truth.decision_function(scaler.transform(queries))
    np.testing.assert_allclose(detector.decision_function(queries), expected, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_far_rows_score_higher(name, normals, queries):
    scores = OutlierDetector(name).fit(normals).decision_function(queries)
    assert scores.shape == (20,)
    assert scores.dtype == np.float64
    assert np.median(scores[10:]) > scores[:10].max()


@pytest.mark.parametrize("name", NAMES)
def test_a_row_alone_scores_as_in_the_batch_and_in_any_order(name, normals, queries):
    detector = OutlierDetector(name).fit(normals)
    batch = detector.decision_function(queries)
    alone = np.concatenate([detector.decision_function(row[None]) for row in queries])
    np.testing.assert_array_equal(alone, batch)
    np.testing.assert_array_equal(detector.decision_function(queries[::-1]), batch[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_contamination_never_changes_the_order(name, normals, queries):
    few, many = (OutlierDetector(name, contamination=c).fit(normals).decision_function(queries) for c in (0.01, 0.5))
    assert spearmanr(few, many).statistic == pytest.approx(1.0)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_scores_whatever_the_process_drew(name, normals, queries):
    first = OutlierDetector(name, random_state=5).fit(normals).decision_function(queries)
    np.random.rand(7)  # noqa: NPY002
    random.random()
    np.testing.assert_array_equal(OutlierDetector(name, random_state=5).fit(normals).decision_function(queries), first)


def test_another_seed_is_another_forest(normals, queries):
    first, second = (OutlierDetector(random_state=s).fit(normals).decision_function(queries) for s in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, None])
def test_the_random_state_of_the_process_stays_untouched(name, seed, normals, queries):
    before = process_state()
    OutlierDetector(name, random_state=seed).fit(normals).decision_function(queries)
    assert process_state() == before


class Reseeder:
    """A detector that does to the process what PyOD's AutoEncoder does."""

    def __init__(self, contamination: float) -> None:
        self.reseed()

    def reseed(self) -> None:
        os.environ["PYTHONHASHSEED"] = "42"
        random.seed(42)
        np.random.seed(42)  # noqa: NPY002
        torch.manual_seed(42)

    def fit(self, rows: np.ndarray) -> None:
        self.reseed()

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        self.reseed()
        return rows.sum(axis=1)


class Talker(Reseeder):
    """A detector that prints, draws a bar on the other stream and warns."""

    def reseed(self) -> None:
        sys.stdout.write("Epoch 1 of 3\n")
        sys.stderr.write("Training: 100%\n")
        warnings.warn("pin_memory without an accelerator", UserWarning, stacklevel=1)


def test_what_a_detector_prints_or_warns_goes_to_the_log(monkeypatch, normals, capfd, caplog, recwarn):
    monkeypatch.setitem(DETECTORS, "Odd", DetectorRecipe("here", "Talker"))
    monkeypatch.setattr(outlier, "import_module", lambda _: type("module", (), {"Talker": Talker}))
    with caplog.at_level(logging.DEBUG, logger="monai_ctmri.detection.outlier"):
        OutlierDetector("Odd").fit(normals).decision_function(normals)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert {"Epoch 1 of 3", "Training: 100%", "pin_memory without an accelerator"} <= set(caplog.messages)


class Breaker(Reseeder):
    def fit(self, rows: np.ndarray) -> None:
        self.reseed()
        raise ValueError("first line\nsecond line")


@pytest.mark.parametrize("hash_seed", [None, "7"])
@pytest.mark.parametrize("kind", [Reseeder, Breaker])
def test_a_detector_that_reseeds_the_process_is_undone(monkeypatch, normals, hash_seed, kind):
    if hash_seed is None:
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    else:
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
    monkeypatch.setitem(DETECTORS, "Odd", DetectorRecipe("here", kind.__name__))
    monkeypatch.setattr(outlier, "import_module", lambda _: type("module", (), {kind.__name__: kind}))
    random.seed(1)
    before = process_state()
    detector = OutlierDetector("Odd")
    if kind is Breaker:
        with pytest.raises(InputError, match="first line second line"):
            detector.fit(normals)
    else:
        detector.fit(normals).decision_function(normals)
    assert process_state() == before


def test_pyod_is_loaded_by_fit_only_and_its_import_leaves_the_generators_alone(repository):
    program = """
import random, sys
import numpy as np
import monai_ctmri
assert not {"sklearn", "torch", "pyod"} & set(sys.modules)
from monai_ctmri.detection.outlier import OutlierDetector
detector = OutlierDetector()
assert "pyod" not in sys.modules
before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
detector.fit(np.arange(20.0).reshape(10, 2))
assert "pyod" in sys.modules
assert before == (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_constant_columns_survive_standardisation(name, normals):
    rows = np.column_stack([normals, np.full(len(normals), 0.1), np.zeros(len(normals))])
    detector = OutlierDetector(name).fit(rows)
    assert np.isfinite(detector.decision_function(rows)).all()
    np.testing.assert_allclose(detector.steps_.transform(rows)[:, 4:], 0.0, atol=1e-12)
    changed = rows[:1] + np.array([0, 0, 0, 0, 1, 1])
    assert np.isfinite(detector.decision_function(changed)).all()


def test_scale_of_a_column_plays_no_part_when_standardised(normals, queries):
    factor = np.array([1e6, 1.0, 1e-6, 1.0])
    plain = OutlierDetector("OCSVM").fit(normals).decision_function(queries)
    scaled = OutlierDetector("OCSVM").fit(normals * factor).decision_function(queries * factor)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-9)


def test_without_standardisation_the_steps_change_nothing(normals):
    np.testing.assert_array_equal(OutlierDetector(standardize=False).fit(normals).steps_.transform(normals), normals)


def test_float32_rows_and_tensors_are_taken(normals):
    detector = OutlierDetector().fit(normals.astype(np.float32))
    rows = normals[:5].astype(np.float32)
    np.testing.assert_array_equal(detector.decision_function(torch.from_numpy(rows)), detector.decision_function(rows))


def test_the_input_is_not_changed(normals):
    rows = normals.copy()
    OutlierDetector().fit(rows).decision_function(rows)
    np.testing.assert_array_equal(rows, normals)


def test_no_rows_give_no_scores(normals):
    assert OutlierDetector().fit(normals).decision_function(np.empty((0, 4))).shape == (0,)


def test_parameters_reach_the_detector_and_override_the_recipe(normals):
    forest = OutlierDetector(parameters={"n_estimators": 7}).fit(normals)
    assert len(forest.detector_.estimators_) == 7
    assert OutlierDetector("OCSVM").fit(normals).detector_.nu == 0.1
    assert OutlierDetector("OCSVM", parameters={"nu": 0.3}).fit(normals).detector_.nu == 0.3


def test_the_constructor_only_stores():
    given = {"n_estimators": 5}
    detector = OutlierDetector("no such", contamination=9.0, parameters=given)
    assert detector.parameters is given
    assert detector.get_params(deep=False) == {
        "name": "no such",
        "contamination": 9.0,
        "standardize": True,
        "random_state": 0,
        "parameters": given,
        "whiten": False,
        "explained_variance": None,
        "max_rows": None,
    }
    assert not [name for name in vars(detector) if name.endswith("_")]


def test_clone_and_set_params(normals):
    fitted = OutlierDetector("OCSVM").fit(normals)
    fresh = clone(fitted).set_params(name="IForest")
    assert fresh.name == "IForest"
    assert not hasattr(fresh, "detector_")
    assert fitted.name == "OCSVM"


@pytest.mark.parametrize("name", NAMES)
def test_a_fitted_detector_survives_pickling_between_workers(name, normals, queries):
    detector = OutlierDetector(name).fit(normals)
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.decision_function(queries), detector.decision_function(queries))


def test_feature_names_are_kept_and_forgotten_with_the_fit(normals):
    detector = OutlierDetector().fit(normals, feature_names=["a", "b", "c", "d"])
    assert list(detector.feature_names_in_) == ["a", "b", "c", "d"]
    assert detector.n_features_in_ == 4
    assert not hasattr(detector.fit(normals[:, :2]), "feature_names_in_")
    assert detector.n_features_in_ == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_column(normals, value):
    rows = normals.copy()
    rows[3, 2] = value
    with pytest.raises(InputError, match=r"column 'latent_002' holds .* in row 3"):
        OutlierDetector().fit(rows, feature_names=[f"latent_{i:03d}" for i in range(4)])
    with pytest.raises(InputError, match="column 2 holds"):
        OutlierDetector().fit(rows)
    detector = OutlierDetector().fit(normals, feature_names=["a", "b", "c", "d"])
    with pytest.raises(InputError, match="column 'c' holds"):
        detector.decision_function(rows)


@pytest.mark.parametrize(
    ("change", "rows", "message"),
    [
        ({}, np.ones((1, 3)), r"1 row\(s\) to fit IForest on"),
        ({}, np.ones((0, 3)), r"0 row\(s\) to fit"),
        ({}, np.ones(3), "shape"),
        ({}, np.ones((3, 0)), "shape"),
        ({}, [["a", "b"], ["c", "d"]], "not a table of numbers"),
        ({"name": "Forest"}, np.ones((3, 2)), "choose one of IForest"),
        ({"contamination": 0.0}, np.ones((3, 2)), r"outside \(0, 0.5\]"),
        ({"contamination": 0.51}, np.ones((3, 2)), r"outside \(0, 0.5\]"),
        ({"parameters": {"trees": 3}}, np.ones((3, 2)), "trees"),
        ({"parameters": {"n_estimators": -1}}, np.ones((3, 2)), "n_estimators"),
        ({"parameters": {"random_state": 3}}, np.ones((3, 2)), "random_state is set twice"),
        ({"name": "COF"}, np.ones((3, 2)), "is refused: it scores the rows of a call among each other"),
        ({"name": "ABOD"}, np.ones((3, 2)), "give at least 4 normal cases"),
        ({"name": "ECOD", "parameters": {"contamination": 0.3}}, np.ones((3, 2)), "contamination is set twice"),
        ({"name": "DeepSVDD", "parameters": {"n_features": 2}}, np.ones((3, 2)), "n_features is set twice"),
        ({"max_rows": 1}, np.ones((3, 2)), "max_rows: 1 is below 2"),
        ({"random_state": -1}, np.ones((3, 2)), "random_state: -1 is outside"),
        ({"explained_variance": 1.5}, np.ones((3, 2)), r"1.5 is outside \(0, 1\]"),
        ({"parameters": {"contamination": 0.3}}, np.ones((3, 2)), "contamination is set twice"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, rows, message):
    with pytest.raises(InputError, match=message) as caught:
        OutlierDetector(**change).fit(rows)
    assert "\n" not in str(caught.value)


def test_wrong_numbers_of_columns_and_names_are_refused(normals):
    with pytest.raises(InputError, match="2 names for 4 columns"):
        OutlierDetector().fit(normals, feature_names=["a", "b"])
    with pytest.raises(InputError, match="3 columns, fitted on 4"):
        OutlierDetector().fit(normals).decision_function(normals[:, :3])


def test_scoring_before_fit_is_refused(normals):
    with pytest.raises(NotFittedError):
        OutlierDetector().decision_function(normals)


def test_beyond_its_rows_the_one_class_svm_is_approximated(monkeypatch, normals, queries):
    assert DETECTORS["OCSVM"].beyond[0] == 8000
    monkeypatch.setitem(DETECTORS, "OCSVM", replace(DETECTORS["OCSVM"], beyond=(79, DETECTORS["OCSVM"].beyond[1])))
    approximate = OutlierDetector("OCSVM").fit(normals)
    assert type(approximate.detector_) is NystroemOneClassSVM
    exact = OutlierDetector("OCSVM").fit(normals[:79])
    assert type(exact.detector_).__module__ == "pyod.models.ocsvm"
    ranks = spearmanr(approximate.decision_function(queries), exact.decision_function(queries))
    assert ranks.statistic > 0.9


def test_more_rows_than_wanted_are_drawn_by_the_seed(normals, caplog):
    with caplog.at_level(logging.INFO, logger="monai_ctmri.detection.outlier"):
        first, again, other = (OutlierDetector("KNN", random_state=s, max_rows=30).fit(normals) for s in (0, 0, 1))
    assert "KNN is fitted on a random draw of 30 of the 80 rows" in caplog.messages
    kept = [detector.detector_.neigh_._fit_X for detector in (first, again, other)]
    assert kept[0].shape == (30, 4)
    np.testing.assert_array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])
    everything = first.steps_.transform(normals)
    assert all((row == everything).all(axis=1).any() for row in kept[0])


def test_the_steps_are_fitted_on_all_rows(normals):
    few, all_rows = (OutlierDetector("KNN", max_rows=most).fit(normals) for most in (20, None))
    np.testing.assert_array_equal(few.steps_.mean_, all_rows.steps_.mean_)


def test_what_the_rows_do_not_allow_is_lowered_and_said(normals, caplog):
    with caplog.at_level(logging.INFO, logger="monai_ctmri.detection.outlier"):
        detector = OutlierDetector("KNN", parameters={"n_neighbors": 50}).fit(normals[:10])
    assert detector.detector_.n_neighbors == 9
    assert caplog.messages == ["KNN: n_neighbors lowered from 50 to 9 for 10 rows"]


def test_whitening_shows_what_breaks_a_correlation():
    generator = np.random.default_rng(3)
    base = generator.normal(size=(300, 1))
    rows = np.concatenate([base, base + 0.05 * generator.normal(size=(300, 1))], axis=1)
    broken = np.array([[1.5, -1.5]])
    plain, white = (OutlierDetector("KNN", whiten=w).fit(rows[:200]) for w in (False, True))
    shares = [np.mean(d.decision_function(broken) / d.decision_function(rows[200:]).max()) for d in (plain, white)]
    assert shares[1] > 3 * shares[0]


def test_explained_variance_reduces_the_columns_the_detector_sees(normals):
    rows = np.column_stack([normals, normals @ np.ones((4, 3))])
    detector = OutlierDetector("IForest", explained_variance=0.9999).fit(rows)
    assert detector.detector_.n_features_in_ < 7
    assert detector.n_features_in_ == 7


def test_a_score_that_is_no_number_is_refused(monkeypatch, normals):
    recipe = replace(DETECTORS["IForest"], score=lambda detector, rows: np.full(len(rows), np.nan))
    monkeypatch.setitem(DETECTORS, "IForest", recipe)
    with pytest.raises(InputError, match="IForest: scores row 0 with nan"):
        OutlierDetector().fit(normals).decision_function(normals)


def test_many_rows_are_scored_in_pieces(normals):
    rows = np.tile(normals, (60, 1))
    detector = OutlierDetector("KNN").fit(normals)
    np.testing.assert_allclose(detector.decision_function(rows), np.tile(detector.decision_function(normals), 60))
