"""A run counted: every number of metrics.json again, from scores.csv and from what the run holds."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from monai_ctmri.evaluation.benchmark import BenchmarkRun
from monai_ctmri.evaluation.calibrated import calibrate
from monai_ctmri.evaluation.judge import ScoredCase
from monai_ctmri.evaluation.methods import list_methods
from monai_ctmri.evaluation.results import _notes, count_results, scores_table

FURTHER = ["lof", "knn", "pca", "ecod"]  # the detectors of "default" that are no methods of the tables
FIXED = ["case", "subject", "label", "kind", "twin_of", "score", "p_value", "flagged"]


@pytest.fixture(params=["phantom_benchmark", "few_subjects_benchmark"])
def finished(request):
    return request.getfixturevalue(request.param)


def rows_of(finished, name):
    """Rows of a set, from the table alone."""
    rows = finished.rows
    if name == "Labelled cases":
        return [row for row in rows if not row["twin_of"] and row["label"]]
    return [row for row in rows if row["twin_of"] or row["label"] == "0"]


def counted(run: BenchmarkRun, phantom: bool = False):
    return count_results(run, title="t", subtitle="s", command="c", phantom=phantom)


def test_the_table_has_the_cases_of_the_manifest_then_the_twins(finished):
    names = [row["case"] for row in finished.rows]
    test = [case.name for case in finished.run.protocol.manifest if case.split == "test"]
    assert names[: len(test)] == test
    normal = [case.name for case in finished.run.protocol.manifest if case.split == "test" and case.label == 0]
    kinds = ["hemorrhage", "infarct", "tumour"]
    if len({case.subject for case in finished.run.originals if case.label == 0}) > 1:
        kinds.append("wrong_pair")
    assert names[len(test) :] == [f"{name}__{kind}" for name in normal for kind in kinds]
    assert list(finished.rows[0]) == [*FIXED, *(one.name for one in list_methods(("ct", "mri"))), *FURTHER]


def test_the_table_has_no_gap_and_its_score_is_the_one_that_decides(finished):
    for row in finished.rows:
        assert row["score"] == row["l1_mean"]
        for column in ("score", "p_value", *list(row)[len(FIXED) :]):
            assert math.isfinite(float(row[column]))


def test_flagged_is_the_p_value_against_alpha_and_the_score_against_the_threshold(finished):
    decision = finished.results["decision"]
    flags = [row["flagged"] for row in finished.rows]
    assert flags == [str(int(float(row["p_value"]) <= 0.3)) for row in finished.rows]
    assert flags == [str(int(float(row["score"]) > decision["threshold"])) for row in finished.rows]
    assert {"0", "1"} == set(flags)


def test_auroc_and_precision_of_every_method_as_scikit_learn_has_them(finished):
    assert finished.results["sets"]
    for one in finished.results["sets"]:
        rows = rows_of(finished, one["name"])
        labels = [int(row["label"]) for row in rows]
        assert (one["n_normal"], one["n_abnormal"]) == (labels.count(0), labels.count(1))
        assert one["subjects"] == len({row["subject"] for row in rows})
        for method in one["methods"] + one["single_modality_methods"]:
            scores = [float(row[method["name"]]) for row in rows]
            assert method["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
            precision = average_precision_score(labels, scores)
            assert method["average_precision"]["value"] == pytest.approx(precision, abs=1e-6)
            for kind, cell in method["by_kind"].items():
                chosen = [i for i, row in enumerate(rows) if row["kind"] in ("", kind)]
                expected = roc_auc_score([labels[i] for i in chosen], [scores[i] for i in chosen])
                assert cell["auroc"] == pytest.approx(expected, abs=1e-6)


def test_every_method_is_listed_once(finished):
    for one in finished.results["sets"]:
        names = [entry["name"] for entry in one["methods"] + one["single_modality_methods"]]
        assert sorted(names) == sorted(method.name for method in list_methods(("ct", "mri")))


def test_shown_are_both_modalities_and_the_best_single_one_of_each_group(finished):
    for one in finished.results["sets"]:
        single = [entry for entry in one["methods"] if entry["modality"] != "both"]
        assert sorted(entry["group"] for entry in single) == ["network", "source notes", "trivial baseline"]
        assert all(entry["modality"] != "both" for entry in one["single_modality_methods"])
        for best in single:
            rest = [entry for entry in one["single_modality_methods"] if entry["group"] == best["group"]]
            assert best["auroc"]["value"] >= max(entry["auroc"]["value"] for entry in rest)


def test_the_decision_recomputed_from_the_table(finished):
    decision = finished.results["decision"]
    labelled = finished.run.labelled
    assert decision["set"] == ("Labelled cases" if labelled else "Injected lesions")
    rows = rows_of(finished, decision["set"])
    (tn, fp), (fn, tp) = confusion_matrix(
        [int(row["label"]) for row in rows], [int(row["flagged"]) for row in rows], labels=[0, 1]
    )
    assert decision["confusion"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    for share, k, n in (("false_alarms", fp, fp + tn), ("sensitivity", tp, tp + fn)):
        found = decision[share]
        assert (found["k"], found["n"]) == (k, n)
        assert found["value"] == pytest.approx(k / n)
        low = beta.ppf(0.025, k, n - k + 1) if k else 0  # Clopper and Pearson
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1
        assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert decision["smallest_p_value"] == pytest.approx(1 / (decision["n_calibration"] + 1))
    # neither one subject nor two can flag at .3
    slices = len(finished.run.calibrated)
    assert (decision["n_calibration"], decision["calibration_unit"]) == (slices, "slices")
    assert any(f"are {slices} slices of" in note for note in finished.results["notes"])


def test_with_subjects_enough_they_are_what_is_counted(phantom_benchmark):
    run = phantom_benchmark.run
    cases = [replace(case, subject=f"s{i % 4}") for i, case in enumerate(run.calibrated * 4)]
    scores, subjects = [case.scores["l1_mean"] for case in cases], [case.subject for case in cases]
    results = counted(replace(run, calibrated=cases, calibration=calibrate(scores, subjects, 0.3)))
    decision = results["decision"]
    assert (decision["n_calibration"], decision["calibration_unit"]) == (4, "subjects")
    assert decision["smallest_p_value"] == pytest.approx(1 / 5)
    assert not any("slices were taken as independent" in note for note in results["notes"])


def test_the_negative_controls_are_there(finished):
    for one in finished.results["sets"]:
        controls = {control["name"]: control for control in one["controls"]}
        assert {"Clean against clean", "Shuffled labels"} <= set(controls)
        if one["name"] == "Injected lesions":
            assert controls["Injection of zero contrast"]["value"] == pytest.approx(0.5, abs=1e-6)
            assert controls["Injection of zero contrast"]["passed"] is True
            area = [row.area for row in finished.run.injected]
            expected = roc_auc_score([row.label for row in finished.run.injected], area)
            assert controls["Head area alone"]["value"] == pytest.approx(expected)
            assert controls["Head area alone"]["passed"] == (max(expected, 1 - expected) < 0.6)
    clean, blank = finished.run.zero_contrast
    np.testing.assert_array_equal(clean, blank)
    assert clean


def test_a_zero_contrast_that_changes_scores_fails_its_control(phantom_benchmark):
    clean, _ = phantom_benchmark.run.zero_contrast
    results = counted(replace(phantom_benchmark.run, zero_contrast=(clean, [score + 1 for score in clean])))
    (control,) = [one for one in results["sets"][0]["controls"] if one["name"] == "Injection of zero contrast"]
    assert (control["value"], control["passed"]) == (1.0, False)


def test_parts_and_training_are_counted(phantom_benchmark):
    data, training = phantom_benchmark.results["data"], phantom_benchmark.results["training"]
    assert data["kind"] == "phantom"
    assert [(part["name"], part["subjects"], part["cases"]) for part in data["parts"]] == [
        ("train", 5, 15),
        ("validation", 1, 3),
        ("calibration", 1, 3),
        ("test", 2, 6),
    ]
    assert (training["epochs_run"], training["best_epoch"], training["image_size"]) == (1, 1, 64)
    weights = phantom_benchmark.run.trained.network.state_dict().values()
    assert training["parameters"] <= sum(value.numel() for value in weights)


def test_the_best_epoch_is_that_of_the_lowest_validation_error(phantom_benchmark):
    history = [{"epoch": epoch, "train_loss": 1.0, "val_mse": mse} for epoch, mse in ((1, 3.0), (2, 1.0), (3, 2.0))]
    run = replace(phantom_benchmark.run, trained=replace(phantom_benchmark.run.trained, history=history))
    assert counted(run)["training"]["best_epoch"] == 2


def test_few_subjects_are_counted_with_their_labels(few_subjects_benchmark):
    parts = {part["name"]: part for part in few_subjects_benchmark.results["data"]["parts"]}
    assert set(parts) == {"train", "test"}
    assert (parts["train"]["abnormal"], parts["test"]["abnormal"], parts["test"]["cases"]) == (0, 2, 3)
    assert any("leave-one-subject-out" in note for note in few_subjects_benchmark.results["notes"])


def test_results_are_plain_json(finished):
    text = json.dumps(finished.results, allow_nan=False)
    assert json.loads(text) == finished.results


def test_a_phantom_is_called_one_and_few_test_subjects_are_noted(phantom_benchmark):
    notes = phantom_benchmark.results["notes"]
    assert notes[0].startswith("This is a phantom result")
    assert any("Only 2 subjects" in note for note in notes)
    real = counted(phantom_benchmark.run)
    assert real["data"]["kind"] == "real"
    assert not any("phantom" in note for note in real["notes"])


def test_a_calibration_part_too_small_for_alpha_is_noted_and_flags_nothing(phantom_benchmark):
    run = replace(phantom_benchmark.run, settings=replace(phantom_benchmark.settings, alpha=0.05))
    results = counted(run)
    assert results["decision"]["threshold"] is None
    assert results["decision"]["confusion"]["tp"] == results["decision"]["confusion"]["fp"] == 0
    assert any("too small for alpha 0.05" in note for note in results["notes"])
    assert all(row["flagged"] == "0" for row in csv.DictReader(io.StringIO(scores_table(run))))


def without(run: BenchmarkRun, keep) -> BenchmarkRun:
    cases: list[ScoredCase] = [changed for case in run.cases if (changed := keep(case)) is not None]
    return replace(run, cases=cases, zero_contrast=([], []))


def test_abnormal_test_cases_alone_still_tell_the_sensitivity(few_subjects_benchmark):
    run = without(few_subjects_benchmark.run, lambda case: case if case.kind == "abnormal" else None)
    results = counted(run)
    assert results["sets"] == []
    decision = results["decision"]
    assert decision["set"] == "Labelled cases"
    flagged = sum(case.p_value <= 0.3 for case in run.cases)
    assert decision["confusion"] == {"tp": flagged, "fp": 0, "tn": 0, "fn": 2 - flagged}
    assert decision["false_alarms"]["value"] is None
    assert decision["sensitivity"]["value"] == flagged / 2


def test_test_cases_of_unknown_label_are_counted_and_judged_by_nothing(few_subjects_benchmark):
    run = without(few_subjects_benchmark.run, lambda case: None if case.twin_of else replace(case, label=None, kind=""))
    results = counted(run)
    assert results["sets"] == []
    assert results["decision"]["confusion"] == {"tp": 0, "fp": 0, "tn": 0, "fn": 0}
    assert results["decision"]["sensitivity"]["value"] is None
    json.dumps(results, allow_nan=False)
    assert [row["label"] for row in csv.DictReader(io.StringIO(scores_table(run)))] == ["", "", ""]


def test_a_modality_that_only_some_cases_have_is_named(phantom_benchmark):
    from dataclasses import replace

    run = phantom_benchmark.run
    first, *others = run.protocol.manifest
    manifest = run.protocol.manifest.with_cases([first, *(replace(case, mri=None) for case in others)])
    partial = replace(run, modalities=("ct",), protocol=replace(run.protocol, manifest=manifest))
    assert any(f"MRI was not used: only 1 of {len(manifest)} cases" in note for note in _notes(partial, phantom=False))
    assert not any("was not used" in note for note in _notes(run, phantom=True))


def test_two_tested_subjects_give_no_interval_and_five_do(phantom_benchmark, monkeypatch):
    from monai_ctmri.evaluation import results

    run = phantom_benchmark.run
    assert len({case.subject for case in run.originals}) == 2
    few = count_results(run, title="", subtitle="", command="", phantom=True)
    assert all(method["auroc"]["low"] is None for method in few["sets"][0]["methods"])
    assert any("intervals over so few subjects would mean nothing" in note for note in few["notes"])
    monkeypatch.setattr(results, "FEWEST_FOR_INTERVALS", 2)
    enough = count_results(run, title="", subtitle="", command="", phantom=True)
    assert any(method["auroc"]["low"] is not None for method in enough["sets"][0]["methods"])
