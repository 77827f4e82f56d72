"""Injected anomalies of the vessels: hemorrhage, and the infarct from its first hours to its scar."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.config import KeysCollection
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import shapes
from .lesion import CT_HU, Lesion, LesionTransform, Range
from .lesion_warps import checked_mass_effect

__all__ = [
    "InjectChronicInfarctD",
    "InjectChronicInfarctDict",
    "InjectChronicInfarctd",
    "InjectHemorrhageD",
    "InjectHemorrhageDict",
    "InjectHemorrhaged",
    "InjectInfarctD",
    "InjectInfarctDict",
    "InjectInfarctd",
]


class InjectHemorrhaged(LesionTransform):
    """Acute bleeding into the tissue: an irregular dense core within a thin rim of oedema.

    ``size_mm`` (default 10 to 40) includes the rim, which is 8 to 15 % of it and at most 4 mm wide. See
    :class:`LesionTransform`.

    Args:
        args: as for :class:`LesionTransform`.
        mass_effect_mm: how far tissue at the border of the blood is pushed outwards, at most 0.6 of the radius, see
            :func:`~monai_ctmri.transforms.lesion_warps.radial_warp`. Defaults to 0: nothing moves.
        kwargs: as for :class:`LesionTransform`.
    """

    kind = "hemorrhage"

    def __init__(self, *args: Any, mass_effect_mm: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mass_effect_mm = checked_mass_effect(mass_effect_mm)

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        allowed = self._one_side(brain, brain)
        centre = self._centre(allowed, 0.55 * size_mm, brain)
        area = min(self._area_mm2(size_mm, brain), 0.6 * np.count_nonzero(allowed) * spacing**2)
        rim = min(self.R.uniform(0.08, 0.15) * size_mm, 4.0)
        blob = shapes.blob_level(self.R, brain.shape, centre, size_mm, spacing)
        whole, mask = self._part(shapes.level_for_area(blob, allowed, area, spacing), allowed)
        inner = shapes.level_for_area(blob, mask, area * (1 - 2 * rim / size_mm) ** 2, spacing)
        core, core_mask = self._part(inner, mask)
        regions = [self._region(whole, "rim", size_mm, spares_fluid=True), self._region(core, "core", size_mm)]
        details: dict[str, Any] = {"rim_mm": float(rim)}
        return self._pushing(Lesion(mask, regions, details), core_mask, brain, self.mass_effect_mm)


class InjectInfarctd(LesionTransform):
    """Ischaemic stroke: a wedge in the territory of one cerebral artery, apex inwards, base on the cortex.

    Tissue stays but is shifted, grey and white are drawn together, and fluid is spared. A ``location`` gives the
    direction from the middle of the brain, and with it the territory; the wedge reaches the cortex all the same. See
    :class:`LesionTransform`.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the diameter of the disc with the area of the mask.
        stage: ``"subacute"`` (kind ``infarct``, -8 to -20 HU) or ``"early"`` (kind ``early_infarct``, -3 to -8 HU,
            MRI nearly silent).
        args: as for :class:`LesionTransform`.
        kwargs: as for :class:`LesionTransform`.
    """

    kind = "infarct"
    # Bearings from the front of the head, and how often: middle, anterior, posterior cerebral artery.
    _territories: tuple[tuple[str, Range, float], ...] = (
        ("MCA", (55.0, 115.0), 0.65),
        ("ACA", (12.0, 30.0), 0.15),
        ("PCA", (145.0, 168.0), 0.2),
    )

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (25.0, 60.0),
        *args: Any,
        stage: str = "subacute",
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        if stage not in CT_HU["infarct"]:
            raise InputError.about("stage", f"got {stage!r}", f"use one of {', '.join(CT_HU['infarct'])}")
        self.stage = stage
        self.kind = "infarct" if stage == "subacute" else "early_infarct"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        level, territory = self._wedge(brain, size_mm)
        profile, mask = self._part(level, brain)
        region = self._region(profile, self.stage, size_mm, replaces=False, spares_fluid=True)
        return Lesion(mask, [region], {"territory": territory, "stage": self.stage})

    def _wedge(self, brain: np.ndarray, size_mm: float) -> tuple[np.ndarray, str]:
        """Level field (H, W) in mm of a wedge in one territory, and the territory's name."""
        share = [weight for *_, weight in self._territories]
        territory, bearings, _ = self._territories[self.R.choice(len(share), p=share)]
        bearing = self.R.uniform(*bearings) * self.R.choice([-1.0, 1.0])
        if self.location is not None:
            row, column = np.subtract(self._wished(brain), ndimage.center_of_mass(brain))
            bearing = float(np.rad2deg(np.arctan2(column, -row)))
            territory = min(self._territories, key=lambda one: _degrees_to(abs(bearing), one[1]))[0]
        level = shapes.wedge_level(self.R, brain, bearing, self._area_mm2(size_mm, brain), self.pixel_spacing_mm)
        return level, territory


class InjectChronicInfarctd(InjectInfarctd):
    """Old infarct: a wedge whose tissue is gone, filled with fluid, within a rim of gliosis (bright in FLAIR).

    The brain has lost volume: what lies around is drawn towards the wedge, so that the ventricle next to it widens.
    ``location`` as for :class:`InjectInfarctd`, everything else as for :class:`LesionTransform`.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the diameter of the disc with the area of the mask, rim included. Defaults to 25 to 50.
        args: as for :class:`LesionTransform`.
        volume_loss_mm: how far tissue at the border is drawn in, at most 0.6 of the radius. Defaults to 3; 0 moves
            nothing.
        kwargs: as for :class:`LesionTransform`.
    """

    kind = "chronic_infarct"

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (25.0, 50.0),
        *args: Any,
        volume_loss_mm: float = 3.0,
        **kwargs: Any,
    ) -> None:
        LesionTransform.__init__(self, keys, size_mm, *args, **kwargs)
        self.volume_loss_mm = checked_mass_effect(volume_loss_mm, "volume_loss_mm")

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        level, territory = self._wedge(brain, size_mm)
        whole, mask = self._part(level, brain)
        rim = float(min(self.R.uniform(2.5, 4.5), 0.15 * size_mm))
        # Measured in the mask alone: the scar has no rim where it meets the skull.
        depth = ndimage.distance_transform_edt(mask | ~brain) * self.pixel_spacing_mm
        core, core_mask = self._part(np.where(mask, depth - rim, -rim), mask)
        regions = [
            self._region(whole, "rim", size_mm, replaces=False, spares_fluid=True),
            self._region(core, "core", size_mm),
        ]
        lesion = Lesion(mask, regions, {"territory": territory, "rim_mm": rim})
        return self._pushing(lesion, core_mask, brain, -self.volume_loss_mm)


def _degrees_to(bearing: float, bearings: Range) -> float:
    """Distance of a bearing to a range of bearings."""
    return max(bearings[0] - bearing, bearing - bearings[1], 0.0)


InjectHemorrhageD = InjectHemorrhageDict = InjectHemorrhaged
InjectInfarctD = InjectInfarctDict = InjectInfarctd
InjectChronicInfarctD = InjectChronicInfarctDict = InjectChronicInfarctd
