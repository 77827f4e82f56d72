"""Bone in an axial CT slice, windowed or in Hounsfield units, and the region that it encloses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from .. import keys as names
from .mask_geometry import largest_component

__all__ = ["SMALLEST_INSIDE", "inside_skull", "to_unit_range"]

SMALLEST_INSIDE = 0.1
"""Share of the head under which a region that bone encloses is not taken for the intracranial one."""

_BONE = 0.99
_BONE_HU = 300.0
_AIR_HU = -300.0
_LARGEST_UNIT = 2.0
_CLOSINGS = (0.03, 0.06, 0.1, 0.15)


def to_unit_range(
    channels: np.ndarray, meta: Mapping[str, Any], ct_channel: int | None, threshold: float
) -> np.ndarray:
    """Bring channels in Hounsfield units to [0, 1] such that -300 HU is ``threshold`` and 300 HU is bone.

    Hounsfield units are told by values that only air has (under -300), or where ``meta`` says of the CT channel that
    it is neither a picture nor windowed, by values above 2.
    """
    unwindowed = meta.get("windowed") is False and "window" not in meta and meta.get("modality") != names.MRI
    raw = [
        channel.size > 0
        and (channel.min() < _AIR_HU or (unwindowed and index == ct_channel and channel.max() > _LARGEST_UNIT))
        for index, channel in enumerate(channels)
    ]
    if not any(raw):
        return channels
    levels = (_AIR_HU - 100, _AIR_HU, _BONE_HU), (0.0, threshold, _BONE)
    return np.stack([np.interp(one, *levels) if hu else one for one, hu in zip(channels, raw, strict=True)])


def inside_skull(ct: np.ndarray, radius: float, smallest: float) -> np.ndarray:
    """Region enclosed by bone, with the least closing that makes it as large as ``smallest`` pixels; else empty."""
    bone = ct >= _BONE
    if not bone.any():
        return bone
    border = math.ceil(max(_CLOSINGS) * radius) + 1
    outside = ndimage.distance_transform_edt(np.pad(~bone, border, constant_values=True))
    for reach in (share * radius for share in _CLOSINGS):
        closed = ndimage.distance_transform_edt(outside <= reach) > reach
        closed = closed[border:-border, border:-border] | bone
        inside = ndimage.binary_fill_holes(largest_component(ndimage.binary_fill_holes(closed) & ~closed))
        if inside.sum() >= smallest:
            return inside
    return np.zeros_like(bone)
