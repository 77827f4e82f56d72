"""Anatomy in the wrong place: midline shift, hydrocephalus and atrophy, by warps that do not fold tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.config import KeysCollection
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import warps
from .anatomy_lesion import AnatomyLesionTransform
from .lesion import Lesion, Range

__all__ = [
    "InjectAtrophyD",
    "InjectAtrophyDict",
    "InjectAtrophyd",
    "InjectHydrocephalusD",
    "InjectHydrocephalusDict",
    "InjectHydrocephalusd",
    "InjectMidlineShiftD",
    "InjectMidlineShiftDict",
    "InjectMidlineShiftd",
]

_LEAST_FLUID_MM2 = 100.0


class InjectMidlineShiftd(AnatomyLesionTransform):
    """The middle of the brain lies to one side: a smooth, fold-free warp alone, intensities kept.

    The shift is greatest near the middle and none at the skull. 5 mm is where treatment is considered (Bullock et al.,
    Neurosurgery 58 suppl, 2006). The mask is where tissue moved by more than half of the greatest shift; ``anomaly``
    records ``shift_mm``, ``side`` (of the picture, towards which it moved) and ``least_jacobian``.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the greatest shift.
        args: as for :class:`LesionTransform`. ``location`` is where the shift is greatest.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when tissue would fold.
    """

    kind = "midline_shift"

    def __init__(
        self, keys: KeysCollection = names.MODALITIES, size_mm: Range = (3.0, 15.0), *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        inside = self._inner_skull(brain)
        middle, extent = ndimage.center_of_mass(inside), np.sqrt(np.count_nonzero(inside))
        side = float(self.R.choice([-1.0, 1.0]))
        drawn = tuple(float(m + extent * self.R.uniform(-0.06, 0.06)) for m in middle)
        centre = (drawn[0], drawn[1])
        point = self._point(inside)
        if point is not None:
            # Tissue near the skull cannot move: the nearest place that can is within a tenth of the middle.
            bounds = [(m - 0.1 * extent, m + 0.1 * extent) for m in middle]
            centre = (float(np.clip(point[0], *bounds[0])), float(np.clip(point[1], *bounds[1])))
        warp = warps.shift_warp(inside, centre, (0.0, side * size_mm), self.pixel_spacing_mm)
        least = float(warps.jacobian_determinant(warp).min())
        target = np.rint([centre[0], centre[1] + side * size_mm / self.pixel_spacing_mm]).astype(int)
        if least <= warps.LEAST_JACOBIAN or not (0 <= target[1] < inside.shape[1] and inside[tuple(target)]):
            raise InputError.about(
                "size_mm", f"a shift of {size_mm:.0f} mm would fold this brain", "give a smaller one"
            )
        moved = np.hypot(*warp) * self.pixel_spacing_mm
        details = {
            "shift_mm": float(moved.max()),
            "side": "right" if side > 0 else "left",
            "least_jacobian": least,
            "source": "warp only; 3 to 15 mm around the 5 mm of Bullock 2006",
        }
        return Lesion(moved > 0.5 * moved.max(), [], details, warp)


class _Widening(AnatomyLesionTransform):
    """What hydrocephalus and atrophy share: fluid that takes more room by ``dilation``."""

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (1.0, 12.0),
        *args: Any,
        dilation: Range = (0.1, 0.6),
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        if len(dilation) != 2 or not 0 < dilation[0] <= dilation[1]:
            raise InputError.about("dilation", f"got {dilation}", "give (low, high) with 0 < low <= high, 0.1 = 10 %")
        self.dilation = (float(dilation[0]), float(dilation[1]))


class InjectHydrocephalusd(_Widening):
    """Ventricles that take 10 to 60 % more area; their walls and the white matter around move outwards.

    Ventricles are the fluid (by brightness in T2, else CT, T1 or FLAIR) in the depth of the brain, and a fold-free
    flow widens them. Where a slice shows none, a pair of lateral ventricles is filled in instead. The mask is the
    dilated ventricles; ``anomaly`` records ``dilation`` (reached), ``wall_mm`` (largest displacement),
    ``least_jacobian`` and ``ventricles`` (``"widened"`` or ``"filled_in"``).

    Args:
        keys: CT and MRI entries.
        size_mm: range; its high end bounds how far a wall moves.
        dilation: range of the growth of area, 0.1 = 10 %.
        args: as for :class:`LesionTransform`. ``location`` widens the ventricles near it only.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when ``dilation`` is no range.
    """

    kind = "hydrocephalus"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        inside = self._inner_skull(brain)
        depth = self._depth(inside)
        deep = np.clip((depth / max(float(depth.max()), 1e-6) - 0.25) / 0.1, 0.0, 1.0)
        growth = float(self.R.uniform(*self.dilation))
        ventricles = _large_pieces(self._fluid(inside) * deep, spacing)
        regions, how = [], "widened"
        if ventricles.sum() * spacing**2 < _LEAST_FLUID_MM2:
            ventricles, how = self._lateral_ventricles(inside, size_mm), "filled_in"
            warp, reached = np.zeros((2, *brain.shape)), 0.0
            regions = [self._fluid_region(ventricles)]
        else:
            freedom = self._near_location(inside) * np.clip(depth / (0.3 * depth.max()), 0.0, 1.0)
            warp, reached = warps.dilation_warp(ventricles, growth, freedom, self.size_mm[1], spacing)
        mask = warps.displaced(ventricles, warp) > 0.5
        details = _described(warp, reached, spacing) | {"ventricles": how}
        return Lesion(mask, regions, details, warp)

    def _lateral_ventricles(self, inside: np.ndarray, size_mm: float) -> np.ndarray:
        """Share of fluid (H, W) of a pair of bent, slightly oblique ellipses beside the midline."""
        spacing = self.pixel_spacing_mm
        middle = self._point(inside) or ndimage.center_of_mass(inside)
        scale = float(np.sqrt(np.count_nonzero(inside) / np.pi)) * spacing / 70.0
        y, x = np.indices(inside.shape, dtype=np.float64)
        down, right = (y - middle[0]) * spacing / scale, (x - middle[1]) * spacing / scale
        level = np.full(inside.shape, -np.inf)
        width = 6.0 + min(0.4 * size_mm, 5.0)
        for side in (-1.0, 1.0):
            out = right * side - width - 3.0 - 0.008 * down**2 + 0.8 * self._wave(inside.shape, 6.0)
            level = np.maximum(level, width * (1 - np.hypot(out / width, down / 30.0)))
        softness = 0.6 * spacing / scale
        return np.where(inside, np.clip(0.5 + level / (2 * softness), 0.0, 1.0), 0.0)


class InjectAtrophyd(_Widening):
    """A shrunken brain: 10 to 60 % more fluid in sulci, under the skull and in the ventricles.

    Fluid that shows (by brightness in T2, else CT, T1 or FLAIR) is widened by a fold-free flow, the cortex recedes from
    the skull by a wavy layer, and clefts between gyri open perpendicular to it; layer and clefts are filled with fluid.
    The mask is the fluid that was gained; ``anomaly`` records ``dilation`` (of the fluid that showed, reached),
    ``wall_mm``, ``recession_mm`` and ``least_jacobian``.

    Args:
        keys: CT and MRI entries.
        size_mm: range of how far the cortex recedes from the skull and sulci widen.
        dilation: range of the growth of area, 0.1 = 10 %.
        args: as for :class:`LesionTransform`. ``location`` makes it focal.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when ``dilation`` is no range.
    """

    kind = "atrophy"

    def __init__(
        self, keys: KeysCollection = names.MODALITIES, size_mm: Range = (2.0, 6.0), *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        inside = self._inner_skull(brain)
        depth = self._depth(inside)
        near = self._near_location(inside)
        growth = float(self.R.uniform(*self.dilation))
        fluid = self._fluid(inside)
        freedom = near * np.clip(depth / 4.0, 0.0, 1.0)
        widened, reached = warps.dilation_warp(fluid, growth, freedom, max(self.size_mm[1], 4.0), spacing, 2.0)
        layer = 0.6 * size_mm * near * np.clip(1 + 0.35 * self._wave(inside.shape, 9.0), 0.2, 2.0)
        warp = warps.compose(widened, warps.push_warp(inside, layer, spacing))
        gap = np.where(inside, np.clip(0.5 + (layer - depth) / spacing, 0.0, 1.0), 0.0)
        gained = np.maximum(gap, self._clefts(inside, depth, size_mm, growth) * near)
        mask = inside & ((gained > 0.5) | (warps.displaced(fluid, warp) - fluid > 0.5))
        if not mask.any():
            mask = inside & (gained >= gained[inside].max())
        details = _described(warp, reached, spacing) | {"recession_mm": float(layer[inside].max())}
        return Lesion(mask, [self._fluid_region(gained)], details, warp)

    def _clefts(self, inside: np.ndarray, depth: np.ndarray, size_mm: float, growth: float) -> np.ndarray:
        """Share of fluid (H, W) of sulci: wavy, tapered clefts from the border inwards."""
        spacing = self.pixel_spacing_mm
        bearings, radius = self._bearings(inside)
        bend = 4.0 * self._wave(inside.shape, 7.0)
        opened = np.zeros(inside.shape)
        count = 8 + round(16 * growth)
        start = self.R.uniform(0.0, 360.0)
        for index in range(count):
            bearing = start + 360.0 * (index + self.R.uniform(-0.3, 0.3)) / count
            length, width = self.R.uniform(9.0, 20.0), size_mm * self.R.uniform(0.25, 0.5)
            away = np.deg2rad((bearings - bearing + 180.0) % 360.0 - 180.0)
            across = np.abs(np.sin(away) * np.maximum(radius - depth, 1.0) + bend)
            half = 0.5 * width * np.sqrt(np.clip(1 - depth / length, 0.0, 1.0))
            # Width below a pixel shows as the share of the pixel that it fills.
            share = np.clip((half + 0.5 * spacing - across) / spacing, 0.0, np.clip(2 * half / spacing, 0.0, 1.0))
            opened = np.maximum(opened, np.where(np.abs(away) < np.pi / 2, share, 0.0))
        return np.where(inside, opened, 0.0)


def _large_pieces(fluid: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Fluid without pieces below 15 mm2 or nowhere 4 mm wide (the fissure between the hemispheres, sulci)."""
    pieces, count = ndimage.label(fluid > 0.25)
    if not count:
        return np.zeros(fluid.shape)
    areas = np.bincount(pieces.ravel(), fluid.ravel()) * spacing_mm**2
    areas[0] = 0.0
    wide = 2 * ndimage.maximum(ndimage.distance_transform_edt(pieces > 0), pieces, np.arange(count + 1)) * spacing_mm
    return np.where(((areas >= 15.0) & (wide >= 4.0))[pieces], fluid, 0.0)


def _described(warp: np.ndarray, reached: float, spacing_mm: float) -> dict[str, Any]:
    return {
        "dilation": float(reached),
        "wall_mm": float(np.hypot(*warp).max()) * spacing_mm,
        "least_jacobian": float(warps.jacobian_determinant(warp).min()),
        "source": "growth of fluid by 10 to 60 %; fluid by FLUID_CT_HU and FLUID_MRI",
    }


InjectMidlineShiftD = InjectMidlineShiftDict = InjectMidlineShiftd
InjectHydrocephalusD = InjectHydrocephalusDict = InjectHydrocephalusd
InjectAtrophyD = InjectAtrophyDict = InjectAtrophyd
