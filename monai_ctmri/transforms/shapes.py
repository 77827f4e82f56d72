"""Irregular lesion shapes on one axial slice, sampled in millimetres.

A shape is a *level field*: float array (H, W), in mm, positive inside the lesion and negative outside.
:func:`level_for_area` shifts a field until the positive part has the wished area, so that a lesion keeps its size
however irregular or clipped it is; :func:`soft_edge` turns a field into a partial-volume profile and a hard mask.
Every random draw comes from the ``np.random.RandomState`` that is handed in. Pictures have row 0 at the front of the
head.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = [
    "EDGE_REACH_PX",
    "band_limited_noise",
    "blob_level",
    "equivalent_diameter_mm",
    "finger_level",
    "intracranial_mask",
    "level_for_area",
    "sample_centre",
    "soft_edge",
    "wedge_level",
]

EDGE_REACH_PX = 2.0
"""A profile of :func:`soft_edge` is zero farther than this from its mask, in pixels."""

_GRADIENT_FLOOR = 1e-3


def intracranial_mask(image: np.ndarray, low: float = 0.08, high: float = 0.95) -> np.ndarray:
    """Estimate the inside of the skull of one preprocessed slice.

    Tissue is what lies between ``low`` and ``high``; opening cuts the scalp and thin bridges off, the largest piece
    is the brain, and its holes (ventricles, calcifications) are filled.

    Args:
        image: slice (H, W), values in [0, 1].
        low: values at or below are background, bone in MRI, or fluid.
        high: values at or above are bone in CT, or fluid in T2.

    Returns:
        Boolean mask (H, W); all False when the slice holds no tissue.
    """
    tissue = (image > low) & (image < high)
    radius = max(1, round(min(image.shape) / 64))
    disc = _disc(radius)
    pieces, count = ndimage.label(ndimage.binary_opening(tissue, disc))
    if count == 0:
        return np.zeros(image.shape, dtype=bool)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    regrown = ndimage.binary_dilation(largest, disc) & tissue
    # Padding keeps the closing from eroding a brain that touches the frame.
    closed = ndimage.binary_closing(np.pad(regrown, 2 * radius), disc, iterations=2)
    return ndimage.binary_fill_holes(closed)[2 * radius : -2 * radius, 2 * radius : -2 * radius]


def band_limited_noise(
    random: np.random.RandomState, shape: tuple[int, int], correlation_mm: float, spacing_mm: float
) -> np.ndarray:
    """Draw smooth noise: white noise filtered by a Gaussian of standard deviation ``correlation_mm``.

    Returns:
        Array (H, W) with mean 0 and standard deviation 1 (no unit).
    """
    white = random.standard_normal(shape)
    smooth = ndimage.gaussian_filter(white, correlation_mm / spacing_mm, mode="wrap")
    smooth -= smooth.mean()
    return smooth / max(float(smooth.std()), 1e-12)


def sample_centre(
    random: np.random.RandomState, region: np.ndarray, margin_mm: float, spacing_mm: float
) -> tuple[float, float]:
    """Draw a point of ``region`` at least ``margin_mm`` from its border, or as deep as a small region allows.

    Returns:
        Row and column, in pixels.
    """
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1] * spacing_mm
    candidates = np.argwhere(region & (depth >= min(margin_mm, 0.75 * float(depth.max()))))
    row, column = candidates[random.randint(len(candidates))]
    return float(row), float(column)


def blob_level(
    random: np.random.RandomState,
    shape: tuple[int, int],
    centre: tuple[float, float],
    diameter_mm: float,
    spacing_mm: float,
    irregularity: float = 0.1,
) -> np.ndarray:
    """Sample an irregular blob: elliptic distance plus band-limited noise of two scales.

    Args:
        random: source of every draw.
        shape: (H, W).
        centre: row and column, pixels.
        diameter_mm: diameter of the blob before the noise.
        spacing_mm: size of a pixel.
        irregularity: standard deviation of the border, as a share of the diameter.

    Returns:
        Level field (H, W), mm.
    """
    angle, aspect = random.uniform(0.0, np.pi), random.uniform(0.6, 0.95)
    rows, columns = _offsets_mm(shape, centre, spacing_mm)
    along = rows * np.cos(angle) + columns * np.sin(angle)
    across = columns * np.cos(angle) - rows * np.sin(angle)
    distance = np.hypot(along * np.sqrt(aspect), across / np.sqrt(aspect))
    coarse = band_limited_noise(random, shape, max(diameter_mm / 6, spacing_mm), spacing_mm)
    fine = band_limited_noise(random, shape, max(diameter_mm / 14, spacing_mm), spacing_mm)
    return diameter_mm / 2 - distance + irregularity * diameter_mm * (0.85 * coarse + 0.45 * fine)


def wedge_level(
    random: np.random.RandomState,
    brain: np.ndarray,
    bearing_degrees: float,
    area_mm2: float,
    spacing_mm: float,
) -> np.ndarray:
    """Sample a wedge whose apex points to the middle of the brain and whose base is the cortex.

    Args:
        random: source of every draw.
        brain: boolean mask (H, W) the wedge ends at.
        bearing_degrees: direction from the middle of the brain, 0 towards the front of the head, +90 towards the
            picture's right.
        area_mm2: area of the wedge; it is held by the opening angle.
        spacing_mm: size of a pixel.

    Returns:
        Level field (H, W), mm; the lesion is its positive part inside ``brain``, on one side of the midline.
    """
    middle = ndimage.center_of_mass(brain)
    direction = np.array([-np.cos(np.deg2rad(bearing_degrees)), np.sin(np.deg2rad(bearing_degrees))])
    rows, columns = _offsets_mm(brain.shape, (float(middle[0]), float(middle[1])), spacing_mm)
    radius = _reach_mm(brain, middle, direction, spacing_mm)
    # area = length^2 * tan(half angle) for a triangle; half angles of 22-35 degrees look like a branch territory.
    length = min(np.sqrt(area_mm2 / random.uniform(0.4, 0.7)), 0.88 * radius)
    side = columns * np.sign(direction[1] or 1.0)
    wave = 0.045 * length
    rows = rows + wave * band_limited_noise(random, brain.shape, length / 9, spacing_mm)
    columns = columns + wave * band_limited_noise(random, brain.shape, length / 9, spacing_mm)
    along = rows * direction[0] + columns * direction[1] - (radius - length)
    across = np.abs(rows * direction[1] - columns * direction[0])
    ratio = np.where(along > 0, across / np.maximum(along, 1e-6), np.inf)
    open_to = brain & (side > 0) & (along > 0)
    tangent = -_threshold(-ratio, open_to, area_mm2, spacing_mm)
    return np.minimum(along * tangent - across, side)


def finger_level(
    random: np.random.RandomState,
    shape: tuple[int, int],
    centre: tuple[float, float],
    diameter_mm: float,
    spacing_mm: float,
) -> np.ndarray:
    """Sample finger-like oedema: a round base from which 5 to 7 tapered, bent fingers reach out.

    Args:
        random: source of every draw.
        shape: (H, W).
        centre: row and column, pixels.
        diameter_mm: diameter of a disc of about the same area.
        spacing_mm: size of a pixel.

    Returns:
        Level field (H, W), mm.
    """
    rows, columns = _offsets_mm(shape, centre, spacing_mm)
    bend = 0.08 * diameter_mm
    rows = rows + bend * band_limited_noise(random, shape, diameter_mm / 6, spacing_mm)
    columns = columns + bend * band_limited_noise(random, shape, diameter_mm / 7, spacing_mm)
    level = 0.33 * diameter_mm - np.hypot(rows, columns)
    count = random.randint(5, 8)
    start = random.uniform(0.0, 2 * np.pi)
    for index in range(count):
        angle = start + 2 * np.pi * (index + random.uniform(-0.3, 0.3)) / count
        length = diameter_mm * random.uniform(0.45, 1.0)
        width = diameter_mm * random.uniform(0.08, 0.14)
        along = rows * np.cos(angle) + columns * np.sin(angle)
        across = rows * np.sin(angle) - columns * np.cos(angle)
        share = np.clip(along / length, 0.0, 1.0)
        level = np.maximum(level, width * (1 - 0.6 * share) - np.hypot(along - share * length, across))
    return level


def level_for_area(level: np.ndarray, allowed: np.ndarray, area_mm2: float, spacing_mm: float) -> np.ndarray:
    """Shift a level field until its positive part inside ``allowed`` has ``area_mm2`` (at least one pixel).

    Returns:
        Level field (H, W), mm.
    """
    return level - _threshold(level, allowed, area_mm2, spacing_mm)


def soft_edge(
    level: np.ndarray, allowed: np.ndarray, softness_mm: float, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a level field into a partial-volume profile.

    The edge is a raised cosine over the distance to the border, of the slope of a Gaussian blur of standard deviation
    ``softness_mm``; unlike a Gaussian it ends, at most :data:`EDGE_REACH_PX` from the mask.

    Args:
        level: level field (H, W), mm.
        allowed: boolean mask (H, W) to which the lesion is clipped.
        softness_mm: blur of the edge.
        spacing_mm: size of a pixel.

    Returns:
        ``profile`` (H, W) in [0, 1], and ``mask``, boolean (H, W): where the profile exceeds .5. Only the largest
        piece of the shape is kept.
    """
    slope = np.hypot(*np.gradient(level))
    distance_px = level / np.maximum(slope, _GRADIENT_FLOOR)
    width_px = float(np.clip(2.0 * softness_mm / spacing_mm, 0.75, EDGE_REACH_PX))
    profile = 0.5 + 0.5 * np.sin(0.5 * np.pi * np.clip(distance_px / width_px, -1.0, 1.0))
    inside = (level > 0) & allowed
    pieces, count = ndimage.label(inside, np.ones((3, 3)))
    if count == 0:
        return np.zeros(level.shape), inside
    mask = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    near = ndimage.distance_transform_edt(~mask) <= EDGE_REACH_PX
    # Islands that were dropped must not shine through within the reach of the edge.
    profile = np.where(near & allowed & (mask | ~inside), profile, 0.0)
    return np.where(mask, np.maximum(profile, 0.5 + 1e-6), np.minimum(profile, 0.5)), mask


