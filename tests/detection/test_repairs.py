"""Repaired detectors against PyOD where PyOD is right, and against formulas where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.detection.repairs import EmpiricalTails, NystroemOneClassSVM


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.column_stack(
        [generator.normal(size=(50, 3)), generator.exponential(size=50), -generator.gamma(2, size=50)]
    )


@pytest.fixture(scope="module")
def queries(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([np.random.default_rng(1).normal(size=(8, 5)), rows[:3], rows[:1] * 0 + 9.0])


def raw(name: str, **parameters: object) -> OutlierDetector:
    return OutlierDetector(name, standardize=False, random_state=3, parameters=parameters)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of PyOD, on the constant column
@pytest.mark.parametrize(("name", "module"), [("ECOD", "ecod"), ("COPOD", "copod")])
@pytest.mark.parametrize("digits", [8, 0])
def test_tails_equal_pyod_called_with_the_training_rows_and_that_one_row(rows, queries, name, module, digits):
    from importlib import import_module

    # Rounded to whole numbers the columns are full of ties; the last one is constant.
    fitted = np.column_stack([rows.round(digits), np.full(len(rows), 2.0)])
    asked = np.column_stack([queries.round(digits), np.full(len(queries), 2.0)])
    asked[4, -1] = 3.0
    truth = getattr(import_module(f"pyod.models.{module}"), name)().fit(fitted)
    expected = [truth.decision_function(row[None])[0] for row in asked]
    np.testing.assert_allclose(raw(name).fit(fitted).decision_function(asked), expected, rtol=1e-10)


def test_an_unknown_rule_of_the_tails_is_refused(rows):
    with pytest.raises(ValueError, match="neither 'ecod' nor 'copod'"):
        EmpiricalTails("other").fit(rows)


def test_loda_is_the_mean_negative_log_density_of_the_right_bin(rows, queries):
    detector = raw("LODA", n_random_cuts=7).fit(rows)
    fitted = detector.detector_
    expected = np.zeros(len(queries))
    for row, query in enumerate(queries):
        for cut in range(7):
            counts, edges = np.histogram(rows @ fitted.projections_[cut], bins=fitted.n_bins)
            value, density = float(query @ fitted.projections_[cut]), 1e-12
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
                if low - 1e-9 <= value < high or (high == edges[-1] and high <= value <= high + 1e-9):
                    density = (count + 1e-12) / len(rows)
            expected[row] -= np.log(density) / 7
    np.testing.assert_allclose(detector.decision_function(queries), expected, rtol=1e-6)


def test_loda_takes_bins_that_differ_between_cuts(rows, queries):
    scores = raw("LODA", n_bins="auto").fit(rows).decision_function(queries)
    assert scores[-1] == pytest.approx(scores.max())


def test_inne_equals_pyod_off_the_rims(rows, queries):
    detector = raw("INNE", n_estimators=30).fit(rows)
    new = queries[:8]
    np.testing.assert_allclose(detector.decision_function(new), detector.detector_.decision_function(new), rtol=1e-9)


def test_inne_counts_a_rim_as_inside(rows):
    detector = raw("INNE", n_estimators=30).fit(rows)
    np.testing.assert_allclose(
        detector.decision_function(rows), detector.decision_function(rows * (1 + 1e-14)), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("AutoEncoder", {"epoch_num": 2}), ("DeepSVDD", {"epochs": 2}), ("LUNAR", {"n_epochs": 3})],
)
def test_double_precision_changes_no_score_of_a_network_beyond_single_precision(rows, queries, name, parameters):
    from copy import deepcopy

    detector = raw(name, **parameters).fit(rows)
    single = deepcopy(detector.detector_)
    for attribute in ("model", "model_", "network"):
        if isinstance(getattr(single, attribute, None), torch.nn.Module):
            getattr(single, attribute).float()
    new = queries[:8]
    np.testing.assert_allclose(detector.decision_function(new), single.decision_function(new), rtol=2e-4)


def test_vae_reconstructs_from_the_mean_code(rows, queries):
    detector = raw("VAE", epoch_num=2).fit(rows)
    model = detector.detector_.model.eval().double()
    given = torch.as_tensor(queries)
    with torch.no_grad():
        rebuilt = model.decoder(model.encoder_mu(model.encoder(given)))
        drawn = [model(given)[0] for _ in range(2)]
    assert not torch.equal(*drawn), "PyOD draws the code"
    expected = torch.linalg.vector_norm(given - rebuilt, dim=1).numpy()
    np.testing.assert_allclose(detector.decision_function(queries), expected, rtol=1e-9)


def test_preprocessing_of_pyod_still_works_where_asked_for(rows):
    for name, epochs in (("AutoEncoder", "epoch_num"), ("DeepSVDD", "epochs")):
        detector = raw(name, preprocessing=True, **{epochs: 2}).fit(rows * 100 + 7)
        single = detector.detector_
        scores = detector.decision_function(rows * 100 + 7)
        np.testing.assert_allclose(scores, single.decision_scores_, rtol=1e-3)


def test_deep_isolation_equals_pyod_where_the_call_is_the_training_set(rows):
    detector = raw("DIF", n_ensemble=4).fit(rows)
    np.testing.assert_allclose(detector.decision_function(rows), detector.detector_.decision_scores_, rtol=1e-3)
    assert detector.detector_.x_reduced_lst == []


def test_deep_isolation_tells_a_far_row_that_is_alone(rows):
    detector = raw("DIF", n_ensemble=10).fit(rows)
    far = detector.decision_function(np.full((1, 5), 30.0))
    assert far[0] > np.quantile(detector.decision_function(rows), 0.95)


def test_approximate_one_class_svm_orders_as_the_exact_one(rows, queries):
    generator = np.random.default_rng(5)
    many, new = (
        generator.normal(size=(600, 5)),
        generator.normal(size=(80, 5)) * generator.uniform(0.5, 3, size=(80, 1)),
    )
    exact = OneClassSVM(nu=0.1, gamma="scale").fit(many)
    approximate = NystroemOneClassSVM(nu=0.1, random_state=0).fit(many)
    assert spearmanr(approximate.decision_function(new), -exact.decision_function(new)).statistic > 0.95
    outside = np.mean(approximate.decision_function(many) > 0)
    assert outside == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize("kernel", ["linear", "poly", "sigmoid", "rbf"])
def test_approximate_one_class_svm_takes_the_kernels(rows, kernel):
    scores = NystroemOneClassSVM(kernel=kernel, gamma="auto", random_state=0).fit(rows).decision_function(rows)
    assert scores.shape == (50,)
    assert np.isfinite(scores).all()


def test_approximate_one_class_svm_takes_rows_without_spread():
    assert np.isfinite(NystroemOneClassSVM(random_state=0).fit(np.ones((10, 2))).decision_function(np.eye(2))).all()


def test_what_needs_no_repair_is_scikit_learn(rows, queries):
    new = queries[:8]
    found = {name: raw(name).fit(rows).decision_function(new) for name in ("KNN", "LOF", "KDE", "GMM")}
    distances, _ = NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(new)
    np.testing.assert_allclose(found["KNN"], distances[:, -1])
    np.testing.assert_allclose(
        found["LOF"], -LocalOutlierFactor(n_neighbors=20, novelty=True).fit(rows).score_samples(new)
    )
    np.testing.assert_allclose(found["KDE"], -KernelDensity(bandwidth=1.0).fit(rows).score_samples(new), rtol=1e-6)
    np.testing.assert_allclose(
        found["GMM"], -GaussianMixture(1, reg_covar=1e-3, random_state=3).fit(rows).score_samples(new), rtol=1e-9
    )


def test_mcd_sees_no_more_columns_than_its_rows_carry():
    rows = np.random.default_rng(6).normal(size=(40, 30))
    assert OutlierDetector("MCD").fit(rows).detector_.location_.shape == (8,)
    assert OutlierDetector("MCD").fit(rows[:, :4]).steps_.components_ is None
