"""The detectors of a benchmark: which they are, what they are fitted on, what they cost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monai_ctmri.detection.mahalanobis import MahalanobisDetector
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.detection.recipes import DETECTORS
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.latent_detectors import (
    ALWAYS,
    CHEAP,
    OFFERED,
    build_detector,
    chosen_detectors,
    fit_detectors,
    score_name,
)

COLUMNS = [f"latent_{i:03d}" for i in range(24)]
RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(60, 6)) @ RANDOM.normal(size=(6, 24)) + 0.1 * RANDOM.normal(size=(60, 24))


@pytest.fixture(scope="module")
def fitted():
    return fit_detectors(OFFERED, ROWS, COLUMNS, seed=3)


def test_all_are_the_detectors_there_are_each_once():
    assert sorted(chosen_detectors("all")) == sorted([*DETECTORS, "Mahalanobis"])
    assert len({score_name(name) for name in OFFERED}) == len(OFFERED)


def test_default_and_names_hold_those_of_every_run():
    assert set(chosen_detectors("default")) == set(CHEAP)
    assert not any(DETECTORS[name].torch for name in CHEAP if name in DETECTORS)
    assert set(chosen_detectors("knn, LUNAR")) == {*ALWAYS, "KNN", "LUNAR"}
    assert chosen_detectors("mahalanobis") == tuple(name for name in OFFERED if name in ALWAYS)
    assert chosen_detectors(" ALL ") == OFFERED


@pytest.mark.parametrize("wanted", ["", "KNN,,LOF", "SOS", "all,KNN"])
def test_another_word_is_refused_in_one_line(wanted):
    with pytest.raises(InputError, match="is none") as caught:
        chosen_detectors(wanted)
    assert "\n" not in str(caught.value)


def test_every_detector_is_fitted_and_measured(fitted):
    assert [one.name for one in fitted] == list(OFFERED)
    for one in fitted:
        assert one.problem == ""
        for name in ("fit_seconds", "score_milliseconds", "saved_megabytes"):
            value = getattr(one.cost, name)
            assert value > 0, (one.name, name)
            assert math.isfinite(value)
        assert one.cost.peak_megabytes is None or 0 <= one.cost.peak_megabytes < 1000
        assert set(one.cost.as_dict()) == {"fit_seconds", "score_milliseconds", "peak_megabytes", "saved_megabytes"}


def test_every_detector_sees_a_row_far_away(fitted):
    far = ROWS[:1] + 30 * ROWS.std(axis=0) * np.sign(ROWS[:1])
    for one in fitted:
        near = one.detector.decision_function(ROWS)
        assert one.detector.decision_function(far)[0] > np.quantile(near, 0.9), one.name


def test_the_notes_forest_sees_all_columns_and_the_others_the_leading_components(fitted):
    by_name = {one.name: one.detector for one in fitted}
    alone = OutlierDetector("IForest", 0.05, random_state=3).fit(ROWS, feature_names=COLUMNS)
    np.testing.assert_array_equal(by_name["IForest"].decision_function(ROWS), alone.decision_function(ROWS))
    assert by_name["OCSVM"].steps_.components_ is None
    standard = (ROWS - ROWS.mean(axis=0)) / ROWS.std(axis=0)
    shares = np.cumsum(np.linalg.svd(standard, compute_uv=False) ** 2) / np.sum(standard**2)
    needed = 1 + int(np.argmax(shares >= 0.95))
    for name in ("KNN", "LOF", "Mahalanobis", "VAE"):
        assert len(by_name[name].steps_.components_) == needed <= 7
    assert isinstance(build_detector("Mahalanobis", 0), MahalanobisDetector)


def test_the_measured_detector_is_the_one_fitted_on_its_own():
    """The small fit before it leaves no trace."""
    (found,) = fit_detectors(["GMM"], ROWS, COLUMNS, seed=7)
    alone = build_detector("GMM", 7).fit(ROWS)
    np.testing.assert_array_equal(found.detector.decision_function(ROWS), alone.decision_function(ROWS))
    assert list(found.detector.feature_names_in_) == COLUMNS


def test_a_detector_that_refuses_the_rows_says_why_and_the_others_go_on():
    found = fit_detectors(["ABOD", "KNN"], ROWS[:3], COLUMNS, seed=0)
    assert found[0].detector is found[0].cost is None
    assert "at least 4" in found[0].problem
    assert found[1].problem == ""
    with pytest.raises(InputError):
        fit_detectors(["IForest"], ROWS[:1], COLUMNS, seed=0)
