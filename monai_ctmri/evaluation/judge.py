"""All methods applied to cases, one case at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.evaluation.comparison import head_area
from monai_ctmri.evaluation.latent_detectors import ALWAYS, FittedDetector, fit_detectors, score_name
from monai_ctmri.evaluation.methods import MAP_KIND, build_scorers
from monai_ctmri.scoring.scorer import Evidence

__all__ = ["Judge", "Progress", "ScoredCase"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps done, steps in all."""


@dataclass(frozen=True)
class ScoredCase:
    """One case with everything the methods said about it.

    Attributes:
        case: name.
        subject: subject.
        label: 0 normal, 1 abnormal, None unknown.
        kind: kind of the anomaly; empty for normals.
        twin_of: name of the clean original of an injected case; empty for cases of the manifest.
        scores: method name to score; higher is more abnormal.
        features: latent feature columns, float32 (F,).
        map: the heatmap's values, float16 (H, W).
        mask: true lesion, bool (H, W), or None.
        images: modality to picture, float16 (H, W) in [0, 1].
        area: pixels of the head.
        details: what was injected.
        p_value: conformal p-value of the decision method; 1 until calibrated.
    """

    case: str
    subject: str
    label: int | None
    kind: str
    twin_of: str
    scores: dict[str, float]
    features: np.ndarray
    map: np.ndarray
    mask: np.ndarray | None
    images: dict[str, np.ndarray]
    area: int
    details: dict[str, Any] = field(default_factory=dict)
    p_value: float = 1.0

    def as_row(self) -> dict[str, Any]:
        """The fields that :func:`~monai_ctmri.evaluation.comparison.compare_methods` reads."""
        return {name: getattr(self, name) for name in ("case", "subject", "label", "kind", "twin_of", "scores")}

    def without_pictures(self) -> ScoredCase:
        """The same, its map, mask and pictures dropped."""
        return replace(self, map=np.zeros((0, 0), np.float16), mask=None, images={})


class Judge:
    """Every scorer of one trained network, fitted on the normals it was trained on.

    Args:
        network: trained, in ``eval()``.
        modalities: channels of ``image`` in order.
        seed: of the stochastic detectors.
        detectors: names of one-class detectors on the latent.

    Attributes:
        detectors: fitted, in the order of their names.
        healthy_features: latent features of the normals, shape (N, F).
    """

    detectors: list[FittedDetector]
    healthy_features: np.ndarray

    def __init__(
        self, network: nn.Module, modalities: Sequence[str], seed: int, detectors: Sequence[str] = ALWAYS
    ) -> None:
        self.network = network
        self.modalities = tuple(modalities)
        self.seed = seed
        self.names = tuple(detectors)
        self.reconstruction, self._baselines = build_scorers(network, modalities)

    def fit(self, normal_cases: Sequence[Mapping[str, Any]]) -> Judge:
        """Fit detectors and baselines on normal cases."""
        for scorer in self._baselines:
            scorer.fit(normal_cases)
        # The encoder runs once, whatever the number of detectors.
        features = self.reconstruction.latent_features(normal_cases)
        self.healthy_features = np.array([list(row.values()) for row in features])
        self.detectors = fit_detectors(self.names, self.healthy_features, list(features[0]), self.seed)
        return self

    def judge(self, cases: Sequence[Mapping[str, Any]], stage: str, say: Progress) -> list[ScoredCase]:
        """Judge cases one by one: no case's scores depend on another's."""
        judged, latents = [], []
        for done, case in enumerate(cases, start=1):
            evidence = self.reconstruction.score(case)
            scores = dict(evidence.scores)
            for scorer in self._baselines:
                scores |= scorer.score(case).scores
            judged.append(self._scored(case, evidence, scores))
            latents.append(list(evidence.features.values()))
            say(stage, done, len(cases))
        # The latents are already there, and a detector judges many rows in the time of one, each as if it were alone.
        for fitted in self.detectors:
            if judged and fitted.detector is not None:
                values = fitted.detector.decision_function(np.array(latents))
                for one, value in zip(judged, values, strict=True):
                    one.scores[score_name(fitted.name)] = float(value)
        return judged

    def reconstruct(self, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The network's reconstruction of each modality, float32 (H, W)."""
        stack = torch.stack([torch.as_tensor(images[name], dtype=torch.float32) for name in self.modalities])
        with torch.inference_mode():
            pred = self.network(stack[None])[0].numpy()
        return dict(zip(self.modalities, pred, strict=True))

    def _scored(self, case: Mapping[str, Any], evidence: Evidence, scores: dict[str, float]) -> ScoredCase:
        image, mask, label = np.asarray(case[keys.IMAGE]), case.get(keys.MASK), case.get(keys.LABEL)
        return ScoredCase(
            case=str(case[keys.CASE]),
            subject=str(case[keys.SUBJECT]),
            label=None if label is None else int(label),
            kind=str(case.get("kind", "abnormal" if label == 1 else "")),
            twin_of=str(case.get("twin_of", "")),
            scores=scores,
            features=np.array(list(evidence.features.values()), dtype=np.float32),
            map=evidence.maps[MAP_KIND].astype(np.float16),
            mask=None if mask is None else np.asarray(mask)[0] > 0.5,
            images={name: image[index].astype(np.float16) for index, name in enumerate(self.modalities)},
            area=head_area(image),
            details=dict(case.get("anomaly", {})),
        )
