"""``monai-ctmri phantom``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from monai_ctmri.cli import app
from monai_ctmri.data.manifest import Manifest

runner = CliRunner()


def call(out: Path, *options: str):
    return runner.invoke(app, ["phantom", "--out", str(out), *options])


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("slices") / "phantom"
    done = call(out, "--subjects", "2", "--seed", "7", "--size", "32", "--slices", "3", "--contrast", "T1")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"Manifest: {out / 'manifest.csv'}\n"
    return out


def test_slices_are_pictures_of_the_size_asked_for(slices):
    from PIL import Image

    for folder in ("ct", "mri", "tissue"):
        files = sorted((slices / folder).glob("*.png"))
        assert len(files) == 6
        for file in files:
            with Image.open(file) as picture:
                assert picture.size == (32, 32)
                assert picture.mode == "L"


def test_manifest_names_the_subjects_as_normal_pairs(slices):
    manifest = Manifest.read(slices)
    assert manifest.is_paired
    assert manifest.subjects == ("phantom-000007", "phantom-000008")
    assert {case.label for case in manifest} == {0}
    assert {case.note for case in manifest} == {"T1"}
    assert all(case.ct.is_file() and case.mri.is_file() for case in manifest)


def test_description_holds_what_was_asked_for(slices):
    description = json.loads((slices / "phantom.json").read_text())
    assert (description["subjects"], description["first_seed"]) == (2, 7)
    assert description["settings"]["contrast"] == "T1"
    assert description["spacing_mm"] == 240 / 32


def test_the_same_call_again_leaves_every_file_as_it_is(slices):
    before = {file: file.stat().st_mtime_ns for file in slices.rglob("*") if file.is_file()}
    done = call(slices, "--subjects", "2", "--seed", "7", "--size", "32", "--slices", "3", "--contrast", "T1")
    assert done.exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in slices.rglob("*") if file.is_file()} == before


def test_volumes_are_nifti_with_ct_in_hounsfield_units(tmp_path):
    import nibabel

    done = call(tmp_path / "v", "--subjects", "1", "--size", "24", "--form", "volumes", "--contrast", "FLAIR")
    assert done.exit_code == 0, done.output
    case = Manifest.read(tmp_path / "v")[0]
    assert case.ct.name.endswith(".nii.gz")
    ct, mri = nibabel.load(case.ct), nibabel.load(case.mri)
    assert ct.shape == mri.shape
    assert len(ct.shape) == 3
    np.testing.assert_array_equal(ct.affine, mri.affine)
    values = np.asarray(ct.dataobj)
    assert values.min() < -900
    assert values.max() > 300


def test_number_of_workers_arrives(tmp_path, monkeypatch):
    given: dict = {}
    monkeypatch.setattr("monai_ctmri.data.phantom.write_phantom", lambda out, *_, **rest: given.update(rest) or out)
    assert call(tmp_path, "--workers", "3").exit_code == 0
    assert given["workers"] == 3
    assert call(tmp_path).exit_code == 0
    assert given["workers"] == 1


def test_progress_goes_to_stderr_only(tmp_path):
    done = call(tmp_path / "p", "--subjects", "1", "--size", "16", "--slices", "1")
    assert "Drawing subjects" in done.stderr
    assert "Drawing" not in done.stdout
