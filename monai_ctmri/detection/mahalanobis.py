"""The distance to the normals in units of their own spread: a Gaussian with a shrunk covariance on feature rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from monai_ctmri.detection.features import FeatureSteps, principal_components
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.errors import InputError

__all__ = ["MahalanobisDetector", "ShrunkGaussian"]


class ShrunkGaussian:
    """A Gaussian with covariance (1 - s) S + s (trace S / F) I, kept as principal components and what is left.

    S is the covariance of the N fitted rows (divisor N). For F columns only min(N, F) directions are stored: in all
    others S is 0 and the variance is s (trace S / F), so 2,048 columns and 50 rows cost 50 directions, no F x F matrix.

    Attributes:
        location_: mean, float64 (F,).
        components_: orthonormal directions, float64 (K, F).
        variances_: variance along each direction after shrinkage, float64 (K,).
        residual_variance_: float64 (1,), variance in every direction beyond these; unused where K = F.
        shrinkage_: float64 (1,), the s used.
    """

    location_: np.ndarray
    components_: np.ndarray
    variances_: np.ndarray
    residual_variance_: np.ndarray
    shrinkage_: np.ndarray

    def fit(self, rows: np.ndarray, shrinkage: float | None = None) -> ShrunkGaussian:
        """Fit rows (N, F).

        Args:
            rows: finite float64 array, N >= 2.
            shrinkage: s in [0, 1]; None takes the value of Ledoit and Wolf (2004), which minimises the expected
                squared error of the covariance.

        Raises:
            InputError: the covariance cannot be inverted: no row differs, or s = 0 and a direction without spread.
        """
        from sklearn.covariance import ledoit_wolf_shrinkage

        self.location_ = rows.mean(axis=0)
        centred = rows - self.location_
        variances, components = principal_components(centred)
        columns = rows.shape[1]
        mean_variance = float(variances.sum()) / columns
        if mean_variance <= 0.0:
            raise InputError.about("features", "all rows are the same", "give normal cases that differ")
        amount = float(ledoit_wolf_shrinkage(centred, assume_centered=True)) if shrinkage is None else float(shrinkage)
        self.components_ = np.ascontiguousarray(components)
        self.variances_ = (1.0 - amount) * variances + amount * mean_variance
        self.residual_variance_ = np.array([amount * mean_variance])
        self.shrinkage_ = np.array([amount])
        flat = self.variances_.min() <= 1e-12 * self.variances_.max()
        if flat or (len(components) < columns and amount == 0.0):
            raise InputError.about(
                "features",
                f"{rows.shape[0]} rows of {columns} columns do not span every direction",
                "give a shrinkage above 0, or reduce the columns with explained_variance",
            )
        return self

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        """Mahalanobis distances (N,) of rows (N, F), at least 0."""
        centred = rows - self.location_
        along = centred @ self.components_.T
        squared = (along**2 / self.variances_).sum(axis=1)
        if len(self.components_) < rows.shape[1]:
            # The part outside the stored directions is formed first and measured then: a difference of the two squared
            # lengths would lose all its digits for a fitted row, whose rest is 0.
            rest = centred - along @ self.components_
            squared = squared + (rest**2).sum(axis=1) / self.residual_variance_[0]
        return np.sqrt(squared)


class MahalanobisDetector(RowDetector):
    """Mahalanobis distance to the mean of the normals, with a covariance that can always be inverted.

    The full covariance sees a row that breaks the normals' correlations although each column looks usual; detectors
    that judge columns one by one, or distances in raw columns, do not. Shrinkage keeps it defined with fewer rows than
    columns (Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices).

    Args:
        shrinkage: share of the spherical covariance in [0, 1]; None takes Ledoit and Wolf's.
        standardize: bring each column to mean 0 and standard deviation 1 first.
        whiten: bring each principal component to standard deviation 1 first.
        explained_variance: keep the leading components with this share of the variance first; None keeps all.

    Attributes:
        n_features_in_: number of columns F seen in ``fit``.
        feature_names_in_: names of the columns, only where ``fit`` was given them.
        steps_: the fitted feature steps.
        detector_: the fitted :class:`ShrunkGaussian`.
    """

    def __init__(
        self,
        shrinkage: float | None = None,
        standardize: bool = True,
        whiten: bool = False,
        explained_variance: float | None = None,
    ) -> None:
        self.shrinkage = shrinkage
        self.standardize = standardize
        self.whiten = whiten
        self.explained_variance = explained_variance

    def _checked_arguments(self) -> int:
        if self.shrinkage is not None and not 0.0 <= self.shrinkage <= 1.0:
            raise InputError.about("shrinkage", f"{self.shrinkage} is outside [0, 1]", "give e.g. 0.1, or None")
        return 2

    def _fit_rows(self, rows: np.ndarray) -> tuple[FeatureSteps, Any]:
        steps = FeatureSteps(self.standardize, self.whiten, self.explained_variance).fit(rows)
        return steps, ShrunkGaussian().fit(steps.transform(rows), self.shrinkage)

    def _score_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.detector_.decision_function(rows)

    def _label(self) -> str:
        return "MahalanobisDetector"
