"""Injected artefacts of CT, by way of its projections: streaks of metal, rings, noise of a low dose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from .. import keys as names
from . import projections
from .artefact import ArtefactTransform
from .lesion import Range

__all__ = [
    "InjectLowDoseD",
    "InjectLowDoseDict",
    "InjectLowDosed",
    "InjectRingsD",
    "InjectRingsDict",
    "InjectRingsd",
    "InjectStreaksD",
    "InjectStreaksDict",
    "InjectStreaksd",
]

_BONE_HU = 300.0
_METAL_HU = 3000.0


class InjectStreaksd(ArtefactTransform):
    """Streaks of one to three pieces of metal on the scalp (electrode, hair pin), which MRI makes one take off.

    ``strength`` is the 99th percentile of the absolute change in the head, 50 to 300 HU by default. The metal itself
    shows too. See :func:`~monai_ctmri.transforms.projections.streak_error` and :class:`ArtefactTransform`.
    """

    kind = "ct_streaks"
    modality = names.CT
    source = "De Man et al., IEEE Trans Nucl Sci 46(3), 1999; Barrett and Keat, RadioGraphics 24(6), 2004"
    _strength: Range = (50.0, 300.0)

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        count = int(self.R.randint(1, 4))
        bearing = self.R.uniform(0, 360)
        return {
            "bearings_degrees": [float((bearing + self.R.uniform(-60, 60) * (i > 0)) % 360) for i in range(count)],
            "radii_mm": [float(self.R.uniform(1.0, 3.0)) for _ in range(count)],
        }

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        spacing, shape = self.pixel_spacing_mm, (image.shape[0], image.shape[1])
        metal, painted = np.zeros(()), np.zeros(shape)
        for bearing, radius in zip(drawn["bearings_degrees"], drawn["radii_mm"], strict=True):
            centre = _on_scalp(head, bearing, radius / spacing)
            metal = metal + projections.disc_integrals(shape, centre, radius, spacing)
            away = np.hypot(*(np.indices(shape) - np.reshape(centre, (2, 1, 1))))
            painted = np.maximum(painted, np.clip(radius / spacing - away + 0.5, 0, 1))
        bone = projections.line_integrals((image > _BONE_HU).astype(np.float64), spacing)
        error = projections.streak_error(self._noise, metal / metal.max(), bone / max(float(bone.max()), 1e-9))
        streaks = projections.reconstruct(error, shape, spacing)
        streaks *= drawn["strength"] / np.percentile(np.abs(streaks[head]), 99)
        return np.where(painted > 0, painted * (_METAL_HU - image) + (1 - painted) * streaks, streaks)


class InjectRingsd(ArtefactTransform):
    """Rings about the axis of rotation from one to four channels of the detector with a wrong gain.

    ``strength`` is the height of the strongest ring, 50 to 150 HU by default. The axis lies within 10 mm of the middle
    of the picture. See :func:`~monai_ctmri.transforms.projections.ring_profile` and :class:`ArtefactTransform`.
    """

    kind = "ct_rings"
    modality = names.CT
    source = "Barrett and Keat, RadioGraphics 24(6), 2004; Sijbers and Postnov, Phys Med Biol 49(14), 2004"
    _strength: Range = (50.0, 150.0)
    _level_mm = 0.5

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        count = int(self.R.randint(1, 5))
        return {
            "axis_mm": [float(each) for each in self.R.uniform(-10.0, 10.0, 2)],
            "radii_mm": [float(each) for each in self.R.uniform(10.0, 70.0, count)],
            "gains": [
                1.0,
                *(float(each) for each in self.R.uniform(0.4, 1.0, count - 1) * self.R.choice([-1, 1], count - 1)),
            ],
            "width_mm": float(self.R.uniform(0.4, 0.8)),
        }

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        spacing = self.pixel_spacing_mm
        middle = (np.array(image.shape) - 1) / 2 + np.array(drawn["axis_mm"]) / spacing
        away = np.hypot(*(np.indices(image.shape) - middle[:, None, None]))
        radii = np.arange(0.0, away.max() + 1, 0.25)
        profile = np.zeros(radii.size)
        width = max(drawn["width_mm"] / spacing, 0.6)
        for radius, gain in zip(drawn["radii_mm"], drawn["gains"], strict=True):
            profile += gain * projections.ring_profile(radii, radius / spacing, width)
        return drawn["strength"] * np.interp(away, radii, profile)


class InjectLowDosed(ArtefactTransform):
    """Noise of a low dose: quantum noise of every ray, as its path makes it, then filtered back-projection.

    ``strength`` is the standard deviation of the added noise in the head, 6 to 16 HU by default (a head CT of full dose
    has 3 to 5). See
    :func:`~monai_ctmri.transforms.projections.dose_noise` and :class:`ArtefactTransform`.
    """

    kind = "ct_low_dose"
    modality = names.CT
    source = "Zeng et al., IEEE Trans Nucl Sci 62(5), 2015"
    _strength: Range = (6.0, 16.0)
    _level_mm = 4.0

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        spacing, shape = self.pixel_spacing_mm, (image.shape[0], image.shape[1])
        integrals = projections.line_integrals(projections.attenuation(image), spacing)
        at = np.argwhere(ndimage.binary_erosion(head, iterations=max(1, round(8 / spacing))))
        at = (at if len(at) else np.argwhere(head)) - np.array(shape) // 2
        noise, _ = projections.dose_noise(
            self._noise, integrals, at[:: max(1, len(at) // 200)], drawn["strength"], spacing
        )
        return projections.reconstruct(noise, shape, spacing)


def _on_scalp(head: np.ndarray, bearing_degrees: float, radius_px: float) -> tuple[float, float]:
    """Row and column of a piece of metal that touches the head from outside; bearing 0 is the front, 90 the right."""
    rows, columns = np.nonzero(head)
    middle = rows.mean(), columns.mean()
    angle = np.deg2rad(bearing_degrees)
    direction = -np.cos(angle), np.sin(angle)
    along = (rows - middle[0]) * direction[0] + (columns - middle[1]) * direction[1]
    across = (rows - middle[0]) * direction[1] - (columns - middle[1]) * direction[0]
    reach = float(along[np.abs(across) <= 1.0].max()) + radius_px
    return middle[0] + reach * direction[0], middle[1] + reach * direction[1]


InjectStreaksD = InjectStreaksDict = InjectStreaksd
InjectRingsD = InjectRingsDict = InjectRingsd
InjectLowDoseD = InjectLowDoseDict = InjectLowDosed
