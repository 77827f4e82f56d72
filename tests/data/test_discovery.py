"""A folder tree becomes a manifest; on the real sets it says what their authors say."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_ctmri.data.discovery import Discovery, discover
from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.trees import content
from monai_ctmri.errors import InputError


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6), value, np.uint8)).save(path)
    return path


def volume(path: Path, shift: float = 0, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[2, 3] = shift
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), value, np.int16), affine), path)
    return path


def all_accounted(found: Discovery) -> None:
    """Every file below the root is in one case, or left out with a reason; never both."""
    used = Counter(p for case in found.cases for p in (case.ct, case.mri) if p)
    assert set(used.values()) <= {1}
    masks = {case.mask for case in found.cases if case.mask}
    left = [path for path, reason in found.ignored if reason]
    assert len(left) == len(set(left)) == len(found.ignored)
    files = {path for path in found.root.rglob("*") if path.is_file()}
    assert files == (set(used) | masks | set(left)) & files
    assert not set(used) & set(left)


def test_synthrad_tree(tmp_path: Path) -> None:
    for case in ("1BA001", "1BA002"):
        for name in ("ct", "mr", "mask"):
            volume(tmp_path / "brain" / case / f"{name}.nii.gz", value=1)
    found = discover(tmp_path)
    assert (found.layout, found.pairing, found.subjects_known) == ("synthrad", "paired", True)
    assert found.cases.subjects == ("1BA001", "1BA002")
    assert all(case.mask is None and case.label is None and case.note == "" for case in found.cases)
    assert "CSV" not in found.explain()
    all_accounted(found)


def test_bids_tree(tmp_path: Path) -> None:
    for name in ("anat/sub-1_T1w", "anat/sub-1_T2w", "ct/sub-1_ct"):
        volume(tmp_path / "sub-1" / f"{name}.nii.gz", shift=len(name))
    volume(tmp_path / "sub-2" / "anat" / "sub-2_T1w.nii.gz")
    volume(tmp_path / "derivatives" / "m" / "sub-2" / "anat" / "sub-2_label-lesion_mask.nii.gz", value=1)
    found = discover(tmp_path)
    assert (found.layout, found.pairing, found.subjects_known) == ("bids", "paired", True)
    notes = sorted((c.subject, c.modalities, c.note, c.label) for c in found.cases)
    assert notes == [
        ("sub-1", ("ct", "mri"), "T1; to be registered", None),
        ("sub-1", ("mri",), "T2; the pair holds T1", None),
        ("sub-2", ("mri",), "T1", 1),
    ]
    all_accounted(found)


def test_unpaired_says_how_to_state_pairs(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "ct" / f"{i}.png")
        picture(tmp_path / "mri" / f"{i}.png")
    found = discover(tmp_path)
    assert (found.layout, found.pairing, found.normal_only) == ("folders", "unpaired", None)
    lines = found.explain().splitlines()
    assert "  ct,mri,subject,label" in lines[-5:]
    assert "equal numbers are no evidence" in found.explain()
    assert len(found.cases.subjects) == 6  # ct/0.png and mri/0.png are not one patient
    assert not found.subjects_known
    all_accounted(found)


def test_the_csv_that_is_shown_is_a_manifest(tmp_path: Path) -> None:
    picture(tmp_path / "ct" / "0.png")
    picture(tmp_path / "mri" / "0.png")
    shown = [line.strip() for line in discover(tmp_path).explain().splitlines()[-4:-1]]
    (tmp_path / "stated.csv").write_text("\n".join(shown))
    assert [case.modalities for case in Manifest.read(tmp_path / "stated.csv")] == [("ct", "mri"), ("ct",)]


def test_normal_only_set(tmp_path: Path) -> None:
    for i in range(2):
        picture(tmp_path / "normal" / f"ct_{i}.png")
    found = discover(tmp_path)
    assert (found.pairing, found.normal_only) == ("single", True)


def test_a_manifest_is_its_authors_statement(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "extra.png"):
        picture(tmp_path / name)
    (tmp_path / "manifest.csv").write_text("ct,mri,subject,label\na.png,b.png,p,0\n")
    found = discover(tmp_path)
    assert (found.layout, found.pairing, found.normal_only, found.subjects_known) == ("manifest", "paired", True, True)
    assert found.ignored == ((tmp_path / "extra.png", "not named in manifest.csv"),)
    assert discover(tmp_path / "manifest.csv").cases == found.cases


def test_cyclegan_membership_is_no_split(tmp_path: Path) -> None:
    for name in ("trainA/ct1.png", "trainB/mri1.jpg", "testA/ct1.png", "testB/mri2.jpg"):
        picture(tmp_path / "ct-to-mri-cgan" / name)
    found = discover(tmp_path)
    assert (found.layout, found.pairing, found.normal_only) == ("cyclegan", "unpaired", False)
    assert {case.split for case in found.cases} == {None}
    assert len(found.cases.subjects) == 4  # two files named ct1.png are not one patient
    all_accounted(found)


def test_dicom_among_others(tmp_path: Path, write_series: Callable[..., list[Path]]) -> None:
    write_series(tmp_path / "s1", [np.zeros((4, 4))] * 2, np.array([[0, 0, 0.0], [0, 0, 5.0]]))
    picture(tmp_path / "s1" / "preview.png")
    picture(tmp_path / "pictures" / "ct_1.png")
    found = discover(tmp_path)
    assert found.layout == "dicom+names"
    assert [case.ct for case in found.cases] == [tmp_path / "s1", tmp_path / "pictures" / "ct_1.png"]
    assert found.ignored == ((tmp_path / "s1" / "preview.png", "a picture beside DICOM files"),)


def test_volumes_of_other_formats_are_paired_as_nifti_is(tmp_path: Path) -> None:
    import itk

    image = itk.image_from_array(np.ones((4, 5, 6), np.int16))
    for case, suffix in (("p1", ".mha"), ("p2", ".nrrd")):
        for name in ("ct", "mri"):
            (tmp_path / case).mkdir(exist_ok=True)
            itk.imwrite(image, str(tmp_path / case / f"{name}{suffix}"))
    found = discover(tmp_path)
    assert (found.pairing, found.counts()["pairs"], found.cases.subjects) == ("paired", 2, ("p1", "p2"))
    assert {case.ct for case in found.cases} == {tmp_path / "p1" / "ct.mha", tmp_path / "p2" / "ct.nrrd"}
    all_accounted(found)


def test_result_is_frozen_and_can_be_written(tmp_path: Path) -> None:
    picture(tmp_path / "ct_1.png")
    found = discover(tmp_path)
    again = json.loads(json.dumps(found.as_dict()))
    assert again["counts"] == {"cases": 1, "pairs": 0, "ct_only": 1, "mri_only": 0, "subjects": 1, "ignored": 0}
    assert again["evidence"][0].keys() == {"claim", "basis", "verdict"}
    with pytest.raises(FrozenInstanceError):
        found.pairing = "paired"  # type: ignore[misc]


def test_the_manifest_survives_writing(tmp_path: Path) -> None:
    for name in ("P1/ct/1.png", "P1/mri/1.png", "P2/ct/1.png"):
        picture(tmp_path / name)
    found = discover(tmp_path)
    found.cases.write_csv(tmp_path / "found.csv")
    assert Manifest.read(tmp_path / "found.csv") == found.cases
    assert found.cases.subjects == ("P1", "P2")


def test_same_tree_same_result(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / "ct" / f"{i}.png", i)
        picture(tmp_path / "mri" / f"{i}.png", 3 * i)
    assert discover(tmp_path).as_dict() == discover(tmp_path).as_dict()


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image below"):
        discover(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        discover(tmp_path / "missing")
    with pytest.raises(InputError, match="say ct or mri"):
        discover(tmp_path, a_is="pet")
    picture(tmp_path / "sub1_pet.png")
    with pytest.raises(InputError, match="CSV"):
        discover(tmp_path)


def test_progress_is_called(tmp_path: Path) -> None:
    picture(tmp_path / "ct_1.png")
    seen: list[tuple[int, int]] = []
    discover(tmp_path, progress=lambda done, known: seen.append((done, known)))
    assert seen[-1] == (1, 1)


# --- real sets ---


def stated(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "manifest.csv", newline="") as stream:
        return {row["ct"] or row["mri"]: row for row in csv.DictReader(stream)}


def test_kaggle_sample_is_unpaired_and_not_normal_only(real_data: Path) -> None:
    found = discover(real_data / "kaggle_sample")
    assert (found.layout, found.pairing, found.normal_only, found.subjects_known) == (
        "cyclegan",
        "unpaired",
        False,
        False,
    )
    assert (found.counts()["ct_only"], found.counts()["mri_only"], found.counts()["subjects"]) == (220, 220, 440)
    text = found.explain()
    assert "no more than strangers share" in text
    assert "sizes of candidates" in text
    all_accounted(found)


def test_registered_pairs_are_found_without_their_manifest(real_data: Path) -> None:
    told, found = discover(real_data / "pairs"), discover(real_data / "pairs", use_manifest=False)
    assert (told.layout, told.pairing) == ("manifest", "paired")
    assert (found.layout, found.pairing, found.subjects_known) == ("folders", "paired", False)
    assert {(c.ct, c.mri) for c in found.cases} == {(c.ct, c.mri) for c in told.cases}
    all_accounted(found)


def test_lgg_flair_without_its_manifest(real_data: Path) -> None:
    folder = real_data / "lgg_flair"
    found = discover(folder, use_manifest=False)
    assert (found.pairing, found.subjects_known, len(found.cases.subjects)) == ("single", True, 14)
    assert len(found.cases) == 523
    truth = stated(folder)
    cases = {case.mri.relative_to(folder).as_posix(): case for case in found.cases if case.mri}
    for name, row in truth.items():
        case = cases[name]
        assert case.mask == folder / row["mask"]
        assert (str(case.label), case.subject, case.note) == (row["label"], row["subject"], row["note"])
    all_accounted(found)


def test_ct_hemorrhage_by_folder(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "appearance_of", lambda plane, windowed: "ct")
    folder = real_data / "ct_hemorrhage"
    found = discover(folder, use_manifest=False)
    assert (found.pairing, found.normal_only) == ("single", False)
    labels = {case.ct.relative_to(folder).as_posix(): str(case.label) for case in found.cases if case.ct}
    assert labels == {name: row["label"] for name, row in stated(folder).items()}
    unlooked = discover(folder, use_manifest=False, check_content=False)
    assert "weakest evidence" in unlooked.explain()
    all_accounted(found)


def test_volumes_by_name(real_data: Path) -> None:
    found = discover(real_data / "volumes")
    assert (found.pairing, found.counts()["ct_only"], found.counts()["mri_only"]) == ("unpaired", 2, 6)
    cases = {case.name: case for case in found.cases}
    assert Counter(case.subject for case in found.cases)["tcga_fg_6692"] == 4
    assert cases["stroke_T2"].mask == real_data / "volumes" / "stroke_T2_lesionmask.nii.gz"
    assert cases["stroke_T2"].label == 1
    assert {cases[f"tcga_fg_6692_{c}"].note for c in ("fla", "t1", "t1c", "t2")} == {"FLAIR", "T1", "T1c", "T2"}
    all_accounted(found)


def test_dicom_series(real_data: Path) -> None:
    pytest.importorskip("monai_ctmri.data.reading.dicom")
    found = discover(real_data / "dicom")
    assert (found.layout, found.pairing) == ("dicom", "unpaired")
    assert [case.ct for case in found.cases if case.ct] == [real_data / "dicom" / "ct_head_ge"]
    assert [case.mri for case in found.cases if case.mri] == [real_data / "dicom" / "mr_brain_vs_seg_001"]