def equivalent_diameter_mm(mask: np.ndarray, spacing_mm: float) -> float:
    """Diameter of the disc with the area of ``mask``, mm."""
    return float(2.0 * np.sqrt(np.count_nonzero(mask) / np.pi) * spacing_mm)


def _threshold(values: np.ndarray, allowed: np.ndarray, area_mm2: float, spacing_mm: float) -> float:
    """The value that the wished area of ``allowed`` exceeds."""
    ranked = np.sort(values[allowed & np.isfinite(values)])[::-1]
    if ranked.size < 2:
        return float(ranked[0]) - 1e-6 if ranked.size else 0.0
    count = int(np.clip(round(area_mm2 / spacing_mm**2), 1, ranked.size - 1))
    return float(0.5 * (ranked[count - 1] + ranked[count]))


def _offsets_mm(
    shape: tuple[int, ...], centre: tuple[float, float], spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices(shape, dtype=np.float64)
    return (rows - centre[0]) * spacing_mm, (columns - centre[1]) * spacing_mm


def _reach_mm(brain: np.ndarray, middle: tuple[float, ...], direction: np.ndarray, spacing_mm: float) -> float:
    """Distance from the middle of the brain to its last pixel in a direction, mm."""
    steps = np.arange(0.0, float(np.hypot(*brain.shape)), 0.5)
    rows = np.rint(middle[0] + steps * direction[0]).astype(int)
    columns = np.rint(middle[1] + steps * direction[1]).astype(int)
    framed = (rows >= 0) & (rows < brain.shape[0]) & (columns >= 0) & (columns < brain.shape[1])
    hits = steps[framed][brain[rows[framed], columns[framed]]]
    return float(hits[-1] if hits.size else 1.0) * spacing_mm


def _disc(radius: int) -> np.ndarray:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2
