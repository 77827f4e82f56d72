"""Injected anomalies that grow: tumour with oedema and mass effect."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.config import KeysCollection
from scipy import ndimage

from .. import keys as names
from . import shapes
from .lesion import Lesion, LesionTransform, Range
from .lesion_warps import checked_mass_effect

__all__ = ["InjectTumourD", "InjectTumourDict", "InjectTumourd"]


class InjectTumourd(LesionTransform):
    """Tumour with a necrotic middle and finger-like oedema that spares the cortex.

    ``size_mm`` (25 to 60 by default) includes the oedema; the core takes 20 to 35 % of the area and is as large as
    the edge of the brain allows. See :class:`LesionTransform`.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the diameter of the disc with the area of the mask, oedema included.
        args: as for :class:`LesionTransform`.
        mass_effect_mm: how far tissue at the border of the core is pushed outwards, 2 to 8 mm in most, at most 0.6 of
            the radius, see :func:`~monai_ctmri.transforms.lesion_warps.radial_warp`. Defaults to 0: nothing moves.
        kwargs: as for :class:`LesionTransform`.
    """

    kind = "tumour"

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (25.0, 60.0),
        *args: Any,
        mass_effect_mm: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        self.mass_effect_mm = checked_mass_effect(mass_effect_mm)

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        depth = ndimage.distance_transform_edt(np.pad(brain, 1))[1:-1, 1:-1] * spacing
        white = depth > min(5.0, 0.3 * float(depth.max()))
        # Oedema follows white matter: it ends at the cortex and at the fissure between the hemispheres.
        allowed = self._one_side(white, brain)
        area = min(self._area_mm2(size_mm, brain), 0.45 * np.count_nonzero(allowed) * spacing**2)
        centre = self._centre(allowed, 0.38 * size_mm, brain)
        share = self.R.uniform(0.2, 0.35)
        diameter = size_mm * np.sqrt(share)
        blob = shapes.blob_level(self.R, brain.shape, centre, diameter, spacing)
        core_level = shapes.level_for_area(blob, allowed, area * share, spacing)
        fingers = np.maximum(shapes.finger_level(self.R, brain.shape, centre, size_mm, spacing), core_level + 2.0)
        whole, mask = self._part(shapes.level_for_area(fingers, allowed, area, spacing), allowed)
        core, core_mask = self._part(core_level, mask)
        inner = shapes.blob_level(self.R, brain.shape, centre, 0.55 * diameter, spacing, irregularity=0.14)
        inside = ndimage.binary_erosion(core_mask) if core_mask.sum() > 25 else core_mask
        necrosis, _ = self._part(shapes.level_for_area(inner, inside, area * share * 0.25, spacing), inside)
        regions = [
            self._region(whole, "oedema", size_mm, spares_fluid=True),
            self._region(core, "core", diameter),
            self._region(necrosis, "necrosis", diameter),
        ]
        lesion = Lesion(mask, regions, {"core_mm": shapes.equivalent_diameter_mm(core_mask, spacing)})
        return self._pushing(lesion, core_mask, brain, self.mass_effect_mm)


InjectTumourD = InjectTumourDict = InjectTumourd
