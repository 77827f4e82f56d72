"""What a CycleGAN says of a case: what does not survive the way there and back, and what a translation denies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
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
from monai_ctmri.transforms.mask_geometry import voxel_sizes_mm
from monai_ctmri.transforms.residual import MapScore

__all__ = ["CycleScorer", "distance_to_range"]


class CycleScorer:
    """Cycle error of each modality, and the mismatch of a pair with what each half translates to.

    Maps:

    - ``cycle_<m>`` for each modality ``<m>`` that is there: ``|x - back(there(x))|``; ``cycle`` is their mean;
    - ``translated_mismatch_<m>`` where both are there: how far the real ``<m>`` lies outside the range of values that
      its translation from the other modality takes within ``tolerance_mm``, see :func:`distance_to_range`;
      ``translated_mismatch`` is their mean. Neither a shift of the pair by less than the tolerance nor an edge that the
      translation blurs counts.

    A channel that is 0 everywhere is absent and has no names. Scores are ``<map>_mean`` and ``<map>_top`` from
    :class:`MapScore`. Features ``latent_<m>_000``, ... are the bottleneck of the generator that translates ``<m>``,
    averaged over ``latent_pool`` x ``latent_pool`` fields; their instance norm leaves the mean of the whole empty of
    what the residual blocks found, so 1 says little.

    A small cycle error proves nothing: a generator can hide in its translation what it needs for the way back (Chu,
    Zhmoginov and Sandler, "CycleGAN, a master of steganography", 2017), and what it invents or removes to please the
    discriminator is removed or invented again (Cohen, Luck and Honari, MICCAI 2018).

    Args:
        network: a :class:`~monai_ctmri.networks.CycleNetworks`: ``network(image)`` (N, 2, H, W) returns each channel
            as translated from the other one.
        modalities: names of the two channels.
        tolerance_mm: misregistration that the mismatch forgives; 0 compares pixel by pixel.
        pixel_spacing_mm: size of a pixel, one number or (row, column); None takes it from the image's affine, which a
            picture has not got.
        mask: where to look: a transform of the image (C, H, W) to (1, H, W); None takes the defaults of
            :class:`HeadMask`.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        device: where to run (the network is moved there at the first score); None runs where its parameters are.
        latent_pool: side of the pooled bottleneck.

    Raises:
        ValueError: other than two modalities, a negative tolerance or a ``latent_pool`` below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] = keys.MODALITIES,
        tolerance_mm: float = 4.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
        mask: Callable[[Any], Any] | None = None,
        map_score: MapScore | None = None,
        device: torch.device | str | None = None,
        latent_pool: int = 2,
    ) -> None:
        if len(modalities) != 2:
            raise ValueError(f"a cycle has two modalities, got {len(modalities)}.")
        if not tolerance_mm >= 0:
            raise ValueError(f"tolerance_mm must not be negative, got {tolerance_mm}.")
        if latent_pool < 1:
            raise ValueError(f"latent_pool must be at least 1, got {latent_pool}.")
        self.network = network
        self.modalities = tuple(modalities)
        self.latent_pool = latent_pool
        self.tolerance_mm = float(tolerance_mm)
        self.pixel_spacing_mm = pixel_spacing_mm
        self.mask = HeadMask() if mask is None else mask
        self.map_score = MapScore() if map_score is None else map_score
        self.device = device

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> CycleScorer:
        """Learn nothing: the network was trained before."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what it knows lies in the network."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state_dict` gave."""

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case.

        Raises:
            InputError: the image has not two channels, shows nothing, is not finite, or is a pair whose pixel size
                nobody says.
            ValueError: the network does not return one tensor of the image's shape.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases ``batch_size`` at a time, in their order; the evidence equals :meth:`score` up to rounding."""
        return [
            evidence
            for images, some in batches(cases, self.modalities, batch_size)
            for evidence in self._score_stack(images, some)
        ]

    def latent_features(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[dict[str, float]]:
        """The features alone, one dictionary a case: only the first halves of the generators run."""
        found: list[dict[str, float]] = []
        for images, some in batches(cases, self.modalities, batch_size):
            placed = on_device(self.network, images, self.device)
            found += self._features(images, placed, [case_name(case) for case in some])
        return found

    def _features(self, images: torch.Tensor, placed: torch.Tensor, names: list[str]) -> list[dict[str, float]]:
        """The bottlenecks of what each image has; {} for a network that does not tell them."""
        found: list[dict[str, float]] = [{} for _ in names]
        if hasattr(self.network, "bottleneck"):
            present = [present_in(image, self.modalities) for image in images]
            for channel, modality in enumerate(self.modalities):
                with evaluating(self.network):
                    latent = self.network.bottleneck(placed, channel)  # type: ignore[operator]
                for row, there, columns in zip(
                    found, present, latent_columns(latent, names, self.latent_pool), strict=True
                ):
                    if modality in there:
                        row |= {name.replace("latent", f"latent_{modality}"): one for name, one in columns.items()}
        return found

    def _score_stack(self, images: torch.Tensor, cases: list[Mapping[str, Any]]) -> list[Evidence]:
        names = [case_name(case) for case in cases]
        placed = on_device(self.network, images, self.device)
        with evaluating(self.network):
            translated = self._run(placed)
            cycled = self._run(translated)
        translated, cycled = translated.float().cpu(), cycled.float().cpu()
        demand_finite(translated, names, "the translation")
        demand_finite(cycled, names, "the translation back")
        features = self._features(images, placed, names)
        return [self._evidence(*each) for each in zip(images, translated, cycled, cases, features, strict=True)]

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        pred = self.network(images)
        if not isinstance(pred, torch.Tensor) or pred.shape != images.shape:
            got = tuple(pred.shape) if isinstance(pred, torch.Tensor) else type(pred).__name__
            raise ValueError(f"the network must return one tensor of shape {tuple(images.shape)}, got {got}")
        return pred

    def _evidence(
        self,
        image: torch.Tensor,
        translated: torch.Tensor,
        cycled: torch.Tensor,
        case: Mapping[str, Any],
        features: dict[str, float],
    ) -> Evidence:
        present = present_in(image, self.modalities)
        if not present:
            raise InputError.about(case_name(case), "the image is 0 everywhere", "leave the blank slice out")
        # The image as it came: a mask in millimetres asks its affine.
        mask = torch.as_tensor(self.mask(case[keys.IMAGE])).cpu().numpy()[0]
        found = {"cycle": {name: (image[c] - cycled[c]).abs().numpy() for name, c in present.items()}}
        if len(present) == 2:
            spacing = voxel_sizes_mm(case[keys.IMAGE], self.pixel_spacing_mm)
            found["translated_mismatch"] = {
                name: distance_to_range(image[c].numpy(), translated[c].numpy(), self.tolerance_mm, spacing)
                for name, c in present.items()
            }
        maps: dict[str, np.ndarray] = {}
        for witness, each in found.items():
            maps[witness] = np.stack(list(each.values())).mean(axis=0)
            maps |= {f"{witness}_{name}": one for name, one in each.items()}
        scores = {
            f"{name}_{number}": value
            for name, one in maps.items()
            for number, value in self.map_score(one, mask).items()
        }
        return Evidence(maps=maps, scores=scores, features=features)


def distance_to_range(
    values: np.ndarray, reference: np.ndarray, tolerance_mm: float, spacing_mm: Sequence[float]
) -> np.ndarray:
    """How far each value lies outside the interval that the reference spans in its neighbourhood.

    ``max(lowest - x, x - highest, 0)`` with the lowest and highest value of ``reference`` among the pixels whose centre
    is at most ``tolerance_mm`` away (the pixel itself always); at the border of the image, among those that exist.

    Args:
        values: (H, W).
        reference: of that shape.
        tolerance_mm: radius of the neighbourhood.
        spacing_mm: size of a pixel along rows and columns.

    Returns:
        float32 (H, W), >= 0.
    """
    reach = [math.floor(tolerance_mm / size + 1e-9) for size in spacing_mm]
    offsets = np.meshgrid(
        *[np.arange(-r, r + 1) * size for r, size in zip(reach, spacing_mm, strict=True)], indexing="ij"
    )
    near = sum(offset**2 for offset in offsets) <= (tolerance_mm + 1e-6) ** 2
    lowest = ndimage.minimum_filter(reference, footprint=near, mode="constant", cval=np.inf)
    highest = ndimage.maximum_filter(reference, footprint=near, mode="constant", cval=-np.inf)
    return np.maximum(np.maximum(lowest - values, values - highest), 0.0).astype(np.float32)
