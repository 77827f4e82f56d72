"""The head in a slice of any size and scale: a small picture of one size, what of it is head, rays through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["GRID", "Head", "brightness", "cut_off_share", "find_head", "rays", "shrink"]

GRID = 128
"""Length in pixels of the longer side of the small picture."""

_LEAST_HEAD = 0.01
_ABOVE_AIR = 0.06
_NOISE_SIGMAS = 5.0
_LEAST_LIKE_NEIGHBOUR = 0.4
_CLOSING = 2
_RECTANGLE = 0.86
_RIM = 0.12
_DARK_RIM = 0.1
_FLATNESS = 1.5
_TOUCH = 1.5
_STRIP = 0.15
_AIR_HU = -300.0
_BRAIN_WINDOW = (0.0, 80.0)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What was found of a head.

    Attributes:
        grey: small picture (h, w), float32 in [0, 1]: 0 is the air around the head, 1 its 99.5th percentile.
        mask: the head, filled, bool (h, w).
        radius: radius of the disk as large as the head, in pixels of the small picture.
        centre: row and column of the head's centroid.
    """

    grey: np.ndarray
    mask: np.ndarray
    radius: float
    centre: tuple[float, float]


def brightness(plane: np.ndarray, *, windowed: bool, modality: str | None) -> np.ndarray:
    """Bring a plane to what a picture of it would show, in [0, 1], float32 (H, W).

    Windowed planes keep their grey levels, between the least and the largest. Hounsfield units (``modality`` ``'ct'``,
    or unknown and with values only air has) get the brain window of 0 to 80 HU; other planes run from the 1st to the
    99.5th percentile.
    """
    plane = np.asarray(plane, dtype=np.float32)
    if windowed:
        low, high = float(plane.min()), float(plane.max())
    elif modality == "ct" or (modality is None and float(plane.min()) < _AIR_HU):
        low, high = _BRAIN_WINDOW
    else:
        low, high = (float(value) for value in np.percentile(plane, (1.0, 99.5)))
        if not high > low:  # less than 1 % of the plane shows anything
            low, high = float(plane.min()), float(plane.max())
    if not high > low:
        return np.zeros_like(plane)
    return np.clip((plane - low) / (high - low), 0.0, 1.0)


def shrink(plane: np.ndarray, longest: int = GRID) -> np.ndarray:
    """Bring a plane (H, W) to a longer side of ``longest`` pixels: the mean of each block, or linear where it grows."""
    from scipy import ndimage

    factor = longest / max(plane.shape)
    shape = tuple(max(1, round(length * factor)) for length in plane.shape)
    if factor <= 0.5:
        out = plane
        for axis, (length, new) in enumerate(zip(plane.shape, shape, strict=True)):
            edges = np.linspace(0, length, new + 1).astype(int)
            size = np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
            out = np.add.reduceat(out, edges[:-1], axis=axis) / size
        return out.astype(np.float32)
    rows, columns = (
        np.clip((np.arange(new) + 0.5) * length / new - 0.5, 0, length - 1)
        for length, new in zip(plane.shape, shape, strict=True)
    )
    smooth = ndimage.uniform_filter(plane, 2) if factor < 1 / 1.5 else plane
    grid = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(smooth, grid, order=1, mode="nearest").astype(np.float32)


def find_head(bright: np.ndarray) -> Head | None:
    """Find the head in a plane (H, W) in [0, 1], as :func:`brightness` gives it.

    Air is what the darkest of the four corners shows. The head is the largest component clearly above air and its
    noise, gaps of 2 pixels closed and holes filled.

    Returns:
        The head, or None where less than 1 % of the picture stands out of the air and of its noise.
    """
    from scipy import ndimage

    small = shrink(bright)
    air, noise = _air(small)
    high = float(np.percentile(small, 99.5))
    if high - air < _NOISE_SIGMAS * noise or high <= air:
        high = float(small.max())
    if high - air <= 1e-6:
        return None
    threshold = air + max(_ABOVE_AIR * (high - air), _NOISE_SIGMAS * noise)
    mask = _component(small, threshold)
    if _is_frame(small, mask):
        split = _otsu(small[mask])
        air = float(np.median(small[mask & (small <= split)]))
        mask = _component(small, split)
    area = int(mask.sum())
    if area < _LEAST_HEAD * mask.size or area < 16:
        return None
    if _is_noise(small, mask):
        return None
    high = float(np.percentile(small[mask], 99.5))
    grey = np.clip((small - air) / max(high - air, 1e-6), 0.0, 1.0)
    row, column = ndimage.center_of_mass(mask)
    return Head(grey, mask, float(np.sqrt(area / np.pi)), (float(row), float(column)))


