"""What every scorer that runs a network needs: images in, the network in evaluation, finite numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby, islice
from typing import Any

import torch
from torch import nn

from monai_ctmri import keys
from monai_ctmri.errors import InputError

__all__ = [
    "batches",
    "case_name",
    "demand_finite",
    "evaluating",
    "image_of",
    "latent_columns",
    "on_device",
    "present_in",
]


@contextmanager
def evaluating(network: nn.Module, inference: bool = True) -> Iterator[None]:
    """Run ``network`` in ``eval()`` under ``torch.inference_mode``.

    Afterwards every module has its own training flag back, so that a frozen layer stays frozen.

    Args:
        network: what is run.
        inference: False leaves gradients on, for scorers that search by them.
    """
    flags = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode() if inference else nullcontext():
            yield
    finally:
        for module, training in flags:
            module.training = training


def on_device(network: nn.Module, images: torch.Tensor, device: torch.device | str | None = None) -> torch.Tensor:
    """Bring ``images`` to ``device`` and the network with them; None takes them to where its parameters are.

    To be called before :func:`evaluating`: parameters moved in inference mode could not be trained any more.
    """
    if device is not None:
        network.to(device)
        return images.to(device)
    parameter = next(network.parameters(), None)
    return images if parameter is None else images.to(parameter.device)


def batches(
    cases: Iterable[Mapping[str, Any]], modalities: Sequence[str], size: int = 16, mirror: bool = False
) -> Iterator[tuple[torch.Tensor, list[Mapping[str, Any]]]]:
    """Stacks (N, C, H, W) of at most ``size`` neighbouring cases whose images share a shape, and those cases.

    Args:
        cases: read once, in order.
        modalities: channels of ``image`` in order.
        size: at least 1.
        mirror: see :func:`image_of`.

    Raises:
        ValueError: ``size`` below 1.
        InputError: what :func:`image_of` refuses.
    """
    if size < 1:
        raise ValueError(f"the batch size must be at least 1, got {size}.")
    loaded = ((image_of(case, modalities, mirror), case) for case in cases)
    for _, run in groupby(loaded, key=lambda pair: pair[0].shape):
        while batch := list(islice(run, size)):
            yield torch.stack([image for image, _ in batch]), [case for _, case in batch]


def image_of(case: Mapping[str, Any], modalities: Sequence[str], mirror: bool = False) -> torch.Tensor:
    """The case's image as a plain float32 tensor (C, H, W) on the CPU.

    Args:
        case: with ``image``.
        modalities: the channels in order.
        mirror: take an image with the mirrored one as further channels (2 C in all), too.

    Raises:
        InputError: the image has not one channel a modality, or is not finite.
    """
    image = case[keys.IMAGE]
    plain = image.as_tensor() if hasattr(image, "as_tensor") else torch.as_tensor(image)
    plain = plain.detach().to("cpu", torch.float32)
    wanted = {len(modalities), 2 * len(modalities)} if mirror else {len(modalities)}
    if plain.ndim != 3 or plain.shape[0] not in wanted:
        raise InputError.about(
            case_name(case),
            f"image of shape {tuple(plain.shape)} has not the channels {', '.join(modalities)}",
            "give (C, H, W) with one channel a modality",
        )
    demand_finite(plain[None], [case_name(case)], "the image")
    return plain


def present_in(image: torch.Tensor, modalities: Sequence[str]) -> dict[str, int]:
    """Modality to channel of ``image`` (C, H, W), those that are there: a channel of zeros is absent."""
    return {name: channel for channel, name in enumerate(modalities) if bool((image[channel] != 0).any())}


def demand_finite(stack: torch.Tensor, names: Sequence[str], what: str) -> None:
    """Refuse NaN and infinity in ``stack`` (N, ...), by the name of the case.

    Raises:
        InputError: naming the first case at fault.
    """
    for one, name in zip(stack, names, strict=True):
        if not torch.isfinite(one).all():
            raise InputError.about(name, f"{what} holds NaN or infinity", "check its preprocessing and the weights")


def latent_columns(latent: Any, names: Sequence[str], pool: int = 1) -> list[dict[str, float]]:
    """Feature columns ``latent_000``, ... of a batch.

    Args:
        latent: what ``encode`` returned: (N, K) stays as it is, a map (N, K, h, w) is averaged to ``pool`` x ``pool``,
            channel by channel.
        names: of the N cases.
        pool: side of the pooled map.

    Raises:
        ValueError: ``latent`` is no tensor of such a shape.
        InputError: it is not finite.
    """
    if not isinstance(latent, torch.Tensor) or latent.ndim not in (2, 4):
        got = tuple(latent.shape) if isinstance(latent, torch.Tensor) else type(latent).__name__
        raise ValueError(f"encode must return one tensor (N, K) or (N, K, h, w), got {got}")
    latent = latent.float()
    if latent.ndim == 4:
        latent = nn.functional.adaptive_avg_pool2d(latent, pool).flatten(1)
    latent = latent.cpu()
    demand_finite(latent, names, "the network's latent")
    width = max(3, len(str(latent.shape[1] - 1)))
    return [{f"latent_{index:0{width}d}": value for index, value in enumerate(row)} for row in latent.tolist()]


def case_name(case: Mapping[str, Any]) -> str:
    """What messages call the case."""
    return str(case.get(keys.CASE, "case without a name"))
