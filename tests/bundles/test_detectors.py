"""Detectors and decisions from configurations alone: fitted, swapped, calibrated, and the same from both commands."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, config_files, rows_of, run
from combinations import tiny
from monai.bundle import ConfigParser
from PIL import Image

from monai_ctmri.detection.decision import load_decision
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.engines.bundle_inference import load_bundle
from monai_ctmri.evaluation.scoring_run import score_manifest

CROSSMODAL, AUTOENCODER, CYCLEGAN = (f"brain_ctmri_{name}" for name in ("crossmodal", "autoencoder", "cyclegan"))
every_bundle = pytest.mark.parametrize("name", [AUTOENCODER, CROSSMODAL, CYCLEGAN])
SUBJECTS = 24
"""Normals to calibrate on, enough for alpha 0.05."""


@pytest.fixture(scope="module")
def normals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pair of slices a subject, all normal, of other grey levels and textures each."""
    folder = tmp_path_factory.mktemp("normals")
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:32, :32] - 15.5
    head = (y / 14) ** 2 + (x / 12) ** 2 < 1
    rows = []
    for number in range(SUBJECTS):
        for modality, grey in (("ct", 90), ("mri", 140)):
            level, spread = grey + generator.normal(0, 8), generator.uniform(3, 9)
            pixels = np.where(head, level + generator.normal(0, spread, head.shape), 0)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"n{number}_{modality}.png")
        rows.append([f"n{number}_ct.png", f"n{number}_mri.png", f"n{number}", 0])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ct", "mri", "subject", "label"], *rows])
    return folder


