"""Smooth displacement fields of one axial slice that move tissue without tearing or folding it.

A warp is an array (2, H, W) in pixels, rows first, of *backward* displacements: ``out(x) = in(x + warp(x))``. It keeps
the order of tissue where the Jacobian determinant of ``x + warp(x)`` is positive everywhere (Christensen et al., IEEE
Trans Image Process 5(10), 1996).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import InputError

__all__ = [
    "LEAST_JACOBIAN",
    "compose",
    "depth_mm",
    "dilation_warp",
    "displaced",
    "jacobian_determinant",
    "push_warp",
    "shift_warp",
    "without_folds",
]

LEAST_JACOBIAN = 0.02
"""Smallest determinant that counts as free of folds."""

_STEP_PX = 0.3
_MOST_STEPS = 200


def displaced(image: np.ndarray, warp: np.ndarray, order: int = 1) -> np.ndarray:
    """Sample ``image`` (H, W) at ``x + warp(x)``; the frame repeats its last pixel."""
    return ndimage.map_coordinates(image, np.indices(image.shape) + warp, order=order, mode="nearest")


def compose(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The one warp (2, H, W) that does ``first`` and afterwards ``then``."""
    return then + np.stack([displaced(part, then) for part in first])


def jacobian_determinant(warp: np.ndarray) -> np.ndarray:
    """Determinant (H, W) of the derivative of ``x + warp(x)``; 1 where nothing moves, > 1 where tissue is squeezed."""
    (rr, rc), (cr, cc) = np.gradient(warp[0]), np.gradient(warp[1])
    return (1 + rr) * (1 + cc) - rc * cr


def without_folds(warp: np.ndarray, what: str = "warp") -> np.ndarray:
    """Weaken a warp, in steps of a tenth, until its determinant is above :data:`LEAST_JACOBIAN` everywhere.

    Raises:
        InputError: when less than half of it would be left.
    """
    for share in np.arange(1.0, 0.45, -0.1):
        if float(jacobian_determinant(share * warp).min()) > LEAST_JACOBIAN:
            return share * warp
    raise InputError.about(what, "would fold the tissue", "give a smaller size_mm, or a finer pixel_spacing_mm")


def depth_mm(region: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance (H, W) of each pixel of ``region`` to the region's border, mm; 0 outside."""
    distance = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1] - 0.5
    return np.where(region, np.maximum(distance, 0.0), 0.0) * spacing_mm


