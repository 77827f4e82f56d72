from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.data.quarantine import is_quarantined
from monai_ctmri.data.reading.volumes import Volume, read_volume
from monai_ctmri.data.slices import cut_slices
from monai_ctmri.data.verification import verify_files
from monai_ctmri.data.volume_cases import Aligned, SliceCutter, holds_volumes

SIZE = 48


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Manifest:
    """Two paired phantom volumes of 5 mm voxels, CT in HU."""
    folder = tmp_path_factory.mktemp("volumes")
    return Manifest.read(write_phantom(folder, 2, size=SIZE, slices=12, form="volumes"))


def stored_as(path: Path, code: str, out: Path) -> Path:
    """The same image in another order of axes."""
    image = nib.load(path)
    ornt = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(code)
    )
    nib.save(image.as_reoriented(ornt), out)
    return out


def shifted(path: Path, out: Path, millimetres: float) -> Path:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += millimetres
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), out)
    return out


def lesion_mask(path: Path, out: Path, slices: slice) -> Path:
    image = nib.load(path)
    mask = np.zeros(image.shape, np.uint8)
    mask[20:24, 20:24, slices] = 1
    nib.save(nib.Nifti1Image(mask, image.affine), out)
    return out


def test_what_holds_volumes(phantom, tmp_path):
    assert all(holds_volumes(case) for case in phantom)
    cases, _ = SliceCutter(tmp_path).cut(phantom[:1])
    assert not any(holds_volumes(case) for case in cases)
    assert not holds_volumes(Case("p", "s", ct=tmp_path / "a.png", mri=tmp_path / "b.npy"))
    assert holds_volumes(Case("d", "s", ct=tmp_path))  # a folder is a DICOM series
    (tmp_path / "broken.nii").write_bytes(b"x")
    assert holds_volumes(Case("b", "s", ct=tmp_path / "broken.nii"))


def test_a_pair_on_one_grid_becomes_pairs_of_slices_with_the_volumes_values(phantom, tmp_path):
    cases, findings = SliceCutter(tmp_path / "out").cut(phantom[:1])
    assert not findings
    assert len(cases) > 3
    for case in cases:
        assert case.modalities == ("ct", "mri")
        assert case.subject == phantom[0].subject
        assert (case.label, case.note) == (0, phantom[0].note)
        index = int(case.name[-3:])
        for name in ("ct", "mri"):
            volume = read_volume(getattr(phantom[0], name), name)
            one = next(cut_slices(volume, [index]))
            written = nib.load(getattr(case, name))
            np.testing.assert_allclose(np.asarray(written.dataobj), one.values, rtol=1e-6)
            np.testing.assert_allclose(written.affine, one.affine, atol=1e-5)


def test_the_rest_of_the_pipeline_takes_the_slices(phantom, tmp_path):
    cases, _ = SliceCutter(tmp_path).cut(phantom)
    assert set(verify_files(cases).values()) == {(SIZE, SIZE)}
    assert cases.subjects == phantom.subjects
    assert len({case.name for case in cases}) == len(cases)


def test_hounsfield_units_stay_and_take_two_bytes(phantom, tmp_path):
    cases, _ = SliceCutter(tmp_path).cut(phantom[:1])
    image = nib.load(cases[0].ct)
    assert image.get_data_dtype() == np.int16
    assert np.asarray(image.dataobj).min() < -900
    assert nib.load(cases[0].mri).get_data_dtype() == np.float32


@pytest.mark.parametrize("code", ["LPS", "SAR", "ILA"])
def test_a_slice_looks_the_same_however_its_volume_is_stored(phantom, tmp_path, code):
    turned = replace(
        phantom[0],
        ct=stored_as(phantom[0].ct, code, tmp_path / "ct.nii.gz"),
        mri=stored_as(phantom[0].mri, code, tmp_path / "mri.nii.gz"),
    )
    plain, _ = SliceCutter(tmp_path / "plain").cut(phantom[:1])
    cases, _ = SliceCutter(tmp_path / "turned").cut(Manifest([turned]))
    assert len(cases) == len(plain)
    by_height = {round(float(nib.load(case.ct).affine[2, 3]), 3): case for case in cases}
    for case in plain:
        other = by_height[round(float(nib.load(case.ct).affine[2, 3]), 3)]
        for name in ("ct", "mri"):
            a, b = nib.load(getattr(case, name)), nib.load(getattr(other, name))
            np.testing.assert_array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))
            np.testing.assert_allclose(a.affine, b.affine, atol=1e-4)


