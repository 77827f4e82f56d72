"""Read, preprocess, invert, write: a mark made on a preprocessed image lands on the voxel it was made for."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import list_data_collate
from monai.transforms import Compose, Invertd, Orientationd, ScaleIntensityRanged, Spacingd, SpatialPadd

from monai_ctmri.data.reading.volumes import read_volume, write_volume
from monai_ctmri.transforms import SLICE_INDEX, AxialSlicesd, LoadVolumed, RegisterToReferenced, restack_slices

SHAPE = (24, 30, 18)
SPACING = (2.0, 1.5, 3.0)
VOXEL = (17, 6, 12)
"""Off every plane of symmetry: a flip or a swap of axes moves it."""

GRIDS = {"RAS": 0.0, "LAS": 0.0, "LPS": 0.0, "SPL": 0.0, "oblique LPS": 17.0, "oblique RIA": 12.0}


def affine_of(name: str) -> np.ndarray:
    """Affine of an image of SHAPE stored in the order that ``name`` ends with, tilted about two axes where oblique."""
    code, degrees = name.split()[-1], GRIDS[name]
    columns = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    axes = np.array([columns[letter] for letter in code], dtype=float).T * SPACING
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ axes
    affine[:3, 3] = (11.0, -23.0, 7.0)
    return affine


def content() -> np.ndarray:
    """An image without any symmetry, one voxel far brighter than the rest."""
    x, y, z = np.meshgrid(*[np.linspace(0, 1, n) for n in SHAPE], indexing="ij")
    array = np.float32(100 * x + 40 * y**2 + 20 * z**3 + 10 * np.sin(9 * x * y))
    array[VOXEL] = 1000
    return array


@pytest.fixture(params=GRIDS)
def image(request, tmp_path: Path) -> Path:
    path = tmp_path / "image.nii.gz"
    write_volume(path, content(), affine_of(request.param))
    return path


def marked(tensor: torch.Tensor) -> torch.Tensor:
    """1 at the brightest place, with the image's metadata."""
    return (tensor == tensor.max()).to(torch.float32)


def written(path: Path) -> tuple[np.ndarray, np.ndarray]:
    found = nib.load(path)
    return np.asarray(found.dataobj), found.affine


def test_reading_and_writing_alone(image, tmp_path):
    volume = read_volume(image)
    write_volume(tmp_path / "copy.nii.gz", volume.array, volume.affine)
    array, affine = written(tmp_path / "copy.nii.gz")
    np.testing.assert_array_equal(array, content())
    np.testing.assert_allclose(affine, nib.load(image).affine, atol=1e-5)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_other_formats_lie_where_the_nifti_lies(image, tmp_path, suffix):
    import itk

    itk.imwrite(itk.imread(str(image)), str(tmp_path / f"image{suffix}"))
    one, other = read_volume(image), read_volume(tmp_path / f"image{suffix}")
    np.testing.assert_allclose(other.array, one.array, atol=1e-4)
    np.testing.assert_allclose(other.affine, one.affine, atol=1e-4)


def test_orientation_and_padding_are_undone(image, tmp_path):
    """Flips, swaps and padding lose nothing: the whole image comes back, not the mark alone."""
    chain = Compose(
        [
            LoadVolumed("ct"),
            Orientationd("ct", axcodes="RAS", labels=None),
            ScaleIntensityRanged("ct", 0, 1000, 0, 1),
            SpatialPadd("ct", (40, 40, 40)),
        ]
    )
    case = chain({"ct": str(image)})
    assert nib.aff2axcodes(case["ct"].affine) == ("R", "A", "S")
    assert case["ct"].shape == (1, 40, 40, 40)
    case["pred"] = case["ct"].clone()
    (item,) = decollate_batch(list_data_collate([case]))
    back = Invertd("pred", chain, orig_keys="ct", nearest_interp=False)(item)["pred"]
    # MONAI 1.6.1's SaveImage refuses images whose first axis runs along the body, such as SPL.
    write_volume(tmp_path / "back.nii.gz", np.asarray(back[0]), np.asarray(back.affine))
    array, affine = written(tmp_path / "back.nii.gz")
    np.testing.assert_allclose(array * 1000, content(), atol=1e-2)
    np.testing.assert_allclose(affine, affine_of_file(image), atol=1e-4)


