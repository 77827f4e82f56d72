from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, set_track_meta
from monai.transforms import Compose, Lambdad

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.transforms import LoadSlice
from monai_ctmri.transforms.slices import SLICE_INDEX, AxialSlicesd, restack_slices

CODES = ["RAS", "LAS", "LPS", "SPL", "AIR"]


def stored(code: str, shape=(9, 7, 5), tilt_degrees: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Numbered voxels stored in the order ``code``, on a grid of 2 x 1 x 4 mm, tilted about the x axis."""
    ornt = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    base = np.diag([2.0, 1.0, 4.0, 1.0])
    base[:3, 3] = (-8, -3, 10)
    angle = np.radians(tilt_degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    number = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    return nib.orientations.apply_orientation(number, ornt), turn @ base @ nib.orientations.inv_ornt_aff(ornt, shape)


def case(code: str = "RAS", **options) -> dict:
    array, affine = stored(code, **options)
    meta = {"filename_or_obj": "v.nii.gz", "windowed": False, "modality": "ct"}
    ct = MetaTensor(torch.from_numpy(array[None].copy()), affine=torch.from_numpy(affine), meta=meta)
    mri = MetaTensor(torch.from_numpy(1000 + array[None]), affine=torch.from_numpy(affine), meta={"modality": "mri"})
    return {"ct": ct, "mri": mri, "case": "one", "subject": "s"}


def every(**options) -> AxialSlicesd:
    return AxialSlicesd(levels_mm=None, **options)


@pytest.mark.parametrize("tilt", [0.0, 15.0])
@pytest.mark.parametrize("code", CODES)
def test_every_pixel_keeps_its_place_in_space(code, tilt):
    data = case(code, tilt_degrees=tilt)
    array, affine = data["ct"].numpy()[0], data["ct"].affine.numpy()
    where = {float(array[i]): (affine @ [*i, 1])[:3] for i in np.ndindex(array.shape)}
    cases = every()(data)
    assert len(cases) == 5
    for one in cases:
        picture = one["ct"]
        assert picture.shape == (1, 7, 9)
        for row, column in np.ndindex(7, 9):
            found = (picture.affine.numpy() @ [row, column, 0, 1])[:3]
            np.testing.assert_allclose(found, where[float(picture[0, row, column])], atol=1e-6)


@pytest.mark.parametrize("code", CODES)
def test_picture_orientation_is_that_of_a_slice_read_from_a_file(code, tmp_path: Path):
    """The same slice written as NIfTI and read by LoadSlice looks the same."""
    data = case(code)
    array, affine = data["ct"].numpy()[0], data["ct"].affine.numpy()
    axis = next(i for i, letter in enumerate(nib.aff2axcodes(affine)) if letter in "SI")
    for one in every()(data):
        begin = [0, 0, 0]
        begin[axis] = one[SLICE_INDEX]
        shifted = affine.copy()
        shifted[:3, 3] = (affine @ [*begin, 1])[:3]
        nib.save(nib.Nifti1Image(np.take(array, [one[SLICE_INDEX]], axis), shifted), tmp_path / "slice.nii")
        np.testing.assert_array_equal(one["ct"].numpy(), LoadSlice()(tmp_path / "slice.nii").numpy())


def test_slices_run_from_inferior_to_superior():
    for code in CODES:
        heights = [float(one["ct"].affine[2, 3]) for one in every()(case(code))]
        assert heights == sorted(heights)


@pytest.mark.parametrize("tilt", [0.0, 15.0])
@pytest.mark.parametrize("code", CODES)
def test_restacked_slices_are_the_volume(code, tilt):
    data = case(code, tilt_degrees=tilt)
    cases = every()(data)
    back = restack_slices([one["ct"] for one in cases], [one[SLICE_INDEX] for one in cases])
    np.testing.assert_array_equal(back.numpy(), data["ct"].numpy())
    np.testing.assert_allclose(back.affine, data["ct"].affine)
    assert back.meta["filename_or_obj"] == "v.nii.gz"


def test_maps_of_some_slices_land_on_their_voxels():
    data = case("LPS")
    chosen = every()(data)[1:3]
    maps = [(one["ct"] == one["ct"].max()).float() for one in chosen]
    back = restack_slices(maps, [one[SLICE_INDEX] for one in chosen], fill=-1)
    for one in chosen:
        where = np.argwhere(data["ct"].numpy()[0] == float(one["ct"].max()))[0]
        assert back[(0, *where)] == 1
    assert (back == 1).sum() == 2
    assert (back == -1).sum() == 3 * 63


def test_names_indices_and_other_entries():
    data = case("LAS")
    before = dict(data)
    cases = every()(data)
    assert [one["case"] for one in cases] == [f"one_z{i:03d}" for i in range(5)]
    assert [one[SLICE_INDEX] for one in cases] == list(range(5))
    assert all(one["subject"] == "s" for one in cases)
    assert all(one["mri"].meta["modality"] == "mri" and one["ct"].meta["windowed"] is False for one in cases)
    for one in cases:
        np.testing.assert_array_equal(one["mri"].numpy(), one["ct"].numpy() + 1000)
    assert list(data) == list(before)
    assert all(data[key] is before[key] for key in before)


def test_an_axis_that_runs_downwards_counts_its_own_way():
    cases = every()(case("AIR"))
    assert [one[SLICE_INDEX] for one in cases] == [4, 3, 2, 1, 0]


def test_levels_are_counted_from_the_vertex_of_the_reference():
    """Two balls of 60 and 85 mm radius around one centre: their vertices lie 25 mm apart."""
    grid = np.stack(np.meshgrid(*[np.arange(-100, 101, 5.0)] * 3, indexing="ij"), axis=-1)
    radius = np.linalg.norm(grid, axis=-1)
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    affine[:3, 3] = -100
    data = {
        key: MetaTensor(torch.from_numpy(np.float32(500 * (radius <= size)))[None], affine=torch.from_numpy(affine))
        for key, size in (("ct", 60), ("mri", 85))
    }
    tops = {}
    for key in data:
        heights = [float(one["ct"].affine[2, 3]) for one in AxialSlicesd(reference_key=key, levels_mm=(20, 60))(data)]
        assert heights[-1] - heights[0] == 40
        tops[key] = heights[-1]
    assert tops["mri"] - tops["ct"] == 25


def test_channels_stay_together():
    data = case()
    data["ct"] = MetaTensor(torch.cat([data["ct"], data["ct"] * 2]), affine=data["ct"].affine)
    cases = every(keys="ct")(data)
    assert cases[0]["ct"].shape == (2, 7, 9)
    back = restack_slices([one["ct"] for one in cases], [one[SLICE_INDEX] for one in cases])
    np.testing.assert_array_equal(back.numpy(), data["ct"].numpy())


def test_one_modality_and_none():
    data = case()
    del data["mri"]
    assert len(every()(data)) == 5
    with pytest.raises(KeyError):
        every(allow_missing_keys=False)(data)
    assert every()({"subject": "s"}) == [{"subject": "s"}]


def test_volumes_on_different_grids_are_refused():
    data = case()
    shifted = data["mri"].affine.clone()
    shifted[0, 3] += 1
    data["mri"] = MetaTensor(data["mri"].as_tensor(), affine=shifted)
    with pytest.raises(InputError, match="entry 'mri': lies on another grid"):
        every()(data)


def test_a_slice_is_no_volume():
    with pytest.raises(ValueError, match="must be a volume"):
        every()({"ct": torch.zeros(1, 5, 5)})


def test_slices_that_do_not_say_where_they_come_from_are_refused():
    with pytest.raises(InputError, match="do not say from which volume"):
        restack_slices([torch.zeros(1, 5, 5)], [0])
    with pytest.raises(InputError, match="0 with 0 indices"):
        restack_slices([], [])


def test_works_in_compose_and_without_metadata_tracking():
    data = case()
    chain = Compose([every(), Lambdad(keys=keys.CT, func=lambda image: image * 2)])
    np.testing.assert_array_equal(chain(data)[2]["ct"].numpy(), 2 * every()(data)[2]["ct"].numpy())
    set_track_meta(False)
    try:
        plain = every()({"ct": torch.as_tensor(case()["ct"].numpy())})
    finally:
        set_track_meta(True)
    assert all(type(one["ct"]) is torch.Tensor for one in plain)


def test_pickled_copy_gives_the_same():
    data = case("SPL")
    one, other = every()(data), pickle.loads(pickle.dumps(every()))(data)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a["ct"].numpy(), b["ct"].numpy())
