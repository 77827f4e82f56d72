"""Scoring a manifest: one line a case, bad ones recorded, cut off and continued, each case for itself."""

from __future__ import annotations

import csv
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.detection.decision import fit_decision
from monai_ctmri.engines import preserved_random_state, write_settings
from monai_ctmri.engines.bundle_inference import LoadedBundle, load_bundle
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.scoring_run import COLUMNS, ScoringRun, normal_scores, score_manifest
from monai_ctmri.networks.denoiser import CrossModalDenoiser

FEATURES = [8, 8, 8, 8, 16, 8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder of the cross-modal bundle, with random weights."""
    folder = tmp_path_factory.mktemp("model")
    settings = {"bundle": "brain_ctmri_crossmodal", "image_size": 32, "features": FEATURES, "mirror": False}
    write_settings(folder / "config.yaml", settings)
    (folder / "models").mkdir()
    with preserved_random_state():
        torch.manual_seed(0)
        torch.save(CrossModalDenoiser(features=FEATURES).state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def cohort(few_subjects_manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of three subjects: pairs, CT alone, MRI alone; pictures of 60 rows and 52 columns."""
    few = Manifest.read(few_subjects_manifest)
    cases = [*few[::2], few[7]]
    cases[1], cases[2] = replace(cases[1], mri=None), replace(cases[2], ct=None, label=None)
    folder = tmp_path_factory.mktemp("cohort")
    Manifest(replace(case, name=f"case-{number}") for number, case in enumerate(cases)).write_csv(
        folder / "manifest.csv"
    )
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def finished(model: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> ScoringRun:
    return score_manifest(cohort, model, tmp_path_factory.mktemp("out") / "run")


def rows_of(folder: Path, name: str = "scores.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def numbers_of(run: ScoringRun) -> dict[str, dict[str, float]]:
    return {outcome.case.name: outcome.scores for outcome in run.outcomes}


def map_of(run: ScoringRun, name: str) -> np.ndarray:
    with Image.open(run.folder / "maps" / f"{name}.tif") as picture:
        assert picture.mode == "F"
        return np.asarray(picture)


def test_one_line_a_case_in_the_manifests_order(finished, cohort):
    cases, rows = Manifest.read(cohort), rows_of(finished.folder)
    assert [row["case"] for row in rows] == [case.name for case in cases]
    assert ",".join(COLUMNS) == "case,subject,ct,mri,label,score,p_value,flagged"
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    for row, case in zip(rows, cases, strict=True):
        assert row["subject"] == case.subject
        assert row["label"] == ("" if case.label is None else str(case.label))
        for name in ("ct", "mri"):
            path = getattr(case, name)
            assert row[name] == "" if path is None else (finished.folder / row[name]).resolve() == path.resolve()
        assert row["score"] == row["asymmetry_error_top"] != ""
        assert row["p_value"] == row["flagged"] == ""
    assert rows[0]["mismatch_top"]
    for missing in (rows[1], rows[2]):
        assert missing["mismatch_top"] == ""
    assert rows[1]["error_ct_top"]
    assert rows[1]["error_mri_top"] == "" == rows[2]["error_ct_top"]


def test_a_map_is_on_the_grid_of_the_input(finished):
    for outcome in finished.outcomes:
        assert outcome.map_path == finished.folder / "maps" / f"{outcome.case.name}.tif"
        assert map_of(finished, outcome.case.name).shape == (60, 52)


def test_the_table_is_a_manifest_itself(finished, cohort):
    again = Manifest.read(finished.folder / "scores.csv")
    assert [(case.name, case.label, case.modalities) for case in again] == [
        (case.name, case.label, case.modalities) for case in Manifest.read(cohort)
    ]


def test_without_calibration_that_is_said(finished):
    assert finished.notes == (
        "No p-value and no flag: the model has no saved calibration. The score is asymmetry_error_top, else error_top, "
        "comparable within this model only.",
    )
    assert rows_of(finished.folder, "failures.csv") == []


def test_a_case_depends_on_no_other_and_not_on_the_order(finished, cohort, model, tmp_path):
    cases = list(Manifest.read(cohort))
    Manifest([cases[4], cases[1], cases[0]]).write_csv(tmp_path / "manifest.csv")
    run = score_manifest(tmp_path / "manifest.csv", model, tmp_path / "out")
    assert [outcome.case.name for outcome in run.outcomes] == ["case-4", "case-1", "case-0"]
    for name, scores in numbers_of(run).items():
        assert scores == numbers_of(finished)[name]
        np.testing.assert_array_equal(map_of(run, name), map_of(finished, name))


def damaged(cohort: Path, folder: Path) -> Path:
    """The cohort with a file cut off, one that is absent, and one that names a folder."""
    cases = list(Manifest.read(cohort))
    (folder / "cut.png").write_bytes(cases[0].ct.read_bytes()[:60])
    cases[0] = replace(cases[0], ct=folder / "cut.png")
    cases[3] = replace(cases[3], mri=folder / "absent.png")
    cases[4] = replace(cases[4], mri=folder)
    Manifest(cases).write_csv(folder / "manifest.csv")
    return folder / "manifest.csv"


def test_bad_cases_are_recorded_and_the_others_judged(finished, cohort, model, tmp_path):
    run = score_manifest(damaged(cohort, tmp_path), model, tmp_path / "out")
    failed = rows_of(run.folder, "failures.csv")
    assert [(row["case"], row["file"]) for row in failed] == [
        ("case-0", "../cut.png"),
        ("case-3", "../absent.png"),
        ("case-4", ".."),
    ]
    assert "cannot be read" in failed[0]["reason"]
    assert "no such file" in failed[1]["reason"]
    assert "not a file" in failed[2]["reason"]
    rows = rows_of(run.folder)
    assert [row["case"] for row in rows if row["score"]] == ["case-1", "case-2", "case-5"]
    assert len(rows) == 6
    assert numbers_of(run) == {name: numbers_of(finished)[name] for name in ("case-1", "case-2", "case-5")}
    assert sorted(path.stem for path in (run.folder / "maps").iterdir()) == ["case-1", "case-2", "case-5"]


class Counted:
    """Counts what is judged; after ``limit`` cases somebody interrupts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 99) -> None:
        self.judged: list[str] = []
        judge = LoadedBundle.judge

        def counted(bundle, case):
            if len(self.judged) == limit:
                raise KeyboardInterrupt
            self.judged.append(case["case"])
            return judge(bundle, case)

        monkeypatch.setattr(LoadedBundle, "judge", counted)


def test_a_run_cut_off_continues(finished, cohort, model, monkeypatch):
    out = finished.folder.parent / "continued"
    with monkeypatch.context() as patch:
        Counted(patch, limit=2)
        with pytest.raises(KeyboardInterrupt):
            score_manifest(cohort, model, out)
    assert not (out / "scores.csv").exists()
    with monkeypatch.context() as patch:
        counted = Counted(patch)
        score_manifest(cohort, model, out)
        assert counted.judged == [f"case-{number}" for number in (2, 3, 4, 5)]
        score_manifest(cohort, model, out)
        assert len(counted.judged) == 4
    assert (out / "scores.csv").read_bytes() == (finished.folder / "scores.csv").read_bytes()
    for path in (finished.folder / "maps").iterdir():
        assert (out / "maps" / path.name).read_bytes() == path.read_bytes()
    assert not list(out.rglob("*.tmp.*"))


def test_only_what_changed_is_judged_anew(cohort, model, tmp_path, monkeypatch):
    shutil.copytree(cohort.parent, tmp_path / "data")
    cases = list(Manifest.read(cohort))[:3]
    for name in ("ct", "mri"):
        shutil.copy(getattr(cases[0], name), tmp_path / f"own_{name}.png")
    cases[0] = replace(cases[0], ct=tmp_path / "own_ct.png", mri=tmp_path / "own_mri.png")
    Manifest(cases).write_csv(tmp_path / "manifest.csv")
    own = tmp_path / "model"
    shutil.copytree(model, own)
    arguments = (tmp_path / "manifest.csv", own, tmp_path / "out")
    counted = Counted(monkeypatch)
    first = score_manifest(*arguments)
    pixels = np.asarray(Image.open(tmp_path / "own_ct.png"))
    Image.fromarray(pixels[:, ::-1].copy()).save(tmp_path / "own_ct.png")
    second = score_manifest(*arguments)
    assert counted.judged[3:] == ["case-0"]
    assert numbers_of(second)["case-0"] != numbers_of(first)["case-0"]
    (tmp_path / "out" / "maps" / "case-1.tif").unlink()
    (tmp_path / "out" / "cases" / "case-2.json").write_text('{"source": {}, "sco')
    assert numbers_of(score_manifest(*arguments)) == numbers_of(second)
    assert counted.judged[4:] == ["case-1", "case-2"]
    state = torch.load(own / "models" / "model.pt", weights_only=True)
    torch.save({name: 1.01 * value for name, value in state.items()}, own / "models" / "model.pt")
    score_manifest(*arguments)
    assert len(counted.judged) == 9
    (tmp_path / "own_ct.png").unlink()
    failed = score_manifest(*arguments)
    assert [one.case.name for one in failed.failures] == ["case-0"]
    assert not (tmp_path / "out" / "maps" / "case-0.tif").exists()


@pytest.fixture
def calibrated(model: Path, finished: ScoringRun, tmp_path: Path) -> Path:
    """The model with a calibration on 30 normals around the scores of the first case, all of them lower."""
    shutil.copytree(model, tmp_path / "calibrated")
    highest = finished.outcomes[0].scores
    rows = [{name: value - 0.01 * (1 + number) for name, value in highest.items()} for number in range(30)]
    fit_decision(rows, range(30), load_bundle(model).files).save(tmp_path / "calibrated")
    return tmp_path / "calibrated"


def test_with_calibration_there_is_a_p_value_and_a_flag(calibrated, cohort, finished, tmp_path):
    run = score_manifest(cohort, calibrated, tmp_path / "out", alpha=0.05)
    rows = rows_of(run.folder)
    # Above all 30 normals in every score.
    assert float(rows[0]["p_value"]) == pytest.approx(1 / 31)
    assert rows[0]["flagged"] == "1"
    assert all(row["flagged"] == str(int(float(row["p_value"]) <= 0.05)) for row in rows)
    assert float(rows[0]["score"]) > 1.0
    assert any("normals have the same scores" in note for note in run.notes)
    assert {name: row for name, row in rows[0].items() if name in run.outcomes[0].scores} == {
        name: str(value) for name, value in finished.outcomes[0].scores.items()
    }
    strict = score_manifest(cohort, calibrated, tmp_path / "out", alpha=0.01)
    assert "none can be flagged at alpha 0.01" in strict.notes[0]
    assert not any(outcome.flagged for outcome in strict.outcomes)


def test_a_calibration_of_other_weights_is_left_out(calibrated, cohort, tmp_path):
    path = calibrated / "models" / "model.pt"
    torch.save({name: 1.01 * value for name, value in torch.load(path, weights_only=True).items()}, path)
    run = score_manifest(cohort, calibrated, tmp_path / "out")
    assert run.decision is None
    assert "belongs to other weights" in run.notes[0]
    assert all(outcome.p_value is None and outcome.flagged is None for outcome in run.outcomes)


def test_scores_of_normals_are_read_back_for_calibration(finished, tmp_path):
    rows, subjects = normal_scores(finished.folder / "scores.csv")
    normal = [outcome for outcome in finished.outcomes if outcome.case.label == 0]
    assert 0 < len(normal) < len(finished.outcomes)
    assert rows == [outcome.scores for outcome in normal]
    assert subjects == [outcome.case.subject for outcome in normal]
    with pytest.raises(InputError, match=r"is no scores\.csv"):
        normal_scores(finished.manifest)
    with pytest.raises(InputError, match=r"is no scores\.csv"):
        normal_scores(tmp_path / "absent.csv")
    table = (finished.folder / "scores.csv").read_text().splitlines()[0]
    (tmp_path / "scores.csv").write_text(table + "\n")
    with pytest.raises(InputError, match="no case is labelled normal"):
        normal_scores(tmp_path / "scores.csv")


def test_bad_arguments_write_nothing(cohort, model, tmp_path):
    for arguments, words in (
        ((cohort, model, tmp_path / "out", 1.5), "alpha"),
        ((tmp_path / "absent.csv", model, tmp_path / "out", 0.05), "absent.csv"),
        ((cohort, tmp_path / "absent", tmp_path / "out", 0.05), "no such folder"),
        ((cohort, model, model, 0.05), "holds a model"),
    ):
        before = sorted(os.listdir(model))
        with pytest.raises(InputError, match=words):
            score_manifest(*arguments[:3], alpha=arguments[3])
        assert not (tmp_path / "out").exists()
        assert sorted(os.listdir(model)) == before


def test_progress_counts_every_case(cohort, model, finished):
    seen: list[tuple[str, int, int]] = []
    score_manifest(cohort, model, finished.folder, progress=lambda *step: seen.append(step))
    assert seen == [("Scoring cases", done, 6) for done in range(1, 7)]
