"""How a drawn lesion is shown: units of the picture, displaced anatomy, painted parts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from monai.utils import convert_to_numpy
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from .lesion_values import HU_SPAN, Range

__all__ = [
    "Lesion",
    "Region",
    "Unit",
    "around",
    "case_name",
    "displace",
    "paint",
    "picture_of",
    "retexture",
    "spread_of",
    "unit_of",
]

_LOCAL_PX = 2.0
_TISSUE_SPREAD = (0.45, 0.75)
_FLATTENING = 0.5
_TOLERANCE = 1e-4
_FAT_HU = -50.0
_FINE_PX = 1.0
# Of white noise, the Gaussian high-pass of 1 px leaves 0.87 of the deviation and makes neighbours correlate by -0.17.
_FINE_SHARE, _FINE_BIAS = 0.87, 0.17
_AWAY_PX = (7, -6)


@dataclass(frozen=True)
class Region:
    """One part of a lesion.

    Attributes:
        profile: share of the part in each pixel, (H, W) in [0, 1].
        ct: HU range of :data:`~monai_ctmri.transforms.lesion_values.CT_HU`.
        mri: range of relative change of :data:`~monai_ctmri.transforms.lesion_values.MRI_RELATIVE`, by contrast.
        pick: where in the ranges this part lies, 0 to 1.
        variation: slow inner variation (H, W), standard deviation 1.
        replaces: True: the part is new matter at ``ct`` HU; False: tissue that stays, changed by ``ct`` HU, with grey
            and white drawn together.
        spares_fluid: leave what differs from tissue by more than about half (ventricles, sulci, vessels) as it is.
        modality: ``"ct"`` or ``"mri"`` for a part that one of them shows (a streak, a bloom); None for both.
        flattens: False: tissue that stays keeps the contrast of grey and white.
    """

    profile: np.ndarray
    ct: Range
    mri: dict[str, Range]
    pick: float
    variation: np.ndarray
    replaces: bool = True
    spares_fluid: bool = False
    modality: str | None = None
    flattens: bool = True


@dataclass(frozen=True)
class Lesion:
    """A drawn lesion.

    Attributes:
        mask: where the lesion is, boolean (H, W).
        regions: parts, painted in order.
        details: plain facts for the record.
        warp: backward displacement of the anatomy in pixels, (2, H, W): ``out(x) = in(x + warp(x))``, applied to
            every modality alike before the parts are painted; None where nothing moves.
    """

    mask: np.ndarray
    regions: list[Region] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    warp: np.ndarray | None = None


class Unit(NamedTuple):
    """What the numbers of a slice mean: ``bottom + width * value`` in HU / 80 for CT, in [0, 1] for MRI.

    ``closed``: the slice is confined to [0, 1], so that results are clipped to it.
    """

    bottom: float = 0.0
    width: float = 1.0
    closed: bool = True

    def confined(self, picture: np.ndarray) -> np.ndarray:
        """Picture in HU / 80 or [0, 1], clipped to what the slice can hold."""
        return np.clip(picture, self.bottom, self.bottom + self.width) if self.closed else picture

    def stored(self, image: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Picture in its own unit again; what did not change keeps its bits."""
        moved = np.where(after == before, image, (after - self.bottom) / self.width)
        return np.clip(moved, 0.0, 1.0) if self.closed else moved


def unit_of(d: Mapping[Hashable, Any], key: Hashable) -> Unit:
    """What the numbers of an entry mean.

    CT is HU where ``meta["windowed"]`` is False without a ``meta["window"]``, or where nothing is said and it reaches
    below -50 HU (air and fat do, 8-bit pictures never); in either case only when values lie outside [0, 1]. Any other
    CT is in [0, 1] for the window that ``meta`` states, 0 to 80 HU where it is unknown.

    Raises:
        InputError: when values outside [0, 1] are not HU.
    """
    image = d[key]
    meta = getattr(image, "meta", {})
    values = convert_to_numpy(image)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    inside = low >= -_TOLERANCE and high <= 1 + _TOLERANCE
    if not inside:
        stated = "window" not in meta and meta.get("windowed") is not None and not bool(meta["windowed"])
        guessed = "window" not in meta and "windowed" not in meta and low < _FAT_HU
        if key != names.CT or not (stated or guessed) or not np.isfinite([low, high]).all():
            raise InputError.about(f"{case_name(d)}: {key}", "has values outside [0, 1]", "preprocess the case first")
        return Unit(0.0, 1 / HU_SPAN, closed=False)
    if key == names.CT and "window" in meta:
        centre, width = (float(value) for value in meta["window"])
        if np.isfinite(centre) and np.isfinite(width) and (centre, width) != (HU_SPAN / 2, HU_SPAN):
            return Unit((centre - width / 2) / HU_SPAN, width / HU_SPAN)
    return Unit()


def picture_of(d: Mapping[Hashable, Any], key: Hashable) -> np.ndarray:
    """The slice (1, H, W) of a case as float64 (H, W): CT in HU / 80, MRI in [0, 1].

    Raises:
        InputError: unless it is one finite slice, CT in HU or in [0, 1], MRI in [0, 1].
    """
    where = f"{case_name(d)}: {key}"
    image = np.asarray(convert_to_numpy(d[key]), dtype=np.float64)
    if image.ndim != 3 or image.shape[0] != 1:
        raise InputError.about(where, f"got shape {image.shape}", "give one slice of shape (1, H, W)")
    unit = unit_of(d, key)
    return image[0] if unit == Unit() else unit.bottom + unit.width * image[0]


