"""Scores become p-values and thresholds by comparison with normal cases the model never saw."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_ctmri.errors import InputError

__all__ = ["ConformalCalibrator", "binomial_interval", "smallest_calibration_set"]

logger = logging.getLogger(__name__)


class ConformalCalibrator:
    """Conformal anomaly detection (Vovk, Gammerman and Shafer 2005; Laxhammar and Falkman 2010).

    If a case is exchangeable with the n calibration cases, ``p_value <= alpha`` happens with probability at most
    ``alpha``, however the scores are distributed. The guarantee is over the draw of calibration set and case together;
    the rate realised with one calibration set varies around it, see :func:`binomial_interval`.

    Several slices of one subject resemble each other, so they are no exchangeable draws: ten slices of twenty subjects
    are not two hundred normals. With ``subjects`` each of the K subjects counts once, each of its N_k slices 1 / N_k:

        p = (1 + sum_k (1 / N_k) #{slice i of subject k: score_ki >= score}) / (K + 1)

    This is the mean, over all ways to draw one slice a subject, of the p-value from that draw (Dunn, Wasserman and
    Ramdas 2022, subsampling); for a slice drawn from a new subject it keeps the level exactly (Lee, Barber and Willett
    2023, hierarchical conformal prediction). It judges one slice. A subject flagged as soon as any of its slices is
    flagged is a false alarm more often than ``alpha``: to judge subjects, give each one score
    (:func:`~monai_ctmri.detection.named_scores.subject_scores`) and calibrate that.

    Args:
        alpha: false-alarm rate that will be asked for; ``fit`` then warns when the set is too small for it.

    Attributes:
        scores_: the calibration scores, ascending, float64 of shape (n,).
        tail_: float64 (n + 1,); entry i is how many units (subjects; without ``subjects`` cases) lie at or above
            score i, entry n is 0.
        units_: number of subjects, or of cases where no subjects were given.
        warning_: what to tell the user when the set is too small for ``alpha``, otherwise None.
    """

    scores_: np.ndarray
    tail_: np.ndarray
    units_: int
    warning_: str | None

    def __init__(self, alpha: float | None = None) -> None:
        self.alpha = alpha

    def fit(self, normal_scores: Any, subjects: Sequence[Any] | None = None) -> ConformalCalibrator:
        """Keep the scores of normal calibration cases.

        Args:
            normal_scores: 1-D array of n >= 1 finite scores; higher is more abnormal.
            subjects: whose each score is, n names; needed where a subject has several scores.

        Raises:
            InputError: scores not 1-D, empty, or not finite; not one subject a score; alpha outside (0, 1).
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
        if self.alpha is not None:
            _demand_alpha(self.alpha)
        order = np.argsort(scores, kind="stable")
        if subjects is None:
            weights, self.units_ = np.ones(scores.size), scores.size
        else:
            if len(subjects) != scores.size:
                problem = f"{len(subjects)} subjects for {scores.size} scores"
                raise InputError.about("calibration subjects", problem, "name the subject of every score")
            _, owner, slices = np.unique([str(one) for one in subjects], return_inverse=True, return_counts=True)
            weights, self.units_ = 1.0 / slices[owner], slices.size
        self.scores_ = scores[order]
        # Rounded, as three thirds of a subject have to count as exactly one.
        self.tail_ = np.append(np.round(np.cumsum(weights[order][::-1])[::-1], 9), 0.0)
        self.tail_[0] = self.units_
        self.warning_ = None
        if self.alpha is not None and (shortage := self._shortage(self.alpha)):
            self.warning_ = shortage
            logger.warning("%s", shortage)
        return self

    @property
    def smallest_p_value(self) -> float:
        """The smallest p-value n calibration cases (or subjects) can give: 1 / (n + 1)."""
        self._fitted()
        return 1.0 / (self.units_ + 1)

    def p_value(self, scores: Any) -> Any:
        """Share of the calibration cases and the case itself that score at least as high.

        p = (1 + #{calibration score >= score}) / (n + 1), so p lies in [1 / (n + 1), 1]; with subjects as the class
        says.

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
        p_values = self._p_values_by_place()[np.searchsorted(calibration, values, side="left")]
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
        _demand_alpha(alpha)
        # The place is settled by the very p-values p_value gives: floor(alpha * (n + 1)) is off by one where the
        # product rounds below an integer (alpha = 0.29, n = 99).
        allowed = np.flatnonzero(self._p_values_by_place() <= alpha)
        if not allowed.size:
            logger.warning("%s", self._shortage(alpha))
            return float("inf")
        return float(calibration[allowed[0] - 1])

    def state_dict(self) -> dict[str, Any]:
        """What was fitted, as plain arrays and numbers; it holds no subject's name."""
        self._fitted()
        state = {"scores": self.scores_.copy(), "tail": self.tail_.copy(), "units": self.units_}
        return state if self.alpha is None else {**state, "alpha": self.alpha}

    def load_state_dict(self, state: Mapping[str, Any]) -> ConformalCalibrator:
        """Take over what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing or the entries do not fit each other.
        """
        try:
            scores, tail = (np.array(state[key], dtype=np.float64) for key in ("scores", "tail"))
            units, alpha = int(state["units"]), (float(state["alpha"]) if "alpha" in state else None)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError.about("calibrator state", f"unusable: {error!r}", "save the calibrator again") from error
        sound = scores.ndim == 1 and scores.size > 0 and tail.shape == (scores.size + 1,) and tail[0] == units
        if not sound or (np.diff(scores) < 0).any() or (np.diff(tail) > 0).any() or not np.isfinite(scores).all():
            raise InputError.about("calibrator state", "its entries do not fit each other", "save the calibrator again")
        self.alpha, self.scores_, self.tail_, self.units_ = alpha, scores, tail, units
        self.warning_ = None if self.alpha is None else self._shortage(self.alpha)
        return self

    def _p_values_by_place(self) -> np.ndarray:
        """P-value of a score that i calibration scores lie below, for i = 0 ... n; falling from 1."""
        return (1.0 + self.tail_) / (self.units_ + 1)

    def _shortage(self, alpha: float) -> str | None:
        needed = smallest_calibration_set(alpha)
        if self.units_ >= needed:
            return None
        kind = "scores" if self.units_ == self.scores_.size else "subjects"
        return (
            f"{self.units_} calibration {kind} are too few for alpha = {alpha:g}: the smallest p-value is "
            f"{self.smallest_p_value:.4g}, so no case can be flagged; at least {needed} are needed"
        )

    def _fitted(self) -> np.ndarray:
        if not hasattr(self, "scores_"):
            raise RuntimeError("ConformalCalibrator: fit it on the scores of normal cases first")
        return self.scores_


def smallest_calibration_set(alpha: float) -> int:
    """The fewest calibration cases (or subjects) that can flag a case: the smallest n with 1 / (n + 1) <= alpha.

    Raises:
        InputError: alpha outside (0, 1).
    """
    _demand_alpha(alpha)
    n = max(int(np.ceil(1.0 / alpha)) - 2, 1)
    while 1.0 / (n + 1) > alpha:
        n += 1
    return n


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


def _demand_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise InputError.about("alpha", f"{alpha} is outside (0, 1)", "give the false-alarm rate, e.g. 0.05")
