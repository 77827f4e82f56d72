from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_ctmri.data.reading.volumes import Volume
from monai_ctmri.data.slices import axial_order, cut_slices, head_areas_mm2, restack, select_levels
from monai_ctmri.errors import InputError

SPACING = (0.8, 1.1, 3.0)
ORIENTATIONS = sorted("".join(axes) for order in permutations(("LR", "AP", "SI")) for axes in product(*order))


def volume(array: np.ndarray, affine: np.ndarray, modality: str | None = "mri") -> Volume:
    return Volume(np.asarray(array, dtype=np.float32), affine, Path("head.nii.gz"), modality, ())


def oriented(code: str, shape: tuple[int, int, int] = (5, 6, 7), tilt_degrees: float = 0.0) -> Volume:
    """A volume stored in the order ``code``; no two voxels have the same value."""
    ornt = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    base = np.diag([*SPACING, 1.0])
    base[:3, 3] = (-3, 4, -20)
    angle = np.radians(tilt_degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    number = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    array = nib.orientations.apply_orientation(number, ornt)
    return volume(array, turn @ base @ nib.orientations.inv_ornt_aff(ornt, shape))


def world(affine: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    return (affine @ np.array([*index, 1.0]))[:3]


def ball(
    radius_mm: float = 85.0, spacing: float = 5.0, height: int = 50, code: str = "RAS", value: float = 40.0
) -> Volume:
    """A head as a ball; its centre is the origin, air is -1000."""
    shape = (40, 40, height)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * spacing for n in shape]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1) * spacing + affine[:3, 3]
    array = np.where(np.linalg.norm(grid, axis=-1) <= radius_mm, value, -1000.0)
    ornt = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code))
    stored = nib.orientations.apply_orientation(array, ornt)
    return volume(stored, affine @ nib.orientations.inv_ornt_aff(ornt, shape), "ct")


@pytest.mark.parametrize("tilt", [0.0, 20.0])
@pytest.mark.parametrize("code", ORIENTATIONS)
def test_each_voxel_of_a_slice_keeps_its_place_in_space(code, tilt):
    source = oriented(code, tilt_degrees=tilt)
    where = {float(source.array[index]): world(source.affine, index) for index in np.ndindex(source.array.shape)}
    for one in cut_slices(source, range(source.array.shape[code.index("S") if "S" in code else code.index("I")])):
        assert one.values.shape[2] == 1
        for index in np.ndindex(one.values.shape):
            np.testing.assert_allclose(world(one.affine, index), where[float(one.values[index])], atol=1e-9)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_slices_come_in_ras_order_and_name_their_height(code):
    source = oriented(code)
    one = next(cut_slices(source, [2]))
    assert nib.aff2axcodes(one.affine) == ("R", "A", "S")
    assert one.height_mm == pytest.approx(world(one.affine, (0, 0, 0))[2])


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_slices_put_back_are_the_volume(code):
    source = oriented(code)
    axis = int(np.flatnonzero(axial_order(source.affine)[:, 0] == 2)[0])
    planes = {one.index: one.values for one in cut_slices(source, range(source.array.shape[axis]))}
    np.testing.assert_array_equal(restack(planes, source.array.shape, source.affine), source.array)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(ORIENTATIONS), st.sets(st.integers(0, 6)), st.integers(0, 30))
def test_only_the_slices_given_are_filled(code, chosen, tilt):
    source = oriented(code, shape=(5, 6, 7), tilt_degrees=float(tilt))
    planes = {one.index: one.values[..., 0] for one in cut_slices(source, sorted(chosen))}
    back = restack(planes, source.array.shape, source.affine, fill=-1.0)
    axis = int(np.flatnonzero(axial_order(source.affine)[:, 0] == 2)[0])
    for index in range(7):
        expected = np.take(source.array, index, axis) if index in chosen else -1.0
        np.testing.assert_array_equal(
            np.take(back, index, axis), np.broadcast_to(expected, np.take(back, index, axis).shape)
        )


def test_an_index_outside_is_refused():
    with pytest.raises(InputError, match="no axial slice 7"):
        list(cut_slices(oriented("LPS"), [7]))
    with pytest.raises(InputError, match="does not fit"):
        restack({7: np.zeros((5, 6))}, (5, 6, 7), oriented("RAS").affine)
    with pytest.raises(InputError, match="does not fit"):
        restack({0: np.zeros((6, 5))}, (5, 6, 7), oriented("RAS").affine)


def test_an_affine_without_an_orientation_is_refused():
    with pytest.raises(InputError, match="no length"):
        axial_order(np.diag([1.0, 0.0, 1.0, 1.0]))


def test_the_area_of_a_disc_is_that_of_the_formula():
    areas = head_areas_mm2(ball(85, spacing=2.0, height=3).array[:, :, :], 4.0, "ct")
    assert areas.shape == (3,)
    source = ball(60, spacing=3.0, height=21)
    areas = head_areas_mm2(source.array, 9.0, "ct")
    heights = (np.arange(21) - 10) * 3.0
    expected = np.pi * np.maximum(60.0**2 - heights**2, 0)
    assert np.abs(areas - expected).max() < 0.05 * expected.max()


@pytest.mark.parametrize("code", ["RAS", "LPI", "SAL", "AIR"])
def test_levels_are_counted_from_the_vertex(code):
    source = ball(85, spacing=5.0, code=code)
    axis = int(np.flatnonzero(axial_order(source.affine)[:, 0] == 2)[0])
    chosen = select_levels(source, 20, 100)
    heights = sorted(one.height_mm for one in cut_slices(source, chosen))
    # 15 cm2 are reached 85 - sqrt(85^2 - 1500 / pi) = 2.9 mm below the top of the ball: at 82.5 - ... = 77.5 or 82.5.
    assert 57.5 <= heights[-1] <= 62.5
    assert -22.5 <= heights[0] <= -17.5
    np.testing.assert_allclose(np.diff(heights), 5.0)
    assert len(chosen) == 17
    assert all(0 <= index < source.array.shape[axis] for index in chosen)


def test_without_the_vertex_in_view_the_top_slice_is_taken():
    source = ball(85, spacing=5.0, height=40)
    cut = volume(source.array[:, :, :24], source.affine, "ct")  # ends at 15 mm above the centre
    assert max(select_levels(cut, 20, 100)) == 23


def test_the_head_is_found_without_hounsfield_units_too():
    source = ball(85)
    mri = volume(np.where(source.array > 0, 800.0, 5.0), source.affine, "mri")
    assert select_levels(mri) == select_levels(source)


def test_no_head_no_levels():
    assert select_levels(volume(np.zeros((20, 20, 20)), np.eye(4))) == []


def test_a_range_that_is_none_is_refused():
    with pytest.raises(InputError, match="levels 50 to 20 mm"):
        select_levels(ball(), 50, 20)


def test_real_heads_of_three_orientations(real_data):
    from monai_ctmri.data.reading.volumes import read_volume

    # The top of the third head lies outside its picture: its topmost slice is the first one taken.
    expected = {
        "stroke_T2.nii.gz": ("mri", 80 / 1.0),
        "ct_template_scct.nii.gz": ("ct", 80 / 2.0),
        "healthy_chris_pd.nii.gz": ("mri", 100 / 2.4),
    }
    for name, (modality, count) in expected.items():
        chosen = select_levels(read_volume(real_data / "volumes" / name, modality))
        assert len(chosen) == pytest.approx(count, abs=2), name
