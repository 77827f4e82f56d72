"""Lesions that depend on the anatomy they meet: the base that shows a drawing transform the case it draws for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.utils import convert_to_numpy
from scipy import ndimage

from .. import keys as names
from . import shapes, warps
from .brain import BrainMask
from .lesion import LesionTransform, Range, Region

__all__ = ["FLUID_CT_HU", "FLUID_MRI", "AnatomyLesionTransform"]

FLUID_CT_HU: Range = (2.0, 12.0)
"""HU of cerebrospinal fluid, within the 0 to 15 HU of textbooks of head CT."""

FLUID_MRI: dict[str, Range] = {"T1": (-0.7, -0.5), "T2": (0.9, 1.4), "PD": (0.1, 0.3), "FLAIR": (-0.8, -0.6)}
"""Cerebrospinal fluid relative to brain tissue: dark in T1 and FLAIR, bright in T2, a little brighter in PD (the order
of conventional spin-echo contrasts, e.g. Bushberg, The Essential Physics of Medical Imaging, ch. 12)."""

_FLUID_IN_CT = (0.8, 0.4)
_SPUR_MM = 8.0
_FLUID_IN_MRI: dict[str, Range] = {"T1": (0.75, 0.35), "T2": (1.35, 1.9), "FLAIR": (0.7, 0.25)}


class AnatomyLesionTransform(LesionTransform):
    """Base of lesions that are drawn from the pictures, not from the brain mask alone. See :class:`LesionTransform`."""

    _seen: Mapping[Hashable, Any] | None = None

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to inject, and draw the lesion from the case."""
        self._seen = data
        try:
            super().randomize(data)
        finally:
            self._seen = None

    def _picture(self, key: str) -> np.ndarray | None:
        """Picture (H, W) in [0, 1] of the case being drawn for, CT in the window 0 to 80 HU; None when absent."""
        if self._seen is None or key not in self.keys:
            return None
        image = self._images(self._seen).get(key)
        if image is None:
            return None
        return np.clip(image, 0.0, 1.0)

    def _weighting(self) -> str:
        return str((self._seen or {}).get("mri_contrast", self.mri_contrast)).upper()

    def _inner_skull(self, brain: np.ndarray) -> np.ndarray:
        """What the skull encloses, boolean (H, W): a given brain, else what bone in CT encloses, else the brain."""
        if self._seen is not None and self._seen.get(self.brain_key) is not None:
            return brain
        ct = self._picture(names.CT)
        if ct is not None:
            inside = np.asarray(convert_to_numpy(BrainMask()(ct[None].astype(np.float32))))[0] > 0.5
            if np.count_nonzero(inside & brain) > 0.9 * np.count_nonzero(brain) > 0.65 * np.count_nonzero(inside):
                return _without_spurs(inside, _SPUR_MM / self.pixel_spacing_mm)
        return _without_spurs(brain, _SPUR_MM / self.pixel_spacing_mm)

    def _fluid(self, brain: np.ndarray) -> np.ndarray:
        """Share of fluid (H, W) in [0, 1] within the brain, by its brightness against the median of the brain.

        T2 is asked first, then CT, then T1 or FLAIR; PD does not tell fluid from tissue.
        """
        weighting = self._weighting()
        mri, ct = self._picture(names.MRI), self._picture(names.CT)
        if mri is not None and (weighting == "T2" or ct is None) and weighting in _FLUID_IN_MRI:
            picture, (none, full) = mri, _FLUID_IN_MRI[weighting]
        elif ct is not None:
            picture, (none, full) = ct, _FLUID_IN_CT
        else:
            return np.zeros(brain.shape)
        # Noise of CT must not pass for fluid.
        smooth = ndimage.gaussian_filter(picture, 0.8)
        relative = smooth / max(float(np.median(picture[brain])), 1e-6)
        return np.where(brain, np.clip((relative - none) / (full - none), 0.0, 1.0), 0.0)

    def _fluid_region(self, profile: np.ndarray) -> Region:
        variation = shapes.band_limited_noise(self.R, profile.shape, 6.0, self.pixel_spacing_mm)
        return Region(profile, FLUID_CT_HU, FLUID_MRI, self.R.uniform(0.2, 0.8), variation)

    def _point(self, region: np.ndarray) -> tuple[float, float] | None:
        """``location`` as row and column, px; None when it is to be drawn."""
        return None if self.location is None else self._wished(region)

    def _near_location(self, brain: np.ndarray) -> np.ndarray:
        """Weight (H, W): 1 everywhere, or a Gaussian of a fifth of the brain's size around ``location``."""
        point = self._point(brain)
        if point is None:
            return np.ones(brain.shape)
        y, x = np.indices(brain.shape)
        width = 0.2 * np.sqrt(np.count_nonzero(brain))
        return np.exp(-((y - point[0]) ** 2 + (x - point[1]) ** 2) / (2 * width**2))

    def _bearings(self, region: np.ndarray) -> tuple[np.ndarray, float]:
        """Bearing (H, W) of each pixel from the middle of ``region``, degrees (0 front, +90 picture's right, -180 to
        180), and the mean radius of the region, mm."""
        middle = ndimage.center_of_mass(region)
        y, x = np.indices(region.shape, dtype=np.float64)
        radius = float(np.sqrt(np.count_nonzero(region) / np.pi)) * self.pixel_spacing_mm
        return np.rad2deg(np.arctan2(x - middle[1], middle[0] - y)), radius

    def _bearing(self, region: np.ndarray, low: float, high: float) -> float:
        """Bearing of ``location``, else one drawn between ``low`` and ``high`` degrees on a drawn side."""
        drawn = float(self.R.uniform(low, high) * self.R.choice([-1.0, 1.0]))
        point = self._point(region)
        if point is None:
            return drawn
        middle = ndimage.center_of_mass(region)
        return float(np.rad2deg(np.arctan2(point[1] - middle[1], middle[0] - point[0])))

    def _wave(self, shape: tuple[int, int], correlation_mm: float) -> np.ndarray:
        return shapes.band_limited_noise(self.R, shape, correlation_mm, self.pixel_spacing_mm)

    def _depth(self, region: np.ndarray) -> np.ndarray:
        return warps.depth_mm(region, self.pixel_spacing_mm)


def _without_spurs(region: np.ndarray, radius_px: float) -> np.ndarray:
    """Opening by a disc: sinuses and orbits that bone leaves open to the inside of the skull are cut off."""
    padded = np.pad(region, 1)
    core = ndimage.distance_transform_edt(padded) > radius_px
    pieces, count = ndimage.label(core)
    if count == 0:
        return region
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    opened = ndimage.distance_transform_edt(~largest) <= radius_px
    return (opened & padded)[1:-1, 1:-1]
