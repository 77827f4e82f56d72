"""The one-class detectors of a benchmark: which, on what features, fitted on normals, and what each costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri.detection.mahalanobis import MahalanobisDetector
from monai_ctmri.detection.outlier import OutlierDetector
from monai_ctmri.detection.persistence import save_detector
from monai_ctmri.detection.recipes import DETECTORS
from monai_ctmri.detection.row_detector import RowDetector
from monai_ctmri.errors import InputError
from monai_ctmri.evaluation.peak_memory import PeakMemory

__all__ = [
    "ALWAYS",
    "CHEAP",
    "EXPLAINED_VARIANCE",
    "MAHALANOBIS",
    "OFFERED",
    "DetectorCost",
    "FittedDetector",
    "build_detector",
    "chosen_detectors",
    "fit_detectors",
    "score_name",
]

MAHALANOBIS = "Mahalanobis"

OFFERED = (*DETECTORS, MAHALANOBIS)
"""Every detector there is."""

ALWAYS = ("IForest", "OCSVM", MAHALANOBIS)
"""Fitted in every run: their scores are methods of the tables."""

CHEAP = (*ALWAYS, "LOF", "KNN", "PCA", "ECOD")
"""What ``default`` stands for: no network, a fraction of a second each on a few hundred rows."""

EXPLAINED_VARIANCE = 0.95
"""Share of the variance of the latent that a detector sees as principal components: a cohort has fewer cases than the
latent has columns."""

_WHOLE = ("IForest", "OCSVM")
"""They see all columns, standardised, as the source notes have it."""

_WARM_UP_ROWS = 12


@dataclass(frozen=True)
class DetectorCost:
    """What a fitted detector cost.

    Attributes:
        fit_seconds: processor time of the fit, feature steps included; loading the library is not.
        score_milliseconds: processor time a case, the fitted rows scored in one call.
        peak_megabytes: what the process held at most beyond what it held before the fit; None where the system does
            not tell.
        saved_megabytes: size of its files as :func:`~monai_ctmri.detection.persistence.save_detector` writes them.
    """

    fit_seconds: float
    score_milliseconds: float
    peak_megabytes: float | None
    saved_megabytes: float

    def as_dict(self) -> dict[str, Any]:
        """The fields, rounded to what can be told."""
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class FittedDetector:
    """A detector fitted on the latent of normals.

    Attributes:
        name: one of :data:`OFFERED`.
        detector: fitted; None where it could not be.
        cost: None where it could not be fitted.
        problem: why it could not be fitted; empty where it could.
    """

    name: str
    detector: RowDetector | None
    cost: DetectorCost | None
    problem: str = ""


def chosen_detectors(wanted: str) -> tuple[str, ...]:
    """The detectors a word stands for, in the order of :data:`OFFERED`; those of :data:`ALWAYS` are among them.

    Args:
        wanted: ``all``, ``default`` (:data:`CHEAP`) or names with commas between; case does not matter.

    Raises:
        InputError: a name that is none of these.
    """
    if wanted.strip().lower() == "all":
        return OFFERED
    if wanted.strip().lower() == "default":
        return tuple(name for name in OFFERED if name in CHEAP)
    known = {name.lower(): name for name in OFFERED}
    names = [part.strip() for part in wanted.split(",")]
    for name in names:
        if name.lower() not in known:
            remedy = f"use all, default, or names of {', '.join(OFFERED)}"
            raise InputError.about(f"detectors {wanted!r}", f"{name!r} is none", remedy)
    asked = {known[name.lower()] for name in names}
    return tuple(name for name in OFFERED if name in asked or name in ALWAYS)


def score_name(detector: str) -> str:
    """Name of a detector's score in tables."""
    return detector.lower()


def build_detector(name: str, seed: int) -> RowDetector:
    """A detector on the latent, not fitted."""
    if name == MAHALANOBIS:
        return MahalanobisDetector(explained_variance=EXPLAINED_VARIANCE)
    share = None if name in _WHOLE else EXPLAINED_VARIANCE
    return OutlierDetector(name, 0.05, random_state=seed, explained_variance=share)


def fit_detectors(names: Sequence[str], rows: np.ndarray, columns: Sequence[str], seed: int) -> list[FittedDetector]:
    """Fit detectors on the same rows, and measure each.

    Args:
        names: of :data:`OFFERED`.
        rows: features of normals, (N, F).
        columns: F names.
        seed: of the detectors that draw.

    Returns:
        One a name, in this order. One of :data:`ALWAYS` is fitted or raises; another that refuses these rows says why.

    Raises:
        InputError: what the fit of one of :data:`ALWAYS` refuses.
    """
    fitted = []
    for name in names:
        try:
            detector = build_detector(name, seed)
            fitted.append(FittedDetector(name, detector, _fit_measured(name, detector, rows, columns, seed)))
        except InputError as error:
            if name in ALWAYS:
                raise
            fitted.append(FittedDetector(name, None, None, str(error)))
    return fitted


def _fit_measured(
    name: str, detector: RowDetector, rows: np.ndarray, columns: Sequence[str], seed: int
) -> DetectorCost:
    # What a first fit loads and compiles is no cost of this detector.
    if name in DETECTORS:
        import_module(DETECTORS[name].module)
    few = rows[:_WARM_UP_ROWS]
    build_detector(name, seed).fit(few).decision_function(few[:2])
    with PeakMemory() as peak:
        start = time.process_time()
        detector.fit(rows, feature_names=columns)
        fit_seconds = time.process_time() - start
    start = time.process_time()
    detector.decision_function(rows)
    score_seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        save_detector(detector, folder)
        saved = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return DetectorCost(fit_seconds, 1e3 * score_seconds / len(rows), peak.megabytes, saved / 1e6)
