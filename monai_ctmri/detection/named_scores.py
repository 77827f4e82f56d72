"""Named scores of a case or slice: a row of them as numbers in order, and many rows as one a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from monai_ctmri.errors import InputError

__all__ = ["Row", "SubjectMethod", "row_values", "subject_scores"]

Row = Mapping[str, float]
SubjectMethod = Literal["top3_mean", "max", "percentile95", "mean"]


def row_values(row: Row, names: Sequence[str]) -> np.ndarray:
    """The named scores of a case in the order of ``names``.

    Returns:
        float64 (S,), NaN where the case has no such score.

    Raises:
        InputError: a score that is there is no finite number.
    """
    values = np.full(len(names), np.nan)
    for place, name in enumerate(names):
        if name in row:
            try:
                values[place] = float(row[name])
            except (TypeError, ValueError) as error:
                raise InputError.about(f"score {name}", f"{row[name]!r} is no number", "give floats") from error
            if not np.isfinite(values[place]):
                raise InputError.about(
                    f"score {name}", f"it is {values[place]}", "leave an absent score out of its row"
                )
    return values


def subject_scores(
    rows: Sequence[Row], subjects: Sequence[str], method: SubjectMethod = "top3_mean"
) -> dict[str, dict[str, float]]:
    """One score a subject from the scores of its slices, name by name.

    "top3_mean" is the mean of the three highest (of all where there are fewer), "percentile95" interpolates linearly.
    All but "mean" grow with the number of slices: calibrate on subjects with about as many.

    Args:
        rows: named scores of each slice; a name absent from a slice is left out for it.
        subjects: whose each slice is.

    Returns:
        For each subject, in order of first appearance, its named scores.

    Raises:
        InputError: unknown method, not one subject a row, a score not finite.
    """
    if method not in get_args(SubjectMethod):
        raise InputError.about("method", f"{method!r} is unknown", f"give one of {', '.join(get_args(SubjectMethod))}")
    if len(subjects) != len(rows):
        raise InputError.about("subjects", f"{len(subjects)} for {len(rows)} rows", "name the subject of every row")
    gathered: dict[str, dict[str, list[float]]] = {}
    for row, subject in zip(rows, subjects, strict=True):
        own = gathered.setdefault(subject, {})
        names = list(row)
        for name, value in zip(names, row_values(row, names), strict=True):
            own.setdefault(name, []).append(float(value))
    return {
        subject: {name: _of_slices(np.array(values), method) for name, values in own.items()}
        for subject, own in gathered.items()
    }


def _of_slices(values: np.ndarray, method: SubjectMethod) -> float:
    if method == "top3_mean":
        return float(np.sort(values)[-3:].mean())
    if method == "percentile95":
        return float(np.percentile(values, 95))
    return float(values.max() if method == "max" else values.mean())
