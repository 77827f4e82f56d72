"""Many scores become one: by p-values from normals, combined, and the combination calibrated on the normals again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monai_ctmri.detection.named_scores import Row, row_values, subject_scores
from monai_ctmri.detection.p_value_combination import (
    CombinationMethod,
    combine_p_values,
    continued_p_values,
    tail_size,
)
from monai_ctmri.errors import InputError

__all__ = ["FusedScore", "ScoreFusion", "subject_scores"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusedScore:
    """One case's scores made one.

    Attributes:
        score: higher is more abnormal. About -log10 of ``p_value`` within the range of the normals, continued beyond
            it, so that clear findings keep their order where ``p_value`` has reached its least.
        p_value: share of the normals (and the case itself) that are as abnormal or more, in [1 / (cases + 1), 1].
        p_values: by name, the conformal p-value of each score the case has.
        fused: the names combined.
        cases: how many normals the case was compared with.
        note: what differs from a comparison with normals that have the very same scores; None where nothing does.
    """

    score: float
    p_value: float
    p_values: dict[str, float]
    fused: tuple[str, ...]
    cases: int
    note: str | None = None


class ScoreFusion:
    """Combine named scores by conformal p-values; the dependence between scores does no harm.

    Each score becomes a p-value by comparison with normals, the p-values of a case one statistic T
    (:func:`~monai_ctmri.detection.p_value_combination.combine_p_values`). Textbook p-values of T take the scores as
    independent, which two residuals of one image never are. So T is calibrated on the same normals: the case joins the
    n normals, each of these n + 1 is compared with all of them in the same way, and

        p = #{T of normal or case >= T of case} / (n + 1)

    As all n + 1 are treated alike, P(p <= alpha) <= alpha for a normal case whatever the dependence (full conformal
    prediction, Vovk, Gammerman and Shafer 2005). A case's result depends on no other new case.

    Scores of an absent modality are left out of a row. A case is compared with the normals that have the same scores.
    Where fewer than ``minimum_rows`` have, with all normals that have at least these, judged on these alone; where that
    is too few again, on the largest set of its scores that enough normals share. ``note`` and the log say so. The first
    keeps ``alpha`` for cases with these modalities; the others only as far as a score behaves alike with and without
    the other modality.

    Args:
        method: "fisher", "stouffer", "minimum" or "rank_mean".
        names: scores to combine; None takes all that the normals have.
        weights: by name, positive; scores without one weigh 1. Not for "minimum".
        minimum_rows: fewest normals for a comparison, at least 2.
        random_state: seed of the draw of one row a subject.

    Attributes:
        names_: the scores, sorted.
        rows_: float64 (n, S), the normals' scores, NaN where a normal has none.
    """

    names_: list[str]
    rows_: np.ndarray

    def __init__(
        self,
        method: CombinationMethod = "fisher",
        names: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        minimum_rows: int = 20,
        random_state: int = 0,
    ) -> None:
        self.method = method
        self.names = names
        self.weights = weights
        self.minimum_rows = minimum_rows
        self.random_state = random_state

    def fit(self, rows: Sequence[Row], subjects: Sequence[Any] | None = None) -> ScoreFusion:
        """Keep the scores of normal cases never trained on.

        Args:
            rows: named scores of each case, at least 2 cases; other names than ``names`` are left aside.
            subjects: whose each row is. Slices of a subject are no exchangeable draws, so one row a subject is drawn
                (Dunn, Wasserman and Ramdas 2022, single subsampling), by a generator of its own.

        Raises:
            InputError: options out of range, too few rows, a row without any of the scores, a score not finite.
        """
        self._demand_options()
        if subjects is not None:
            if len(subjects) != len(rows):
                problem = f"{len(subjects)} subjects for {len(rows)} rows"
                raise InputError.about("fusion subjects", problem, "name the subject of every row")
            rows = [rows[place] for place in _one_a_subject(subjects, self.random_state)]
        if len(rows) < 2:
            raise InputError.about("fusion", f"{len(rows)} normal rows", "give at least 2, better 20 or more")
        names = sorted({name for row in rows for name in row} if self.names is None else set(self.names))
        self._take(names, np.stack([row_values(row, names) for row in rows]))
        if len(rows) < self.minimum_rows:
            logger.warning("fusion rests on %d normals, %d are asked for", len(rows), self.minimum_rows)
        return self

    def fuse(self, rows: Sequence[Row]) -> list[FusedScore]:
        """Judge cases, each on its own.

        Args:
            rows: named scores of each case.

        Raises:
            InputError: a case has no score that a normal has, or one that is not finite.
            RuntimeError: before ``fit``.
        """
        self._demand_fitted()
        return [self._fuse_one(row_values(row, self.names_)) for row in rows]

    def decision_function(self, rows: Sequence[Row]) -> np.ndarray:
        """The fused scores alone, float64 (N,)."""
        return np.array([result.score for result in self.fuse(rows)], dtype=np.float64)

    def p_value(self, rows: Sequence[Row]) -> np.ndarray:
        """The fused p-values alone, float64 (N,)."""
        return np.array([result.p_value for result in self.fuse(rows)], dtype=np.float64)

    def state_dict(self) -> dict[str, Any]:
        """Options and the normals' scores, as plain arrays, numbers and strings; it holds no subject's name."""
        self._demand_fitted()
        weights = [float(self.weights.get(name, 1.0)) for name in self.names_] if self.weights is not None else []
        return {
            "method": self.method,
            "names": list(self.names_),
            "weights": np.array(weights, dtype=np.float64),
            "minimum_rows": self.minimum_rows,
            "random_state": self.random_state,
            "rows": self.rows_.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> ScoreFusion:
        """Take over what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing or the entries do not fit each other.
        """
        try:
            method: Any = str(state["method"])
            names = [str(name) for name in state["names"]]
            weights, rows = (np.array(state[key], dtype=np.float64) for key in ("weights", "rows"))
            own = dict(zip(names, weights.tolist(), strict=True)) if weights.size else None
            loaded = ScoreFusion(method, names, own, int(state["minimum_rows"]), int(state["random_state"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError.about("fusion state", f"unusable: {error!r}", "save the fusion again") from error
        loaded._demand_options()
        if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] != len(names) or np.isinf(rows).any():
            raise InputError.about("fusion state", "its entries do not fit each other", "save the fusion again")
        loaded._take(names, rows)
        self.__dict__.update(loaded.__dict__)
        return self

    def _take(self, names: list[str], rows: np.ndarray) -> None:
        if self.weights is not None and not set(self.weights) <= set(names):
            strangers = ", ".join(sorted(set(self.weights) - set(names)))
            raise InputError.about("weights", f"no score is called {strangers}", f"scores are {', '.join(names)}")
        empty = np.flatnonzero(np.isnan(rows).all(axis=1))
        if empty.size:
            problem = f"row {empty[0]} has none of the scores {', '.join(names)}"
            raise InputError.about("fusion", problem, "leave that case out")
        missing = np.flatnonzero(np.isnan(rows).all(axis=0))
        if missing.size:
            raise InputError.about("fusion", f"no normal has the score {names[missing[0]]}", "leave that name out")
        self.names_, self.rows_ = names, rows
        self._present = ~np.isnan(rows)
        self._references: dict[bytes, tuple[list[int], np.ndarray, str | None]] = {}

    def _fuse_one(self, values: np.ndarray) -> FusedScore:
        present = ~np.isnan(values)
        fused, reference, note = self._reference(present)
        bag = np.vstack([reference, values[fused]])
        weights = None
        if self.weights is not None:
            weights = np.array([float(self.weights.get(self.names_[place], 1.0)) for place in fused])
        statistic = combine_p_values(continued_p_values(bag), self.method, weights)
        p_values = {}
        for place in np.flatnonzero(present).tolist():
            column = reference[:, fused.index(place)] if place in fused else self._column(place)
            p_values[self.names_[place]] = float((1 + (column >= values[place]).sum()) / (1 + column.size))
        return FusedScore(
            score=_continued_score(statistic[:-1], float(statistic[-1])),
            p_value=float((statistic >= statistic[-1]).mean()),
            p_values=p_values,
            fused=tuple(self.names_[place] for place in fused),
            cases=len(reference),
            note=note,
        )

    def _column(self, place: int) -> np.ndarray:
        return self.rows_[self._present[:, place], place]

    def _reference(self, present: np.ndarray) -> tuple[list[int], np.ndarray, str | None]:
        """Which scores to combine, the normals to compare with, and what to say; by the pattern of present scores."""
        key = present.tobytes()
        if key not in self._references:
            self._references[key] = self._find_reference(present)
            if note := self._references[key][2]:
                logger.warning("fusion: %s", note)
        return self._references[key]

    def _find_reference(self, present: np.ndarray) -> tuple[list[int], np.ndarray, str | None]:
        same = (self._present == present).all(axis=1)
        if same.sum() >= self.minimum_rows or same.all():
            return np.flatnonzero(present).tolist(), self.rows_[np.ix_(same, present)], None
        patterns = [present, *(pattern & present for pattern in np.unique(self._present, axis=0))]
        support = [self._present[:, pattern].all(axis=1) for pattern in patterns]
        # The most scores that enough normals share; where no set has enough normals, the set with the most of them.
        ranked = sorted(
            (place for place, pattern in enumerate(patterns) if pattern.any() and support[place].sum() >= 2),
            key=lambda place: (
                -min(int(support[place].sum()), self.minimum_rows),
                -int(patterns[place].sum()),
                -int(support[place].sum()),
                place,
            ),
        )
        if not ranked:
            names = ", ".join(name for name, here in zip(self.names_, present, strict=True) if here) or "none"
            problem = f"a case has scores that fewer than two normals have (its scores: {names})"
            raise InputError.about("fusion", problem, f"scores are {', '.join(self.names_)}")
        chosen, rows = patterns[ranked[0]], support[ranked[0]]
        parts = [f"{int(same.sum())} normals have the same scores, {self.minimum_rows} are needed"]
        if (rows != same).any():
            parts.append(f"compared with {int(rows.sum())} that have at least the scores combined")
        if (chosen != present).any():
            left_out = [name for name, out in zip(self.names_, present & ~chosen, strict=True) if out]
            parts.append(f"left out: {', '.join(left_out)}")
        return np.flatnonzero(chosen).tolist(), self.rows_[np.ix_(rows, chosen)], "; ".join(parts)

    def _demand_options(self) -> None:
        combine_p_values(np.full((1, 1), 0.5), self.method, None if self.weights is None else np.ones(1))
        if self.weights is not None:
            for name, weight in self.weights.items():
                if not (np.isfinite(weight) and weight > 0.0):
                    raise InputError.about("weights", f"{name} weighs {weight}", "give positive numbers")
        if self.names is not None and (isinstance(self.names, str) or not len(self.names)):
            raise InputError.about("names", f"{self.names!r} is no list of names", "list the scores to combine")
        if self.minimum_rows < 2:
            raise InputError.about("minimum_rows", f"{self.minimum_rows} is below 2", "give 2 or more")

    def _demand_fitted(self) -> None:
        if not hasattr(self, "rows_"):
            raise RuntimeError("ScoreFusion: fit it on the scores of normal cases first")


def _one_a_subject(subjects: Sequence[Any], seed: int) -> list[int]:
    generator = np.random.default_rng(seed)
    own: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        own.setdefault(str(subject), []).append(place)
    return [int(generator.choice(places)) for places in own.values()]


def _continued_score(normals: np.ndarray, value: float) -> float:
    """-log10 of the share of normals at or above the value, linear between them, continued in the upper tail."""
    ascending = np.sort(normals)
    count = ascending.size
    start = ascending[count - tail_size(count)]
    scale = float((ascending[count - tail_size(count) :] - start).mean())
    levels, first = np.unique(ascending, return_index=True)
    shares = (count - first + 1) / (count + 1)
    if value <= start or scale <= 0.0:
        share = 1.0 / (count + 1) if value > levels[-1] else float(np.interp(value, levels, shares))
        return float(-np.log10(share))
    at_start = float(np.interp(start, levels, shares))
    return float(-np.log10(at_start) + (value - start) / (scale * np.log(10.0)))
