"""Calibration during a run, and rows decided by it: the numbers of ``Decision`` itself, and what is said without it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai_ctmri.detection.decision import load_decision
from monai_ctmri.detection.decision_handler import DecisionFitter, RunDecision
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.fitted_scorers import model_files

Cases = list[tuple[str, int, dict[str, float]]]


def normals(count: int = 25) -> Cases:
    """Two slices a subject, each as a pair, as CT alone and as MRI alone."""
    generator, found = np.random.default_rng(0), []
    for number in range(2 * count):
        ct, mri = (float(one) for one in generator.normal(size=2))
        for scores in ({"ct": ct, "mri": mri}, {"ct": ct}, {"mri": mri}):
            found.append((f"s{number // 2}", 0, scores))
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_bytes(b"weights")
    return tmp_path


def run(handler: Any, cases: Cases) -> None:
    def step(engine: Engine, number: int) -> list[dict[str, Any]]:
        subject, label, scores = cases[number]
        engine.state.batch = [{"case": f"c{number}", "subject": subject, "label": torch.tensor(label)}]
        return [{"scores": scores}]

    engine = Engine(step)
    handler.attach(engine)
    engine.run(range(len(cases)))


def loaded(home: Path, **options: Any) -> RunDecision:
    decision = RunDecision(home, home, ["other", "ct"], **options)
    run(decision, [("s", 0, {})])
    return decision


def test_each_subject_counts_once_in_each_set_of_scores(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run(DecisionFitter(home, home), [*normals(), ("sick", 1, {"ct": 99.0}), ("unknown", -1, {"ct": 99.0})])
    decision = load_decision(home)
    assert decision is not None
    present = ~np.isnan(decision.fusion.rows_)
    assert [int((present == pattern).all(axis=1).sum()) for pattern in ([1, 1], [1, 0], [0, 1])] == [25, 25, 25]
    assert np.nanmax(decision.fusion.rows_) < 10  # the abnormal and the unlabelled case are left aside
    assert decision.cases == 25
    assert decision.files == model_files(home, home)
    assert "2 of 152 cases are not labelled normal" in caplog.text
    assert "Calibrated on 25, 25, 25 normals" in caplog.text


@pytest.mark.parametrize("scores", [{"ct": 9.0, "mri": 0.0}, {"ct": 9.0}, {"mri": 9.0}, {"ct": 0.0, "mri": 0.0}])
def test_columns_are_those_of_the_decision(home: Path, scores: dict[str, float]) -> None:
    run(DecisionFitter(home, home), normals())
    decision = load_decision(home)
    assert decision is not None
    found, fused = loaded(home).columns(scores), decision.decide(scores)
    assert found == {"score": fused.score, "p_value": fused.p_value, "flagged": int(fused.p_value <= 0.05)}
    assert fused.note is None  # CT alone is compared with CT alone
    assert found["flagged"] == int(9.0 in scores.values())


def test_alpha_decides_what_is_flagged(home: Path) -> None:
    run(DecisionFitter(home, home), normals())
    assert loaded(home, alpha=0.9).columns({"ct": 0.5})["flagged"] == 1
    with pytest.raises(InputError, match="alpha"):
        RunDecision(home, home, "ct", alpha=0.0)


def test_options_reach_the_fusion(home: Path) -> None:
    fitter = DecisionFitter(home, home, method="fisher", names=["ct"], minimum_rows=5, random_state=3)
    run(fitter, [case for case in normals() if "ct" in case[2]])
    fusion = fitter.decision_.fusion
    assert (fusion.method, fusion.names_, fusion.minimum_rows, fusion.random_state) == ("fisher", ["ct"], 5, 3)


def test_without_a_calibration_one_line_says_so(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        decision = loaded(home)
    (record,) = caplog.records
    missing = home / "models" / "decision.npz"
    assert record.getMessage() == (
        f"No p-value and no flag: {missing} is not there; run calibrate. The score is other, else ct"
    )
    assert decision.columns({"ct": 2.0, "mri": 1.0}) == {"score": 2.0, "p_value": "", "flagged": ""}
    assert decision.columns({"mri": 1.0}) == {"score": "", "p_value": "", "flagged": ""}


@pytest.mark.parametrize("name", ["model.pt", "scorers.pt"])
def test_a_calibration_of_another_model_is_not_used(name: str, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(DecisionFitter(home, home), normals())
    (home / "models" / name).write_bytes(b"others")
    with caplog.at_level(logging.WARNING):
        decision = loaded(home)
    assert "belongs to other weights" in caplog.text
    assert decision.columns({"ct": 2.0})["p_value"] == ""


def test_a_calibration_beside_the_weights_of_the_bundle_serves(home: Path, tmp_path: Path) -> None:
    run(DecisionFitter(home, home), normals())
    elsewhere = RunDecision(tmp_path / "run", home, "ct")
    run(elsewhere, [("s", 0, {})])
    assert elsewhere.columns({"ct": 9.0})["flagged"] == 1


def test_a_case_no_normal_is_like_has_empty_cells_and_is_said_once(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(DecisionFitter(home, home), normals())
    decision = loaded(home)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert decision.columns({"else": 1.0}) == {"score": "", "p_value": "", "flagged": ""}
    assert len([record for record in caplog.records if record.name.endswith("decision_handler")]) == 1


def test_no_normal_case_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match="no case is labelled normal"):
        run(DecisionFitter(home, home), [("s", 1, {"ct": 1.0})])
