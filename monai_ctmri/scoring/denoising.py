"""How unlikely a place is given itself, given the other modality and given the other hemisphere, by one network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

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
from monai_ctmri.scoring.smoothing import MapSmoothing, smoothed
from monai_ctmri.transforms.brain import HeadMask
from monai_ctmri.transforms.residual import MapScore

__all__ = ["DenoiserScorer"]

_KINDS = ("normalised", "absolute", "nll")
_MISMATCH = "mismatch"
_Pass = tuple[str, torch.Tensor, tuple[int, ...]]
"""What a map is called, the network's input (C, H, W), and the channels that are judged by its prediction."""


class DenoiserScorer:
    """Maps and scores of a :class:`~monai_ctmri.networks.CrossModalDenoiser`: what is there against what was expected.

    The network is asked once for each of these, and what it expects of modality ``<m>`` is compared with the image:

    - ``error_<m>``: given everything that is there, ``<m>`` itself included;
    - ``mismatch_<m>``: given only the other modality (all others, where there are more than two), which shows what one
      of them has and the other one denies;
    - ``mirrored_<m>``: given only the other hemisphere, and ``given_all_<m>``: given the image and the other
      hemisphere. Both only for a network with ``mirror``, whose images are aligned to the mid-sagittal line
      (:class:`~monai_ctmri.transforms.MidsagittalAlignd`); the scorer mirrors them itself where an image has not got
      its mirror image behind it.

    ``error``, ``mismatch``, ``mirrored`` and ``given_all`` are the means over the modalities. A modality whose channel
    is 0 everywhere is absent: it has no names, and with one modality alone there is no ``mismatch``. Scores are
    ``<map>_mean`` and ``<map>_top`` from :class:`MapScore`; features ``latent_000``, ... are the bottleneck
    (``network.encode``) given everything that is there, without the mirror image.

    The network runs in ``eval()`` under ``torch.inference_mode``; each module's training flag is put back afterwards.

    Args:
        network: ``network(image)`` returns M means and M logarithms of the Laplace scale b, (N, 2 M, H, W).
        modalities: the M channels of ``image`` in order.
        kind: ``normalised`` is ``|x - mean| / b``; ``absolute`` is ``|x - mean|``; ``nll`` is ``|x - mean| / b +
            log 2 b``, the negative logarithm of the density.
        smallest_scale: floor of b, in units of the [0, 1] range: a network that is surer than the noise of a picture
            would turn noise into evidence. Five grey levels of an 8-bit picture by default.
        mask: where to look: a transform of the image (C, H, W) to (1, H, W), e.g.
            :class:`~monai_ctmri.transforms.BrainMask`; None takes the defaults of :class:`HeadMask`.
        mismatch_mask: where ``mismatch`` looks; None takes ``mask``. A wrong or shifted partner shows most in skull and
            scalp, so that the whole head serves better there than the brain.
        map_score: how a map becomes numbers; None takes the defaults of :class:`MapScore`.
        smoothing: of each modality's map before it is scored, (1, H, W) to (1, H, W), e.g.
            :class:`monai.transforms.GaussianSmooth`; None leaves the maps as they are.
        latent_pool: side of the pooled bottleneck; K channels give K * latent_pool**2 features.
        device: where to run (the network is moved there at the first score); None runs where its parameters are.

    Raises:
        ValueError: an unknown kind, a negative ``smallest_scale`` or a ``latent_pool`` below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] = keys.MODALITIES,
        kind: str = "normalised",
        smallest_scale: float = 0.02,
        mask: Callable[[Any], Any] | None = None,
        mismatch_mask: Callable[[Any], Any] | None = None,
        map_score: MapScore | None = None,
        smoothing: MapSmoothing | None = None,
        latent_pool: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind}.")
        if not smallest_scale >= 0:
            raise ValueError(f"smallest_scale must not be negative, got {smallest_scale}.")
        if latent_pool < 1:
            raise ValueError(f"latent_pool must be at least 1, got {latent_pool}.")
        self.network = network
        self.modalities = tuple(modalities)
        self.kind = kind
        self.smallest_scale = float(smallest_scale)
        self.mask = HeadMask() if mask is None else mask
        self.mismatch_mask = mismatch_mask
        self.map_score = MapScore() if map_score is None else map_score
        self.smoothing = smoothing
        self.latent_pool = latent_pool
        self.device = device

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> DenoiserScorer:
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
            InputError: the image has not one channel a modality, shows none, or image or prediction is not finite.
            ValueError: the network does not return means and log-scales of the image's size.
        """
        return self.score_batch([case])[0]

    def score_batch(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[Evidence]:
        """Judge cases in their order, ``batch_size`` images through the network at a time.

        The evidence equals that of :meth:`score` up to rounding.
        """
        stacks = self._stacks(cases, batch_size)
        return [evidence for stack in stacks for evidence in self._score_stack(*stack, batch_size)]

    def latent_features(self, cases: Iterable[Mapping[str, Any]], batch_size: int = 16) -> list[dict[str, float]]:
        """The features alone, one dictionary a case: only the encoder runs."""
        return [row for stack in self._stacks(cases, batch_size) for row in self._features(*stack)]

    def _stacks(
        self, cases: Iterable[Mapping[str, Any]], size: int
    ) -> Iterator[tuple[torch.Tensor, list[Mapping[str, Any]]]]:
        return batches(cases, self.modalities, size, mirror=self._mirrors())

    def _mirrors(self) -> bool:
        return bool(getattr(self.network, "mirror", False))

    def _score_stack(self, images: torch.Tensor, cases: list[Mapping[str, Any]], size: int) -> list[Evidence]:
        passes = [self._passes(image, case) for image, case in zip(images, cases, strict=True)]
        inputs = [each for some in passes for _, each, _ in some]
        names = [case_name(case) for case, some in zip(cases, passes, strict=True) for _ in some]
        # Each case needs several passes, so there are more inputs than cases.
        chunks = [slice(start, start + size) for start in range(0, len(inputs), size)]
        preds = iter(torch.cat([self._run(torch.stack(inputs[chunk]), names[chunk]) for chunk in chunks]))
        features = self._features(images, cases)
        return [
            self._evidence(image, case, [(*each, next(preds)) for each in some], row)
            for image, case, some, row in zip(images, cases, passes, features, strict=True)
        ]

    def _passes(self, image: torch.Tensor, case: Mapping[str, Any]) -> list[_Pass]:
        """What the network is asked of one image (M or 2 M, H, W)."""
        count = len(self.modalities)
        alone = image[:count]
        present = tuple(present_in(alone, self.modalities).values())
        if not present:
            raise InputError.about(case_name(case), "the image is 0 everywhere", "leave the blank slice out")
        nothing = torch.zeros_like(alone)
        mirror = image[count:] if len(image) > count else alone.flip(-1)

        def given(visible: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
            return torch.cat([visible, mirrored]) if self._mirrors() else visible

        passes: list[_Pass] = [("error", given(alone, nothing), present)]
        for channel in present if len(present) > 1 else ():
            others = alone.clone()
            others[channel] = 0.0
            passes.append((_MISMATCH, given(others, nothing), (channel,)))
        if self._mirrors():
            passes.append(("mirrored", given(nothing, mirror), present))
            passes.append(("given_all", given(alone, mirror), present))
        return passes

    def _run(self, images: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        placed = on_device(self.network, images, self.device)
        with evaluating(self.network):
            pred = self.network(placed)
        wanted = (len(images), 2 * len(self.modalities), *images.shape[2:])
        if not isinstance(pred, torch.Tensor) or pred.shape != wanted:
            got = tuple(pred.shape) if isinstance(pred, torch.Tensor) else type(pred).__name__
            raise ValueError(f"the network must return one tensor of shape {wanted}, got {got}")
        pred = pred.float().cpu()
        demand_finite(pred, names, "the network's prediction")
        return pred

    def _features(self, images: torch.Tensor, cases: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
        placed = on_device(self.network, images[:, : len(self.modalities)], self.device)
        if self._mirrors():
            placed = torch.cat([placed, torch.zeros_like(placed)], dim=1)
        with evaluating(self.network):
            latent = self.network.encode(placed)  # type: ignore[operator]
        return latent_columns(latent, [case_name(case) for case in cases], self.latent_pool)

    def _evidence(
        self,
        image: torch.Tensor,
        case: Mapping[str, Any],
        judged: Sequence[tuple[str, torch.Tensor, tuple[int, ...], torch.Tensor]],
        features: dict[str, float],
    ) -> Evidence:
        # The image as it came: a mask in millimetres asks its affine.
        shown = case[keys.IMAGE][: len(self.modalities)]
        mask = torch.as_tensor(self.mask(shown)).cpu().numpy()[0]
        masks = {}
        if self.mismatch_mask is not None:
            masks[_MISMATCH] = torch.as_tensor(self.mismatch_mask(shown)).cpu().numpy()[0]
        maps: dict[str, np.ndarray] = {}
        scores: dict[str, float] = {}
        for witness in dict.fromkeys(name for name, *_ in judged):
            found = {
                channel: self._unlikely(image, pred, channel)
                for name, _, channels, pred in judged
                if name == witness
                for channel in channels
            }
            named = {witness: np.stack(list(found.values())).mean(axis=0)}
            named |= {f"{witness}_{self.modalities[channel]}": one for channel, one in found.items()}
            maps |= named
            for name, one in named.items():
                for number, value in self.map_score(one, masks.get(witness, mask)).items():
                    scores[f"{name}_{number}"] = value
        return Evidence(maps=maps, scores=scores, features=features)

    def _unlikely(self, image: torch.Tensor, pred: torch.Tensor, channel: int) -> np.ndarray:
        """How far ``image`` lies from what ``pred`` (2 M, H, W) says of ``channel``, float32 (H, W)."""
        error = (image[channel] - pred[channel]).abs()
        if self.kind != "absolute":
            scale = pred[len(self.modalities) + channel].exp().clamp(min=self.smallest_scale)
            error = error / scale + (math.log(2.0) + scale.log() if self.kind == "nll" else 0.0)
        return smoothed(error.numpy(), self.smoothing)