def test_pairs_on_different_grids_are_not_cut_as_pairs(phantom, tmp_path):
    case = replace(phantom[0], mri=shifted(phantom[0].mri, tmp_path / "m.nii.gz", 3.0))
    cases, findings = SliceCutter(tmp_path / "out").cut(Manifest([case]))
    assert {one.modalities for one in cases} == {("ct",), ("mri",)}
    assert {one.subject for one in cases} == {case.subject}
    assert [(one.file, one.kind, one.severity) for one in findings] == [(case.mri, "geometry_mismatch", "warning")]


def test_a_registration_that_is_accepted_makes_them_pairs(phantom, tmp_path):
    case = replace(phantom[0], mri=shifted(phantom[0].mri, tmp_path / "m.nii.gz", 3.0))
    called = []

    def align(fixed: Volume, moving: Volume) -> Aligned:
        called.append((fixed.path, moving.path))
        return Aligned(replace(moving, affine=fixed.affine), "rigid, 1.2 to 1.4")

    cases, findings = SliceCutter(tmp_path / "out", align=align).cut(Manifest([case]))
    assert called == [(case.ct, case.mri)]
    assert {one.modalities for one in cases} == {("ct", "mri")}
    assert [(one.kind, one.measure, one.severity) for one in findings] == [("registered", "rigid, 1.2 to 1.4", "info")]


def test_a_registration_that_fails_leaves_them_apart(phantom, tmp_path):
    case = replace(phantom[0], mri=shifted(phantom[0].mri, tmp_path / "m.nii.gz", 3.0))
    cutter = SliceCutter(tmp_path / "out", align=lambda fixed, moving: Aligned(None, "no gain"))
    cases, findings = cutter.cut(Manifest([case]))
    assert {one.modalities for one in cases} == {("ct",), ("mri",)}
    assert not any(is_quarantined(one) for one in cases)
    assert [one.kind for one in findings] == ["registration_failed"]


def test_no_registration_where_the_grids_agree(phantom, tmp_path):
    def align(fixed: Volume, moving: Volume) -> Aligned:
        raise AssertionError("called")

    cases, findings = SliceCutter(tmp_path, align=align).cut(phantom[:1])
    assert cases.is_paired
    assert not findings


def test_a_mask_labels_each_slice(phantom, tmp_path):
    mask = lesion_mask(phantom[0].ct, tmp_path / "mask.nii.gz", slice(6, 8))
    cases, findings = SliceCutter(tmp_path / "out").cut(Manifest([replace(phantom[0], label=1, mask=mask)]))
    assert not findings
    labels = {int(case.name[-3:]): case.label for case in cases}
    assert {index for index, label in labels.items() if label == 1} == {6, 7}
    assert set(labels.values()) == {0, 1}
    for case in cases:
        assert int(np.asarray(nib.load(case.mask).dataobj).sum()) == (16 if case.label else 0)


def test_without_a_mask_nobody_knows_which_slices_are_abnormal(phantom, tmp_path):
    cases, _ = SliceCutter(tmp_path).cut(Manifest([replace(phantom[0], label=1)]))
    assert {case.label for case in cases} == {None}


def test_a_mask_on_another_grid_is_not_used(phantom, tmp_path):
    mask = shifted(lesion_mask(phantom[0].ct, tmp_path / "a.nii.gz", slice(6, 8)), tmp_path / "mask.nii.gz", 5.0)
    cases, findings = SliceCutter(tmp_path / "out").cut(Manifest([replace(phantom[0], label=1, mask=mask)]))
    assert {case.label for case in cases} == {None}
    assert {case.mask for case in cases} == {None}
    assert [(one.file, one.kind, one.severity) for one in findings] == [(mask, "geometry_mismatch", "warning")]


