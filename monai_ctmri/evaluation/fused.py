"""The fused score of a benchmark: which named scores become one, and how."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from monai_ctmri.detection.fusion import ScoreFusion
from monai_ctmri.detection.p_value_combination import CombinationMethod

__all__ = ["FUSED_SCORES", "FUSION_METHOD", "fit_fusion"]

logger = logging.getLogger(__name__)

FUSED_SCORES = ("l1_mean", "ssim_mean", "mahalanobis", "ocsvm")
"""Two ways to see what was not reconstructed (intensity, structure) and two densities of the latent (Gaussian, kernel):
pairs that do not belong together show in the first, lesions in the second. Further residuals repeat what these say and
outvote the densities. Chosen, like :data:`FUSION_METHOD`, on development subjects alone, phantom seeds 500000 to
500039, which no demo and no published number uses."""

FUSION_METHOD: CombinationMethod = "stouffer"
"""Answers to scores that agree; each way is blind to some kind, so no single p-value is small for all of them."""


def fit_fusion(
    rows: Sequence[Mapping[str, float]],
    subjects: Sequence[Any] | None = None,
    *,
    method: CombinationMethod = FUSION_METHOD,
    names: Sequence[str] = FUSED_SCORES,
) -> ScoreFusion | None:
    """Fit the fusion on the named scores of normals never trained on.

    Args:
        rows: named scores of each case; other names than ``names`` are left aside.
        subjects: whose each row is: one row a subject is drawn, so that p-values hold for new subjects. None takes
            every row, which orders cases better and takes slices as independent.
        method: how p-values are combined.
        names: scores to combine.

    Returns:
        The fitted fusion; None where there are fewer than two rows (or subjects) to compare with.
    """
    units = len(rows) if subjects is None else len({str(subject) for subject in subjects})
    if units < 2:
        logger.warning("%d normal(s) to calibrate on: no score is fused", units)
        return None
    return ScoreFusion(method, list(names)).fit(rows, subjects)
