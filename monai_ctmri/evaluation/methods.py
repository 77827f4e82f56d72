"""The methods a benchmark compares: each a named score with a group, a modality and a label people can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from monai_ctmri.evaluation.latent_detectors import ALWAYS, score_name
from monai_ctmri.scoring.baselines import trivial_baselines
from monai_ctmri.scoring.reconstruction import ReconstructionScorer
from monai_ctmri.scoring.scorer import Scorer

__all__ = [
    "DECISION_METHOD",
    "FUSED_METHOD",
    "LATENT_POOL",
    "MAP_KIND",
    "Method",
    "build_scorers",
    "detector_methods",
    "list_methods",
]

DECISION_METHOD = "l1_mean"
"""The score that decides, fixed before any test part is opened: of the scores that come with a map it was the best
one on development subjects, phantom seeds 500000 to 500039, which no demo and no published number uses."""

FUSED_METHOD = "fused"
"""Name of the score that fuses others, see :mod:`monai_ctmri.evaluation.fused`."""

MAP_KIND = "l1"
"""The residual behind :data:`DECISION_METHOD`, and the heatmap people see."""

LATENT_POOL = 4
"""Latent maps are averaged to 4 x 4: the whole map has more columns than a cohort has cases."""

_NETWORK = {
    "l1_mean": "Reconstruction error, L1, mean",
    "l1_top": "Reconstruction error, L1, top 1 %",
    "l2_top": "Reconstruction error, L2, top 1 %",
    "ssim_mean": "Structural dissimilarity, mean",
    "ssim_top": "Structural dissimilarity, top 1 %",
}
_NOTES = {"l2_mean": "Autoencoder MSE"}
_TRIVIAL = {
    "mean": "Mean intensity, distance from normals",
    "spread": "Spread of intensity, distance from normals",
    "percentile": "95th percentile, distance from normals",
    "bright": "Intensity threshold, share of bright pixels",
    "atlas": "Per-pixel atlas z-score, top 1 %",
    "random": "Random number",
}
_DETECTORS = {
    "IForest": "Isolation Forest",
    "OCSVM": "One-class SVM",
    "LOF": "Local outlier factor",
    "KNN": "Distance to the nearest neighbours",
    "PCA": "Principal components",
    "GMM": "Gaussian mixture",
    "KDE": "Kernel density",
    "HBOS": "Histograms (HBOS)",
    "MCD": "Minimum covariance determinant",
    "ABOD": "Angles (ABOD)",
    "Sampling": "Distance to a sample",
    "KPCA": "Kernel principal components",
    "AutoEncoder": "Autoencoder",
    "VAE": "Variational autoencoder",
    "DeepSVDD": "Deep SVDD",
    "DIF": "Deep Isolation Forest",
    "Mahalanobis": "Mahalanobis distance",
}


@dataclass(frozen=True)
class Method:
    """One column of scores.

    Attributes:
        name: name of the score.
        label: what readers see.
        group: ``network``, ``one-class``, ``fused``, ``source notes`` or ``trivial baseline``.
        modality: ``ct``, ``mri`` or ``both``.
    """

    name: str
    label: str
    group: str
    modality: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)


def list_methods(modalities: Sequence[str]) -> list[Method]:
    """Every method for the modalities at hand; with two of them, each error and baseline also for one modality
    alone."""
    whole = "both" if len(modalities) > 1 else modalities[0]
    methods: list[Method] = []
    for group, labels in (("network", _NETWORK), ("source notes", _NOTES), ("trivial baseline", _TRIVIAL)):
        for name, label in labels.items():
            methods.append(Method(name, label, group, whole))
            if len(modalities) > 1:
                methods += [Method(f"{name}_{one}", label, group, one) for one in modalities]
    methods += detector_methods(modalities, ALWAYS)
    methods.append(Method(FUSED_METHOD, "Fused score", "fused", whole))
    return methods


def detector_methods(modalities: Sequence[str], detectors: Sequence[str]) -> list[Method]:
    """The methods of one-class detectors on the latent, by their names in
    :data:`~monai_ctmri.evaluation.latent_detectors.OFFERED`."""
    whole = "both" if len(modalities) > 1 else modalities[0]
    return [
        Method(
            score_name(name),
            f"{_DETECTORS.get(name, name)} on the latent",
            "source notes" if name == "IForest" else "one-class",
            whole,
        )
        for name in detectors
    ]


def build_scorers(network: nn.Module, modalities: Sequence[str]) -> tuple[ReconstructionScorer, list[Scorer]]:
    """The reconstruction scorer of a trained network, and the baselines that still have to be fitted on normals."""
    return ReconstructionScorer(network, modalities, latent_pool=LATENT_POOL), list(trivial_baselines(modalities))
