"""What patch-level scorers with one model a view share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.patch_views import Backbone, demand_grid, enlarged, head_of, scores_of, view_label, views_of
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

__all__ = ["Learnt", "PatchScorer"]

Learnt = dict[str, torch.Tensor]
"""What is known of one view."""


class PatchScorer(ABC):
    """Base of scorers with one model a view: maps from the views that a case has, a state of tensors.

    A subclass adds ``fit``, which sets ``models_`` (a dictionary of tensors for each view, ``shape`` of its features
    among them), and :meth:`distances`.

    Args:
        backbone: images (N, M, H, W) to feature maps (N, C, h, w).
        modalities: the M channels of ``image`` in order.
        seed: of whatever is drawn in ``fit``.
        mask: where to look; None takes the defaults of :class:`HeadMask`.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        device: where the backbone runs; None leaves a network where its parameters are.
        name: of maps and scores.
    """

    entries: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: Backbone,
        modalities: Sequence[str],
        seed: int,
        mask: Callable[[Any], Any] | None,
        map_score: MapScore | None,
        device: torch.device | str | None,
        name: str,
    ) -> None:
        self.backbone = backbone
        self.modalities = tuple(modalities)
        self.seed = seed
        self.mask = HeadMask() if mask is None else mask
        self.map_score = MapScore() if map_score is None else map_score
        self.device = device
        self.name = name

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What ``fit`` learnt, ``<view>.<entry>`` to tensor, for ``torch.load(weights_only=True)``.

        Raises:
            RuntimeError: before ``fit``.
        """
        self.demand_fit()
        return {f"{view}.{entry}": one for view, learnt in self.models_.items() for entry, one in learnt.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave.

        Raises:
            InputError: an entry is missing, or there is none.
        """
        models: dict[str, Learnt] = {}
        for label, one in state.items():
            view, _, entry = label.rpartition(".")
            models.setdefault(view, {})[entry] = torch.as_tensor(one)
        missing = [f"{view}.{entry}" for view in models for entry in self.entries if entry not in models[view]]
        if missing or not models:
            raise InputError.about(f"state of {self.name}", f"has no {', '.join(missing) or 'view'}", "fit it again")
        self.models_ = models

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            RuntimeError: before ``fit``.
            InputError: the image has not one channel a modality, shows nothing, or its features are not finite or of
                another shape than in ``fit``.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases in their order, ``batch_size`` images through the backbone at a time.

        The evidence equals that of :meth:`score` up to rounding. A view that no normal case had has no names.
        """
        self.demand_fit()
        found = []
        for case, views in views_of(self.backbone, cases, self.modalities, self.device, batch_size):
            maps = {}
            for view, features in views.items():
                if view in self.models_:
                    learnt = self.models_[view]
                    demand_grid(case, features, learnt["shape"].tolist())
                    coarse = self.distances(features, learnt).reshape(features.shape[1:])
                    maps[view_label(self.name, view)] = enlarged(coarse, case[keys.IMAGE].shape[-2:])
            found.append(scores_of(maps, head_of(case, self.modalities, self.mask), self.map_score))
        return found

    @abstractmethod
    def distances(self, features: torch.Tensor, learnt: Learnt) -> torch.Tensor:
        """Distance of each location of a map (C, h, w), (h * w,)."""

    def demand_fit(self) -> None:
        """Raise RuntimeError before ``fit``."""
        if not hasattr(self, "models_"):
            raise RuntimeError(f"{type(self).__name__}: fit it on normal cases first")
