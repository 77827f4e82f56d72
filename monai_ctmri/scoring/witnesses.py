"""Where several witnesses agree: products of the maps that other scorers draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from monai_ctmri import keys
from monai_ctmri.scoring.scorer import Evidence, Scorer
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

__all__ = ["PRODUCTS", "WitnessScorer"]

PRODUCTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"asymmetry_error": ("asymmetry", "error"), "mirrored_error": ("mirrored", "error")}
)
"""Product to its factors: what differs from the other hemisphere and is unlikely given itself."""


class WitnessScorer:
    """The evidence of a scorer, and the products of its maps.

    A product is the geometric mean of its factors, ``(f_1 f_2 ... f_n)^(1/n)`` with negative values taken as 0: high
    only where every factor is, and free of their units. For each product ``<name>`` whose factors the scorer draws
    there is a map ``<name>``, likewise ``<name>_<m>`` of the factors' maps of a modality, and the scores
    ``<map>_mean`` and ``<map>_top``. What the scorer itself says is passed on unchanged.

    Args:
        scorer: draws the factors, e.g. a :class:`~monai_ctmri.scoring.joint.JointScorer`.
        modalities: the channels of ``image`` in order.
        products: name to the names of its factors; None takes :data:`PRODUCTS`.
        mask: where to look: a transform of the image (C, H, W) to (1, H, W); None takes :class:`HeadMask`.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.

    Raises:
        ValueError: a product of fewer than two factors.
    """

    def __init__(
        self,
        scorer: Scorer,
        modalities: Sequence[str] = keys.MODALITIES,
        products: Mapping[str, Sequence[str]] | None = None,
        mask: Callable[[Any], Any] | None = None,
        map_score: MapScore | None = None,
    ) -> None:
        self.scorer = scorer
        self.modalities = tuple(modalities)
        self.products = {name: tuple(factors) for name, factors in (PRODUCTS if products is None else products).items()}
        for name, factors in self.products.items():
            if len(factors) < 2:
                raise ValueError(f"product {name!r} has the factors {factors}, give at least two.")
        self.mask = HeadMask() if mask is None else mask
        self.map_score = MapScore() if map_score is None else map_score

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> WitnessScorer:
        """Fit the scorer that draws the factors."""
        self.scorer.fit(normal_cases)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What the scorer that draws the factors has learnt.

        Raises:
            RuntimeError: before ``fit``, where it learns.
        """
        return getattr(self.scorer, "state_dict", dict)()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""
        if load := getattr(self.scorer, "load_state_dict", None):
            load(state)

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case; a product of which a factor is missing has no name.

        Raises:
            ValueError: a product bears the name of a map that the scorer draws.
        """
        evidence = self.scorer.score(case)
        maps = dict(self._products(evidence.maps))
        if twice := maps.keys() & evidence.maps.keys():
            raise ValueError(f"the scorer itself draws {', '.join(sorted(twice))}; name the product otherwise.")
        scores: dict[str, float] = {}
        if maps:
            mask = torch.as_tensor(self.mask(case[keys.IMAGE][: len(self.modalities)])).cpu().numpy()[0]
            for name, one in maps.items():
                scores |= {f"{name}_{number}": value for number, value in self.map_score(one, mask).items()}
        return Evidence({**evidence.maps, **maps}, {**evidence.scores, **scores}, evidence.features)

    def _products(self, maps: Mapping[str, np.ndarray]) -> Iterable[tuple[str, np.ndarray]]:
        for name, factors in self.products.items():
            for ending in ("", *(f"_{modality}" for modality in self.modalities)):
                if all(f"{factor}{ending}" in maps for factor in factors):
                    found = [np.maximum(maps[f"{factor}{ending}"], 0.0) for factor in factors]
                    # The root of each factor first: a product of large values leaves the range of float32.
                    roots = [one.astype(np.float32) ** (1.0 / len(found)) for one in found]
                    yield f"{name}{ending}", np.prod(np.stack(roots), axis=0)
