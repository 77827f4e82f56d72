"""The fused score of a run: what it is fitted on, and that no case changes another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monai_ctmri.detection.fusion import ScoreFusion
from monai_ctmri.evaluation.fused import FUSED_SCORES, FUSION_METHOD, fit_fusion
from monai_ctmri.evaluation.methods import list_methods


def rows_of(cases):
    return [case.scores for case in cases]


@pytest.mark.parametrize("modalities", [("ct", "mri"), ("ct",)])
def test_what_is_fused_are_methods_of_every_run_and_no_trivial_one(modalities):
    groups = {one.name: one.group for one in list_methods(modalities)}
    assert {groups[name] for name in FUSED_SCORES} <= {"network", "one-class", "source notes"}
    assert len(set(FUSED_SCORES)) == len(FUSED_SCORES) > 1


def test_the_runs_fused_score_is_the_fusion_of_its_calibration_normals(phantom_benchmark):
    run = phantom_benchmark.run
    calibrated = run.protocol.manifest.select(split="calibration")
    assert [case.case for case in run.calibrated] == [case.name for case in calibrated]
    by_hand = ScoreFusion(FUSION_METHOD, list(FUSED_SCORES)).fit(rows_of(run.calibrated))
    found = [case.scores["fused"] for case in run.cases]
    np.testing.assert_array_equal(found, by_hand.decision_function(rows_of(run.cases)))
    assert np.isfinite(found).all()
    assert not any("fused" in case.scores for case in run.calibrated)


def test_other_test_cases_change_no_fused_score(phantom_benchmark):
    run = phantom_benchmark.run
    fusion = fit_fusion(rows_of(run.calibrated))
    for number in (0, 5, len(run.cases) - 1):
        case = run.cases[number]
        others = [dict.fromkeys(FUSED_SCORES, 1000000.0), case.scores, dict.fromkeys(FUSED_SCORES, -1000000.0)]
        assert fusion.decision_function(others)[1] == case.scores["fused"]
    # a score that is not fused has no part in it
    changed = {**run.cases[0].scores, "random": 1e6, "atlas": -1e6}
    assert fusion.decision_function([changed])[0] == run.cases[0].scores["fused"]


def test_other_calibration_normals_do(phantom_benchmark):
    run = phantom_benchmark.run
    higher = [{name: value + 10.0 for name, value in case.scores.items()} for case in run.calibrated]
    lower = [{name: value - 10.0 for name, value in case.scores.items()} for case in run.calibrated]
    (case,) = rows_of(run.cases[:1])
    below, above = (fit_fusion(rows).decision_function([case])[0] for rows in (higher, lower))
    assert below < above


def test_a_case_higher_in_every_fused_score_is_not_lower_in_the_fused_one(phantom_benchmark):
    run = phantom_benchmark.run
    for case in run.cases[:4]:
        higher = {name: value + 0.1 * abs(value) for name, value in case.scores.items()}
        assert run.fusion.decision_function([higher])[0] >= case.scores["fused"]


def test_one_row_a_subject_where_subjects_are_named():
    random = np.random.default_rng(0)
    rows = [dict(zip(FUSED_SCORES, random.normal(size=len(FUSED_SCORES)), strict=True)) for _ in range(30)]
    owners = [f"s{i // 3}" for i in range(30)]
    assert len(fit_fusion(rows).rows_) == 30
    fusion = fit_fusion(rows, owners)
    assert len(fusion.rows_) == 10
    extreme = dict.fromkeys(FUSED_SCORES, 99.0)
    assert fusion.p_value([extreme])[0] == pytest.approx(1 / 11)


def test_one_normal_is_too_few_and_said_so(caplog, phantom_benchmark):
    row = phantom_benchmark.run.calibrated[0].scores
    assert fit_fusion([row]) is None
    assert fit_fusion([row, row], ["a", "a"]) is None
    assert "no score is fused" in caplog.text


def test_a_run_without_a_fused_score_still_has_its_tables(phantom_benchmark):
    from monai_ctmri.evaluation.results import count_results, scores_table

    run = phantom_benchmark.run
    cases = [replace(one, scores={k: v for k, v in one.scores.items() if k != "fused"}) for one in run.cases]
    bare = replace(run, cases=cases, fusion=None)
    results = count_results(bare, title="", subtitle="", command="", phantom=True)
    (fused,) = (one for one in results["sets"][0]["methods"] if one["name"] == "fused")
    assert fused["auroc"]["value"] is None
    assert "no finite score" in fused["auroc"]["reason"]
    header, first, *_ = scores_table(bare).splitlines()
    assert first.split(",")[header.split(",").index("fused")] == ""