def displace(image: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Move the anatomy of a picture (H, W): ``out(x) = image(x + warp(x))``, linear, edge values repeated.

    What ``warp`` (2, H, W), in pixels, leaves in place keeps its bits.
    """
    moved = ndimage.map_coordinates(image, np.indices(image.shape) + warp, order=1, mode="nearest")
    return np.where(np.any(warp != 0, axis=0), moved, image)


def retexture(moved: np.ndarray, image: np.ndarray, warp: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Give displaced tissue the fine texture back that linear interpolation took from it.

    Interpolating at a fraction f of a pixel leaves ``f^2 + (1 - f)^2 + 2 f (1 - f) rho`` of the variance of noise whose
    neighbours correlate by rho, along each axis. What is missing is added from the slice's own texture, taken some
    pixels away so that it does not correlate with what is there; otherwise a detector would find every displacement
    by its smoothness. A slice without noise gets nothing.

    Args:
        moved: the displaced picture (H, W).
        image: the picture before, in the unit of :func:`picture_of`.
        warp: backward displacement (2, H, W), pixels.
        brain: intracranial region, boolean (H, W); nothing is added outside.
    """
    seen = np.clip(image, 0.0, 1.0)
    fine = seen - ndimage.gaussian_filter(seen, _FINE_PX)
    limit = 3 * 1.4826 * float(np.median(np.abs(fine[brain])))
    # Edges of the anatomy are no texture: limited here, and kept out where they are stronger still.
    texture = np.where(brain & (np.abs(fine) <= 2 * limit), np.clip(fine, -limit, limit), 0.0)
    power = float((texture[brain] ** 2).mean())
    if power <= 1e-12:
        return moved
    left = np.ones(moved.shape)
    for axis, shift in enumerate(warp):
        fraction = shift - np.floor(shift)
        neighbours = (texture * np.roll(texture, 1, axis))[brain & np.roll(brain, 1, axis)]
        share = (float(neighbours.mean()) / power + _FINE_BIAS) / (1 + _FINE_BIAS)
        left *= 1 - 2 * fraction * (1 - fraction) * (1 - float(np.clip(share, 0.0, 1.0)))
    donor = np.where(np.roll(brain, _AWAY_PX, (0, 1)), np.roll(texture, _AWAY_PX, (0, 1)), texture)
    return moved + np.where(brain, np.sqrt(1 - left) * donor / _FINE_SHARE, 0.0)


def paint(
    image: np.ndarray, regions: Sequence[Region], brain: np.ndarray, ring: np.ndarray, mri_contrast: str | None
) -> np.ndarray:
    """Picture (H, W) with the parts of a lesion at full contrast.

    What tissue looks like is measured within 0 to 80 HU, so that a slice in HU and the same slice windowed get the
    same lesion; nothing is clipped in the result.

    Args:
        image: CT in HU / 80, or MRI in [0, 1].
        regions: parts, in order.
        brain: intracranial region, boolean (H, W).
        ring: tissue to compare with, boolean (H, W).
        mri_contrast: T1, T2, PD or FLAIR; None means CT.
    """
    seen = np.clip(image, 0.0, 1.0)
    weight = ndimage.gaussian_filter(brain.astype(np.float64), _LOCAL_PX)
    local = ndimage.gaussian_filter(np.where(brain, seen, 0.0), _LOCAL_PX) / np.maximum(weight, 1e-6)
    fine = seen - local
    spread = 1.4826 * float(np.median(np.abs(fine[brain])))
    # Limited, so that edges of what the lesion replaces do not show through as ghosts.
    texture = np.clip(fine, -3 * spread, 3 * spread)
    tissue = float(np.median(seen[ring]))
    low, high = _TISSUE_SPREAD
    strangeness = np.abs(local - tissue) / max(tissue, 1e-6)
    ordinary = np.clip((high - strangeness) / (high - low), 0.0, 1.0)
    full = image.copy()
    shown = names.CT if mri_contrast is None else names.MRI
    for region in regions:
        if region.modality not in (None, shown):
            continue
        value_range = region.ct if mri_contrast is None else region.mri[mri_contrast]
        bottom, top = sorted(value_range)
        width = top - bottom
        inner = np.clip(bottom + region.pick * width + 0.1 * width * region.variation, bottom, top)
        share = region.profile * (ordinary if region.spares_fluid else 1.0)
        if region.replaces:
            target = inner / HU_SPAN if mri_contrast is None else tissue * (1 + inner)
            full = full + share * (target + texture - full)
        else:
            shift = inner / HU_SPAN if mri_contrast is None else tissue * inner
            drawn_together = _FLATTENING * (local - tissue) if region.flattens else 0.0
            full = full + share * (shift - drawn_together)
    return full


def around(mask: np.ndarray, brain: np.ndarray, width_px: float) -> np.ndarray:
    """Brain around a lesion; the whole brain where nothing is left around it."""
    near = brain & ~mask & (ndimage.distance_transform_edt(~mask) <= width_px)
    return near if np.count_nonzero(near) >= 20 else brain


def spread_of(values: np.ndarray) -> float:
    """Robust standard deviation, at least one grey level of 255."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1 / 255)


def case_name(d: Mapping[Hashable, Any]) -> str:
    """How messages call a case: its name, else its subject."""
    return str(d.get(names.CASE, d.get(names.SUBJECT, "case")))
