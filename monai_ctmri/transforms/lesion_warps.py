"""How a lesion displaces the brain around it: pushed away by mass effect, drawn near by loss of volume."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import InputError

__all__ = ["checked_mass_effect", "radial_warp"]

_LARGEST_MM = 15.0
_REACH = (45.0, 5.0)
_SKULL = (8.0, 3.0)
_OF_RADIUS = 0.6


def radial_warp(core: np.ndarray, brain: np.ndarray, outward_mm: float, spacing_mm: float) -> np.ndarray:
    """Smooth, invertible displacement away from a core, or towards it where ``outward_mm`` is negative.

    With r the distance from the core's centre and R its radius, tissue at r moves along the radius by

    .. math:: d(r) = m \\, r/R \\; (r \\le R), \\qquad d(r) = m \\cos^2(\\pi (r - R) / 2 L) \\; (R < r \\le R + L)

    with ``m`` the movement at the border of the core, limited to 0.6 R, and the reach L = max(45 mm, 5 m). It fades
    out within max(8 mm, 3 m) of the skull, which stands still. As d changes by less than 1 mm a mm, nothing folds. The
    form is a working choice, not a mechanical model.

    Args:
        core: boolean mask (H, W).
        brain: intracranial region, boolean (H, W).
        outward_mm: movement at the border of the core.
        spacing_mm: size of a pixel.

    Returns:
        Backward displacement (2, H, W) in pixels, for :class:`~monai_ctmri.transforms.lesion_painting.Lesion`; zero
        where there is no core.
    """
    if not core.any() or outward_mm == 0:
        return np.zeros((2, *core.shape))
    centre = np.array(ndimage.center_of_mass(core)).reshape(2, 1, 1)
    offset = (np.indices(core.shape) - centre) * spacing_mm
    distance = np.hypot(*offset)
    radius = float(np.sqrt(np.count_nonzero(core) / np.pi) * spacing_mm)
    moved = float(np.clip(outward_mm, -_OF_RADIUS * radius, _OF_RADIUS * radius))
    reach = max(_REACH[0], _REACH[1] * abs(moved))
    beyond = np.clip((distance - radius) / reach, 0.0, 1.0)
    fading = np.where(beyond < 1, np.cos(0.5 * np.pi * beyond) ** 2, 0.0)
    size = moved * np.minimum(distance / radius, 1.0) * fading * _room(brain, abs(moved), spacing_mm)
    # Backward: what is shown here was nearer to the core before it was pushed out.
    return -size * offset / np.maximum(distance, 1e-9) / spacing_mm


def _room(brain: np.ndarray, moved_mm: float, spacing_mm: float) -> np.ndarray:
    """0 at the skull and outside, rising smoothly to 1."""
    depth = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1] * spacing_mm
    return np.sin(0.5 * np.pi * np.clip(depth / max(_SKULL[0], _SKULL[1] * moved_mm), 0.0, 1.0)) ** 2


def checked_mass_effect(value_mm: float, option: str = "mass_effect_mm") -> float:
    """A movement of 0 to 15 mm; InputError, naming the option, for any other."""
    if not 0 <= value_mm <= _LARGEST_MM:
        raise InputError.about(option, f"got {value_mm}", f"give 0 to {_LARGEST_MM:g} mm")
    return float(value_mm)
