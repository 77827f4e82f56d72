"""Do new normals still fit the calibration? A test with a stated rate of alarms without a cause."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monai_ctmri.detection.calibration import ConformalCalibrator
from monai_ctmri.errors import InputError

__all__ = ["ShiftCheck", "ShiftResult"]

Direction = Literal["higher", "lower", "mixed"]


@dataclass(frozen=True)
class ShiftResult:
    """What a :class:`ShiftCheck` found.

    Attributes:
        p_value: probability of a difference like this where nothing has shifted; None where cases are too few.
        shifted: whether ``p_value`` is at most the rate of alarms asked for; None where cases are too few.
        direction: where the new scores lie against the calibration: "higher" (false alarms grow), "lower" (findings are
            missed) or "mixed" (wider or narrower).
        cases: number of new normals (subjects, where subjects were given).
        flagged: how many of them the calibration flags at ``alpha``.
        expected: how many are expected to be flagged.
        sentence: all of it in words.
    """

    p_value: float | None
    shifted: bool | None
    direction: Direction
    cases: int
    flagged: int
    expected: float
    sentence: str

    def __str__(self) -> str:
        return self.sentence


class ShiftCheck:
    """Says when new normals (another scanner, protocol or year) no longer fit the calibration cases.

    With few calibration cases the p-values of perfectly good normals are uniform only on average over calibration sets,
    so testing them against the uniform distribution cries wolf. Both tests here compare two samples and keep their size
    for calibration sets of any size:

    - "shape": Kolmogorov and Smirnov's two-sample test, two-sided (exact up to a million pairs; equal scores make it
      cautious, never bold). It sees any shift of the bulk.
    - "alarms": one-sided. With r = floor(alpha (n + 1)), a case is flagged if it exceeds the r-th largest of n
      calibration scores, so of m exchangeable cases Beta-binomial(m, r, n + 1 - r) many are flagged; the p-value is
      its upper tail at the number seen. It sees the tail that makes false alarms.
    - "both": twice the smaller of the two p-values (Bonferroni).

    Args:
        test: "both", "shape" or "alarms".
        false_alarm_rate: rate of alarms where nothing has shifted, in (0, 1).
        alpha: the rate cases are flagged at, which "alarms" counts, in (0, 1).
        minimum_cases: fewest new normals, and fewest calibration cases, for a verdict, at least 1.

    Attributes:
        calibrator_: calibrator on the scores (with subjects: on the subjects' means).
    """

    calibrator_: ConformalCalibrator

    def __init__(
        self,
        test: Literal["both", "shape", "alarms"] = "both",
        false_alarm_rate: float = 0.01,
        alpha: float = 0.05,
        minimum_cases: int = 10,
    ) -> None:
        self.test = test
        self.false_alarm_rate = false_alarm_rate
        self.alpha = alpha
        self.minimum_cases = minimum_cases

    def fit(self, calibration_scores: Any, subjects: Sequence[Any] | None = None) -> ShiftCheck:
        """Keep the scores the calibration rests on.

        Args:
            calibration_scores: 1-D array of n finite scores.
            subjects: whose each score is. The slices of a subject are no independent cases: its mean stands for it.

        Raises:
            InputError: scores unusable, not one subject a score, an unknown test or an option out of range.
        """
        if self.test not in ("both", "shape", "alarms"):
            raise InputError.about("test", f"{self.test!r} is unknown", "give 'both', 'shape' or 'alarms'")
        for name, value in (("false_alarm_rate", self.false_alarm_rate), ("alpha", self.alpha)):
            if not 0.0 < value < 1.0:
                raise InputError.about(name, f"{value} is outside (0, 1)", "give e.g. 0.05")
        if self.minimum_cases < 1:
            raise InputError.about("minimum_cases", f"{self.minimum_cases} is below 1", "give 1 or more")
        self.calibrator_ = ConformalCalibrator().fit(_one_a_subject(calibration_scores, subjects))
        return self

    def check(self, new_normal_scores: Any, subjects: Sequence[Any] | None = None) -> ShiftResult:
        """Compare new normals with the calibration cases.

        Args:
            new_normal_scores: 1-D array of m >= 1 finite scores of cases known to be normal.
            subjects: whose each score is, as in ``fit``.

        Raises:
            InputError: scores unusable, not one subject a score.
            RuntimeError: before ``fit``.
        """
        if not hasattr(self, "calibrator_"):
            raise RuntimeError("ShiftCheck: fit it on the calibration scores first")
        new, old = _one_a_subject(new_normal_scores, subjects), self.calibrator_.scores_
        rank = int((np.arange(1, old.size + 1) / (old.size + 1) <= self.alpha).sum())
        flagged = int((self.calibrator_.p_value(new) <= self.alpha).sum())
        expected = new.size * rank / (old.size + 1)
        direction = _direction(new, old)
        counts = (
            f"{flagged} of {new.size} new normals are flagged at alpha = {self.alpha:g}, {expected:.1f} are expected"
        )
        if min(new.size, old.size) < self.minimum_cases:
            sizes = f"{new.size} new normals and {old.size} calibration cases"
            reason = f"no verdict: {sizes}, {self.minimum_cases} of each are needed; {counts}"
            return ShiftResult(None, None, direction, new.size, flagged, expected, reason)
        found = []
        if self.test != "alarms":
            found.append(_shape_p_value(new, old))
        if self.test != "shape":
            found.append(_alarms_p_value(flagged, new.size, rank, old.size))
        p_value = min(1.0, len(found) * min(found))
        shifted = p_value <= self.false_alarm_rate
        where = {"higher": "score higher", "lower": "score lower", "mixed": "are spread differently"}[direction]
        verdict = f"they {where}: calibrate anew" if shifted else "they fit the calibration as far as so many can tell"
        sentence = f"{counts}; {verdict} (p = {p_value:.2g}, rate of alarms without a shift {self.false_alarm_rate:g})"
        return ShiftResult(p_value, shifted, direction, new.size, flagged, expected, sentence)

    def state_dict(self) -> dict[str, Any]:
        """Options and scores, as plain arrays and numbers; it holds no subject's name."""
        if not hasattr(self, "calibrator_"):
            raise RuntimeError("ShiftCheck: fit it on the calibration scores first")
        return {
            "test": self.test,
            "false_alarm_rate": self.false_alarm_rate,
            "alpha": self.alpha,
            "minimum_cases": self.minimum_cases,
            "scores": self.calibrator_.scores_.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> ShiftCheck:
        """Take over what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing or unusable.
        """
        try:
            test: Any = str(state["test"])
            loaded = ShiftCheck(
                test, float(state["false_alarm_rate"]), float(state["alpha"]), int(state["minimum_cases"])
            ).fit(state["scores"])
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError.about("shift check state", f"unusable: {error!r}", "save it again") from error
        self.__dict__.update(loaded.__dict__)
        return self


def _one_a_subject(scores: Any, subjects: Sequence[Any] | None) -> np.ndarray:
    """The scores, checked; with subjects the mean of each subject's scores."""
    values = ConformalCalibrator().fit(scores, subjects)  # refuses what is no list of finite scores
    if subjects is None:
        return values.scores_
    _, owner = np.unique([str(one) for one in subjects], return_inverse=True)
    return np.bincount(owner, weights=np.asarray(scores, dtype=np.float64)) / np.bincount(owner)


def _direction(new: np.ndarray, old: np.ndarray) -> Direction:
    """Which of the two distribution functions runs ahead; "mixed" where each does, the lesser over half the greater."""
    places = np.concatenate([new, old])
    new_below = np.searchsorted(np.sort(new), places, side="right") / new.size
    old_below = np.searchsorted(np.sort(old), places, side="right") / old.size
    higher, lower = float((old_below - new_below).max()), float((new_below - old_below).max())
    if min(higher, lower) > max(higher, lower) / 2:
        return "mixed"
    return "higher" if higher >= lower else "lower"


def _shape_p_value(new: np.ndarray, old: np.ndarray) -> float:
    from scipy.stats import ks_2samp

    with warnings.catch_warnings():
        # Where the exact sum overflows, the asymptotic one is taken, and said; nobody can act on that.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(ks_2samp(new, old, method="exact" if new.size * old.size <= 1_000_000 else "asymp").pvalue)


def _alarms_p_value(flagged: int, cases: int, rank: int, calibration_cases: int) -> float:
    from scipy.stats import betabinom

    if rank == 0 or flagged == 0:
        return 1.0
    return float(betabinom.sf(flagged - 1, cases, rank, calibration_cases + 1 - rank))
