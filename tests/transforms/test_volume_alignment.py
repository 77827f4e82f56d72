from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.data.manifest import Manifest
from monai_ctmri.data.phantom import write_phantom
from monai_ctmri.data.reading.volumes import Volume, read_volume, write_volume
from monai_ctmri.data.volume_cases import SliceCutter
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.volume_alignment import VolumeAligner

SHIFT_MM = np.array([9.0, -7.0, 6.0])


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Volume, Volume]:
    """CT and MRI of one phantom head on one grid of 4 mm."""
    folder = tmp_path_factory.mktemp("pair")
    (case,) = Manifest.read(write_phantom(folder, 1, seed=5, size=60, slices=30, form="volumes"))
    return read_volume(case.ct, "ct"), read_volume(case.mri, "mri")


@pytest.fixture(scope="module")
def displaced(pair) -> Volume:
    """The MRI with a header that puts it elsewhere in space."""
    affine = pair[1].affine.copy()
    affine[:3, 3] += SHIFT_MM
    return replace(pair[1], affine=affine)


@pytest.fixture(scope="module")
def aligned(pair, displaced):
    return VolumeAligner(spacing_mm=4.0)(pair[0], displaced)


def test_a_displaced_mri_comes_back_to_its_ct(pair, displaced, aligned):
    ct, mri = pair
    assert aligned.volume.shape == ct.shape
    np.testing.assert_array_equal(aligned.volume.affine, ct.affine)
    head = ct.array > -300
    error = np.abs(aligned.volume.array - mri.array)[head].mean()
    # What the header alone gives: the same image, shifted by SHIFT_MM to the next whole voxel.
    voxels = np.round(SHIFT_MM / 4).astype(int)
    unaligned = np.abs(np.roll(mri.array, tuple(voxels), (0, 1, 2)) - mri.array)[head].mean()
    assert error < 0.35 * unaligned


def test_the_words_say_what_was_done(aligned):
    assert aligned.measure.startswith("rigid, normalised mutual information 1.")
    moved = float(aligned.measure.split("moved ")[1].split(" mm")[0])
    assert moved == pytest.approx(np.linalg.norm(SHIFT_MM), abs=2.0)


def test_a_mask_is_carried_along_without_new_values(pair, displaced, aligned):
    mask = np.zeros(pair[1].shape, np.float32)
    mask[25:33, 28:36, 12:18] = 1
    carried = aligned.carry(replace(displaced, array=mask, path=Path("mask.nii.gz")))
    assert set(np.unique(carried.array)) == {0.0, 1.0}
    overlap = 2 * (carried.array * mask).sum() / (carried.array.sum() + mask.sum())
    assert overlap > 0.75


def test_what_is_no_head_is_not_accepted(pair):
    noise = np.random.default_rng(0).uniform(0, 100, pair[1].shape).astype(np.float32)
    found = VolumeAligner(spacing_mm=8.0)(pair[0], replace(pair[1], array=noise))
    assert found.volume is None
    assert found.measure


def test_the_slice_cutter_uses_it(pair, displaced, tmp_path):
    write_volume(tmp_path / "mri.nii.gz", displaced.array, displaced.affine)
    mask = np.zeros(displaced.shape, np.uint8)
    mask[25:33, 28:36, 12:18] = 1
    write_volume(tmp_path / "mask.nii.gz", mask, displaced.affine)
    case = Manifest.read(pair[0].path.parent.parent)[0]
    case = replace(case, mri=tmp_path / "mri.nii.gz", mask=tmp_path / "mask.nii.gz", label=1)
    cutter = SliceCutter(tmp_path / "out", align=VolumeAligner(spacing_mm=4.0), levels_mm=(0, 150))
    cases, findings = cutter.cut(Manifest([case]))
    assert [one.kind for one in findings] == ["registered"]
    assert {one.modalities for one in cases} == {("ct", "mri")}
    assert {int(one.name[-3:]) for one in cases if one.label == 1} == set(range(12, 18))


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(InputError, match="kind: got 'elastic'"):
        VolumeAligner("elastic")


def test_a_pair_that_lies_together_already_is_accepted_as_it_is(pair):
    """The MRI on half the resolution: another grid, the same place in space."""
    ct, mri = pair
    affine = mri.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] += mri.affine[:3, :3] @ [0.5, 0.5, 0.5]
    shape = [n // 2 * 2 for n in mri.shape]
    halved = mri.array[: shape[0], : shape[1], : shape[2]].reshape(shape[0] // 2, 2, shape[1] // 2, 2, shape[2] // 2, 2)
    found = VolumeAligner(spacing_mm=4.0)(ct, replace(mri, array=halved.mean(axis=(1, 3, 5)), affine=affine))
    assert found.volume is not None
    assert float(found.measure.split("moved ")[1].split(" mm")[0]) < 2.0
    assert float(found.measure.split("turned ")[1].split(" degrees")[0]) < 1.5


def test_the_very_same_place_needs_no_mapping():
    """Nothing is better than what the headers say: that is accepted, and called the identity."""
    grid = np.stack(np.meshgrid(*[np.arange(-88.0, 92, 4)] * 3, indexing="ij"), axis=-1)
    rng = np.random.default_rng(0)
    blobs = sum(
        rng.uniform(50, 400) * np.exp(-(((grid - rng.uniform(-50, 50, 3)) / 18) ** 2).sum(axis=-1)) for _ in range(25)
    )
    head = np.linalg.norm(grid / [75, 85, 80], axis=-1) < 1
    array = np.float32(np.where(head, 200 + blobs, 0))
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -88
    volume = Volume(array, affine, Path("v.nii"), "mri")
    moved = replace(volume, array=np.ascontiguousarray(array[2:]), affine=affine + np.eye(4, k=3) * 8)
    found = VolumeAligner(spacing_mm=4.0)(volume, moved)
    assert found.volume is not None
    np.testing.assert_allclose(found.volume.array[2:][head[2:]], array[2:][head[2:]], atol=20)
