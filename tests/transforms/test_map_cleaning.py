"""Map cleaning against scipy, scikit-image and maps drawn by hand, in two and three dimensions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage
from skimage.morphology import remove_small_objects

from monai_ctmri.errors import InputError
from monai_ctmri.transforms.map_cleaning import CleanMap, CleanMapd, remove_small_components


def random_map(dims: int) -> np.ndarray:
    shape = (48, 40) if dims == 2 else (20, 18, 16)
    return np.random.default_rng(0).random((1, *shape)).astype(np.float32)


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_asked_changes_nothing(dims: int):
    values = random_map(dims)
    np.testing.assert_array_equal(CleanMap(median=1)(values), values)


@pytest.mark.parametrize("dims", [2, 3])
def test_median_is_scipys(dims: int):
    values = random_map(dims)
    np.testing.assert_array_equal(CleanMap(median=3)(values)[0], ndimage.median_filter(values[0], 3))


@pytest.mark.parametrize("dims", [2, 3])
def test_threshold(dims: int):
    values = random_map(dims)
    np.testing.assert_array_equal(CleanMap(median=1, threshold=0.7)(values), np.where(values > 0.7, values, 0))


@pytest.mark.parametrize(("dims", "spacing"), [(2, (2.0, 2.0)), (3, (1.0, 1.0, 5.0))])
def test_mask_is_eroded_by_millimetres(dims: int, spacing: tuple[float, ...]):
    values = random_map(dims) + 1
    mask = np.zeros_like(values)
    mask[(0, *(slice(2, -2),) * dims)] = 1
    inside = ndimage.distance_transform_edt(mask[0], sampling=spacing) > 4.5
    out = CleanMap(4.5, median=1, pixel_spacing_mm=spacing)(values, mask)[0].numpy()
    np.testing.assert_array_equal(out, np.where(inside, values[0], 0))
    assert 0 < inside.sum() < mask.sum()


def test_erosion_that_leaves_nothing():
    values = random_map(2)
    assert not CleanMap(200, pixel_spacing_mm=1)(values).any()


@pytest.mark.parametrize(("dims", "neighbours", "reach"), [(2, 4, 1), (2, 8, 2), (3, 6, 1), (3, 18, 2), (3, 26, 3)])
def test_small_components_are_scikit_images(dims: int, neighbours: int, reach: int):
    values = random_map(dims)
    found = values[0] > (0.6 if dims == 2 else 0.85)
    size = 7
    expected = remove_small_objects(found, max_size=size - 1, connectivity=reach)
    np.testing.assert_array_equal(remove_small_components(found, size, reach), expected)
    threshold = 0.6 if dims == 2 else 0.85
    out = CleanMap(median=1, threshold=threshold, min_size=size, neighbours=neighbours, pixel_spacing_mm=1.0)(values)
    np.testing.assert_array_equal(out[0], np.where(expected, values[0], 0))
    assert 0 < expected.sum() < found.sum()


def test_two_squares_that_touch_at_a_corner():
    values = np.zeros((1, 12, 12), dtype=np.float32)
    values[0, 2:4, 2:4], values[0, 4:6, 4:6] = 0.5, 0.8
    for neighbours, kept in ((4, 0), (8, 8)):
        cleaned = CleanMap(median=1, min_size=8, neighbours=neighbours, pixel_spacing_mm=1)(values)
        assert np.count_nonzero(cleaned) == kept


@pytest.mark.parametrize(("spacing", "kept"), [(1.0, 0), (1.6, 0), (1.7, 9), (2.0, 9)])
def test_size_is_in_square_millimetres(spacing: float, kept: int):
    """9 pixels are 9, 23, 26 and 36 mm2."""
    values = np.zeros((1, 12, 12), dtype=np.float32)
    values[0, 3:6, 3:6] = 1
    out = CleanMap(median=1, min_size=25, pixel_spacing_mm=spacing)(values)
    assert np.count_nonzero(out) == kept


def test_size_is_in_cubic_millimetres_of_the_affine():
    values = np.zeros((1, 12, 12, 6), dtype=np.float32)
    values[0, 3:6, 3:6, 2:4] = 1  # 18 voxels of 2 x 2 x 5 mm: 360 mm3
    image = MetaTensor(torch.tensor(values), affine=torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0])))
    assert np.count_nonzero(CleanMap(median=1, min_size=360)(image)) == 18
    assert np.count_nonzero(CleanMap(median=1, min_size=361)(image)) == 0


def test_a_lesion_stays_and_the_rest_goes():
    rows, columns = np.mgrid[:128, :128]
    brain = np.hypot(rows - 64, columns - 64) < 50
    lesion = np.hypot(rows - 50, columns - 70) < 7
    values = np.where(lesion, 0.8, 0.05 * brain)
    values[brain & ~ndimage.binary_erosion(brain, iterations=3)] = 0.9  # rim
    values[80, 60], values[90:93, 50:53] = 1.0, 0.7  # a hot pixel and a speck
    out = CleanMap(8, 5, 0.4, 50, pixel_spacing_mm=1.8)(values[None].astype(np.float32), brain[None])[0].numpy() > 0
    assert 2 * (out & lesion).sum() / (out.sum() + lesion.sum()) > 0.95


def test_values_below_zero_stay_without_a_threshold():
    values = np.full((1, 10, 10), -1.0, dtype=np.float32)
    values[0, 2, 2] = 3.0
    out = CleanMap(median=1, min_size=4, pixel_spacing_mm=1)(values)
    assert out[0, 2, 2] == 0
    assert (np.asarray(out) == -1).sum() == 99


def test_each_channel_on_its_own():
    values = np.random.default_rng(1).random((3, 20, 20)).astype(np.float32)
    masks = np.random.default_rng(2).random((3, 20, 20)) > 0.3
    made = CleanMap(0, 3, 0.5)
    out = made(values, masks)
    for channel in range(3):
        part = slice(channel, channel + 1)
        np.testing.assert_array_equal(out[part], made(values[part], masks[part]))
    np.testing.assert_array_equal(made(values, masks[:1])[2:], made(values[2:], masks[:1]))


@pytest.mark.parametrize(
    ("options", "word"),
    [({"erode_mm": -1}, "erode_mm"), ({"median": 0}, "median"), ({"min_size": -1}, "min_size")],
)
def test_arguments(options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        CleanMap(**options)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="4, 8, 6, 18, 26"):
        CleanMap(neighbours=5)
    with pytest.raises(ValueError, match="3 axes"):
        CleanMap(neighbours=26)(random_map(2))
    with pytest.raises(ValueError, match="one shape"):
        CleanMap()(random_map(2), np.ones((1, 3, 3)))
    with pytest.raises(ValueError, match="expected a map"):
        CleanMap()(np.zeros((5, 5)))
    for needs in (CleanMap(3.0), CleanMap(min_size=3.0)):
        with pytest.raises(InputError, match="pixel_spacing_mm"):
            needs(random_map(2))


def test_dictionary():
    values, mask = random_map(2), np.ones((1, 48, 40))
    mask[..., :10] = 0
    case = {"anomaly_map": values, "brain": mask}
    out = CleanMapd(mask_key="brain", threshold=0.3)(case)
    np.testing.assert_array_equal(out["anomaly_map"], CleanMap(threshold=0.3)(values, mask))
    assert case["anomaly_map"] is values
    assert CleanMapd(("a", "anomaly_map"), median=1, allow_missing_keys=True)(case)["anomaly_map"].shape == values.shape
