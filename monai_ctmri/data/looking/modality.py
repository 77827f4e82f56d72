"""Whether a head slice looks like CT or like MRI: three measures of its rim and one fixed logistic rule.

On CT the skull is a closed, thick band of the greatest brightness, levels between bone and soft tissue are rare, and
what lies under the band is no darker than brain. On MRI cortical bone is dark: the scalp is a thin bright line, a dark
gap follows, and bright levels fade into the others.

The rule's coefficients were fitted (logistic regression, L2, C = 1, classes balanced) on 300 slices of the folders
``trainA`` (CT) and ``trainB`` (MRI, 4 CT slices among it) of the data set ``ct-to-mri-cgan`` and on 600 variants of
them: other windows, clipping, gamma, blur, noise, tight crops. Which measures to take and the two limits were chosen
with the figures of the sets that were not fitted in view; ``benchmarks/quality_of_findings.py`` measures all of them.
"""

from __future__ import annotations

import math

import numpy as np

from monai_ctmri.data.looking.outline import Head, rays

__all__ = ["CT_FROM", "MRI_UP_TO", "ct_likeness", "modality_of", "rim_measures"]

CT_FROM = 0.9
"""Likeness from which a slice is called CT."""

MRI_UP_TO = 0.05
"""Likeness up to which a slice is called MRI. Between the two limits it is undecided."""

_BONE = 0.85
_NEXT_TO_BONE = 0.6
_NOTHING_BUT_BRIGHT = 0.8
_RIM = 0.35
_BEHIND = 0.21
_THICKEST = 0.12
_WEIGHTS = (31.0, 9.0, -2.9)
_OFFSET = -4.7


def rim_measures(head: Head) -> tuple[float, float, float]:
    """Measure what tells bone that is bright from bone that is dark.

    Returns:
        ``bright_rim``: mean thickness of what is at least 85 % as bright as the brightest, within 0.35 head radii of
        the outline, in head radii, at most 0.12; ``bright_share``: share of all above 60 % of the brightest that is
        above 85 %, in [0, 1]; ``dark_gap``: how much darker than the median of the inside (deeper than 0.35 radii)
        the darkest point within 0.21 radii behind the rim's brightest is, as a share of that median, in [-1, 1].
    """
    from scipy import ndimage

    profiles = rays(head, head.grey)
    steps = round(_RIM * 100)
    bright_rim = min(float((profiles[:, :steps] >= _BONE).sum(axis=1).mean()) / 100, _THICKEST)
    grey = head.grey[head.mask]
    bright_share = float((grey >= _BONE).sum() / max(int((grey >= _NEXT_TO_BONE).sum()), 1))
    depth = ndimage.distance_transform_edt(np.pad(head.mask, 1))[1:-1, 1:-1]
    inside = head.grey[depth > _RIM * head.radius]
    level = max(float(np.median(inside if inside.size >= 20 else grey)), 0.05)
    peak = profiles[:, :30].argmax(axis=1)
    behind = np.minimum(peak[:, None] + np.arange(1, round(_BEHIND * 100) + 1), profiles.shape[1] - 1)
    darkest = np.take_along_axis(profiles, behind, axis=1).min(axis=1)
    return bright_rim, bright_share, float(np.clip((level - darkest) / level, -1.0, 1.0).mean())


def ct_likeness(head: Head) -> float:
    """Return how much a slice looks like CT rather than MRI, in [0, 1] (not a calibrated probability).

    A head that is bright nearly everywhere (bone alone, or overexposed) shows neither: 0.5.
    """
    if float((head.grey[head.mask] >= _BONE).mean()) > _NOTHING_BUT_BRIGHT:
        return 0.5
    total = _OFFSET + sum(w * measure for w, measure in zip(_WEIGHTS, rim_measures(head), strict=True))
    return 1 / (1 + math.exp(-total))


def modality_of(likeness: float) -> str | None:
    """Return ``'ct'``, ``'mri'`` or, between the limits, None."""
    return "ct" if likeness >= CT_FROM else "mri" if likeness <= MRI_UP_TO else None
