"""Parallel slices at any distance, shifted against each other or not -> an even grid at right angles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["EvenGrid", "even_grid", "resample_slices"]

_EXACT = 1e-4  # of a pixel or of a slice distance: nearer is the same place


@dataclass(frozen=True)
class EvenGrid:
    """The grid slices are brought to.

    Attributes:
        shape: (X, Y, Z) voxels.
        affine: (4, 4) voxel -> mm, in the coordinates of the positions.
        shifts: (slices, 2): where pixel (0, 0) of each slice lies on the grid, in voxels along X and Y.
        heights: (slices,): where each slice lies, in voxels along Z; 0 for the first.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    shifts: np.ndarray
    heights: np.ndarray


def even_grid(positions: np.ndarray, axes: np.ndarray, spacing: tuple[float, float], size: tuple[int, int]) -> EvenGrid:
    """Lay out the grid: in the plane that of the first slice, extended to hold all; across it even, at right angles.

    The distance of planes is the median distance of neighbouring slices along the normal; the first plane is the first
    slice and the last one the last that does not lie beyond the last slice.

    Args:
        positions: (slices, 3) mm, of pixel (0, 0) of each slice, rising along the normal.
        axes: (2, 3) unit vectors at a right angle along X and along Y; their cross product is the normal.
        spacing: of pixels along X and Y in mm.
        size: pixels along X and Y.
    """
    across = np.cross(axes[0], axes[1])
    relative = positions - positions[0]
    shifts = _snap(relative @ axes.T / np.array(spacing))
    heights = relative @ across
    distance = float(np.median(np.diff(heights))) if len(heights) > 1 else 1.0
    heights = _snap(heights / distance)
    low, high = np.floor(shifts.min(axis=0)), np.ceil(shifts.max(axis=0))
    width, height = (int(each) for each in np.array(size) + high - low)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([axes[0] * spacing[0], axes[1] * spacing[1], across * distance])
    affine[:3, 3] = positions[0] + affine[:3, :2] @ low
    return EvenGrid((width, height, int(np.floor(heights[-1])) + 1), affine, shifts - low, heights)


def resample_slices(load: Callable[[int], np.ndarray], grid: EvenGrid, fill: float) -> np.ndarray:
    """Interpolate slices linearly, first within their planes, then between neighbouring planes.

    Args:
        load: gives slice ``i`` (X, Y) of the ``len(grid.heights)`` slices; each is asked for once, in order.
        grid: from :func:`even_grid`.
        fill: value of voxels that do not lie between two slices, or that one of the two does not reach.

    Returns:
        The volume float32 of ``grid.shape``.
    """
    result = np.full(grid.shape, fill, dtype=np.float32)
    below, above = None, _move(load(0), grid, 0)
    plane = 0
    for upper in range(len(grid.heights)):
        if upper:
            below, above = above, _move(load(upper), grid, upper)
        while plane < grid.shape[2] and plane <= grid.heights[upper]:
            if plane == grid.heights[upper] or below is None:
                values = above
            else:
                low, high = grid.heights[upper - 1 : upper + 1]
                share = np.float32((plane - low) / (high - low))
                values = (1 - share) * below + share * above
            result[:, :, plane] = np.where(np.isnan(values), np.float32(fill), values)
            plane += 1
    return result


def _move(values: np.ndarray, grid: EvenGrid, index: int) -> np.ndarray:
    """Bring a slice onto the grid's plane; NaN where it does not reach."""
    from scipy import ndimage

    return np.asarray(
        ndimage.affine_transform(
            np.asarray(values, dtype=np.float32),
            np.ones(2),
            offset=-grid.shifts[index],
            output_shape=grid.shape[:2],
            order=1,
            mode="constant",
            cval=np.nan,
        )
    )


def _snap(values: np.ndarray) -> np.ndarray:
    """Round what is a whole number but for rounding, so that such slices are copied and not blurred."""
    whole = np.round(values)
    return np.where(np.abs(values - whole) < _EXACT, whole, values)
