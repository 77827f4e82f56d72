"""Masks and millimetres against scipy, distances drawn by hand and nibabel's voxel sizes."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.mask_geometry import (
    axial_axis,
    axial_planes,
    erode_by_mm,
    largest_component,
    voxel_sizes_mm,
)


def oblique(*sizes: float) -> np.ndarray:
    """Affine of voxels of these sizes, turned by 20 degrees about x, shifted."""
    angle = np.deg2rad(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(sizes), (5, -7, 11)
    return affine


def test_erosion_by_one_pixel_is_scipys():
    mask = np.random.default_rng(0).random((40, 40)) > 0.05
    np.testing.assert_array_equal(erode_by_mm(mask, 1.0, (1.0, 1.0)), ndimage.binary_erosion(mask))


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (0.5, 2.0)])
def test_eroded_disc_is_a_smaller_disc(sizes: tuple[float, float]):
    rows, columns = (np.arange(200) - 99.5)[:, None] * sizes[0], (np.arange(200) - 99.5)[None] * sizes[1]
    radius = np.hypot(rows, columns)
    eroded = erode_by_mm(radius < 40, 12, sizes)
    assert eroded[radius < 28 - 2].all()
    assert not eroded[radius > 28 + 2].any()


def test_erosion_in_three_dimensions_counts_millimetres_along_each_axis():
    box = np.zeros((30, 30, 30), dtype=bool)
    box[5:25, 5:25, 5:25] = True
    eroded = erode_by_mm(box, 3.0, (1.0, 2.0, 5.0))  # voxels further than 3 mm from the outside: 3, 1 and 0 shaved off
    expected = np.zeros_like(box)
    expected[8:22, 6:24, 5:25] = True
    np.testing.assert_array_equal(eroded, expected)


def test_border_of_the_image_counts_as_outside():
    eroded = erode_by_mm(np.ones((20, 20), dtype=bool), 4.5, (1, 1))
    assert eroded.sum() == 12 * 12
    assert eroded[4:16, 4:16].all()


def test_nothing_to_erode():
    mask = np.eye(5) > 0
    assert erode_by_mm(mask, 0, (1, 1)) is mask
    assert not erode_by_mm(np.zeros((5, 5), dtype=bool), 3, (1, 1)).any()


def test_largest_component():
    mask = np.zeros((8, 8), dtype=bool)
    mask[1:3, 1:3], mask[5:8, 4:8] = True, True
    np.testing.assert_array_equal(np.argwhere(largest_component(mask)).min(0), (5, 4))
    assert largest_component(mask).sum() == 12
    assert not largest_component(np.zeros((3, 3, 3), dtype=bool)).any()


# ----------------------------------------------------------------------------------------------------------- spacing


@pytest.mark.parametrize("dims", [2, 3])
def test_size_given_as_one_number_or_one_an_axis(dims: int):
    image = np.zeros((1, *(4,) * dims))
    assert voxel_sizes_mm(image, 1.5) == (1.5,) * dims
    assert voxel_sizes_mm(image, [1.0, 2.0, 3.0][:dims]) == (1.0, 2.0, 3.0)[:dims]


@pytest.mark.parametrize("given", [0.0, -1.0, (1.0, 2.0, 3.0), float("nan")])
def test_size_that_cannot_be(given):
    with pytest.raises(InputError, match="pixel_spacing_mm"):
        voxel_sizes_mm(np.zeros((1, 4, 4)), given)


def test_sizes_of_an_oblique_volume_are_nibabels():
    affine = oblique(0.9, 1.1, 5.0)
    image = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.from_numpy(affine))
    np.testing.assert_allclose(voxel_sizes_mm(image), nibabel.affines.voxel_sizes(affine))


def test_slice_of_a_volume_knows_its_sizes_and_a_picture_does_not():
    affine = torch.from_numpy(oblique(0.9, 1.1, 5.0))
    cut = MetaTensor(torch.zeros(1, 4, 4), affine=affine, meta={"windowed": False})
    assert voxel_sizes_mm(cut) == pytest.approx((0.9, 1.1))
    resized = MetaTensor(torch.zeros(1, 4, 4), affine=affine, meta={"windowed": True, "filename_or_obj": "a.png"})
    with pytest.raises(InputError, match=r"a\.png.*pixel_spacing_mm"):
        voxel_sizes_mm(resized)
    for unknown in (MetaTensor(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4), np.zeros((1, 4, 4, 4))):
        with pytest.raises(InputError, match="pixel_spacing_mm"):
            voxel_sizes_mm(unknown)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axial_axis_is_that_of_the_affine(axis: int):
    columns = np.roll(np.eye(3), axis - 2, axis=1)  # world z lies along the stored axis
    affine = np.eye(4)
    affine[:3, :3] = columns
    image = MetaTensor(torch.arange(24.0).reshape(1, 2, 3, 4), affine=torch.from_numpy(affine))
    assert nibabel.aff2axcodes(affine)[axis] == "S"
    assert axial_axis(image) == axis
    planes = list(axial_planes(image.numpy(), axis))
    assert len(planes) == image.shape[1 + axis]
    np.testing.assert_array_equal(planes[1], np.take(image.numpy(), 1, axis=1 + axis))
    assert axial_axis(image.numpy()) == 2
