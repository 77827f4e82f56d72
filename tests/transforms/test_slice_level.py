"""Level of a slice: drawn heads of known height in any orientation, skulls of known size, the phantom, real CT."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_ctmri.data.reading.volumes import Volume, read_volume
from monai_ctmri.data.slices import select_levels
from monai_ctmri.errors import InputError
from monai_ctmri.transforms.slice_level import (
    SliceLevel,
    SliceLeveld,
    depths_below_vertex_mm,
    intracranial_share,
)

SPACING_MM = 4.0


def ball(orientation: str = "RAS", radius_mm: float = 80.0) -> Volume:
    """A ball of 40 HU in air whose centre lies 10 voxels under the middle, stored in an orientation."""
    x, y, z = (np.mgrid[:60, :60, :70] - np.array([30, 30, 25]).reshape(3, 1, 1, 1)) * SPACING_MM
    array = np.where(np.sqrt(x**2 + y**2 + z**2) < radius_mm, 40.0, -1000.0).astype(np.float32)
    image = nibabel.Nifti1Image(array, np.diag([SPACING_MM] * 3 + [1]))
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(orientation)
        )
    )
    return Volume(np.array(turned.dataobj, dtype=np.float32, order="C"), turned.affine, Path("ball.nii"), "ct")


def skull_slice(inner: float, outer: float = 0.92) -> np.ndarray:
    """CT in [0, 1] whose skull runs from ``inner`` to ``outer`` of the head's radius."""
    radius = np.hypot(*((np.mgrid[:160, :160] - 79.5) / 70))
    return np.select([radius < inner, radius < outer, radius < 1], [0.45, 1.0, 0.3], 0.0).astype(np.float32)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LPI", "SRA", "IPR", "ASL"])
def test_depths_in_any_orientation(orientation: str):
    volume = ball(orientation)
    depths = depths_below_vertex_mm(volume)
    axis = next(index for index, code in enumerate(orientation) if code in "SI")
    assert depths.shape == (volume.array.shape[axis],)
    assert np.abs(np.diff(depths)) == pytest.approx(SPACING_MM)
    areas = (volume.array > 0).sum(axis=tuple({0, 1, 2} - {axis})) * SPACING_MM**2
    largest = int(areas.argmax())
    # The slice through the centre lies a radius under the top; the vertex is where it measures 15 cm2, and a
    # cross-section of that area lies h = A / (2 pi r) ~ 3 mm below the pole.
    assert depths[largest] == pytest.approx(80.0 - 3.0, abs=1.5 * SPACING_MM)
    zero = int(np.flatnonzero(depths == 0)[0])
    assert areas[zero] >= 1500
    above = zero + 1 if orientation[axis] == "S" else zero - 1
    assert areas[above] < 1500
    assert depths[above] == -SPACING_MM


def test_depths_agree_with_the_levels_selected():
    volume = ball("LPI")
    depths = depths_below_vertex_mm(volume)
    for top, bottom in ((20.0, 100.0), (40.0, 60.0)):
        chosen = select_levels(volume, top, bottom)
        assert chosen
        assert all(top - 1e-6 <= depths[index] <= bottom + 1e-6 for index in chosen)


def test_no_head():
    with pytest.raises(InputError, match="no head"):
        depths_below_vertex_mm(Volume(np.full((9, 9, 9), -1000, np.float32), np.eye(4), Path("air.nii"), "ct"))


@pytest.mark.parametrize("inner", [0.6, 0.75, 0.85])
def test_share_is_the_squared_ratio_of_the_radii(inner: float):
    assert intracranial_share(skull_slice(inner), windowed=True) == pytest.approx(inner**2, abs=0.04)


def test_share_of_hounsfield_units():
    hu = np.interp(skull_slice(0.8), [0, 0.3, 0.45, 1.0], [-1000, 20, 35, 1200]).astype(np.float32)
    assert intracranial_share(hu, windowed=False) == pytest.approx(0.64, abs=0.06)


def test_share_without_a_head():
    assert intracranial_share(np.zeros((64, 64), dtype=np.float32), windowed=True) == 0


def test_transform_of_a_slice_and_of_a_volume():
    plane = skull_slice(0.75)
    share = intracranial_share(plane, windowed=True)
    assert SliceLevel()(plane[None]).tolist() == pytest.approx([share])
    picture = MetaTensor(torch.tensor(255 * plane[None]), meta={"windowed": True, "filename_or_obj": "a.png"})
    out = SliceLevel()(picture)
    assert out.tolist() == pytest.approx([share], abs=0.01)
    assert out.meta["filename_or_obj"] == "a.png"
    volume = ball("LPI")
    image = MetaTensor(torch.tensor(volume.array[None]), affine=torch.tensor(volume.affine), meta={"modality": "ct"})
    np.testing.assert_allclose(SliceLevel()(image), depths_below_vertex_mm(volume))
    with pytest.raises(ValueError, match="expected a slice"):
        SliceLevel()(plane)


def test_dictionary():
    plane = skull_slice(0.75)[None]
    case = {"ct": plane}
    out = SliceLeveld()(case)
    assert out["slice_level"].tolist() == SliceLevel()(plane).tolist()
    assert out["ct"] is plane
    assert "slice_level" not in SliceLeveld("mri", allow_missing_keys=True)(case)
    with pytest.raises(ValueError, match="2 keys"):
        SliceLeveld(("ct", "mri"))


def test_real_head_ct(real_data):
    """14 upper slices, 7.38 mm apart; the last is the vertex itself, and the share falls on the way up to it."""
    volume = read_volume(real_data / "volumes" / "ct_head_ge_upper14_hu.nii.gz", "ct")
    depths = depths_below_vertex_mm(volume)
    assert np.diff(depths) == pytest.approx(-7.38, abs=0.01)
    assert abs(depths[-1]) < 10
    shares = [intracranial_share(volume.array[:, :, index].T, windowed=False) for index in (0, 6, 10, 13)]
    assert shares[0] > 0.4
    assert shares[1] > 0.4
    assert shares[1] > shares[2] > shares[3]
