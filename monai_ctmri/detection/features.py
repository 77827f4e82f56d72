"""Rows of features before a detector sees them: checked, standardised, turned on their principal axes, whitened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from monai_ctmri.errors import InputError

__all__ = ["FeatureSteps", "checked_rows", "principal_components"]


class FeatureSteps(BaseEstimator):
    """Standardise, keep the leading principal components, whiten; each step by choice, all fitted on normals.

    With r a row, the steps are z = (r - mean) / scale, then c = components z, then c / component_scale. The state is
    three or four numpy arrays and nothing else. Memory of the fit: one F x F matrix where N > F, otherwise N x F.

    Args:
        standardize: bring each column to mean 0 and standard deviation 1; a constant column is only centred.
        whiten: bring each principal component to standard deviation 1. Components without variance (relative to the
            first below 1e-10) are left out, as nothing is known about their scale.
        explained_variance: keep the fewest leading components that hold this share of the variance, in (0, 1]; None
            keeps the columns as they are (or, with ``whiten``, all components that vary).
        max_components: keep at most so many components, at least 1; None sets no limit.

    Attributes:
        mean_: float64 (F,), 0 where nothing is centred.
        scale_: float64 (F,), 1 where nothing is scaled.
        components_: float64 (K, F), rows orthonormal; None without a principal component step.
        component_scale_: float64 (K,), standard deviations, 1 without ``whiten``; None without components.
    """

    def __init__(
        self,
        standardize: bool = True,
        whiten: bool = False,
        explained_variance: float | None = None,
        max_components: int | None = None,
    ) -> None:
        self.standardize = standardize
        self.whiten = whiten
        self.explained_variance = explained_variance
        self.max_components = max_components

    def fit(self, rows: np.ndarray) -> FeatureSteps:
        """Learn the steps from normal rows.

        Args:
            rows: finite float64 array of shape (N, F), N >= 2.

        Raises:
            InputError: a share outside (0, 1], a limit below 1.
        """
        if self.explained_variance is not None and not 0.0 < self.explained_variance <= 1.0:
            problem = f"{self.explained_variance} is outside (0, 1]"
            raise InputError.about("explained_variance", problem, "give the share of the variance to keep, e.g. 0.99")
        if self.max_components is not None and self.max_components < 1:
            raise InputError.about("max_components", f"{self.max_components} is below 1", "give 1 or more, or None")
        rotate = self.whiten or self.explained_variance is not None or self.max_components is not None
        columns = rows.shape[1]
        self.mean_, self.scale_ = np.zeros(columns), np.ones(columns)
        if self.standardize:
            scaler = StandardScaler().fit(rows)
            self.mean_, self.scale_ = np.array(scaler.mean_), np.array(scaler.scale_)
        elif rotate:
            self.mean_ = rows.mean(axis=0)
        self.components_: np.ndarray | None = None
        self.component_scale_: np.ndarray | None = None
        if rotate:
            self._fit_components((rows - self.mean_) / self.scale_)
        return self

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """Rows (N, F) after the steps, float64 (N, K), or (N, F) without components."""
        check_is_fitted(self, "mean_")
        standard = (rows - self.mean_) / self.scale_
        if self.components_ is None:
            return standard
        return (standard @ self.components_.T) / self.component_scale_

    def state_dict(self) -> dict[str, np.ndarray]:
        """The fitted arrays by name; those of a step that is off are left out."""
        check_is_fitted(self, "mean_")
        names = ("mean_", "scale_", "components_", "component_scale_")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> FeatureSteps:
        """Take the arrays of :meth:`state_dict`; afterwards ``transform`` gives the same numbers, bit by bit."""
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
        self.mean_, self.scale_ = arrays["mean_"], arrays["scale_"]
        self.components_, self.component_scale_ = arrays.get("components_"), arrays.get("component_scale_")
        return self

    def _fit_components(self, standard: np.ndarray) -> None:
        variances, components = principal_components(standard)
        keep = int(np.count_nonzero(variances > 1e-10 * variances[0])) if variances[0] > 0 else 1
        if self.explained_variance is not None and variances[0] > 0:
            shares = np.cumsum(variances) / variances.sum()
            # A share of 1 must not fail on shares that end at 1 - 1e-16.
            keep = min(keep, int(np.searchsorted(shares, self.explained_variance - 1e-12)) + 1)
        if self.max_components is not None:
            keep = min(keep, self.max_components)
        self.components_ = np.ascontiguousarray(components[:keep])
        spread = np.sqrt(variances[:keep])
        self.component_scale_ = np.where(spread > 0, spread, 1.0) if self.whiten else np.ones(keep)


def principal_components(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (K,), descending, and orthonormal directions (K, F) of centred rows (N, F); K = min(N, F).

    The variance divides by N, like the standard deviation of the scaling, so that whitened training rows have exactly
    standard deviation 1. The sign of a direction is settled by its largest entry, which is positive.
    """
    count, columns = centred.shape
    if count > columns:
        variances, vectors = np.linalg.eigh(centred.T @ centred / count)
        variances, components = np.clip(variances[::-1], 0.0, None), vectors.T[::-1]
    else:
        _, singular, components = np.linalg.svd(centred, full_matrices=False)
        variances = singular**2 / count
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    return variances, components * signs[:, None]


def checked_rows(X: Any, names: Sequence[str] | None, expected: int | None = None) -> np.ndarray:  # noqa: N803
    """The table as finite float64 of shape (N, F).

    Args:
        X: anything numpy makes an array of.
        names: F column names, to name a bad column; None numbers the columns.
        expected: number of columns the model was fitted on; None takes any.

    Raises:
        InputError: no table of numbers, a wrong number of columns or names, NaN or infinity in a column.
    """
    try:
        rows = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError.about("features", "not a table of numbers", "give a float array of shape (N, F)") from error
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError.about(
            "features", f"shape {rows.shape} is not (N, F)", "give one row a case, one column a feature"
        )
    if expected is not None and rows.shape[1] != expected:
        raise InputError.about(
            "features", f"{rows.shape[1]} columns, fitted on {expected}", "give the columns of the fitted model"
        )
    if names is not None and len(names) != rows.shape[1]:
        raise InputError.about("features", f"{len(names)} names for {rows.shape[1]} columns", "name every column once")
    bad = np.argwhere(~np.isfinite(rows))
    if bad.size:
        row, column = (int(index) for index in bad[0])
        label = f"column {column}" if names is None else f"column {names[column]!r}"
        raise InputError.about(
            "features", f"{label} holds {rows[row, column]} in row {row}", "leave that case out or repair its features"
        )
    return rows
