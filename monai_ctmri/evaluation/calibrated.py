"""Calibration of any score on normals: subjects are the unit where there are enough of them, else slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_ctmri.detection.calibration import ConformalCalibrator, binomial_interval

__all__ = ["Calibration", "calibrate", "rate"]


@dataclass(frozen=True)
class Calibration:
    """Split-conformal calibration of one score.

    Attributes:
        calibrator: fitted.
        unit: ``subjects``: each counts once, and the promise holds for a slice of a new subject; ``slices``: taken as
            independent, which slices of one subject are not, so the promise holds only roughly.
    """

    calibrator: ConformalCalibrator
    unit: str

    @property
    def units(self) -> int:
        """How many."""
        return int(self.calibrator.units_)

    def reaches(self, alpha: float) -> bool:
        """Whether the smallest p-value is low enough to flag a case at ``alpha``."""
        return self.calibrator.smallest_p_value <= alpha

    def p_value(self, score: float) -> float:
        """Conformal p-value of one score."""
        return float(self.calibrator.p_value(score))


def calibrate(scores: Sequence[float], subjects: Sequence[Any], alpha: float) -> Calibration:
    """Calibrate a score for a false-alarm rate.

    With so few subjects that not one case could be flagged at ``alpha``, slices are the unit; ``unit`` says so.

    Args:
        scores: of normals never trained on; higher is more abnormal.
        subjects: whose each is.
        alpha: false-alarm rate that will be asked for, in (0, 1).

    Raises:
        InputError: as :meth:`~monai_ctmri.detection.calibration.ConformalCalibrator.fit`.
    """
    by_subject = Calibration(ConformalCalibrator().fit(scores, subjects), "subjects")
    if by_subject.reaches(alpha):
        return by_subject
    return Calibration(ConformalCalibrator().fit(scores), "slices")


def rate(flagged: Sequence[bool] | np.ndarray) -> dict[str, Any]:
    """A share with its exact 95 % binomial interval (Clopper and Pearson): ``value``, ``low``, ``high``, ``k``, ``n``;
    the first three are None where there is no case."""
    k, n = int(np.sum(np.asarray(flagged, dtype=bool))), len(flagged)
    if n == 0:
        return {"value": None, "low": None, "high": None, "k": k, "n": n}
    low, high = binomial_interval(k, n)
    return {"value": k / n, "low": low, "high": high, "k": k, "n": n}
