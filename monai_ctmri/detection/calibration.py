"""Scores become p-values and thresholds by comparison with normal cases the model never saw."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from monai_ctmri.errors import InputError

__all__ = ["ConformalCalibrator", "binomial_interval"]

logger = logging.getLogger(__name__)


class ConformalCalibrator:
    """Conformal anomaly detection (Vovk, Gammerman and Shafer 2005; Laxhammar and Falkman 2010).

    If a case is exchangeable with the n calibration cases, ``p_value <= alpha`` happens with probability at most
    ``alpha``, however the scores are distributed. The guarantee is over the draw of calibration set and case together;
    the rate realised with one calibration set varies around it, see :func:`binomial_interval`.

    Several slices of one subject resemble each other, so they are no exchangeable draws: where subjects have several
    slices, calibrate one score a subject.

    Attributes:
        scores_: the calibration scores, ascending, float64 of shape (n,).
    """

    scores_: np.ndarray

    def fit(self, normal_scores: Any) -> ConformalCalibrator:
        """Keep the scores of normal calibration cases.

        Args:
            normal_scores: 1-D array of n >= 1 finite scores; higher is more abnormal.

        Raises:
            InputError: not 1-D, empty, or not finite.
        """
        scores = _as_numbers(normal_scores)
        if scores.ndim != 1 or scores.size == 0:
            raise InputError.about(
                "calibration scores", f"shape {scores.shape} is not (n,) with n >= 1", "give one score a normal case"
            )
        bad = np.flatnonzero(~np.isfinite(scores))
        if bad.size:
            raise InputError.about(
                "calibration scores",
                f"score {bad[0]} is {scores[bad[0]]}",
                "leave that case out of the calibration set",
            )
        self.scores_ = np.sort(scores)
        return self

    @property
    def smallest_p_value(self) -> float:
        """The smallest p-value n calibration cases can give: 1 / (n + 1)."""
        return 1.0 / (self._fitted().size + 1)

    def p_value(self, scores: Any) -> Any:
        """Share of the calibration cases and the case itself that score at least as high.

        p = (1 + #{calibration score >= score}) / (n + 1), so p lies in [1 / (n + 1), 1].

        Args:
            scores: a number or an array of any shape; infinite scores are ordered as usual.

        Returns:
            A float for a number, otherwise a float64 array of the same shape.

        Raises:
            InputError: a score is NaN.
            RuntimeError: before ``fit``.
        """
        calibration = self._fitted()
        values = _as_numbers(scores)
        if np.isnan(values).any():
            raise InputError.about("scores", "a score is NaN", "leave that case out or repair its features")
        at_least = calibration.size - np.searchsorted(calibration, values, side="left")
        p_values = (1 + at_least) / (calibration.size + 1)
        return float(p_values) if values.ndim == 0 else p_values

    def threshold(self, alpha: float) -> float:
        """The score above which a case is flagged at rate ``alpha``: score > threshold if and only if p <= alpha.

        Args:
            alpha: false-alarm rate asked for, in (0, 1).

        Returns:
            A calibration score, or +inf where the calibration set is too small for ``alpha`` (1 / (n + 1) > alpha):
            then no case can be flagged, and a warning is logged.

        Raises:
            InputError: alpha outside (0, 1).
            RuntimeError: before ``fit``.
        """
        calibration = self._fitted()
        if not 0.0 < alpha < 1.0:
            raise InputError.about("alpha", f"{alpha} is outside (0, 1)", "give the false-alarm rate, e.g. 0.05")
        n = calibration.size
        # The rank is settled by the very division p_value makes: floor(alpha * (n + 1)) alone is off by one where the
        # product rounds below an integer (alpha = 0.29, n = 99).
        rank = int(np.floor(alpha * (n + 1))) + 1
        while rank > 0 and rank / (n + 1) > alpha:
            rank -= 1
        if rank == 0:
            logger.warning(
                "%d calibration scores are too few for alpha = %g: the smallest p-value is %.4g, so no case can be "
                "flagged; at least %d are needed",
                n,
                alpha,
                self.smallest_p_value,
                int(np.ceil(1.0 / alpha)) - 1,
            )
            return float("inf")
        return float(calibration[n - rank])

    def _fitted(self) -> np.ndarray:
        if not hasattr(self, "scores_"):
            raise RuntimeError("ConformalCalibrator: fit it on the scores of normal cases first")
        return self.scores_


def binomial_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval for a rate of which k of n were seen (Clopper and Pearson 1934).

    Args:
        k: number of events, 0 <= k <= n.
        n: number of trials, at least 1.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper bound in [0, 1]; coverage is at least ``confidence`` for every true rate.

    Raises:
        InputError: k, n or confidence outside their range.
    """
    from scipy.stats import beta

    if n < 1 or not 0 <= k <= n or int(k) != k or int(n) != n:
        raise InputError.about(
            "binomial interval", f"{k} events of {n} trials", "give integers with 0 <= k <= n, n >= 1"
        )
    if not 0.0 < confidence < 1.0:
        raise InputError.about("confidence", f"{confidence} is outside (0, 1)", "give e.g. 0.95")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1.0 - tail, k + 1, n - k))
    return low, high


def _as_numbers(values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError.about("scores", "not numbers", "give floats") from error
