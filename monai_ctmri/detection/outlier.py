"""PyOD's one-class detectors behind one contract: feature rows in, one score a row out, higher is more abnormal.

PyOD is imported inside ``fit``. What it (or anything it loads) does to the random state of the process is undone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from monai_ctmri.errors import InputError

__all__ = ["DETECTORS", "DetectorRecipe", "OutlierDetector"]


@dataclass(frozen=True)
class DetectorRecipe:
    """Where a detector lives and how it is built.

    Attributes:
        module: module of PyOD that holds the class.
        class_name: name of the class in that module.
        seed: name of the constructor's seed argument; None for a detector that draws nothing.
        defaults: constructor arguments where PyOD's own default does not serve us.
    """

    module: str
    class_name: str
    seed: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


DETECTORS: dict[str, DetectorRecipe] = {
    "IForest": DetectorRecipe("pyod.models.iforest", "IForest", seed="random_state"),
    # nu bounds the share of training rows left outside: PyOD's 0.5 gives up half of the normals and fits 3-4 times as
    # long. gamma "auto" ignores the spread of the columns, "scale" does not.
    "OCSVM": DetectorRecipe("pyod.models.ocsvm", "OCSVM", defaults={"nu": 0.1, "gamma": "scale"}),
}


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restore the generators of the process and PYTHONHASHSEED afterwards: some detectors (and imports) reseed them."""
    import torch

    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the generator of the process is what must stay untouched
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    hash_seed = os.environ.get("PYTHONHASHSEED")
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        if hash_seed is None:
            os.environ.pop("PYTHONHASHSEED", None)
        else:
            os.environ["PYTHONHASHSEED"] = hash_seed


class OutlierDetector(BaseEstimator):
    """A one-class detector on feature rows (Liu et al. 2008, Isolation Forest; Schoelkopf et al. 2001, one-class SVM).

    The constructor only stores; ``fit`` checks. The score of a row depends on that row and the fitted rows alone.

    Args:
        name: a key of :data:`DETECTORS`.
        contamination: share of the fitted rows PyOD puts above its own threshold, in (0, 0.5]. It shifts the scores of
            some detectors by a constant and never changes their order; decisions belong to
            :class:`~monai_ctmri.detection.calibration.ConformalCalibrator`.
        standardize: bring each column to mean 0 and standard deviation 1 first; a constant column is only centred.
        random_state: seed of the detector, used locally; None draws from the state of the process without advancing it.
        parameters: further arguments of the PyOD class, over the recipe's defaults.

    Attributes:
        n_features_in_: number of columns F seen in ``fit``.
        feature_names_in_: names of the columns, only where ``fit`` was given them.
        scaler_: the fitted ``StandardScaler``, or None without ``standardize``.
        detector_: the fitted PyOD detector.
    """

    def __init__(
        self,
        name: str = "IForest",
        contamination: float = 0.05,
        standardize: bool = True,
        random_state: int | None = 0,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.contamination = contamination
        self.standardize = standardize
        self.random_state = random_state
        self.parameters = parameters

    def fit(self, X: Any, feature_names: Sequence[str] | None = None) -> OutlierDetector:  # noqa: N803 - scikit-learn's name
        """Learn what normal rows look like.

        Args:
            X: float array of shape (N, F), one row a normal case, N >= 2.
            feature_names: F column names, used to name a bad column.

        Raises:
            InputError: unknown detector or parameter, contamination outside (0, 0.5], fewer than 2 rows, no column, a
                wrong number of names, NaN or infinity in a column.
        """
        recipe = self._checked_recipe()
        names = None if feature_names is None else [str(name) for name in feature_names]
        rows = _checked_rows(X, names)
        if rows.shape[0] < 2:
            raise InputError.about(
                "features", f"{rows.shape[0]} row to fit {self.name} on", "give at least 2 normal cases"
            )
        scaler = StandardScaler().fit(rows) if self.standardize else None
        with _process_state_kept():
            detector = self._build(recipe)
            try:
                detector.fit(rows if scaler is None else scaler.transform(rows))
            except ValueError as error:
                raise self._about_parameters(error) from error

        self.scaler_ = scaler
        self.detector_ = detector
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
            InputError: a wrong number of columns, NaN or infinity in a column.
        """
        check_is_fitted(self, "detector_")
        names = list(self.feature_names_in_) if hasattr(self, "feature_names_in_") else None
        rows = _checked_rows(X, names, expected=self.n_features_in_)
        if rows.shape[0] == 0:
            return np.empty(0)
        with _process_state_kept():
            scores = self.detector_.decision_function(rows if self.scaler_ is None else self.scaler_.transform(rows))
        return np.asarray(scores, dtype=np.float64).reshape(-1)

    def _checked_recipe(self) -> DetectorRecipe:
        if self.name not in DETECTORS:
            raise InputError.about(f"detector {self.name!r}", "is not known", f"choose one of {', '.join(DETECTORS)}")
        if not 0.0 < self.contamination <= 0.5:
            raise InputError.about("contamination", f"{self.contamination} is outside (0, 0.5]", "give e.g. 0.05")
        return DETECTORS[self.name]

    def _build(self, recipe: DetectorRecipe) -> Any:
        own = {"contamination": self.contamination}
        if recipe.seed is not None:
            own[recipe.seed] = self.random_state  # type: ignore[assignment]
        given = dict(self.parameters or {})
        for key in own.keys() & given.keys():
            raise InputError.about("parameters", f"{key} is set twice", f"use the argument {key} of OutlierDetector")
        try:
            return getattr(import_module(recipe.module), recipe.class_name)(**{**recipe.defaults, **given, **own})
        except (TypeError, ValueError) as error:
            raise self._about_parameters(error) from error

    def _about_parameters(self, error: Exception) -> InputError:
        problem = " ".join(str(error).split())
        return InputError.about(f"detector {self.name}", problem, "check its parameters and the features")


def _checked_rows(values: Any, names: list[str] | None, expected: int | None = None) -> np.ndarray:
    """Return ``values`` as a finite float64 array of shape (N, F), or say which column is at fault."""
    try:
        rows = np.asarray(values, dtype=np.float64)
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
