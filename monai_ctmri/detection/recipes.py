"""Which detectors there are, where each lives, what it needs to be honest, and which are refused and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monai_ctmri.detection import repairs

__all__ = ["DETECTORS", "REFUSED", "DetectorRecipe"]

Limit = Callable[[int], float]


@dataclass(frozen=True)
class DetectorRecipe:
    """Where a detector lives, how it is built and what is done about its weak sides.

    Attributes:
        module: module that holds the class.
        class_name: name of the class in that module.
        seed: name of the constructor's seed argument; None for a detector without one.
        defaults: constructor arguments where the class's own default does not serve us.
        contamination: the constructor takes ``contamination``.
        columns: name of the constructor's argument for the number of columns, where it wants one.
        limits: for a constructor argument, the largest value N fitted rows allow; a larger one is lowered to it.
        min_rows: fewest rows a fit is defined for.
        max_rows: rows beyond which a seeded random draw of so many is fitted: time or memory would grow too fast.
        max_components: for N rows the most principal components the detector can be fitted on.
        beyond: number of rows and the recipe that takes over above it; it has no ``score`` of its own.
        finish: called with the fitted detector and the rows, to keep what scoring needs.
        score: called with the fitted detector and rows, instead of its ``decision_function``.
        torch: it holds a torch network.
    """

    module: str
    class_name: str
    seed: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    contamination: bool = True
    columns: str | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    min_rows: int = 2
    max_rows: int | None = None
    max_components: Callable[[int], int] | None = None
    beyond: tuple[int, DetectorRecipe] | None = None
    finish: Callable[[Any, np.ndarray], None] | None = None
    score: Callable[[Any, np.ndarray], np.ndarray] | None = None
    torch: bool = False


def _others(rows: int) -> int:
    return rows - 1


def _all(rows: int) -> int:
    return rows


def _clusters(rows: int) -> int:
    return min(10, max(2, rows // 2))


# The deep detectors of PyOD drop the last batch that is not full: with fewer rows than a batch they would see none.
# Columns are standardised before, and the steps know what to do with a constant one: PyOD divides it by 1e-8.
_DEEP: dict[str, Any] = {"verbose": 0, "preprocessing": False, "batch_size": 32}
_OURS = "monai_ctmri.detection.repairs"
_DRAWN, _FEW_DRAWN = 8192, 2048

DETECTORS: dict[str, DetectorRecipe] = {
    "IForest": DetectorRecipe("pyod.models.iforest", "IForest", seed="random_state"),
    # nu bounds the share of training rows left outside: PyOD's 0.5 gives up half of the normals and fits 3-4 times as
    # long. gamma "auto" ignores the spread of the columns, "scale" does not. The exact solver grows with the square of
    # the rows: 6 s at 16,000 x 128 against 0.6 s.
    "OCSVM": DetectorRecipe(
        "pyod.models.ocsvm",
        "OCSVM",
        defaults={"nu": 0.1, "gamma": "scale"},
        beyond=(8000, DetectorRecipe(_OURS, "NystroemOneClassSVM", seed="random_state", contamination=False)),
    ),
    "LOF": DetectorRecipe(
        "pyod.models.lof", "LOF", defaults={"n_neighbors": 20}, limits={"n_neighbors": _others}, max_rows=_DRAWN
    ),
    "KNN": DetectorRecipe(
        "pyod.models.knn", "KNN", defaults={"n_neighbors": 5}, limits={"n_neighbors": _others}, max_rows=_DRAWN
    ),
    # Components that explain next to nothing are left out: PyOD divides by their variance, which with fewer rows than
    # columns is rounding error.
    "PCA": DetectorRecipe("pyod.models.pca", "PCA", seed="random_state", defaults={"n_components": 0.99}),
    # Regularised on standardised columns: with fewer rows than columns the covariance is singular.
    "GMM": DetectorRecipe(
        "pyod.models.gmm",
        "GMM",
        seed="random_state",
        defaults={"n_components": 1, "reg_covar": 1e-3},
        limits={"n_components": _all},
    ),
    "INNE": DetectorRecipe("pyod.models.inne", "INNE", seed="random_state", score=repairs.score_inne),
    "LODA": DetectorRecipe("pyod.models.loda", "LODA", seed="random_state", score=repairs.score_loda),
    # A tree that finds no neighbour to skip in many columns: every fitted row against every other, without a matrix
    # product.
    "KDE": DetectorRecipe("pyod.models.kde", "KDE", max_rows=_FEW_DRAWN),
    "HBOS": DetectorRecipe("pyod.models.hbos", "HBOS"),
    # The large clusters must hold the share alpha of the rows without the smallest one, or PyOD raises: k clusters
    # assure that up to (k - 1) / k, so ten go with its 0.9, and fewer rows get fewer clusters and a smaller share.
    "CBLOF": DetectorRecipe(
        "pyod.models.cblof",
        "CBLOF",
        seed="random_state",
        defaults={"n_clusters": 10, "alpha": 0.9},
        limits={"n_clusters": _clusters, "alpha": lambda rows: 1.0 - 1.0 / _clusters(rows)},
        max_rows=_DRAWN,  # k-means takes the more rounds the more rows there are
    ),
    # The determinant needs several rows a column, and the search is slow: 26 s at 500 x 256 against 1 s at 32.
    "MCD": DetectorRecipe(
        "pyod.models.mcd",
        "MCD",
        seed="random_state",
        max_components=lambda rows: min(32, max(1, rows // 5)),
        max_rows=_DRAWN,
    ),
    "ABOD": DetectorRecipe(
        "pyod.models.abod",
        "ABOD",
        defaults={"n_neighbors": 10},
        limits={"n_neighbors": _others},
        min_rows=4,
        max_rows=_DRAWN,
    ),
    "Sampling": DetectorRecipe(
        "pyod.models.sampling",
        "Sampling",
        seed="random_state",
        defaults={"subset_size": 20},
        limits={"subset_size": _all},
    ),
    # PyOD's default keeps every component, so that no fitted row has an error and rounding decides.
    "KPCA": DetectorRecipe(
        "pyod.models.kpca",
        "KPCA",
        seed="random_state",
        defaults={"n_components": 32, "eigen_solver": "randomized"},
        limits={"n_components": lambda rows: max(1, rows // 2)},
        max_rows=_FEW_DRAWN,
    ),
    "ECOD": DetectorRecipe(_OURS, "EmpiricalTails", contamination=False, defaults={"rule": "ecod"}),
    "COPOD": DetectorRecipe(_OURS, "EmpiricalTails", contamination=False, defaults={"rule": "copod"}),
    "LUNAR": DetectorRecipe(
        "pyod.models.lunar",
        "LUNAR",
        seed="random_state",
        defaults={"n_neighbours": 5},
        limits={"n_neighbours": lambda rows: max(1, rows - 2)},
        min_rows=3,
        max_rows=_FEW_DRAWN,
        finish=repairs.finish_lunar,
        score=repairs.score_lunar,
        torch=True,
    ),
    "AutoEncoder": DetectorRecipe(
        "pyod.models.auto_encoder",
        "AutoEncoder",
        seed="random_state",
        defaults={**_DEEP, "device": "cpu"},
        limits={"batch_size": _all},
        score=repairs.score_reconstruction,
        torch=True,
    ),
    "VAE": DetectorRecipe(
        "pyod.models.vae",
        "VAE",
        seed="random_state",
        defaults={**_DEEP, "device": "cpu"},
        limits={"batch_size": _all},
        score=repairs.score_reconstruction,
        torch=True,
    ),
    "DeepSVDD": DetectorRecipe(
        "pyod.models.deep_svdd",
        "DeepSVDD",
        seed="random_state",
        columns="n_features",
        defaults=_DEEP,
        score=repairs.score_deep_svdd,
        torch=True,
    ),
    "DIF": DetectorRecipe(
        "pyod.models.dif",
        "DIF",
        seed="random_state",
        defaults={"device": "cpu", "max_samples": 256},
        limits={"max_samples": _all},
        max_rows=_DRAWN,
        finish=repairs.finish_deep_isolation,
        score=repairs.score_deep_isolation,
        torch=True,
    ),
}

REFUSED: dict[str, str] = {
    "AE1SVM": "its score is the autoencoder's error, the one-class SVM is trained and never asked; take AutoEncoder",
    "ALAD": "it needs pandas, which PyOD does not declare, and an adversarial training without a stopping rule",
    "AnoGAN": "it needs pandas, which PyOD does not declare, and searches a latent code by random starts for each case",
    "CD": "Cook's distance is of a regression on a target, and features have none",
    "COF": "it scores the rows of a call among each other and cannot score one case; take LOF",
    "DevNet": "it learns from labelled anomalies",
    "FeatureBagging": "PyOD loads it only with a package (combo) it does not declare",
    "HDBSCAN": "every row outside the clusters has the same score, so far and near cases tie",
    "LMDD": "it scores the rows of a call among each other; a row alone scores 0",
    "LOCI": "its cost grows with the cube of the rows, and it scores the rows of a call among each other",
    "LSCP": "it combines other detectors; fit them and fuse their scores",
    "MAD": "it takes one column only; take HBOS or ECOD, which judge each column",
    "MO_GAAL": "an adversarial training with neither seed nor stopping rule, which ranks below chance on normals alone",
    "QMCD": "its sense is flipped by the skewness of the fitted scores: far rows may score lower than normal ones",
    "RGraph": "it scores the rows of a call among each other",
    "ROD": "it scores every triple of columns, 341,376 of them for 128 columns",
    "SOD": "it takes a row's neighbours from the rows of the call, so it cannot score one case",
    "SO_GAAL": "an adversarial training with neither seed nor stopping rule, which ranks below chance on normals alone",
    "SOS": "it scores the rows of a call among each other",
    "SUOD": "it runs other detectors in parallel; fit them and fuse their scores",
    "XGBOD": "it learns from labelled anomalies",
}
