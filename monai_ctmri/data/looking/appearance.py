"""What one slice looks like: CT or MRI, at brain level or not, cut off, written on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_ctmri.data.looking.level import brain_level, intracranial_fraction
from monai_ctmri.data.looking.modality import ct_likeness, modality_of
from monai_ctmri.data.looking.outline import brightness, cut_off_share, find_head
from monai_ctmri.data.looking.writing import TEXT_LIMIT, writing_evidence

__all__ = ["CUT_OFF_LIMIT", "TEXT_LIMIT", "Appearance", "look_at"]

CUT_OFF_LIMIT = 0.10
"""Share of the head's outline on the picture's border from which the head counts as cut off."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a slice looks like. All of it is evidence for a look at the slice, none of it a medical reading.

    Attributes:
        modality: ``'ct'``, ``'mri'``, or None when undecided or without a head.
        ct_likeness: how much it looks like CT rather than MRI, in [0, 1]; 0.5 without a head.
        brain_level: whether it goes through the brain, or None when that cannot be told.
        intracranial_fraction: share of the head inside the skull, in [0, 1]; NaN where it is not CT, 0 without a head.
        cut_off: share of the head's outline that lies on the picture's border, in [0, 1]; :data:`CUT_OFF_LIMIT`.
        text: evidence of writing beside the head, in [0, 1]; :data:`TEXT_LIMIT`.
    """

    modality: str | None
    ct_likeness: float
    brain_level: bool | None
    intracranial_fraction: float
    cut_off: float
    text: float


def look_at(plane: np.ndarray, *, windowed: bool, modality: str | None = None) -> Appearance:
    """Look at one axial slice.

    Args:
        plane: finite values (H, W) of any size and scale, in picture orientation or mirrored.
        windowed: whether they are grey levels of a picture; otherwise Hounsfield units or MRI intensities.
        modality: what the slice is said to be. It decides how ``plane`` is windowed and whether its level is read off
            as on CT, unless the slice clearly looks like the other; it has no part in the looks themselves.

    Raises:
        ValueError: when ``plane`` is not two-dimensional, or empty.
    """
    if np.ndim(plane) != 2 or np.size(plane) == 0:
        raise ValueError(f"plane must be a slice (H, W), got shape {np.shape(plane)}.")
    bright = brightness(plane, windowed=windowed, modality=modality)
    head = find_head(bright)
    if head is None:
        return Appearance(None, 0.5, None, 0.0, 0.0, 0.0)
    likeness = ct_likeness(head)
    looks = modality_of(likeness)
    is_it = looks if modality is None or looks is not None else modality
    fraction = intracranial_fraction(head, is_it)
    return Appearance(
        modality=looks,
        ct_likeness=likeness,
        brain_level=brain_level(head, is_it, fraction),
        intracranial_fraction=fraction,
        cut_off=cut_off_share(head),
        text=writing_evidence(bright, head),
    )
