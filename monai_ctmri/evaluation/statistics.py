"""Intervals that respect the unit of sampling: subjects are resampled, never slices.

Slices of one head resemble each other, so an interval made from slices is too narrow. Here a resample draws whole
subjects with replacement and takes all their slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_ctmri.evaluation.metrics import auroc

__all__ = [
    "Interval",
    "bootstrap_auroc",
    "bootstrap_macro_auroc",
    "bootstrap_macro_auroc_difference",
    "cluster_bootstrap",
]

_METHODS = ("bca", "percentile")
_PATIENCE = 20
"""Resamples drawn at most, in multiples of the resamples asked for, before an often undefined statistic is given up."""

_Evaluate = Callable[[NDArray[np.intp]], NDArray[np.float64]]
"""From draws ``[K, M]`` of subject numbers to the statistic of each ``[K]``, NaN where it is undefined."""


@dataclass(frozen=True)
class Interval:
    """A number with its bootstrap interval over subjects.

    Args:
        value: the statistic on all subjects; None where it is undefined.
        low: lower end; None where no interval can be given.
        high: upper end; None where no interval can be given.
        n_subjects: how many subjects were resampled.
        method: ``"bca"``, ``"percentile"`` or ``"none"``: what was used, not what was asked for.
        confidence: nominal coverage.
        redrawn: resamples drawn again because the statistic was undefined on them.
        reason: why an end is missing, the method was changed or the width means nothing; empty where all is well.
    """

    value: float | None
    low: float | None
    high: float | None
    n_subjects: int
    method: str
    confidence: float = 0.95
    redrawn: int = 0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; a number that is not finite becomes None."""
        fields = asdict(self)
        for name in ("value", "low", "high"):
            number = fields[name]
            fields[name] = float(number) if number is not None and isfinite(number) else None
        return fields


def cluster_bootstrap(
    statistic: Callable[..., float],
    subjects: Sequence[Any] | NDArray[Any],
    *arrays: ArrayLike,
    repeats: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "bca",
) -> Interval:
    """Bootstrap interval of any statistic, subjects being the unit.

    A resample on which the statistic is undefined (it raises ``ValueError`` or is not finite, as with one class only)
    is drawn again and counted. To compare two methods, pass both score arrays and let the statistic return the
    difference.

    Source: Efron, JASA 82 (1987), the bias-corrected and accelerated (BCa) interval with a jackknife over subjects;
    Field and Welsh, JRSS-B 69 (2007), for resampling clusters.

    Args:
        statistic: from the resampled arrays, in the order given, to one number.
        subjects: ``[N]``, the subject of each row; order and spelling do not matter, equality does.
        arrays: each ``[N, ...]``.
        repeats: number of resamples.
        confidence: nominal coverage, in (0, 1).
        seed: of a local generator; the same seed draws the same resamples for the same set of subjects.
        method: ``"percentile"`` or ``"bca"``; the latter falls back to the former, and says so, where bias or
            acceleration is undefined.

    Returns:
        The interval; with one subject the ends are None, with a reason.

    Raises:
        ValueError: the statistic is undefined on all rows, lengths differ, a row has no subject, an option is out of
            range.
    """
    codes, n_subjects = _subject_codes(subjects)
    columns = [np.asarray(array) for array in arrays]
    if not columns or any(column.ndim == 0 or len(column) != len(codes) for column in columns):
        raise ValueError(f"arrays and the {len(codes)} subjects differ in length; give one subject a row")
    value = float(statistic(*columns))
    rows = [np.flatnonzero(codes == code) for code in range(n_subjects)]

    def evaluate(draws: NDArray[np.intp]) -> NDArray[np.float64]:
        values = np.full(len(draws), np.nan)
        for number, draw in enumerate(draws):
            index = np.concatenate([rows[code] for code in draw])
            with suppress(ValueError):
                values[number] = statistic(*(column[index] for column in columns))
        return values

    return _interval(evaluate, value, n_subjects, repeats, confidence, seed, method)


def bootstrap_auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    subjects: Sequence[Any] | NDArray[Any],
    *,
    repeats: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "bca",
) -> Interval:
    """Interval of the AUROC over subjects; equal to ``cluster_bootstrap(auroc, subjects, labels, scores)``, only fast.

    ``M[i, j]`` counts the wins of subject i's abnormal slices over subject j's normal ones, a tie counting half. With
    ``w`` the times each subject was drawn, the AUROC of a resample is ``w' M w / (w' p * w' q)``, p and q being the
    slices of either class a subject. Memory grows with the square of the number of subjects.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.
        subjects: ``[N]``, the subject of each row.
        repeats: as :func:`cluster_bootstrap`.
        confidence: as :func:`cluster_bootstrap`.
        seed: as :func:`cluster_bootstrap`.
        method: as :func:`cluster_bootstrap`.

    Returns:
        The interval, in [0, 1].

    Raises:
        ValueError: as :func:`monai_ctmri.evaluation.metrics.auroc` and :func:`cluster_bootstrap`.
    """
    kinds = [""] * np.size(labels)
    return bootstrap_macro_auroc(
        labels, scores, kinds, subjects, repeats=repeats, confidence=confidence, seed=seed, method=method
    )


