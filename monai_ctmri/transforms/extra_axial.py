"""Blood and fluid between skull and brain: subdural crescents and epidural lenses that push the cortex inwards."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.config import KeysCollection
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import shapes, warps
from .anatomy_lesion import AnatomyLesionTransform
from .lesion import Lesion, Range, Region

__all__ = [
    "COLLECTION_CT_HU",
    "COLLECTION_MRI",
    "InjectCollectionD",
    "InjectCollectionDict",
    "InjectCollectiond",
]

COLLECTION_CT_HU: dict[str, Range] = {"acute": (50.0, 70.0), "isodense": (30.0, 40.0), "chronic": (0.0, 25.0)}
"""HU by stage. Clotted blood falls by about 1.5 HU a day, so that a collection is as dense as the brain after 1 to 3
weeks (Lee et al., J Korean Med Sci 12, 1997)."""

COLLECTION_MRI: dict[str, dict[str, Range]] = {
    "acute": {"T1": (-0.15, 0.0), "T2": (-0.5, -0.2), "PD": (-0.2, 0.0), "FLAIR": (0.15, 0.5)},
    "isodense": {"T1": (0.3, 0.8), "T2": (0.2, 0.7), "PD": (0.1, 0.3), "FLAIR": (0.5, 1.0)},
    "chronic": {"T1": (-0.35, -0.1), "T2": (0.6, 1.1), "PD": (0.1, 0.3), "FLAIR": (0.3, 0.8)},
}
"""Change relative to brain tissue by stage: deoxyhaemoglobin, extracellular methaemoglobin, proteinaceous fluid (the
order of signals of Fobben et al., AJR 153, 1989; Bradley, Radiology 189, 1993). Working ranges, not measurements."""

_FORMS = ("crescent", "lens")


class InjectCollectiond(AnatomyLesionTransform):
    """Collection along the inner skull of one side.

    A *crescent* (subdural) spreads over 80 to 140 degrees of the convexity and does not cross the midline; a *lens*
    (epidural) is shorter and bulges towards the brain. The cortex below is pushed inwards by a fold-free warp, in both
    modalities alike, that dies away at 4.5 times the thickness. The mask is the collection; ``anomaly`` records
    ``thickness_mm``, ``form``, ``stage`` and ``side`` (of the picture).

    Kinds: ``acute_collection``, ``isodense_collection``, ``chronic_collection``.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the greatest thickness.
        stage: ``"acute"`` (50 to 70 HU), ``"isodense"`` (30 to 40 HU, subacute) or ``"chronic"`` (0 to 25 HU).
        form: ``"crescent"``, ``"lens"`` or None, which draws one (acute) or takes the crescent (other stages).
        args: as for :class:`LesionTransform`. ``location`` gives the direction of the thickest part.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when ``stage`` or ``form`` is unknown.
    """

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (4.0, 20.0),
        *args: Any,
        stage: str = "acute",
        form: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        if stage not in COLLECTION_CT_HU:
            raise InputError.about("stage", f"got {stage!r}", f"use one of {', '.join(COLLECTION_CT_HU)}")
        if form is not None and form not in _FORMS:
            raise InputError.about("form", f"got {form!r}", f"use {' or '.join(_FORMS)}, or None")
        self.stage = stage
        self.form = form
        self.kind = f"{stage}_collection"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        inside = self._inner_skull(brain)
        depth = self._depth(inside)
        size_mm = min(size_mm, 0.4 * float(depth.max()))
        drawn = _FORMS[int(self.R.uniform() < 0.4)] if self.stage == "acute" else "crescent"
        form = self.form or drawn
        bearings, radius = self._bearings(inside)
        lens = form == "lens"
        bearing = self._bearing(inside, *((50.0, 130.0) if lens else (70.0, 110.0)))
        side = 1.0 if bearing >= 0 else -1.0
        # Shorter than where the chord of the skull would be as deep as the lens is thick: both its faces bulge.
        bulging = np.rad2deg(np.sqrt(size_mm / radius)) * self.R.uniform(0.95, 1.1)
        half = bulging if lens else self.R.uniform(40.0, 70.0)
        away = (bearings - bearing + 180.0) % 360.0 - 180.0
        share = np.clip(1 - (away / half) ** 2, 0.0, None)
        profile_along = share if lens else share**0.6
        midline = np.clip(np.minimum(bearings * side, 180.0 - bearings * side) / 12.0, 0.0, 1.0)
        wave = 1 + (0.04 if lens else 0.08) * np.clip(self._wave(brain.shape, 12.0), -2, 2)
        thickness = size_mm * profile_along * midline * wave
        smooth = np.where(inside, ndimage.gaussian_filter(depth, 1.0), 0.0)
        profile, mask = self._part(thickness - np.minimum(smooth, depth), inside & (thickness > 0))
        # New matter takes the grain of what lay in its place; squeezed cortex would show in it as stripes.
        warp = np.where(mask, 0.0, warps.push_warp(inside, thickness, spacing))
        variation = shapes.band_limited_noise(self.R, brain.shape, 5.0, spacing)
        region = Region(
            profile, COLLECTION_CT_HU[self.stage], COLLECTION_MRI[self.stage], self.R.uniform(0.2, 0.8), variation
        )
        details = {
            "thickness_mm": float(size_mm),
            "form": form,
            "stage": self.stage,
            "side": "right" if side > 0 else "left",
            "source": "COLLECTION_CT_HU (Lee 1997), COLLECTION_MRI (Fobben 1989, Bradley 1993)",
        }
        return Lesion(mask, [region], details, warp)


InjectCollectionD = InjectCollectionDict = InjectCollectiond