def push_warp(region: np.ndarray, thickness_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Push what lies under the border of a region inwards, to make room for a layer along that border.

    Tissue at depth 15 % of the thickness (at least 2 mm) comes to lie under the layer; deeper tissue moves less, and
    from 4.5 times the thickness on nothing moves. What the layer covers is squeezed against the border.

    Args:
        region: boolean (H, W), the inside of the skull.
        thickness_mm: thickness (H, W) of the layer at the place of the border nearest to each pixel, mm.
        spacing_mm: size of a pixel.

    Returns:
        Warp (2, H, W), px, free of folds, 0 outside of the region.

    Raises:
        InputError: when the layer is too thick for the region.
    """
    depth = depth_mm(region, spacing_mm)
    thick = np.maximum(thickness_mm, 1e-6)
    kept = np.minimum(np.maximum(2.0, 0.15 * thick), 0.7 * thick)
    reach = np.maximum(np.minimum(4.5 * thick, 0.9 * float(depth.max())), 1.5 * thick)
    fade = 0.5 + 0.5 * np.cos(np.pi * np.clip((depth - thick) / (reach - thick), 0.0, 1.0))
    moved = np.where(depth < thick, depth * (1 - kept / thick), (thick - kept) * fade)
    smooth = ndimage.gaussian_filter(depth, 4.0 / spacing_mm)
    inwards = np.stack(np.gradient(smooth))
    inwards /= np.maximum(np.hypot(*inwards), 1e-6)
    warp = -inwards * np.where(region, moved, 0.0) / spacing_mm
    warp = np.stack([ndimage.gaussian_filter(part, 1.5 / spacing_mm) for part in warp])
    return without_folds(warp * np.clip(depth / max(1.5, spacing_mm), 0.0, 1.0), "layer along the skull")


def shift_warp(
    region: np.ndarray, centre: tuple[float, float], shift_mm: tuple[float, float], spacing_mm: float
) -> np.ndarray:
    """Shift the middle of a region and let the shift die away towards its border.

    The shift follows ``(1 - r^2)^2`` with ``r`` the elliptic distance from where the centre comes to lie, 1 at the
    border of the region: what lies at the centre moves by the whole shift.

    Args:
        region: boolean (H, W), the inside of the skull.
        centre: row and column, px, of what moves farthest.
        shift_mm: how far tissue moves there, down and to the right, mm.
        spacing_mm: size of a pixel.

    Returns:
        Warp (2, H, W), px; its determinant is for the caller to check.
    """
    rows, columns = np.nonzero(region)
    y, x = np.indices(region.shape, dtype=np.float64)
    row, column = (middle + part / spacing_mm for middle, part in zip(centre, shift_mm, strict=True))
    # Each side has its own half axis, so that a centre off the middle still fades out at the border.
    up, down = max(row - rows.min() + 1, 1.0), max(rows.max() + 1 - row, 1.0)
    left, right = max(column - columns.min() + 1, 1.0), max(columns.max() + 1 - column, 1.0)
    dy = np.where(y < row, (y - row) / up, (y - row) / down)
    dx = np.where(x < column, (x - column) / left, (x - column) / right)
    bump = np.clip(1 - dy**2 - dx**2, 0.0, None) ** 2
    depth = depth_mm(region, spacing_mm)
    rim = np.clip(depth / (0.25 * max(float(depth.max()), 1e-6)), 0.0, 1.0)
    bump = bump * rim**2 * (3 - 2 * rim)
    largest = max(float(bump.max()), 1e-6)
    return -np.array(shift_mm)[:, None, None] * bump / largest / spacing_mm


def dilation_warp(
    fluid: np.ndarray,
    growth: float,
    freedom: np.ndarray,
    most_mm: float,
    spacing_mm: float,
    softness_mm: float = 3.0,
) -> tuple[np.ndarray, float]:
    """Widen spaces of fluid by a flow along the gradient of their blurred picture.

    Many small steps, each free of folds, are composed (the flow of a velocity field, as in log-Euclidean
    registration) until the area has grown as wished or a wall has moved by ``most_mm``.

    Args:
        fluid: share of fluid (H, W) in [0, 1].
        growth: wished growth of its area, 0.5 = half again as large.
        freedom: how freely each pixel may move (H, W), 0 (fixed) to 1.
        most_mm: largest displacement.
        spacing_mm: size of a pixel.
        softness_mm: blur of the picture; spaces much thinner than this move little.

    Returns:
        Warp (2, H, W), px, and the growth that it reaches.
    """
    start = float((fluid * freedom).sum())
    warp = np.zeros((2, *fluid.shape))
    if start <= 0:
        return warp, 0.0
    reached = 0.0
    for _ in range(_MOST_STEPS):
        velocity = np.stack(np.gradient(ndimage.gaussian_filter(displaced(fluid, warp), softness_mm / spacing_mm)))
        velocity *= freedom
        speed = float(np.hypot(*velocity).max())
        if speed <= 1e-9:
            break
        step = compose(warp, velocity * (_STEP_PX / speed))
        grown = float((displaced(fluid, step) * freedom).sum()) / start - 1
        if grown >= growth:
            share = (growth - reached) / (grown - reached)
            step = compose(warp, velocity * (_STEP_PX / speed * share))
            grown = float((displaced(fluid, step) * freedom).sum()) / start - 1
        farthest = float(np.hypot(*step).max()) * spacing_mm
        if farthest > most_mm or float(jacobian_determinant(step).min()) <= LEAST_JACOBIAN:
            break
        warp, reached = step, grown
        if growth - reached < 0.005:
            break
    return warp, reached