def bootstrap_macro_auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    kinds: Sequence[str],
    subjects: Sequence[Any] | NDArray[Any],
    *,
    repeats: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "bca",
) -> Interval:
    """Interval of the mean over kinds of the AUROC of that kind's abnormal rows against all normal rows.

    A resample that misses one kind is drawn again; where kinds live in a subject or two each, that conditions the
    interval, and where it happens too often the ends are None.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.
        kinds: ``[N]``, the kind of each abnormal row; ignored on normal rows.
        subjects: ``[N]``, the subject of each row.
        repeats: as :func:`cluster_bootstrap`.
        confidence: as :func:`cluster_bootstrap`.
        seed: as :func:`cluster_bootstrap`.
        method: as :func:`cluster_bootstrap`.

    Returns:
        The interval, in [0, 1].

    Raises:
        ValueError: as :func:`bootstrap_auroc`.
    """
    tables, n_subjects = _win_tables(labels, scores, kinds, subjects)

    def evaluate(draws: NDArray[np.intp]) -> NDArray[np.float64]:
        return _macro(tables, _weights(draws, n_subjects))

    value = float(evaluate(np.arange(n_subjects)[None])[0])
    return _interval(evaluate, value, n_subjects, repeats, confidence, seed, method)


def bootstrap_macro_auroc_difference(
    labels: ArrayLike,
    scores: ArrayLike,
    other_scores: ArrayLike,
    kinds: Sequence[str],
    subjects: Sequence[Any] | NDArray[Any],
    *,
    repeats: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    method: str = "bca",
) -> Interval:
    """Interval of the macro AUROC of ``scores`` minus that of ``other_scores``, paired: both on the same resamples.

    Args:
        labels: ``[N]``, 0 or 1.
        scores: ``[N]``, finite.
        other_scores: ``[N]``, finite, of the same rows.
        kinds: as :func:`bootstrap_macro_auroc`.
        subjects: ``[N]``, the subject of each row.
        repeats: as :func:`cluster_bootstrap`.
        confidence: as :func:`cluster_bootstrap`.
        seed: as :func:`cluster_bootstrap`.
        method: as :func:`cluster_bootstrap`.

    Returns:
        The interval, in [-1, 1].

    Raises:
        ValueError: as :func:`bootstrap_macro_auroc`.
    """
    tables, n_subjects = _win_tables(labels, scores, kinds, subjects)
    others, _ = _win_tables(labels, other_scores, kinds, subjects)

    def evaluate(draws: NDArray[np.intp]) -> NDArray[np.float64]:
        weights = _weights(draws, n_subjects)
        return _macro(tables, weights) - _macro(others, weights)

    value = float(evaluate(np.arange(n_subjects)[None])[0])
    return _interval(evaluate, value, n_subjects, repeats, confidence, seed, method)


