"""What scorers share whose network knows everything: nothing to fit, one map a modality, cases in stacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from monai_ctmri.scoring.network_run import batches, case_name, present_in
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TrainedNetworkScorer"]


class TrainedNetworkScorer(ABC):
    """A scorer that learns nothing from normals, since its network was trained before.

    Args:
        network: what is asked.
        modalities: the channels of ``image`` in order.
        device: where to run; None runs where the network's parameters are.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        head_mask: where to look; None takes the defaults of :class:`HeadMask`.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str],
        device: torch.device | str | None = None,
        map_score: MapScore | None = None,
        head_mask: Callable[[Any], Any] | None = None,
    ) -> None:
        self.network = network
        self.modalities = tuple(modalities)
        self.device = device
        self.map_score = MapScore() if map_score is None else map_score
        self.head_mask = HeadMask() if head_mask is None else head_mask

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> Self:
        """Learn nothing: the network was trained before."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return {}: nothing is learnt."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - nothing to take is the answer
        """Take nothing over."""

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            InputError: the image has not one channel a modality, or the image or what the network makes of it is not
                finite.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases ``batch_size`` at a time, in their order; the evidence equals :meth:`score` up to rounding."""
        found: list[Evidence] = []
        for images, members in batches(cases, self.modalities, batch_size):
            found += self._score_stack(images, [case_name(case) for case in members])
        return found

    @abstractmethod
    def _score_stack(self, images: torch.Tensor, names: list[str]) -> list[Evidence]:
        """Judge images (N, C, H, W) of the cases ``names``."""

    def _evidence(
        self,
        name: str,
        image: torch.Tensor,
        channels: torch.Tensor,
        scores: Mapping[str, float],
        features: dict[str, float],
    ) -> Evidence:
        """Maps ``name`` (mean) and ``name_<modality>`` of the channels (C, H, W) present, their scores and others."""
        mask = np.asarray(self.head_mask(image))[0]
        named = {f"_{one}": channels[channel] for one, channel in present_in(image, self.modalities).items()}
        if named:
            named[""] = torch.stack(list(named.values())).mean(dim=0)
        found = dict(scores)
        for suffix, one in named.items():
            for number, value in self.map_score(one, mask).items():
                found[f"{name}_{number}{suffix}"] = value
        return Evidence({f"{name}{suffix}": one.numpy() for suffix, one in named.items()}, found, features)
