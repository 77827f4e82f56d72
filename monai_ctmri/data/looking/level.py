"""At what level a slice cuts the head: how much of it lies inside the skull."""

from __future__ import annotations

import numpy as np

from monai_ctmri.data.looking.outline import Head

__all__ = ["BELOW_BRAIN", "BRAIN_FROM", "SMALLEST_MRI_HEAD", "brain_level", "inside_skull", "intracranial_fraction"]

BRAIN_FROM = 0.40
"""Intracranial share of a CT head from which the slice is at brain level."""

BELOW_BRAIN = 0.30
"""Intracranial share of a CT head under which it is not: face, skull base, neck or the top of the vault."""

SMALLEST_MRI_HEAD = 0.10
"""Share of the picture (a square of its longer side) under which an MRI head is the top of the vault or a remnant."""

_BONE = 0.85
_REACHES = (0.03, 0.06, 0.1, 0.15)
_SMALLEST_INSIDE = 0.1


def inside_skull(head: Head) -> np.ndarray:
    """Region inside the skull of a CT head, bool (h, w); nothing where bone encloses none.

    Outside is what a disk that cannot cross bone reaches from the picture's edge. The disk's radius starts at 3 % of
    the head's (sutures) and grows to 6, 10 and 15 % (burr holes, orbits, skull base) until the largest region it does
    not reach is at least 10 % of the head.
    """
    from scipy import ndimage

    bone = (head.grey >= _BONE) & head.mask
    border = int(np.ceil(max(_REACHES) * head.radius)) + 2
    wall = np.pad(bone, border)
    if not bone.any():
        return bone
    clear = ndimage.distance_transform_edt(~wall)
    for reach in (share * head.radius for share in _REACHES):
        labels, _ = ndimage.label(clear > reach)
        sizes = np.bincount(labels.ravel())
        sizes[[0, labels[0, 0]]] = 0
        if not sizes.any():
            continue
        region = (ndimage.distance_transform_edt(labels != sizes.argmax()) <= reach) & ~wall
        region = ndimage.binary_fill_holes(region)[border:-border, border:-border] & head.mask
        if region.sum() >= _SMALLEST_INSIDE * head.mask.sum():
            return region
    return np.zeros_like(bone)


def intracranial_fraction(head: Head, modality: str | None) -> float:
    """Share of the head that lies inside the skull, in [0, 1]; NaN other than on CT, where bone does not show."""
    return float(inside_skull(head).sum() / head.mask.sum()) if modality == "ct" else float("nan")


def brain_level(head: Head, modality: str | None, fraction: float) -> bool | None:
    """Whether the slice goes through the brain; None where that cannot be told.

    On CT by the intracranial share: from :data:`BRAIN_FROM` it does, under :data:`BELOW_BRAIN` it does not. On MRI a
    head smaller than :data:`SMALLEST_MRI_HEAD` does not; nothing is said of any other.
    """
    if modality == "ct":
        return True if fraction >= BRAIN_FROM else False if fraction < BELOW_BRAIN else None
    if modality == "mri" and head.mask.sum() < SMALLEST_MRI_HEAD * max(head.mask.shape) ** 2:
        return False
    return None