def affine_of_file(path: Path) -> np.ndarray:
    """What the file says, which is not to the last digit what was written."""
    return nib.load(path).affine


def test_a_mark_survives_resampling(image, tmp_path):
    chain = Compose(
        [
            LoadVolumed("mri"),
            Orientationd("mri", axcodes="RAS", labels=None),
            Spacingd("mri", (1.0, 1.0, 1.0), mode="nearest"),
        ]
    )
    case = chain({"mri": str(image)})
    case["pred"] = marked(case["mri"])
    case = Invertd("pred", chain, orig_keys="mri", nearest_interp=True)(case)
    assert case["pred"].shape == (1, *SHAPE)
    np.testing.assert_allclose(case["pred"].affine, affine_of_file(image), atol=1e-4)
    assert [tuple(place) for place in np.argwhere(case["pred"].numpy()[0] > 0.5)] == [VOXEL]


def test_a_mark_on_a_slice_lands_on_its_voxel(image, tmp_path):
    """The road of a 2D network: slices in picture orientation, a map a slice, back into the volume, to a file."""
    cases = AxialSlicesd("mri", levels_mm=None)(LoadVolumed("mri")({"mri": str(image)}))
    brightest = max(float(case["mri"].max()) for case in cases)
    maps = [(case["mri"] == brightest).to(torch.float32) for case in cases]
    volume = restack_slices(maps, [case[SLICE_INDEX] for case in cases])
    write_volume(tmp_path / "map.nii.gz", np.asarray(volume[0]), np.asarray(volume.affine))
    array, affine = written(tmp_path / "map.nii.gz")
    assert [tuple(place) for place in np.argwhere(array > 0.5)] == [VOXEL]
    np.testing.assert_allclose(affine, affine_of_file(image), atol=1e-4)


def test_a_mark_on_a_registered_image_lands_on_its_voxel(image, tmp_path):
    """With a mapping that is known: an image registered onto another grid, marked there, brought back."""
    case = LoadVolumed("mri")({"mri": str(image)})
    # Half-millimetre voxels over the whole image, in world axes.
    corners = np.array([[i, j, k, 1] for i in (0, SHAPE[0]) for j in (0, SHAPE[1]) for k in (0, SHAPE[2])]).T
    low, high = (affine_of_file(image) @ corners)[:3].min(axis=1), (affine_of_file(image) @ corners)[:3].max(axis=1)
    grid = np.eye(4)
    grid[:3, 3] = low
    size = tuple(int(n) + 1 for n in np.ceil(high - low))
    case["ct"] = MetaTensor(torch.zeros(1, *size), affine=torch.from_numpy(grid))
    # Nothing to find in an empty reference: the mapping is the identity, which the headers state.
    register = RegisterToReferenced("mri", "ct", mode="nearest")
    moved = register(case)
    assert moved["registration"]["accepted"] == 0.0
    assert moved["mri"].shape == (1, *size)
    where = np.argwhere(moved["mri"].numpy()[0] == 1000).mean(axis=0)
    np.testing.assert_allclose(where + low, (affine_of_file(image) @ [*VOXEL, 1])[:3], atol=1.0)
    moved["mri"] = (moved["mri"] == 1000).to(torch.float32)
    back = register.inverse(moved)["mri"]
    assert back.shape == (1, *SHAPE)
    np.testing.assert_allclose(back.affine, affine_of_file(image), atol=1e-4)
    assert [tuple(place) for place in np.argwhere(back.numpy()[0] > 0.5)] == [VOXEL]
