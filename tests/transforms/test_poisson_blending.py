"""Seamless blending against the equation it solves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monai_ctmri.transforms.poisson_blending import poisson_blend

STENCIL = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=float)


def pictures(seed: int = 0, shape: tuple[int, int] = (24, 30)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.RandomState(seed)
    mask = np.zeros(shape, dtype=bool)
    mask[5:18, 6:22] = True
    mask[9:12, 10:13] = False  # a hole: its border is known too
    return random.uniform(size=shape), random.uniform(size=shape), mask


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_picture_blended_with_itself_stays(alpha: float):
    target, _, mask = pictures()
    np.testing.assert_allclose(poisson_blend(target, target, mask, alpha), target, atol=1e-12)


@pytest.mark.parametrize("offset", [-0.7, 0.1, 25.0])
def test_constant_offset_of_the_source_changes_nothing(offset: float):
    target, source, mask = pictures()
    np.testing.assert_allclose(
        poisson_blend(target, source + offset, mask, 0.6), poisson_blend(target, source, mask, 0.6), atol=1e-10
    )


def test_outside_the_mask_is_the_target_to_the_last_bit():
    target, source, mask = pictures()
    out = poisson_blend(target, source, mask)
    np.testing.assert_array_equal(out[~mask], target[~mask])
    assert np.abs(out - target)[mask].mean() > 0.05


@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_laplacian_inside_is_the_interpolated_one(alpha: float):
    target, source, mask = pictures(1)
    out = poisson_blend(target, source, mask, alpha)
    wanted = ndimage.convolve((1 - alpha) * target + alpha * source, STENCIL)
    np.testing.assert_allclose(ndimage.convolve(out, STENCIL)[mask], wanted[mask], atol=1e-10)


def test_harmonic_target_is_found_from_a_flat_source():
    """x^2 - y^2 is harmonic, also on the grid: a source without gradients must give it back."""
    y, x = np.mgrid[:20, :26].astype(float)
    harmonic = (x**2 - y**2) / 400
    mask = np.hypot(y - 10, x - 12) < 7
    broken = np.where(mask, 0.123, harmonic)
    np.testing.assert_allclose(poisson_blend(broken, np.full_like(broken, 0.9), mask), harmonic, atol=1e-10)


def test_one_unknown_by_hand():
    target = np.arange(9.0).reshape(3, 3)
    mask = np.zeros((3, 3), dtype=bool)
    mask[1, 1] = True
    source = np.zeros((3, 3))
    source[1, 1] = 4.0
    # Mean of the neighbours (1 + 3 + 5 + 7) / 4 = 4, and the source stands 4 above the mean of its own.
    assert poisson_blend(target, source, mask)[1, 1] == pytest.approx(8.0)


def test_channels_are_blended_each_with_its_share():
    target, source, mask = pictures()
    both = poisson_blend(
        np.stack([target, source]), np.stack([source, target]), mask, np.array([0.2, 0.9])[:, None, None]
    )
    np.testing.assert_allclose(both[0], poisson_blend(target, source, mask, 0.2), atol=1e-12)
    np.testing.assert_allclose(both[1], poisson_blend(source, target, mask, 0.9), atol=1e-12)


def test_empty_mask_gives_a_copy():
    target, source, mask = pictures()
    out = poisson_blend(target, source, np.zeros_like(mask))
    np.testing.assert_array_equal(out, target)
    assert out is not target


@pytest.mark.parametrize(("row", "column"), [(0, 5), (23, 5), (5, 0), (5, 29)])
def test_mask_at_the_frame_is_refused(row: int, column: int):
    target, source, mask = pictures()
    mask[row, column] = True
    with pytest.raises(ValueError, match="frame"):
        poisson_blend(target, source, mask)


def test_shapes_that_differ_are_refused():
    target, source, mask = pictures()
    with pytest.raises(ValueError, match="fit"):
        poisson_blend(target, source[1:], mask)
