"""The p-values of a cohort taken together: how often normals were flagged, and which findings stand among many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_ctmri.detection.calibration import binomial_interval
from monai_ctmri.errors import InputError

__all__ = ["RealisedRate", "benjamini_hochberg", "realised_rate"]


@dataclass(frozen=True)
class RealisedRate:
    """How often known normals were flagged.

    Attributes:
        alpha: the rate asked for.
        flagged: normals with p <= alpha.
        cases: normals looked at.
        low: lower bound of the exact interval of the rate.
        high: its upper bound.
    """

    alpha: float
    flagged: int
    cases: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Share of the normals that was flagged."""
        return self.flagged / self.cases

    @property
    def exceeds_alpha(self) -> bool:
        """Whether the whole interval lies above ``alpha``: this calibration set gives more false alarms than asked."""
        return self.low > self.alpha

    def __str__(self) -> str:
        return (
            f"{self.flagged} of {self.cases} normals flagged at alpha = {self.alpha:g}: {self.rate:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}]"
        )


def realised_rate(normal_p_values: Any, alpha: float, confidence: float = 0.95) -> RealisedRate:
    """Count the false alarms among known normals, with the interval of Clopper and Pearson.

    The interval takes the cases as independent: give one p-value a subject. It is about the rate of the one calibration
    set behind the p-values, which lies around ``alpha``: near it for many calibration cases, further off for few.

    Args:
        normal_p_values: p-values of n >= 1 normal cases that took no part in the calibration.
        alpha: false-alarm rate asked for, in (0, 1).
        confidence: coverage of the interval, in (0, 1).

    Raises:
        InputError: no p-values, one outside [0, 1], alpha or confidence outside (0, 1).
    """
    p_values = _checked(normal_p_values)
    if not 0.0 < alpha < 1.0:
        raise InputError.about("alpha", f"{alpha} is outside (0, 1)", "give the false-alarm rate, e.g. 0.05")
    if not p_values.size:
        raise InputError.about("p-values", "there are none", "give the p-values of normal cases")
    flagged = int((p_values <= alpha).sum())
    return RealisedRate(alpha, flagged, p_values.size, *binomial_interval(flagged, p_values.size, confidence))


def benjamini_hochberg(p_values: Any) -> np.ndarray:
    """P-values adjusted for a cohort of m cases (Benjamini and Hochberg 1995).

    With p_(1) <= ... <= p_(m), the adjusted value of p_(i) is the least of m p_(j) / j over j >= i, at most 1. Flagging
    the cases with an adjusted value <= q keeps the expected share of normals among the flagged at most q. That holds
    for conformal p-values though they share one calibration set: they are positively dependent in the sense the proof
    needs (Bates, Candes, Lei, Romano and Sesia 2023, theorem 2).

    A lone finding among m cases needs p <= q / m: with n calibration cases only 1 / (n + 1) is reached, so n has to be
    at least m / q - 1 for it.

    Args:
        p_values: 1-D array of m p-values in [0, 1]; m = 0 gives an empty array.

    Returns:
        float64 (m,), in the order given; never below the p-value itself.

    Raises:
        InputError: not 1-D, NaN or outside [0, 1].
    """
    checked = _checked(p_values)
    order = np.argsort(checked, kind="stable")
    ranks = np.arange(1, checked.size + 1)
    stepped = np.minimum.accumulate((checked[order] * checked.size / ranks)[::-1])[::-1]
    adjusted = np.empty_like(checked)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _checked(p_values: Any) -> np.ndarray:
    try:
        values = np.array(p_values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError.about("p-values", "not numbers", "give floats in [0, 1]") from error
    if values.ndim != 1:
        raise InputError.about("p-values", f"shape {values.shape} is not (m,)", "give one p-value a case")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise InputError.about("p-values", "one is NaN or outside [0, 1]", "give p-values, not scores")
    return values
