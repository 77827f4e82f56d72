"""The contract every scorer keeps: evidence about one case, from that case and what was learnt from normals alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

__all__ = ["Evidence", "Scorer"]


@dataclass(frozen=True)
class Evidence:
    """What a scorer says about one case.

    Attributes:
        maps: named anomaly maps, each float32 of shape (H, W) on the grid of the case's ``image``; higher is more
            abnormal.
        scores: named numbers; higher is more abnormal.
        features: named feature columns for the one-class detectors; no direction is implied.
    """

    maps: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    features: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Scorer(Protocol):
    """Something that judges cases one by one.

    A case is a dictionary with at least ``image`` (tensor of shape (C, H, W), values in [0, 1], channels in the order
    of ``modalities``). The evidence for one case never depends on which other cases are scored.
    """

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> Scorer:
        """Learn healthy statistics from normal cases; a scorer that needs none returns itself unchanged."""

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case."""
