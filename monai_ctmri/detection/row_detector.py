"""What every detector on feature rows shares: the checks, the columns' names, the feature steps, the errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from monai_ctmri.detection.features import FeatureSteps, checked_rows
from monai_ctmri.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RowDetector"]

_SCORED_AT_ONCE = 4096


class RowDetector(BaseEstimator, ABC):
    """A one-class detector: feature rows in, one score a row out, higher is more abnormal.

    The score of a row depends on that row and the fitted rows alone. The constructor only stores; ``fit`` checks.

    Attributes:
        n_features_in_: number of columns F seen in ``fit``.
        feature_names_in_: names of the columns, only where ``fit`` was given them.
        steps_: the fitted :class:`~monai_ctmri.detection.features.FeatureSteps`.
        detector_: what was fitted behind the steps.
    """

    steps_: FeatureSteps
    detector_: Any
    n_features_in_: int
    feature_names_in_: np.ndarray

    def fit(self, X: Any, feature_names: Sequence[str] | None = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Learn what normal rows look like.

        Args:
            X: float array of shape (N, F), one row a normal case, N >= 2 (some detectors want more).
            feature_names: F column names, used to name a bad column.

        Raises:
            InputError: an argument of the constructor that cannot be used, too few rows, no column, a wrong number of
                names, NaN or infinity in a column.
        """
        least = self._checked_arguments()
        names = None if feature_names is None else [str(name) for name in feature_names]
        rows = checked_rows(X, names)
        if rows.shape[0] < least:
            raise InputError.about(
                "features", f"{rows.shape[0]} row(s) to fit {self._label()} on", f"give at least {least} normal cases"
            )
        self.steps_, self.detector_ = self._fit_rows(rows)
        self.n_features_in_ = rows.shape[1]
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Score rows; higher is more abnormal.

        Args:
            X: float array of shape (N, F), columns as in ``fit``.

        Returns:
            Float64 array of shape (N,).

        Raises:
            sklearn.exceptions.NotFittedError: before ``fit``.
            InputError: a wrong number of columns, NaN or infinity in a column; a row the detector finds no number for.
        """
        check_is_fitted(self, "detector_")
        names = list(self.feature_names_in_) if hasattr(self, "feature_names_in_") else None
        rows = checked_rows(X, names, expected=self.n_features_in_)
        scores = np.empty(rows.shape[0])
        # Some detectors hold a matrix of all rows against all fitted ones; in pieces their memory stays bounded.
        for start in range(0, rows.shape[0], _SCORED_AT_ONCE):
            piece = slice(start, start + _SCORED_AT_ONCE)
            scores[piece] = self._score_rows(self.steps_.transform(rows[piece]))
        bad = np.flatnonzero(~np.isfinite(scores))
        if bad.size:
            problem = f"scores row {bad[0]} with {scores[bad[0]]}"
            raise InputError.about(self._label(), problem, "fit more normal cases or choose another detector")
        return scores

    @abstractmethod
    def _checked_arguments(self) -> int:
        """Check the constructor's arguments; return the fewest rows a fit needs."""

    @abstractmethod
    def _fit_rows(self, rows: np.ndarray) -> tuple[FeatureSteps, Any]:
        """Fit steps and detector on rows (N, F)."""

    @abstractmethod
    def _score_rows(self, rows: np.ndarray) -> np.ndarray:
        """Scores (N,) of rows that went through the steps, N >= 1."""

    @abstractmethod
    def _label(self) -> str:
        """How a message calls the detector."""
