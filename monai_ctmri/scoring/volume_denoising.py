"""The evidence of a three-dimensional denoiser, which sees a volume window by window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import case_name, demand_finite, evaluating, on_device, present_in
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.brain import HeadMask

__all__ = ["VolumeDenoiserScorer"]


class VolumeDenoiserScorer:
    """Maps and scores of a :class:`~monai_ctmri.networks.CrossModalDenoiser` with ``spatial_dims=3``.

    As :class:`~monai_ctmri.scoring.denoising.DenoiserScorer` for slices: ``error_<m>`` is ``|x - mean| / b`` of
    modality ``<m>`` given everything that is there, ``mismatch_<m>`` given only the others (where there are others);
    ``error`` and ``mismatch`` are the means over the modalities. A channel of zeros is absent and has no names.

    Scores are ``<map>_mean``, over the head, and ``<map>_top``, the mean of the highest values in the head's interior.
    No features: a bottleneck of windows has no fixed length.

    Args:
        network: ``network(windows)`` returns M means and M logarithms of the Laplace scale, (N, 2 M, x, y, z).
        inferer: how the network sees a volume, e.g. :class:`monai.inferers.SlidingWindowInferer`; None shows it whole.
        modalities: the M channels of ``image`` in order.
        smallest_scale: floor of b, in units of the [0, 1] range.
        top_fraction: share of the interior that ``<map>_top`` averages over; at least one voxel.
        erode: voxels that are taken off the head for its interior.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Inferer | None = None,
        modalities: Sequence[str] = keys.MODALITIES,
        smallest_scale: float = 0.02,
        top_fraction: float = 0.01,
        erode: int = 2,
    ) -> None:
        if not smallest_scale >= 0:
            raise ValueError(f"smallest_scale must not be negative, got {smallest_scale}.")
        if not 0 < top_fraction <= 1:
            raise ValueError(f"top_fraction must be in (0, 1], got {top_fraction}.")
        self.network = network
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.modalities = tuple(modalities)
        self.smallest_scale = float(smallest_scale)
        self.top_fraction = float(top_fraction)
        self.head, self.interior = HeadMask(), HeadMask(erode=erode)

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> VolumeDenoiserScorer:
        """Learn nothing: the network was trained before."""
        return self

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case whose ``image`` is (M, X, Y, Z) in [0, 1].

        Raises:
            InputError: the image has another shape, shows nothing, or image or prediction is not finite.
        """
        name, count = case_name(case), len(self.modalities)
        image = torch.as_tensor(case[keys.IMAGE])
        image = (image.as_tensor() if hasattr(image, "as_tensor") else image).detach().to("cpu", torch.float32)
        if image.ndim != 4 or len(image) != count:
            problem = f"image of shape {tuple(image.shape)} is no volume with the channels {', '.join(self.modalities)}"
            raise InputError.about(name, problem, "give (C, X, Y, Z) with one channel a modality")
        demand_finite(image[None], [name], "the image")
        present = present_in(image, self.modalities)
        if not present:
            raise InputError.about(name, "the image is 0 everywhere", "leave the blank volume out")
        found = self._surprise(image, name)
        witnesses = {"error": {modality: found[channel] for modality, channel in present.items()}}
        if len(present) > 1:
            witnesses["mismatch"] = {}
            for modality, channel in present.items():
                others = image.clone()
                others[channel] = 0.0
                witnesses["mismatch"][modality] = self._surprise(image, name, given=others)[channel]
        maps: dict[str, np.ndarray] = {}
        for witness, some in witnesses.items():
            maps[witness] = np.asarray(np.mean(list(some.values()), axis=0), dtype=np.float32)
            maps |= {f"{witness}_{modality}": one for modality, one in some.items()}
        return Evidence(maps=maps, scores=self._scores(maps, case[keys.IMAGE]))

    def _surprise(self, image: torch.Tensor, name: str, given: torch.Tensor | None = None) -> np.ndarray:
        """``|image - mean| / b`` (M, X, Y, Z) of what the network says, given this image or another."""
        placed = on_device(self.network, (image if given is None else given)[None])
        with evaluating(self.network):
            pred = self.inferer(placed, self.network)
        pred = torch.as_tensor(pred).float().cpu()
        demand_finite(pred, [name], "the network's prediction")
        mean, log_scale = pred[0, : len(image)], pred[0, len(image) :]
        return ((image - mean).abs() / log_scale.exp().clamp(min=self.smallest_scale)).numpy()

    def _scores(self, maps: Mapping[str, np.ndarray], image: Any) -> dict[str, float]:
        head, interior = (np.asarray(mask(image))[0] > 0 for mask in (self.head, self.interior))
        interior = interior if interior.any() else head
        if not head.any():
            return {f"{name}_{number}": 0.0 for name in maps for number in ("mean", "top")}
        count = max(1, round(self.top_fraction * int(interior.sum())))
        scores: dict[str, float] = {}
        for name, one in maps.items():
            scores[f"{name}_mean"] = float(one[head].mean())
            scores[f"{name}_top"] = float(np.sort(one[interior])[-count:].mean())
        return scores
