"""What all patch-level scorers share: feature maps of each modality alone and of all, and maps back on the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.network_run import batches, case_name, demand_finite, evaluating, on_device, present_in
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.transforms.residual import MapScore

__all__ = ["JOINT", "Backbone", "demand_grid", "enlarged", "head_of", "scores_of", "view_label", "views_of"]

JOINT = "joint"
"""The view of all modalities: their features side by side."""
Backbone = Callable[[torch.Tensor], torch.Tensor]
"""Images (N, M, H, W) in [0, 1], of which all channels but one are 0, to feature maps (N, C, h, w)."""


def views_of(
    backbone: Backbone,
    cases: Iterable[Mapping[str, Any]],
    modalities: Sequence[str],
    device: torch.device | str | None = None,
    size: int = 16,
) -> Iterator[tuple[Mapping[str, Any], dict[str, torch.Tensor]]]:
    """Each case with its feature maps (C, h, w), float32 on the CPU, by view.

    A view is a modality that the case has, seen by the backbone with all other channels 0, and ``JOINT`` where the case
    has all of several modalities: their maps, concatenated. So a view is the same whatever else a case has.

    Args:
        backbone: a network runs in ``eval()`` under ``torch.inference_mode``, any other callable under the latter.
        cases: read once, in order.
        modalities: the M channels of ``image`` in order.
        device: where to run; None runs where a network's parameters are.
        size: images through the backbone at a time.

    Raises:
        InputError: an image has not one channel a modality, shows nothing, or image or features are not finite.
        ValueError: the backbone does not return one map an image, or maps of different grids.
    """
    mirror = bool(getattr(backbone, "mirror", False))
    for images, batch in batches(cases, modalities, size, mirror):
        alone: list[torch.Tensor] = []
        places: list[dict[str, int]] = []
        for image, case in zip(images[:, : len(modalities)], batch, strict=True):
            present = present_in(image, modalities)
            if not present:
                raise InputError.about(case_name(case), "the image is 0 everywhere", "leave the blank slice out")
            places.append({name: len(alone) + index for index, name in enumerate(present)})
            for channel in present.values():
                single = torch.zeros_like(image)
                single[channel] = image[channel]
                alone.append(single)
        names = [case_name(case) for case, place in zip(batch, places, strict=True) for _ in place]
        chunks = [slice(start, start + size) for start in range(0, len(alone), size)]
        maps = torch.cat([_run(backbone, torch.stack(alone[chunk]), names[chunk], device) for chunk in chunks])
        for case, place in zip(batch, places, strict=True):
            views = {name: maps[index] for name, index in place.items()}
            if len(views) == len(modalities) > 1:
                views[JOINT] = torch.cat([views[name] for name in modalities])
            yield case, views


def _run(
    backbone: Backbone, images: torch.Tensor, names: Sequence[str], device: torch.device | str | None
) -> torch.Tensor:
    if isinstance(backbone, nn.Module):
        placed = on_device(backbone, images, device)
        with evaluating(backbone):
            maps = backbone(placed)
    else:
        with torch.inference_mode():
            maps = backbone(images if device is None else images.to(device))
    if not isinstance(maps, torch.Tensor) or maps.ndim != 4 or len(maps) != len(images):
        got = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise ValueError(f"the backbone must return one tensor ({len(images)}, C, h, w), got {got}.")
    maps = maps.float().cpu()
    demand_finite(maps, names, "the backbone's features")
    return maps


def demand_grid(case: Mapping[str, Any], features: torch.Tensor, shape: Sequence[int]) -> None:
    """Refuse features (C, h, w) of another shape than in ``fit``.

    Raises:
        InputError: naming the case.
    """
    if tuple(features.shape) != tuple(shape):
        raise InputError.about(
            case_name(case),
            f"features of shape {tuple(features.shape)}, fitted on {tuple(shape)}",
            "give images of one size, and the backbone the scorer was fitted with",
        )


def view_label(name: str, view: str) -> str:
    """What the map of a view is called: ``<name>`` of all modalities, ``<name>_<modality>`` of one."""
    return name if view == JOINT else f"{name}_{view}"


def head_of(case: Mapping[str, Any], modalities: Sequence[str], mask: Callable[[Any], Any]) -> np.ndarray:
    """Mask (H, W) of where to look; the image goes in as it came, since a mask in millimetres asks its affine."""
    return torch.as_tensor(mask(case[keys.IMAGE][: len(modalities)])).cpu().numpy()[0]


def enlarged(coarse: torch.Tensor, shape: Sequence[int]) -> np.ndarray:
    """A map (h, w) on the grid ``shape`` = (H, W) of the image, float32, by bilinear interpolation."""
    fine = nn.functional.interpolate(coarse[None, None].float(), tuple(shape), mode="bilinear", align_corners=False)
    return fine[0, 0].numpy()


def scores_of(maps: Mapping[str, np.ndarray], head: np.ndarray, map_score: MapScore) -> Evidence:
    """Evidence of maps (H, W): themselves, and ``<map>_mean`` and ``<map>_top`` inside ``head``."""
    numbers = {name: map_score(one, head) for name, one in maps.items()}
    scores = {f"{name}_{label}": value for name, some in numbers.items() for label, value in some.items()}
    return Evidence(maps=dict(maps), scores=scores)