@pytest.fixture(scope="module")
def calibrated(cohort: Path, normals: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each bundle's folder: trained, fitted and calibrated, once asked for."""
    done: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in done:
            folder, bundle = tmp_path_factory.mktemp(name), BUNDLES / name
            for files in ("train", "train+fit_detectors"):
                run(bundle, files, **tiny(bundle, files, cohort, folder))
            files = "train+evaluate+calibrate"
            run(bundle, files, **tiny(bundle, files, normals, folder))
            done[name] = folder
        return done[name]

    return of


@pytest.fixture(scope="module")
def mixed(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without labels: two pairs, one of them abnormal, the CT of a third and the MRI of a fourth."""
    folder = tmp_path_factory.mktemp("mixed")
    names = [("s1_0", "s1_0"), ("s5_0", "s5_0"), ("s5_1", ""), ("", "s3_1")]
    rows = [[f"{cohort}/{ct}_ct.png" if ct else "", f"{cohort}/{mri}_mri.png" if mri else ""] for ct, mri in names]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ct", "mri", "subject"], *([*row, f"p{i}"] for i, row in enumerate(rows))])
    return folder


@every_bundle
def test_inference_and_score_say_the_same(
    name: str, calibrated: Any, cohort: Path, mixed: Path, tmp_path: Path
) -> None:
    """Pairs, CT alone and MRI alone: every number of the one table is that of the other, to the last digit."""
    shutil.copytree(calibrated(name), tmp_path / "run")
    manifest = cohort if name == AUTOENCODER else mixed
    run(BUNDLES / name, "inference", **tiny(BUNDLES / name, "inference", manifest, tmp_path / "run"))
    score_manifest(manifest, tmp_path / "run", tmp_path / "scored")
    one = {row["case"]: row for row in rows_of(tmp_path / "run" / "inference" / "scores.csv")}
    other = {row["case"]: row for row in rows_of(tmp_path / "scored" / "scores.csv")}
    assert len(one) == len(other) == (12 if name == AUTOENCODER else 4)
    for case, row in one.items():
        assert list(row)[3:6] == ["score", "p_value", "flagged"]
        assert 1 / (SUBJECTS + 1) <= float(row["p_value"]) <= 1
        assert row["flagged"] == str(int(float(row["p_value"]) <= 0.05))
        columns = [column for column in {**row, **other[case]} if column not in ("ct", "mri")]
        assert {column: row[column] for column in columns} == {column: other[case][column] for column in columns}
    detectors = [column for column in next(iter(one.values())) if column.startswith("latent_outlier")]
    shown = [[bool(row[column]) for column in sorted(detectors)] for row in one.values()]
    both, ct, mri = [True] * 3, [False, True, False], [False, False, True]
    assert shown == ([[True]] * 12 if name == AUTOENCODER else [both, both, ct, mri])


@pytest.mark.parametrize("name", [CROSSMODAL, CYCLEGAN])
def test_every_view_of_the_normals_is_calibrated(name: str, calibrated: Any) -> None:
    decision = load_decision(calibrated(name))
    assert decision is not None
    assert decision.fits(load_bundle(calibrated(name)).files)
    _, counts = np.unique(~np.isnan(decision.fusion.rows_), axis=0, return_counts=True)
    assert counts.tolist() == [SUBJECTS] * 3  # whole, CT alone, MRI alone
    assert decision.cases == SUBJECTS


def test_a_calibration_of_pairs_alone_has_one_view(calibrated: Any) -> None:
    decision = load_decision(calibrated(AUTOENCODER))
    assert decision is not None
    assert len(decision.fusion.rows_) == SUBJECTS
    assert not np.isnan(decision.fusion.rows_).any()
    assert "latent_outlier" in decision.fusion.names_


def test_alpha_is_what_is_flagged(calibrated: Any, normals: Path, tmp_path: Path) -> None:
    """The normals that it was calibrated on: their p-values are spread evenly, so about alpha of them."""
    shutil.copytree(calibrated(AUTOENCODER), tmp_path / "run")
    given = tiny(BUNDLES / AUTOENCODER, "inference", normals, tmp_path / "run")
    run(BUNDLES / AUTOENCODER, "inference", **given, alpha=0.3)
    flagged = [int(row["flagged"]) for row in rows_of(tmp_path / "run" / "inference" / "scores.csv")]
    assert 0.1 < np.mean(flagged) <= 0.35


@pytest.mark.parametrize("name", [AUTOENCODER, CROSSMODAL])
def test_an_overlay_swaps_the_detector(name: str, calibrated: Any, cohort: Path, tmp_path: Path) -> None:
    """What was saved is of the overlay's detector, and inference without the overlay uses it."""
    shutil.copytree(calibrated(name), tmp_path / "run")
    bundle, files = BUNDLES / name, "train+fit_detectors+detector_ocsvm"
    before = torch.load(tmp_path / "run" / "models" / "scorers.pt", weights_only=True)["scorers"]["latent_outlier"]
    run(bundle, files, **tiny(bundle, files, cohort, tmp_path / "run"))
    after = torch.load(tmp_path / "run" / "models" / "scorers.pt", weights_only=True)["scorers"]["latent_outlier"]
    assert before.keys() == after.keys() == ({"ct+mri"} if name == AUTOENCODER else {"ct+mri", "ct", "mri"})
    assert all('"name": "KNN"' in one["json"] for one in before.values())
    assert all('"name": "OCSVM"' in one["json"] and '"nu": 0.05' in one["json"] for one in after.values())
    judge = load_bundle(tmp_path / "run").scorer
    joint = getattr(judge, "scorer", judge)
    assert {one.name for one in joint.scorers["latent_outlier"].detectors_.values()} == {"OCSVM"}


def test_collected_features_are_what_the_detector_learns_from(calibrated: Any, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated(AUTOENCODER), tmp_path / "run")
    given = tiny(BUNDLES / AUTOENCODER, "inference", cohort, tmp_path / "run")
    run(BUNDLES / AUTOENCODER, "inference", **given, save_features=True)
    table = rows_of(tmp_path / "run" / "inference" / "features.csv")
    columns = [column for column in table[0] if column.startswith("latent_")]
    rows = np.array([[float(row[column]) for column in columns] for row in table])
    assert rows.shape == (12, 128)
    # The detector that was fitted judges the rows of the table as it judged the cases.
    detector = load_bundle(tmp_path / "run").scorer.scorers["latent_outlier"].detectors_["ct", "mri"]
    assert isinstance(detector, OutlierDetector)
    scored = rows_of(tmp_path / "run" / "inference" / "scores.csv")
    assert [row["case"] for row in table] == [row["case"] for row in scored]
    np.testing.assert_allclose(
        detector.decision_function(rows), [float(r["latent_outlier"]) for r in scored], rtol=1e-4
    )


def test_patch_densities_localise(calibrated: Any, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(calibrated(CROSSMODAL), tmp_path / "run")
    bundle = BUNDLES / CROSSMODAL
    for files in ("train+fit_detectors+patch_density", "inference+patch_density"):
        given = tiny(bundle, files, cohort, tmp_path / "run")
        given |= {"map_name": ["padim"]} if files.startswith("inference") else {}
        run(bundle, files, **given)
    saved = torch.load(tmp_path / "run" / "models" / "scorers.pt", weights_only=True)["scorers"]
    assert set(saved) == {"latent_inconsistency", "latent_outlier", "padim", "patchcore"}
    row = rows_of(tmp_path / "run" / "inference" / "scores.csv")[0]
    assert all(row[name] for name in ("padim_top", "padim_ct_mean", "patchcore_mri_top", "latent_outlier"))
    with Image.open(tmp_path / "run" / "inference" / "maps" / f"{row['case']}.tif") as picture:
        assert np.asarray(picture).std() > 0


@every_bundle
def test_training_and_inference_agree_on_the_detectors(name: str) -> None:
    parsers = {}
    for files in ("train", "inference"):
        parsers[files] = ConfigParser()
        parsers[files].read_config(config_files(BUNDLES / name, files))
    for part in ("scorers", "detectors", "detector_name", "detector_parameters", "explained_variance", "scorer"):
        assert parsers["train"][part] == parsers["inference"][part], part