@dataclass(frozen=True)
class _WinTable:
    """Wins of the abnormal slices of each subject over the normal slices of each subject."""

    abnormal: NDArray[np.intp]  # [A] subjects with abnormal slices
    normal: NDArray[np.intp]  # [B] subjects with normal slices
    n_abnormal: NDArray[np.intp]  # [A] slices
    n_normal: NDArray[np.intp]  # [B] slices
    wins: NDArray[np.float64]  # [A, B]

    @classmethod
    def of(
        cls,
        abnormal_scores: NDArray[np.float64],
        abnormal_codes: NDArray[np.intp],
        normal_scores: NDArray[np.float64],
        normal_codes: NDArray[np.intp],
    ) -> _WinTable:
        abnormal, places, n_abnormal = np.unique(abnormal_codes, return_inverse=True, return_counts=True)
        normal, n_normal = np.unique(normal_codes, return_counts=True)
        wins = np.empty((len(abnormal), len(normal)))
        for column, code in enumerate(normal):
            against = np.sort(normal_scores[normal_codes == code])
            below = np.searchsorted(against, abnormal_scores, side="left")
            up_to = np.searchsorted(against, abnormal_scores, side="right")
            wins[:, column] = np.bincount(places, weights=(below + up_to) / 2.0, minlength=len(abnormal))
        return cls(abnormal, normal, n_abnormal, n_normal, wins)

    def auroc(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """From weights ``[K, n_subjects]`` to AUROC ``[K]``, NaN where a class has no weight."""
        abnormal, normal = weights[:, self.abnormal], weights[:, self.normal]
        won = np.sum((abnormal @ self.wins) * normal, axis=1)
        pairs = (abnormal @ self.n_abnormal) * (normal @ self.n_normal)
        return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _win_tables(
    labels: ArrayLike, scores: ArrayLike, kinds: Sequence[str], subjects: Sequence[Any] | NDArray[Any]
) -> tuple[list[_WinTable], int]:
    """A table a kind, and the number of subjects."""
    auroc(labels, scores)  # the same complaints about the same input
    truth, values = np.asarray(labels).ravel().astype(bool), np.asarray(scores, dtype=np.float64).ravel()
    names = np.asarray([str(kind) for kind in kinds])
    codes, n_subjects = _subject_codes(subjects)
    if len(codes) != truth.size or len(names) != truth.size:
        raise ValueError(f"{truth.size} labels, {len(codes)} subjects and {len(names)} kinds; give one of each a case")
    tables = []
    for name in np.unique(names[truth]):
        chosen = truth & (names == name)
        tables.append(_WinTable.of(values[chosen], codes[chosen], values[~truth], codes[~truth]))
    return tables, n_subjects


def _weights(draws: NDArray[np.intp], n_subjects: int) -> NDArray[np.float64]:
    """From draws ``[K, M]`` of subject numbers to how often each was drawn, ``[K, n_subjects]``."""
    shifted = draws + n_subjects * np.arange(len(draws))[:, None]
    drawn = np.bincount(shifted.ravel(), minlength=len(draws) * n_subjects)
    return drawn.reshape(len(draws), n_subjects).astype(np.float64)


def _macro(tables: Sequence[_WinTable], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.mean([table.auroc(weights) for table in tables], axis=0)


def _subject_codes(subjects: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[np.intp], int]:
    names = ["" if subject is None else str(subject) for subject in subjects]
    if not names:
        raise ValueError("there are no rows; give at least one")
    if "" in names:
        raise ValueError(f"row {names.index('')} has no subject; give every row one")
    unique, codes = np.unique(names, return_inverse=True)
    return codes, len(unique)


def _interval(
    evaluate: _Evaluate, value: float, n_subjects: int, repeats: int, confidence: float, seed: int, method: str
) -> Interval:
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}; use one of {', '.join(_METHODS)}")
    if repeats < 2 or not 0.0 < confidence < 1.0:
        raise ValueError(f"repeats {repeats}, confidence {confidence}; give 2 or more, and a number between 0 and 1")
    if not isfinite(value):
        raise ValueError("the statistic is not finite on all rows; it has no interval")
    if n_subjects == 1:
        reason = "one subject: the variation between subjects is unknown"
        return Interval(value, None, None, 1, "none", confidence, 0, reason)
    values, redrawn = _resampled(evaluate, n_subjects, repeats, np.random.default_rng(seed))
    if len(values) < repeats:
        reason = f"the statistic is undefined on {redrawn} of {redrawn + len(values)} resamples: too few subjects"
        return Interval(value, None, None, n_subjects, "none", confidence, redrawn, reason)
    tail = (1.0 - confidence) / 2.0
    levels, used, reason = (tail, 1.0 - tail), "percentile", ""
    if method == "bca":
        others = np.array([np.delete(np.arange(n_subjects), left_out) for left_out in range(n_subjects)])
        adjusted, reason = _bca_levels(values, value, evaluate(others), tail)
        if adjusted is not None:
            levels, used = adjusted, "bca"
    low, high = np.quantile(values, levels)
    if low == high:
        reason = "resamples do not differ: the width says nothing about the uncertainty"
    return Interval(value, float(low), float(high), n_subjects, used, confidence, redrawn, reason)


def _resampled(
    evaluate: _Evaluate, n_subjects: int, repeats: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], int]:
    """Return the statistic of ``repeats`` resamples (fewer where patience ran out) and how many were undefined."""
    kept: list[NDArray[np.float64]] = []
    missing, drawn = repeats, 0
    while missing and drawn < _PATIENCE * repeats:
        values = evaluate(generator.integers(0, n_subjects, size=(missing, n_subjects)))
        drawn += missing
        kept.append(values[np.isfinite(values)])
        missing -= len(kept[-1])
    return np.concatenate(kept), drawn - (repeats - missing)


def _bca_levels(
    values: NDArray[np.float64], value: float, jackknife: NDArray[np.float64], tail: float
) -> tuple[tuple[float, float] | None, str]:
    """Return the quantile levels of the BCa interval, or None and why there are none."""
    from scipy.special import ndtr, ndtri

    if not np.isfinite(jackknife).all():
        return None, "percentile instead of BCa: the statistic is undefined without one of the subjects"
    deviations = jackknife.mean() - jackknife
    if np.abs(deviations).max() <= 1e-12 * max(1.0, abs(value)):  # rounding alone is no influence
        return None, "percentile instead of BCa: no subject changes the statistic"
    acceleration = np.sum(deviations**3) / (6.0 * np.sum(deviations**2) ** 1.5)
    bias = ndtri((np.mean(values < value) + np.mean(values <= value)) / 2.0)
    normal = bias + np.array([ndtri(tail), -ndtri(tail)])
    stretch = 1.0 - acceleration * normal
    if not isfinite(bias) or (stretch <= 0.0).any():
        return None, "percentile instead of BCa: the value lies outside its resamples"
    low, high = ndtr(bias + normal / stretch)
    return (float(low), float(high)), ""
