"""Which files a gallery shows, and that a volume is shown the right way up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

from monai_ctmri.data.findings import Finding
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError
from monai_ctmri.report.samples import choose_flagged, choose_pairs, choose_samples, evenly, plane_to_show


def found(root: Path, cases: list[Case], pairing: str = "paired", findings: tuple[Finding, ...] = ()):
    modalities = {getattr(case, name): name for case in cases for name in case.modalities}
    discovery = SimpleNamespace(cases=Manifest(cases), pairing=pairing)
    return SimpleNamespace(root=root, discovery=discovery, findings=findings, modalities=modalities)


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.full((8, 10), value, dtype=np.uint8)
    plane[2, 3] = 255
    Image.fromarray(plane).save(path)
    return path


def pairs(root: Path, number: int) -> list[Case]:
    return [
        Case(f"c{n}", "s", ct=picture(root / "ct" / f"{n:02d}.png", n), mri=picture(root / "mri" / f"{n:02d}.png", n))
        for n in range(number)
    ]


def test_evenly_takes_both_ends_and_equal_steps():
    assert evenly(range(11), 6) == [0, 2, 4, 6, 8, 10]
    assert evenly(range(3), 6) == [0, 1, 2]
    assert evenly([], 6) == []
    assert len(set(evenly(range(1000), 6))) == 6


def test_six_pairs_at_even_distances(tmp_path):
    cases = [*pairs(tmp_path, 11), Case("alone", "s", ct=picture(tmp_path / "ct" / "alone.png"))]
    chosen = choose_pairs(found(tmp_path, cases))
    assert [ct.title for ct, _ in chosen] == [f"ct/{n:02d}.png" for n in (0, 2, 4, 6, 8, 10)]
    assert [mri.title for _, mri in chosen] == [f"mri/{n:02d}.png" for n in (0, 2, 4, 6, 8, 10)]
    assert all(ct.plane[0, 0] == mri.plane[0, 0] for ct, mri in chosen)


@pytest.mark.parametrize("pairing", ["unpaired", "single"])
def test_no_pair_is_shown_where_none_exists(tmp_path, pairing):
    assert choose_pairs(found(tmp_path, pairs(tmp_path, 3), pairing)) == []


def test_samples_of_each_modality_there_is(tmp_path):
    cases = [Case(f"c{n}", "s", ct=picture(tmp_path / f"{n}.png")) for n in range(9)]
    rows = choose_samples(found(tmp_path, cases, "single"))
    assert list(rows) == ["CT"]
    assert len(rows["CT"]) == 6


def test_flagged_files_take_turns_by_kind_and_the_gravest_come_first(tmp_path):
    files = [picture(tmp_path / f"{n:02d}.png") for n in range(30)]
    findings = [Finding(file, "cut_off", "x") for file in files[:20]]
    findings += [Finding(file, "wrong_modality", "x") for file in files[20:22]]
    findings += [Finding(files[20], "exact_duplicate", "x"), Finding(files[29], "resampled", "x")]
    cases = [Case(f"c{n}", "s", ct=file) for n, file in enumerate(files)]
    chosen = choose_flagged(found(tmp_path, cases, "single", tuple(findings)))
    assert len(chosen) == 12
    assert chosen[0].title == "20.png"
    assert set(chosen[0].remarks) == {"wrong modality", "exact duplicate"}
    assert chosen[1].remarks == ("cut off",)
    assert "21.png" in {one.title for one in chosen}
    assert "29.png" not in {one.title for one in chosen}


def test_a_file_that_cannot_be_decoded_is_shown_without_a_picture(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    (image,) = choose_flagged(found(tmp_path, [Case("c", "s", ct=bad)], "single", (Finding(bad, "unreadable"),)))
    assert image.plane is None
    assert image.remarks == ("unreadable",)


def test_nothing_found_shows_nothing(tmp_path):
    assert choose_flagged(found(tmp_path, [Case("c", "s", ct=tmp_path / "x.png")], "single")) == []


def test_colour_becomes_luma_and_opacity_is_left_out(tmp_path):
    colour = np.zeros((3, 4, 3), dtype=np.uint8)
    colour[..., 1] = 100
    Image.fromarray(colour).save(tmp_path / "c.png")
    plane, aspect = plane_to_show(tmp_path / "c.png")
    assert plane == pytest.approx(np.full((3, 4), 58.7))
    assert aspect == 1
    Image.fromarray(np.dstack([np.full((3, 4), 9), np.zeros((3, 4))]).astype(np.uint8), "LA").save(tmp_path / "a.png")
    assert np.all(plane_to_show(tmp_path / "a.png")[0] == 9)


def test_an_array_of_slices_shows_its_middle_one(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5)[:, None, None] * np.ones((5, 7, 8)))
    plane, _ = plane_to_show(tmp_path / "a.npy")
    assert plane.shape == (7, 8)
    assert np.all(plane == 2)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAL"])
def test_a_volume_shows_its_middle_slice_with_anterior_on_top_and_right_at_the_left(tmp_path, axes):
    """Marks at the patient's right, at the front and on the middle slice, stored in any order of axes."""
    ras = np.zeros((6, 8, 5), dtype=np.float32)
    ras[5, 4, 2] = 100  # right
    ras[2, 7, 2] = 200  # anterior
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    change = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
    stored = apply_orientation(ras, change)
    moved = affine @ nib.orientations.inv_ornt_aff(change, ras.shape)
    nib.save(nib.Nifti1Image(stored, moved), tmp_path / "v.nii.gz")
    plane, aspect = plane_to_show(tmp_path / "v.nii.gz", "mri")
    assert plane.shape == (8, 6)
    assert aspect == pytest.approx(2)
    assert np.argwhere(plane == 100).tolist() == [[3, 0]]
    assert np.argwhere(plane == 200).tolist() == [[0, 3]]


def test_ct_in_hu_is_shown_in_the_brain_window(tmp_path):
    volume = np.linspace(-1000, 1500, 10 * 12 * 3, dtype=np.float32).reshape(10, 12, 3)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii.gz")
    cases = [Case("c", "s", ct=tmp_path / "v.nii.gz")]
    plane = choose_samples(found(tmp_path, cases, "single"))["CT"][0].plane
    assert (plane.min(), plane.max()) == (0, 80)


def test_a_broken_volume_is_bad_input(tmp_path):
    (tmp_path / "v.nii").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"v\.nii"):
        plane_to_show(tmp_path / "v.nii")