def test_a_volume_that_cannot_be_read_stays_quarantined_and_the_others_go_on(phantom, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(phantom[0].ct.read_bytes()[:2000])
    cases, findings = SliceCutter(tmp_path / "out").cut(Manifest([replace(phantom[0], ct=broken), phantom[1]]))
    kept = [case for case in cases if is_quarantined(case)]
    assert [case.ct for case in kept] == [broken]
    assert [(one.file, one.kind) for one in findings] == [(broken, "truncated")]
    # Its MRI can still be used alone, and the second subject as a pair.
    assert {case.modalities for case in cases if not is_quarantined(case)} == {("mri",), ("ct", "mri")}


def test_values_that_are_no_hounsfield_units_keep_a_ct_from_being_cut(phantom, tmp_path):
    image = nib.load(phantom[0].ct)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1024, image.affine), tmp_path / "ct.nii.gz")
    case = replace(phantom[0], ct=tmp_path / "ct.nii.gz", mri=None)
    (kept,), findings = SliceCutter(tmp_path / "out").cut(Manifest([case]))
    assert is_quarantined(kept)
    assert kept.ct == case.ct
    assert [one.kind for one in findings] == ["implausible_hu"]
    cases, _ = SliceCutter(tmp_path / "all", rule=("none",)).cut(Manifest([case]))
    assert len(cases) > 3


def test_a_series_that_is_tilted_is_named_with_each_reason(real_data, tmp_path):
    series = Manifest([Case("ge", "s", ct=real_data / "dicom" / "ct_head_ge")])
    (kept,), findings = SliceCutter(tmp_path / "refused").cut(series)
    assert is_quarantined(kept)
    assert [one.kind for one in findings] == ["tilted", "uneven_spacing"]
    assert "18.5" in findings[0].measure
    cases, findings = SliceCutter(tmp_path / "asked", allow_resample=True).cut(series)
    assert len(cases) == pytest.approx(100 / 4, abs=6)
    assert [one.kind for one in findings] == ["resampled"]


def test_a_distance_between_slices_can_be_asked_for(phantom, tmp_path):
    heights = [
        float(nib.load(case.ct).affine[2, 3]) for case in SliceCutter(tmp_path, every_mm=12.0).cut(phantom[:1])[0]
    ]
    assert len(heights) > 1
    assert np.diff(sorted(heights)).min() >= 12.0
    spacing = nib.load(phantom[0].ct).header.get_zooms()[2]
    assert np.diff(sorted(heights)).max() < 12.0 + spacing


def test_the_table_says_where_each_slice_comes_from(phantom, tmp_path):
    cases, _ = SliceCutter(tmp_path).cut(phantom)
    with (tmp_path / "slices.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * len(cases)
    for row in rows:
        image = nib.load(tmp_path / row["file"])
        volume = nib.load(row["volume"])
        plane = np.asarray(volume.dataobj)[:, :, int(row["index"])]
        np.testing.assert_allclose(np.asarray(image.dataobj)[..., 0], plane, rtol=1e-6)
        assert float(row["height_mm"]) == pytest.approx(float(image.affine[2, 3]), abs=1e-3)


def test_pictures_stay_as_they_are(phantom_manifest, tmp_path):
    manifest = Manifest.read(phantom_manifest)
    cases, findings = SliceCutter(tmp_path).cut(manifest)
    assert cases == manifest
    assert not findings


def test_progress_comes_to_its_end(phantom, tmp_path):
    steps = []
    SliceCutter(tmp_path).cut(phantom, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]


def test_a_volume_that_memory_cannot_hold_is_a_finding(phantom, tmp_path, monkeypatch):
    import monai_ctmri.data.volume_cases as room

    def too_much(path, *arguments, **options):
        raise MemoryError

    monkeypatch.setattr(room, "read_volume", too_much)
    cases, findings = SliceCutter(tmp_path).cut(phantom[:1])
    assert {one.kind for one in findings} == {"too_large"}
    assert all(is_quarantined(case) for case in cases)