def rays(head: Head, image: np.ndarray, count: int = 96, depth: float = 0.6, steps: int = 60) -> np.ndarray:
    """Sample an image (h, w) from the head's outline towards its centre: (count, steps).

    Column ``j`` lies ``j * depth / steps`` head radii behind the outline.
    """
    from scipy import ndimage

    angles = np.linspace(0.0, 2 * np.pi, count, endpoint=False)
    directions = np.stack([np.sin(angles), np.cos(angles)])
    reach = np.arange(0.0, float(np.hypot(*head.mask.shape)), 0.5)
    points = np.asarray(head.centre)[:, None, None] + directions[:, :, None] * reach
    rows, columns = np.rint(points).astype(int)
    within = (rows >= 0) & (rows < head.mask.shape[0]) & (columns >= 0) & (columns < head.mask.shape[1])
    inside = within & head.mask[rows.clip(0, head.mask.shape[0] - 1), columns.clip(0, head.mask.shape[1] - 1)]
    outline = reach[inside.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)] * inside.any(axis=1)
    along = outline[:, None] - head.radius * np.arange(steps) * depth / steps
    points = np.asarray(head.centre)[:, None, None] + directions[:, :, None] * np.maximum(along, 0.0)
    return ndimage.map_coordinates(image, points, order=1, mode="nearest")


def cut_off_share(head: Head) -> float:
    """Share of the head's outline that lies on the picture's border, in [0, 1].

    A head that merely touches a side does so along a chord, whose length for a circle of radius r and a tolerance of d
    pixels is 2 sqrt(2 r d). That much of each side is no sign of a cut: r is the flat side of an oval head.
    """
    from scipy import ndimage

    mask = head.mask
    touching = 2 * np.sqrt(2 * _FLATNESS * head.radius * _TOUCH)
    # What reaches the border only as a thin strip is a ruler or a line of text that the mask took in.
    deep = max(1, round(_STRIP * head.radius))
    sides = (mask[:deep].all(0), mask[-deep:].all(0), mask[:, :deep].all(1), mask[:, -deep:].all(1))
    contact = sum(max(0.0, float(side.sum()) - touching) for side in sides)
    outline = int((mask & ~ndimage.binary_erosion(mask, border_value=0)).sum())
    return float(min(1.0, contact / max(outline, 1)))


def _air(small: np.ndarray) -> tuple[float, float]:
    """Level and noise (standard deviation) of the darkest corner."""
    size = max(1, min(small.shape) // 16)
    corners = [
        small[rows, columns]
        for rows in (slice(size), slice(-size, None))
        for columns in (slice(size), slice(-size, None))
    ]
    darkest = min(corners, key=lambda corner: float(np.median(corner)))
    level = float(np.median(darkest))
    return level, 1.4826 * float(np.median(np.abs(darkest - level)))


def _is_frame(small: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask is not the head but a rectangle of noisy or grey air around it, inside a still darker rim.

    Nothing at its own rim is as bright as a head.
    """
    from scipy import ndimage

    if not _is_rectangle(mask) or not np.ptp(small[mask]) > 0:
        return False
    rim = mask & (ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] < _RIM * np.sqrt(mask.sum() / np.pi))
    return float((small[rim] > _otsu(small[mask])).mean()) < _DARK_RIM


def _is_rectangle(mask: np.ndarray) -> bool:
    """Whether a mask fills its bounding box as no oval does (pi / 4)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return False
    return bool(mask.sum() >= _RECTANGLE * (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))


def _is_noise(small: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a mask is a rectangle whose neighbouring pixels have little in common (correlation below 0.4)."""
    if not _is_rectangle(mask):
        return False
    both = mask[:, 1:] & mask[:, :-1]
    left, right = small[:, :-1][both], small[:, 1:][both]
    spread = float(left.std() * right.std()) if left.size else 0.0
    if spread <= 1e-12:
        return False  # one value everywhere
    common = float(((left - left.mean()) * (right - right.mean())).mean()) / spread
    return common < _LEAST_LIKE_NEIGHBOUR


def _otsu(values: np.ndarray) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values))


def _component(small: np.ndarray, threshold: float) -> np.ndarray:
    """Largest component above a threshold, bool (h, w), its gaps closed, its holes filled."""
    from scipy import ndimage

    padded = np.pad(_largest(small > threshold), _CLOSING)
    disk = ndimage.generate_binary_structure(2, 1)
    padded = ndimage.binary_fill_holes(ndimage.binary_closing(padded, disk, iterations=_CLOSING))
    # Thin things that touch the head (a headrest, an ear cushion's edge) go.
    opened = _largest(ndimage.binary_opening(padded, disk, iterations=_CLOSING))
    return opened[_CLOSING:-_CLOSING, _CLOSING:-_CLOSING]


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else mask
