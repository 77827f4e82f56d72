"""What a network fails to reconstruct, and how unusual its latent is: the evidence of any autoencoder-like network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import (
    batches,
    case_name,
    demand_finite,
    evaluating,
    latent_columns,
    on_device,
    present_in,
)
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore, ResidualMap

__all__ = ["LatentScorer", "ReconstructionScorer"]


class ReconstructionScorer:
    """Residual maps, their scores, and the latent as feature columns.

    For each kind: maps ``<kind>`` (mean over the modalities) and ``<kind>_<modality>``; scores ``<kind>_mean``,
    ``<kind>_top``, ``<kind>_mean_<modality>`` and ``<kind>_top_<modality>`` from :class:`MapScore` within
    :class:`HeadMask` of the image. A modality whose channel is 0 everywhere is absent: it has no names of its own and
    no part in the mean. Features ``latent_000``, ... come from ``network.encode`` where the network has it: a dense
    latent [1, K] as it is, a map [1, K, h, w] after adaptive average pooling, channel by channel.

    The network runs in ``eval()`` under ``torch.inference_mode``; each module's training flag is put back afterwards.

    Args:
        network: ``network(image)`` returns ONE tensor shaped like ``image`` (N, C, H, W), deterministic in ``eval()``.
        modalities: the channels of ``image`` in order.
        kinds: residuals to draw: ``l1``, ``l2``, ``ssim``.
        device: where to run (the network is moved there at the first score); None runs where its parameters are.
        latent_pool: side of the pooled latent map; a map of K channels gives K * latent_pool**2 features.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        head_mask: where to look; None takes the defaults of :class:`HeadMask`.
        whole_image: also the score ``mse``, the mean squared error over all pixels of all channels: what a training
            on it makes small.

    Raises:
        ValueError: an unknown kind or a ``latent_pool`` below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] = keys.MODALITIES,
        kinds: Sequence[str] = ("l1", "l2", "ssim"),
        device: torch.device | str | None = None,
        latent_pool: int = 1,
        map_score: MapScore | None = None,
        head_mask: HeadMask | None = None,
        whole_image: bool = False,
    ) -> None:
        if latent_pool < 1:
            raise ValueError(f"latent_pool must be at least 1, got {latent_pool}.")
        self.network = network
        self.modalities = tuple(modalities)
        self.residuals = {kind: ResidualMap(kind) for kind in kinds}
        self.device = device
        self.latent_pool = latent_pool
        self.map_score = MapScore() if map_score is None else map_score
        self.head_mask = HeadMask() if head_mask is None else head_mask
        self.whole_image = whole_image

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> ReconstructionScorer:
        """Learn nothing: the network was trained before."""
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            InputError: the image has not one channel a modality, or image or prediction is not finite.
            ValueError: the network does not return one tensor of the image's shape.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases ``batch_size`` at a time, in their order; the evidence equals :meth:`score` up to rounding."""
        stacks = batches(cases, self.modalities, batch_size)
        return [evidence for stack in stacks for evidence in self._score_stack(*stack)]

    def latent_features(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[dict[str, float]]:
        """The features alone, one dictionary a case: only the encoder runs.

        Raises:
            TypeError: the network has no ``encode``.
            InputError: the image has not one channel a modality, or image or latent is not finite.
        """
        if not self._encodes():
            raise TypeError(f"{type(self.network).__name__} has no encode(image): it offers no latent features")
        found: list[dict[str, float]] = []
        for images, batch in batches(cases, self.modalities, batch_size):
            placed = on_device(self.network, images, self.device)
            with evaluating(self.network):
                found += self._features(placed, [case_name(case) for case in batch])
        return found

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what it knows lies in the network."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""

    def _score_stack(self, images: torch.Tensor, cases: Sequence[Mapping[str, Any]]) -> list[Evidence]:
        names = [case_name(case) for case in cases]
        placed = on_device(self.network, images, self.device)
        with evaluating(self.network):
            pred = self.network(placed)
            if not isinstance(pred, torch.Tensor) or pred.shape != images.shape:
                got = tuple(pred.shape) if isinstance(pred, torch.Tensor) else type(pred).__name__
                raise ValueError(f"the network must return one tensor of shape {tuple(images.shape)}, got {got}")
            features = self._features(placed, names) if self._encodes() else [{} for _ in names]
            pred = pred.float().cpu()
        demand_finite(pred, names, "the network's prediction")
        return [self._evidence(*each) for each in zip(images, pred, features, strict=True)]

    def _evidence(self, image: torch.Tensor, pred: torch.Tensor, features: dict[str, float]) -> Evidence:
        mask = np.asarray(self.head_mask(image))[0]
        # An image with nothing in it keeps its columns: its scores are 0.
        present = present_in(image, self.modalities) or {name: index for index, name in enumerate(self.modalities)}
        maps: dict[str, np.ndarray] = {}
        scores: dict[str, float] = {"mse": float((image - pred).square().mean())} if self.whole_image else {}
        for kind, residual in self.residuals.items():
            channels = np.asarray(residual(image, pred), dtype=np.float32)
            named = {"": channels[list(present.values())].mean(axis=0)}
            named |= {f"_{name}": channels[index] for name, index in present.items()}
            for suffix, one in named.items():
                maps[f"{kind}{suffix}"] = one
                for number, value in self.map_score(one, mask).items():
                    scores[f"{kind}_{number}{suffix}"] = value
        return Evidence(maps=maps, scores=scores, features=features)

    def _features(self, images: torch.Tensor, names: list[str]) -> list[dict[str, float]]:
        return latent_columns(self.network.encode(images), names, self.latent_pool)  # type: ignore[operator]

    def _encodes(self) -> bool:
        return callable(getattr(self.network, "encode", None))


class _Detector(Protocol):
    """What :class:`LatentScorer` asks of a one-class detector."""

    def fit(self, X: Any, feature_names: Sequence[str] | None = None) -> Any: ...  # noqa: N803

    def decision_function(self, X: Any) -> np.ndarray: ...  # noqa: N803


class LatentScorer:
    """How unusual a case's latent is among those of the normals, by a one-class detector.

    Args:
        reconstruction_scorer: gives the latent features; its network must have ``encode``.
        detector: scikit-learn shape, e.g. :class:`monai_ctmri.detection.outlier.OutlierDetector`; ``fit`` fits it.
        name: name of the score.
    """

    def __init__(self, reconstruction_scorer: ReconstructionScorer, detector: _Detector, name: str = "latent") -> None:
        self.reconstruction_scorer = reconstruction_scorer
        self.detector = detector
        self.name = name

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> LatentScorer:
        """Fit the detector on the features of at least two normal cases.

        Raises:
            InputError: too few cases, or what :meth:`ReconstructionScorer.latent_features` refuses.
        """
        features = self.reconstruction_scorer.latent_features(normal_cases)
        if len(features) < 2:
            raise InputError.about(
                f"score {self.name}", f"{len(features)} normal cases to fit on", "give at least 2 normal cases"
            )
        columns = list(features[0])
        self.detector.fit(np.array([[row[column] for column in columns] for row in features]), feature_names=columns)
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case by the detector's ``decision_function``."""
        return self.score_features(self.reconstruction_scorer.latent_features([case]))[0]

    def score_features(self, rows: Sequence[Mapping[str, float]]) -> list[Evidence]:
        """Judge cases by latent features that a reconstruction has already given; each as if it were alone."""
        values = self.detector.decision_function(np.array([list(row.values()) for row in rows]))
        return [Evidence(scores={self.name: float(value)}) for value in values]
