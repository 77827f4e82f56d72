"""The table of detectors: every rate again by hand, from the scores alone."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from monai_ctmri.detection.recipes import DETECTORS
from monai_ctmri.evaluation.detector_table import ALPHAS, count_detectors, detectors_table
from monai_ctmri.evaluation.fused import fit_fusion
from monai_ctmri.evaluation.judge import Judge
from monai_ctmri.evaluation.latent_detectors import OFFERED, FittedDetector
from monai_ctmri.evaluation.methods import list_methods

TRIVIAL = {"mean", "spread", "percentile", "bright", "atlas", "random"}


def with_calibration(run, subjects, slices, seed=1):
    """The run with so many calibration normals, their scores drawn around those of its test normals."""
    random, cases = np.random.default_rng(seed), []
    normals = [case for case in run.originals if case.label == 0]
    names = [name for name in normals[0].scores if name != "fused"]
    spread = {name: 1e-12 + np.std([case.scores[name] for case in normals]) for name in names}
    for number in range(subjects * slices):
        like = normals[number % len(normals)]
        scores = {name: like.scores[name] + spread[name] * random.normal(-1.0) for name in names}
        cases.append(replace(like, case=f"c{number}", subject=f"s{number // slices}", scores=scores))
    return replace(run, calibrated=cases, fusion=fit_fusion([case.scores for case in cases]))


def table_of(run, first=None):
    return count_detectors(run, first, run.injected)


@pytest.fixture(scope="module")
def counted(phantom_benchmark):
    return phantom_benchmark.results["detectors"]


@pytest.fixture(scope="module")
def with_all(phantom_benchmark):
    """The run judged by every detector there is."""
    run = phantom_benchmark.run
    judge = Judge(run.trained.network, run.modalities, 0, OFFERED)
    judge.healthy_features = run.healthy_features
    judge.detectors = [FittedDetector(name, None, None, "not fitted here") for name in OFFERED]
    return table_of(replace(run, judge=judge))


def test_every_detector_is_listed_once_beside_every_other_score(with_all):
    names = [row["name"] for row in with_all["rows"]]
    assert len(set(names)) == len(names)
    for name in (*DETECTORS, "Mahalanobis"):
        assert names.count(name.lower()) == 1
    assert {"l1_mean", "ssim_top", "l2_mean", "fused", *TRIVIAL} <= set(names)
    assert not any(name.endswith(("_ct", "_mri")) for name in names)
    assert {row["problem"] for row in with_all["rows"] if row["name"] == "lunar"} == {"not fitted here"}


def test_auroc_is_that_of_the_scores(phantom_benchmark, counted):
    cases = phantom_benchmark.run.injected
    labels = [case.label for case in cases]
    assert counted["set"] == "Injected lesions"
    for row in counted["rows"]:
        expected = roc_auc_score(labels, [case.scores[row["name"]] for case in cases])
        assert row["auroc"]["value"] == pytest.approx(expected, abs=1e-9)
        assert row["auroc"]["low"] is None  # two subjects
    values = [row["auroc"]["value"] for row in counted["rows"]]
    assert values == sorted(values, reverse=True)


def test_detectors_alone_have_a_cost(counted):
    detectors = {"iforest", "ocsvm", "mahalanobis", "lof", "knn", "pca", "ecod"}
    for row in counted["rows"]:
        assert (row["cost"] is not None) == (row["name"] in detectors)
        if row["cost"] is not None:
            assert row["cost"]["fit_seconds"] > 0
            assert row["cost"]["saved_megabytes"] > 0


def test_three_calibration_slices_reach_no_rate_and_say_so(counted):
    assert [one["alpha"] for one in counted["alphas"]] == list(ALPHAS)
    for one in counted["alphas"]:
        assert (one["reached"], one["unit"], one["units"], one["smallest_p_value"]) == (False, "slices", 3, 0.25)
    for row in counted["rows"]:
        assert all(cell["value"] is cell["low"] is None and cell["n"] == 6 for cell in row["false_alarms"])


def by_hand(scores, owners, value):
    """Conformal p-value with each subject counting once."""
    scores, owners = np.asarray(scores), np.asarray(owners)
    above = sum(np.mean(scores[owners == owner] >= value) for owner in set(owners.tolist()))
    return (1 + above) / (len(set(owners.tolist())) + 1)


def test_realised_rates_by_hand(phantom_benchmark):
    """12 subjects of two slices: 10 % by subjects, 5 % by slices, 1 % by neither."""
    run = with_calibration(phantom_benchmark.run, 12, 2)
    table = table_of(run)
    assert [(one["unit"], one["units"], one["reached"]) for one in table["alphas"]] == [
        ("slices", 24, False),
        ("slices", 24, True),
        ("subjects", 12, True),
    ]
    normals = [case for case in run.originals if case.label == 0]
    owners, seen = [case.subject for case in run.calibrated], set()
    for row in table["rows"]:
        if row["name"] == "fused":
            continue
        scores = [case.scores[row["name"]] for case in run.calibrated]
        values = [case.scores[row["name"]] for case in normals]
        slices = [(1 + np.sum(np.asarray(scores) >= value)) / 25 for value in values]
        subjects = [by_hand(scores, owners, value) for value in values]
        one, five, ten = row["false_alarms"]
        assert one["value"] is None
        for cell, p_values, alpha in ((five, slices, 0.05), (ten, subjects, 0.10)):
            k = int(np.sum(np.array(p_values) <= alpha + 1e-12))
            seen.add(k)
            expected = binomtest(k, 6).proportion_ci(0.95, method="exact")
            assert (cell["k"], cell["n"], cell["value"]) == (k, 6, k / 6)
            assert (cell["low"], cell["high"]) == pytest.approx((expected.low, expected.high))
    assert len(seen) > 1  # or this test could not fail


def test_the_rate_of_the_fused_score_comes_from_its_own_p_values(phantom_benchmark):
    run = with_calibration(phantom_benchmark.run, 12, 2)
    (row,) = (row for row in table_of(run)["rows"] if row["name"] == "fused")
    normals = [case.scores for case in run.originals if case.label == 0]
    rows, owners = [case.scores for case in run.calibrated], [case.subject for case in run.calibrated]
    assert row["false_alarms"][1]["k"] == np.sum(fit_fusion(rows).p_value(normals) <= 0.05)
    assert row["false_alarms"][2]["k"] == np.sum(fit_fusion(rows, owners).p_value(normals) <= 0.10)
    nothing = table_of(replace(run, calibrated=run.calibrated[:1], fusion=None))
    (row,) = (row for row in nothing["rows"] if row["name"] == "fused")
    assert all(cell["value"] is None for cell in row["false_alarms"])


def test_without_a_set_there_are_rates_and_no_auroc(phantom_benchmark):
    table = count_detectors(with_calibration(phantom_benchmark.run, 20, 1), None, [])
    assert table["set"] is None
    assert all(row["auroc"]["value"] is None for row in table["rows"])
    assert all(row["false_alarms"][1]["value"] is not None for row in table["rows"])


def test_the_table_on_disk(phantom_benchmark, counted):
    rows = list(csv.DictReader(io.StringIO((phantom_benchmark.out / "detectors.csv").read_text())))
    assert [row["name"] for row in rows] == [row["name"] for row in counted["rows"]]
    run = with_calibration(phantom_benchmark.run, 12, 2)
    table = table_of(run)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(detectors_table(table)))}
    for row in table["rows"]:
        line, five = rows[row["name"]], row["false_alarms"][1]
        assert line["false_alarms_0.01"] == ""
        assert float(line["false_alarms_0.05"]) == pytest.approx(five["value"], rel=1e-5)
        assert float(line["false_alarms_0.05_high"]) == pytest.approx(five["high"], rel=1e-5)
        assert bool(line["fit_seconds"]) == (row["cost"] is not None)
    assert len(rows) == len({one.name for one in list_methods(("ct", "mri")) if one.modality == "both"}) + 4


def test_it_is_plain_json(counted):
    assert json.loads(json.dumps(counted, allow_nan=False)) == counted
