"""PyOD's one-class detectors behind one contract: feature rows in, one score a row out, higher is more abnormal.

PyOD is imported inside ``fit``. What it (or anything it loads) does to the random state of the process is undone, what
it prints or warns goes to the log at level DEBUG.
"""

from __future__ import annotations

import io
import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

import numpy as np

from monai_ctmri.detection.features import FeatureSteps
from monai_ctmri.detection.recipes import DETECTORS, REFUSED, DetectorRecipe
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.errors import InputError

__all__ = ["DETECTORS", "REFUSED", "DetectorRecipe", "OutlierDetector"]

logger = logging.getLogger(__name__)


class OutlierDetector(RowDetector):
    """A one-class detector of PyOD on feature rows, chosen by name (Zhao, Nasrullah and Li 2019, PyOD).

    The constructor only stores; ``fit`` checks. The score of a row depends on that row and the fitted rows alone; where
    PyOD's own detector breaks that, or draws at scoring, it is repaired
    (:mod:`monai_ctmri.detection.repairs`) or refused (:data:`REFUSED`).

    Args:
        name: a key of :data:`DETECTORS`.
        contamination: share of the fitted rows PyOD puts above its own threshold, in (0, 0.5]. It shifts the scores of
            some detectors by a constant and never changes their order; decisions belong to
            :class:`~monai_ctmri.detection.calibration.ConformalCalibrator`.
        standardize: bring each column to mean 0 and standard deviation 1 first; a constant column is only centred.
        random_state: seed of the detector, used locally; None draws from the state of the process without advancing it.
        parameters: further arguments of the PyOD class, over the recipe's defaults. What the rows do not allow (a
            batch or a neighbourhood larger than the fitted rows) is lowered.
        whiten: turn the rows on their principal components, each at standard deviation 1.
        explained_variance: keep the leading principal components with this share of the variance, in (0, 1]; None
            keeps the columns.
        max_rows: fit on a seeded random draw of so many rows where there are more, at least 2; None takes the
            recipe's, which is all rows for a detector whose cost grows no faster than N log N.

    Attributes:
        n_features_in_: number of columns F seen in ``fit``.
        feature_names_in_: names of the columns, only where ``fit`` was given them.
        steps_: the fitted :class:`~monai_ctmri.detection.features.FeatureSteps`.
        detector_: the fitted PyOD detector, or ours that stands in for it.
    """

    def __init__(
        self,
        name: str = "IForest",
        contamination: float = 0.05,
        standardize: bool = True,
        random_state: int | None = 0,
        parameters: Mapping[str, Any] | None = None,
        whiten: bool = False,
        explained_variance: float | None = None,
        max_rows: int | None = None,
    ) -> None:
        self.name = name
        self.contamination = contamination
        self.standardize = standardize
        self.random_state = random_state
        self.parameters = parameters
        self.whiten = whiten
        self.explained_variance = explained_variance
        self.max_rows = max_rows

    def _checked_arguments(self) -> int:
        if self.name in REFUSED:
            raise InputError.about(
                f"detector {self.name!r}", f"is refused: {REFUSED[self.name]}", f"choose one of {', '.join(DETECTORS)}"
            )
        if self.name not in DETECTORS:
            raise InputError.about(f"detector {self.name!r}", "is not known", f"choose one of {', '.join(DETECTORS)}")
        if not 0.0 < self.contamination <= 0.5:
            raise InputError.about("contamination", f"{self.contamination} is outside (0, 0.5]", "give e.g. 0.05")
        if self.max_rows is not None and self.max_rows < 2:
            raise InputError.about("max_rows", f"{self.max_rows} is below 2", "give 2 or more, or None")
        if self.random_state is not None and not 0 <= self.random_state < 2**32:
            raise InputError.about("random_state", f"{self.random_state} is outside [0, 2**32)", "give e.g. 0")
        return DETECTORS[self.name].min_rows

    def _fit_rows(self, rows: np.ndarray) -> tuple[FeatureSteps, Any]:
        recipe = DETECTORS[self.name]
        most = None if recipe.max_components is None else recipe.max_components(rows.shape[0])
        if most is not None and rows.shape[1] <= most:
            most = None
        steps = FeatureSteps(self.standardize, self.whiten, self.explained_variance, most).fit(rows)
        with _process_kept():
            # Some detectors have no argument for a seed, and some ignore theirs: the generators they draw from are
            # seeded here and given back afterwards.
            seed = int(np.random.randint(2**31)) if self.random_state is None else self.random_state  # noqa: NPY002
            rows = self._drawn(rows, recipe, seed)
            if recipe.beyond is not None and rows.shape[0] > recipe.beyond[0]:
                recipe = recipe.beyond[1]
            _seed_process(seed)
            prepared = steps.transform(rows)
            detector = self._build(recipe, seed, prepared)
            try:
                detector.fit(prepared)
            except ValueError as error:
                raise self._about_parameters(error) from error
            if recipe.finish is not None:
                recipe.finish(detector, prepared)
        return steps, detector

    def _score_rows(self, rows: np.ndarray) -> np.ndarray:
        with _process_kept():
            score = DETECTORS[self.name].score
            scores = self.detector_.decision_function(rows) if score is None else score(self.detector_, rows)
        return np.asarray(scores, dtype=np.float64).reshape(-1)

    def _label(self) -> str:
        return self.name

    def _drawn(self, rows: np.ndarray, recipe: DetectorRecipe, seed: int) -> np.ndarray:
        most = recipe.max_rows if self.max_rows is None else self.max_rows
        if most is None or rows.shape[0] <= most:
            return rows
        logger.info("%s is fitted on a random draw of %d of the %d rows", self.name, most, rows.shape[0])
        chosen = np.random.default_rng(seed).choice(rows.shape[0], size=most, replace=False)
        return rows[np.sort(chosen)]

    def _build(self, recipe: DetectorRecipe, seed: int, rows: np.ndarray) -> Any:
        own: dict[str, Any] = {}
        if recipe.contamination:
            own["contamination"] = self.contamination
        if recipe.seed is not None:
            own[recipe.seed] = seed
        if recipe.columns is not None:
            own[recipe.columns] = rows.shape[1]
        given = dict(self.parameters or {})
        for key in ({*own, "contamination", "random_state"}) & given.keys():
            raise InputError.about("parameters", f"{key} is set twice", f"use the argument {key} of OutlierDetector")
        arguments = {**recipe.defaults, **given, **own}
        for key, most in recipe.limits.items():
            value, limit = arguments.get(key), most(rows.shape[0])
            if isinstance(value, (int, float)) and value > limit:
                logger.info("%s: %s lowered from %g to %g for %d rows", self.name, key, value, limit, rows.shape[0])
                arguments[key] = limit
        try:
            return getattr(import_module(recipe.module), recipe.class_name)(**arguments)
        except (TypeError, ValueError) as error:
            raise self._about_parameters(error) from error

    def _about_parameters(self, error: Exception) -> InputError:
        problem = " ".join(str(error).split())
        return InputError.about(f"detector {self.name!r}", problem, "check its parameters and the features")


def _seed_process(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator PyOD draws from; it is given back
    torch.manual_seed(seed)


@contextmanager
def _process_kept() -> Iterator[None]:
    """Restore the generators of the process and PYTHONHASHSEED afterwards, and send what is printed to the log."""
    import torch

    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the generator of the process is what must stay untouched
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    hash_seed = os.environ.get("PYTHONHASHSEED")
    printed = io.StringIO()
    caught: list[warnings.WarningMessage] = []
    try:
        with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        elif torch.cuda.is_available():
            # A seed set before CUDA starts waits for its start: leave the one that waited before.
            torch.cuda.manual_seed_all(torch.initial_seed())
        if hash_seed is None:
            os.environ.pop("PYTHONHASHSEED", None)
        else:
            os.environ["PYTHONHASHSEED"] = hash_seed
        for line in [*printed.getvalue().splitlines(), *(str(entry.message) for entry in caught)]:
            logger.debug("%s", line)
