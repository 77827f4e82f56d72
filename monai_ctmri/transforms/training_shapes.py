"""Simple shapes for training anomalies: star-shaped blobs, turned boxes and round bumps, drawn in pixels.

They share nothing with :mod:`~monai_ctmri.transforms.shapes`, from which the test lesions are drawn: a model must not
learn the outline of what it is tested on. A *profile* is a float32 array (H, W) in [0, 1], 1 inside the shape, with an
edge ``edge_px`` wide on either side of the border; it exceeds .5 on an area equal to that of a disc of the wished
diameter (before clipping at the frame).
"""

from __future__ import annotations

import numpy as np

__all__ = ["box_profile", "bump_profile", "coarse_noise", "sample_pixel", "star_profile"]

_WAVES = np.arange(2, 6)
_WAVINESS = 0.25


def sample_pixel(random: np.random.RandomState, region: np.ndarray) -> tuple[int, int]:
    """Draw a pixel (row, column) of a boolean region (H, W), each with the same chance."""
    inside = np.flatnonzero(region)
    row, column = np.unravel_index(inside[random.randint(len(inside))], region.shape)
    return int(row), int(column)


def star_profile(
    random: np.random.RandomState,
    shape: tuple[int, ...],
    centre: tuple[float, float],
    diameter_px: float,
    edge_px: float = 1.0,
) -> np.ndarray:
    """Draw a blob whose border is ``r(angle) = r0 (1 + sum a_k cos(k angle + phase_k))``, k = 2 to 5.

    ``a_k`` ~ U(-.25, .25) / k, and ``r0`` holds the area: ``pi r0^2 (1 + sum a_k^2 / 2) = pi d^2 / 4``.
    """
    height = random.uniform(-_WAVINESS, _WAVINESS, len(_WAVES)) / _WAVES
    phase = random.uniform(0.0, 2 * np.pi, len(_WAVES))
    mean_radius = diameter_px / 2 / np.sqrt(1 + np.sum(height**2) / 2)
    rows, columns, window = _offsets(shape, centre, mean_radius * (1 + np.abs(height).sum()) + edge_px)
    angle = np.arctan2(rows, columns)
    wave = sum(a * np.cos(k * angle + p) for a, k, p in zip(height, _WAVES, phase, strict=True))
    return _placed(_edge(mean_radius * (1 + wave) - np.hypot(rows, columns), edge_px), shape, window)


def box_profile(
    random: np.random.RandomState,
    shape: tuple[int, ...],
    centre: tuple[float, float],
    diameter_px: float,
    edge_px: float = 1.0,
) -> np.ndarray:
    """Draw a rectangle turned by any angle, its shorter side .5 to 1 of the longer."""
    angle, aspect = random.uniform(0.0, np.pi), random.uniform(0.5, 1.0)
    half_long = np.sqrt(np.pi / aspect) * diameter_px / 4
    rows, columns, window = _offsets(shape, centre, half_long * np.hypot(1, aspect) + edge_px)
    along = np.abs(rows * np.cos(angle) + columns * np.sin(angle))
    across = np.abs(columns * np.cos(angle) - rows * np.sin(angle))
    level = np.minimum(half_long - along, half_long * aspect - across)
    return _placed(_edge(level, edge_px), shape, window)


def bump_profile(shape: tuple[int, ...], centre: tuple[float, float], diameter_px: float) -> np.ndarray:
    """Make a round bump ``cos^2(pi distance / (2 diameter))``: .5 at half the diameter, 0 from a whole one on.

    Its steepest slope is ``pi / (2 diameter)`` a pixel, which bounds how far a warp may move without folding.
    """
    rows, columns, window = _offsets(shape, centre, diameter_px)
    distance = np.minimum(np.hypot(rows, columns) / diameter_px, 1.0)
    return _placed(np.cos(0.5 * np.pi * distance) ** 2, shape, window)


def coarse_noise(random: np.random.RandomState, shape: tuple[int, ...], grain_px: float) -> np.ndarray:
    """Draw noise (H, W) with one standard normal value every ``grain_px`` pixels, bilinear in between.

    Grid and picture are shifted against each other at random. The coarse noise of Kascenas, Pugeault and O'Neil,
    "Denoising autoencoders for unsupervised anomaly detection in brain MRI", MIDL 2022.
    """
    grain = max(float(grain_px), 1.0)
    out = random.standard_normal([int(np.ceil(size / grain)) + 2 for size in shape])
    for axis, size in enumerate(shape):
        place = np.arange(size) / grain + random.uniform()
        low = place.astype(int)
        share = np.expand_dims(place - low, tuple(i for i in range(len(shape)) if i != axis))
        out = out.take(low, axis) * (1 - share) + out.take(low + 1, axis) * share
    return out.astype(np.float32)


def _offsets(
    shape: tuple[int, ...], centre: tuple[float, float], reach: float
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """Distances from the centre within ``reach`` pixels, clipped to the frame, and the window they belong to."""
    top, left = (max(int(np.floor(c - reach)), 0) for c in centre)
    bottom, right = (min(int(np.ceil(c + reach)) + 1, size) for c, size in zip(centre, shape, strict=True))
    rows, columns = np.ogrid[top:bottom, left:right]
    return rows - centre[0], columns - centre[1], (slice(top, bottom), slice(left, right))


def _edge(level: np.ndarray, edge_px: float) -> np.ndarray:
    return 0.5 + 0.5 * np.sin(0.5 * np.pi * np.clip(level / max(edge_px, 1e-6), -1.0, 1.0))


def _placed(values: np.ndarray, shape: tuple[int, ...], window: tuple[slice, slice]) -> np.ndarray:
    whole = np.zeros(shape, dtype=np.float32)
    whole[window] = values
    return whole
