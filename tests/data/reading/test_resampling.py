"""Resampling against functions that linear interpolation reproduces exactly, and against copied slices."""

from __future__ import annotations

import numpy as np
import pytest

from monai_ctmri.data.reading.resampling import EvenGrid, even_grid, resample_slices

AXES = np.eye(3)[:2]


def linear(points: np.ndarray) -> np.ndarray:
    return 3 + points @ np.array([0.7, -1.1, 0.4])


def sampled(positions: np.ndarray, axes: np.ndarray, spacing: tuple[float, float], size: tuple[int, int]):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    plane = x[..., None] * spacing[0] * axes[0] + y[..., None] * spacing[1] * axes[1]
    return [linear(plane + position).astype(np.float32) for position in positions]


def world(grid: EvenGrid) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize("lean", [(0.0, 0.0), (0.0, 0.35), (-0.2, 0.1)])
def test_a_linear_function_comes_back_exactly(turn: float, lean: tuple[float, float]):
    axes = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0]])
    heights = np.array([0, 3.0, 6.5, 7.0, 12.0, 15.0])
    positions = np.array([5.0, -7, 2]) + heights[:, None] * np.array([*lean, 1.0])
    spacing, size = (1.5, 2.0), (20, 14)
    grid = even_grid(positions, axes, spacing, size)
    slices = sampled(positions, axes, spacing, size)
    volume = resample_slices(slices.__getitem__, grid, -1024.0)
    inside = volume != -1024
    assert inside.mean() > 0.5
    np.testing.assert_allclose(volume[inside], linear(world(grid))[inside], atol=1e-4)
    # Columns of the affine stand at right angles and are of the slices' spacing, the third of the median distance.
    matrix = grid.affine[:3, :3]
    np.testing.assert_allclose(matrix.T @ matrix, np.diag([1.5**2, 2.0**2, 3.0**2]), atol=1e-9)


def test_even_slices_are_copied():
    positions = np.array([[0, 0, 2.5 * number] for number in range(4)])
    slices = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    grid = even_grid(positions, AXES, (0.7, 0.9), (5, 6))
    assert grid.shape == (5, 6, 4)
    volume = resample_slices(lambda index: slices[index], grid, -1024.0)
    np.testing.assert_array_equal(volume, slices.transpose(1, 2, 0))


def test_the_grid_holds_every_slice_and_the_rest_is_fill():
    positions = np.array([[0, 0, 0], [4.0, 0, 1], [-2.0, 0, 2]])
    grid = even_grid(positions, AXES, (1.0, 1.0), (3, 2))
    assert grid.shape == (9, 2, 3)
    np.testing.assert_allclose(grid.affine[:3, 3], [-2, 0, 0])
    volume = resample_slices(lambda index: np.full((3, 2), index + 1.0), grid, -5.0)
    expected = np.full((9, 3), -5.0)
    for plane, begin in enumerate((2, 6, 0)):
        expected[begin : begin + 3, plane] = plane + 1
    np.testing.assert_array_equal(volume, np.repeat(expected[:, None], 2, axis=1))


def test_between_a_slice_and_the_outside_nothing_is_made_up():
    """Halfway between two slices, only what both hold is interpolated."""
    positions = np.array([[0, 0, 0], [0, 0, 2.0], [1.0, 0, 5.0]])
    grid = even_grid(positions, AXES, (1.0, 1.0), (2, 1))
    volume = resample_slices(lambda index: np.full((2, 1), 10.0 * index), grid, -9.0)
    assert grid.affine[2, 2] == 2.5
    np.testing.assert_allclose(volume[:, 0, 0], [0, 0, -9])
    share = 0.5 / 3
    np.testing.assert_allclose(volume[:, 0, 1], [-9, 10 * (1 - share) + 20 * share, -9], rtol=1e-6)


def test_each_slice_is_loaded_once_in_order():
    asked = []
    grid = even_grid(np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 9.0]]), AXES, (1.0, 1.0), (2, 2))
    resample_slices(lambda index: asked.append(index) or np.zeros((2, 2)), grid, 0.0)
    assert asked == [0, 1, 2]


def test_one_slice():
    grid = even_grid(np.zeros((1, 3)), AXES, (1.0, 2.0), (2, 3))
    assert grid.shape == (2, 3, 1)
    np.testing.assert_array_equal(resample_slices(lambda _: np.full((2, 3), 4.0), grid, 0.0), np.full((2, 3, 1), 4.0))
