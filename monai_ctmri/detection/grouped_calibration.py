"""P-values by comparison with normals of the same kind only: same scanner, same slice level, same modalities."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_ctmri.detection.calibration import ConformalCalibrator, smallest_calibration_set
from monai_ctmri.errors import InputError

__all__ = ["GroupedCalibrator", "GroupedPValue", "group_name"]

logger = logging.getLogger(__name__)

Group = str | Mapping[str, Any]


@dataclass(frozen=True)
class GroupedPValue:
    """One case's p-value and what it rests on.

    Attributes:
        p_value: in [1 / (units + 1), 1].
        group: the case's group.
        units: how many normal cases (or subjects) it was compared with.
        fallback: why it was compared with all normals in place of its group; None where it was its group.
    """

    p_value: float
    group: str
    units: int
    fallback: str | None = None


def group_name(group: Group) -> str:
    """The one name of a group: a string as it is, facts as ``level=2|scanner=A``, in the order of the keys' names.

    Raises:
        InputError: neither a string nor facts, or empty.
    """
    name = "|".join(f"{key}={group[key]}" for key in sorted(group)) if isinstance(group, Mapping) else group
    if not isinstance(name, str) or not name:
        raise InputError.about("group", f"{group!r} is no name", "give a string or facts such as {'scanner': 'A'}")
    return name


class GroupedCalibrator:
    """Group-conditional (Mondrian) conformal p-values (Vovk, Gammerman and Shafer 2005, section 4.5).

    The one-for-all calibration keeps ``alpha`` on average over the groups: a scanner whose normals score higher has
    more false alarms, the others fewer. Here a case of group g is compared with the normals of g alone, so for every
    group P(p <= alpha | group g) <= alpha.

    A group that is unknown, or has fewer than ``minimum_size`` units, falls back to all normals; the result and the log
    say so. Such a p-value promises nothing for its group: it keeps ``alpha`` only as far as the group's normals score
    like those of the whole calibration set.

    Args:
        minimum_size: fewest units (subjects; without subjects cases) a group needs to be calibrated alone, at least 1.
        alpha: false-alarm rate that will be asked for: a group too small for it (1 / (n + 1) > alpha) falls back, too.

    Attributes:
        calibrators_: the calibrator of each group that is large enough, by name.
        everyone_: the calibrator on all normals.
        too_small_: units of each group that is not, by name.
        warning_: what to tell the user when even all normals are too few for ``alpha``, otherwise None.
    """

    calibrators_: dict[str, ConformalCalibrator]
    everyone_: ConformalCalibrator
    too_small_: dict[str, int]
    warning_: str | None

    def __init__(self, minimum_size: int = 20, alpha: float | None = None) -> None:
        self.minimum_size = minimum_size
        self.alpha = alpha

    def fit(
        self, normal_scores: Any, groups: Sequence[Group], subjects: Sequence[Any] | None = None
    ) -> GroupedCalibrator:
        """Keep the scores of normal calibration cases, group by group.

        Args:
            normal_scores: 1-D array of n >= 1 finite scores; higher is more abnormal.
            groups: the group of each, n strings or facts (:func:`group_name`).
            subjects: whose each score is; needed where a subject has several scores, see
                :class:`~monai_ctmri.detection.calibration.ConformalCalibrator`.

        Raises:
            InputError: scores unusable, not one group a score, ``minimum_size`` below 1.
        """
        if self.minimum_size < 1:
            raise InputError.about("minimum_size", f"{self.minimum_size} is below 1", "give 1 or more")
        self.everyone_ = ConformalCalibrator(self.alpha).fit(normal_scores, subjects)
        self.warning_ = self.everyone_.warning_
        scores = np.asarray(normal_scores, dtype=np.float64)
        names = np.array(_names_of(groups, scores.size))
        self.calibrators_, self.too_small_ = {}, {}
        for name in sorted(set(names.tolist())):
            own = np.flatnonzero(names == name).tolist()
            calibrator = ConformalCalibrator().fit(
                scores[own], None if subjects is None else [subjects[i] for i in own]
            )
            if calibrator.units_ >= self._needed():
                self.calibrators_[name] = calibrator
            else:
                self.too_small_[name] = calibrator.units_
        for name in self.too_small_:
            logger.warning("%s: its cases are compared with all normals", self._fallback(name))
        return self

    def compare(self, scores: Any, groups: Sequence[Group]) -> list[GroupedPValue]:
        """P-value of each case against its group, and what it was compared with.

        Args:
            scores: 1-D array of n scores.
            groups: the group of each.

        Raises:
            InputError: a score is NaN, scores not 1-D, not one group a score.
            RuntimeError: before ``fit``.
        """
        self._demand_fitted()
        values = np.asarray(scores, dtype=np.float64)
        if values.ndim != 1:
            raise InputError.about("scores", f"shape {values.shape} is not (n,)", "give one score a case")
        results = []
        for score, name in zip(values, _names_of(groups, values.size), strict=True):
            calibrator = self.calibrators_.get(name, self.everyone_)
            results.append(GroupedPValue(calibrator.p_value(score), name, calibrator.units_, self._fallback(name)))
        return results

    def p_value(self, scores: Any, groups: Sequence[Group]) -> np.ndarray:
        """The p-values of :meth:`compare` alone, float64 (n,)."""
        return np.array([result.p_value for result in self.compare(scores, groups)], dtype=np.float64)

    def threshold(self, alpha: float, group: Group) -> float:
        """The score above which a case of ``group`` is flagged; +inf where nothing can be flagged at ``alpha``.

        Raises:
            InputError: alpha outside (0, 1).
            RuntimeError: before ``fit``.
        """
        self._demand_fitted()
        return self.calibrators_.get(group_name(group), self.everyone_).threshold(alpha)

    def state_dict(self) -> dict[str, Any]:
        """What was fitted, as plain arrays, numbers and lists of strings; it holds no subject's name."""
        self._demand_fitted()
        state: dict[str, Any] = {
            "minimum_size": self.minimum_size,
            "groups": list(self.calibrators_),
            "too_small": list(self.too_small_),
            "too_small_units": np.array(list(self.too_small_.values()), dtype=np.int64),
        }
        for place, calibrator in enumerate([self.everyone_, *self.calibrators_.values()]):
            state |= {f"{place}.{key}": value for key, value in calibrator.state_dict().items()}
        return state if self.alpha is None else {**state, "alpha": self.alpha}

    def load_state_dict(self, state: Mapping[str, Any]) -> GroupedCalibrator:
        """Take over what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing or unusable.
        """
        try:
            minimum_size, alpha = int(state["minimum_size"]), (float(state["alpha"]) if "alpha" in state else None)
            names = [str(name) for name in state["groups"]]
            units = [int(value) for value in state["too_small_units"]]
            too_small = dict(zip((str(name) for name in state["too_small"]), units, strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError.about("calibrator state", f"unusable: {error!r}", "save the calibrator again") from error
        everyone, *own = (
            ConformalCalibrator().load_state_dict(
                {key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{place}.")}
            )
            for place in range(len(names) + 1)
        )
        self.minimum_size, self.alpha, self.too_small_ = minimum_size, alpha, too_small
        self.everyone_, self.calibrators_ = everyone, dict(zip(names, own, strict=True))
        self.warning_ = everyone.warning_
        return self

    def _needed(self) -> int:
        return max(self.minimum_size, 1 if self.alpha is None else smallest_calibration_set(self.alpha))

    def _fallback(self, name: str) -> str | None:
        if name in self.calibrators_:
            return None
        if name not in self.too_small_:
            return f"group {name!r} has no normal case"
        return f"group {name!r} has {self.too_small_[name]} normals, {self._needed()} are needed"

    def _demand_fitted(self) -> None:
        if not hasattr(self, "everyone_"):
            raise RuntimeError("GroupedCalibrator: fit it on the scores of normal cases first")


def _names_of(groups: Sequence[Group], cases: int) -> list[str]:
    if isinstance(groups, (str, Mapping)) or len(groups) != cases:
        raise InputError.about("groups", f"not one for each of {cases} scores", "name the group of every score")
    return [group_name(group) for group in groups]
