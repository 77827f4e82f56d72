"""Several p-values of one case become one statistic: Fisher, Stouffer, minimum, mean of ranks."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from monai_ctmri.errors import InputError

__all__ = ["CombinationMethod", "combine_p_values", "continued_p_values", "tail_size"]

CombinationMethod = Literal["fisher", "stouffer", "minimum", "rank_mean"]


def combine_p_values(p_values: np.ndarray, method: CombinationMethod, weights: np.ndarray | None = None) -> np.ndarray:
    """Combine the S p-values of each of N cases; higher is more abnormal.

    With weights w, 1 where none are given:

    - "fisher": -2 sum w log p, chi-squared with 2 S degrees of freedom for independent uniform p (Fisher 1932).
    - "stouffer": sum w z / sqrt(sum w^2), z = the normal quantile of 1 - p, standard normal for independent uniform p
      (Stouffer 1949; Liptak 1958).
    - "minimum": -log(1 - (1 - min p)^S), minus the log of Sidak's p-value (Tippett 1931; Sidak 1967); no weights.
    - "rank_mean": 1 - sum w p / sum w, the mean share of the normals that score lower.

    Fisher answers to one strong or several weak signals, "minimum" to one strong signal, "stouffer" and "rank_mean" to
    many weak ones that agree.

    Args:
        p_values: float array (N, S), S >= 1, in (0, 1).
        weights: positive, (S,).

    Returns:
        float64 (N,).

    Raises:
        InputError: unknown method, weights with "minimum", p-values outside (0, 1).
    """
    if method not in get_args(CombinationMethod):
        raise InputError.about(
            "method", f"{method!r} is unknown", f"give one of {', '.join(get_args(CombinationMethod))}"
        )
    if method == "minimum" and weights is not None:
        raise InputError.about("weights", "the minimum has none", "leave them out or take 'fisher' or 'stouffer'")
    if p_values.ndim != 2 or not p_values.shape[1] or not ((p_values > 0.0) & (p_values < 1.0)).all():
        raise InputError.about("p-values", "not an array (N, S) within (0, 1)", "give at least one p-value a case")
    w = np.ones(p_values.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if method == "fisher":
        return -2.0 * np.log(p_values) @ w
    if method == "stouffer":
        from scipy.special import ndtri

        return -ndtri(p_values) @ w / np.sqrt((w**2).sum())
    if method == "minimum":
        # expm1 and log1p, as 1 - (1 - p)^S is rounded to 0 for p < 1e-16.
        return -np.log(-np.expm1(p_values.shape[1] * np.log1p(-p_values.min(axis=1))))
    return 1.0 - p_values @ w / w.sum()


def continued_p_values(values: np.ndarray) -> np.ndarray:
    """P-value of each value among all of them, without steps: between ranks by distance, in the upper tail by its fall.

    A value with c of N at or above it, m of them equal to it, gets p = (c - m f) / N with f in (0, 1) its place between
    the next lower and the next higher value, 1/2 where one of them lacks: a rank with what ranks leave out.

    Ranks cannot tell a value just above all others from one far above them either. So in the upper tail, beyond u, the
    p-value falls as p(u) exp(-(value - u) / scale) with scale the mean excess over u (the exponential tail of the peaks
    over a threshold, Pickands 1975). The value itself counts in scale, so it falls by exp(-tail_size) at most. Where
    the tail has no spread, the rank stands. All values are treated alike: in another order they get the same p-values
    in that order.

    Args:
        values: finite float array (N, S), N >= 2; each column on its own.

    Returns:
        float64 (N, S) in (0, 1), falling as the values of a column rise.
    """
    count = values.shape[0]
    p_values = np.empty(values.shape, dtype=np.float64)
    for column in range(values.shape[1]):
        own = values[:, column]
        levels, place, equal = np.unique(own, return_inverse=True, return_counts=True)
        at_least = np.cumsum(equal[::-1])[::-1]
        between = np.full(levels.size, 0.5)
        between[1:-1] = (levels[1:-1] - levels[:-2]) / (levels[2:] - levels[:-2])
        by_level = (at_least - equal * between) / count
        tail = np.sort(own)[count - tail_size(count) :]
        scale = float((tail - tail[0]).mean())
        if scale > 0.0:
            start = int(np.searchsorted(levels, tail[0]))
            at_start = (at_least[start] - equal[start] / 2) / count
            by_level[start:] = at_start * np.exp(-(levels[start:] - tail[0]) / scale)
        p_values[:, column] = by_level[place]
    return p_values


def tail_size(count: int) -> int:
    """How many of ``count`` values are the upper tail: a tenth, from 4 (or all) to 100.

    Enough to tell the tail's scale, few enough to say little about the bulk and for exp(-100) to stay above 0.
    """
    return min(100, count, max(4, -(-count // 10)))
