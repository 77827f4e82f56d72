"""Feature maps from inside a network: named levels on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .convolutional_autoencoder import ConvolutionalAutoencoder
from .denoiser import CrossModalDenoiser

__all__ = ["AUTOENCODER_LEVELS", "DENOISER_LEVELS", "FeatureMaps"]

DENOISER_LEVELS = ("down_1", "down_2", "down_3")
"""Of :class:`CrossModalDenoiser`: a quarter, an eighth and a sixteenth of the image's side."""
AUTOENCODER_LEVELS = ("encoder.4", "encoder.7")
"""Of :class:`ConvolutionalAutoencoder`: its second and third activation, half and a quarter of the image's side."""


class FeatureMaps(nn.Module):
    """What levels inside ``network`` say of an image, resized to one grid and concatenated.

    MONAI's ``ModelWithHooks`` serves class activation maps: it keeps gradients and asks for a class. This one runs the
    network as it is (its ``encode`` where it has one, so that no decoder runs) and reads the outputs of sub-modules. It
    shares the network: weights that are loaded into one are those of the other.

    Args:
        network: any network of 2D images.
        levels: names of sub-modules, as ``network.named_modules()`` has them or without their beginning (``"down_1"``
            for ``"unet.down_1"``: the outermost of that name, if there is but one); each must return a map [N, C, h,
            w]. None takes ``DENOISER_LEVELS`` or ``AUTOENCODER_LEVELS`` for these two networks.
        size: (h, w) of the grid; None takes that of the first level.

    Attributes:
        mirror: whether the network also takes the mirrored image as further channels.

    Raises:
        ValueError: no level, a name that fits no sub-module or several, or no default for the network.

    Example:
        >>> maps = FeatureMaps(CrossModalDenoiser(features=(8, 8, 16, 24, 32, 8)))
        >>> maps(torch.rand(1, 2, 64, 64)).shape  # 8 + 16 + 24 channels
        torch.Size([1, 48, 16, 16])
    """

    def __init__(
        self, network: nn.Module, levels: Sequence[str] | None = None, size: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size must be two positive numbers, got {tuple(size)}.")
        self.network = network
        self.levels = tuple(_full_name(network, level) for level in (_default(network) if levels is None else levels))
        if not self.levels:
            raise ValueError("give at least one level.")
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.mirror = bool(getattr(network, "mirror", False))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Features [N, C, h, w] of ``image`` [N, M, H, W]; C is the sum over the levels.

        A coarser level is enlarged by bilinear interpolation, a finer one averaged over the cells of the grid.

        Raises:
            ValueError: a level returned no map, or did not run.
        """
        found: dict[str, torch.Tensor] = {}

        def keep(level: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, given: Any, made: Any) -> None:
                found[level] = made

            return hook

        hooks = [self.network.get_submodule(level).register_forward_hook(keep(level)) for level in self.levels]
        try:
            getattr(self.network, "encode", self.network)(image)
        finally:
            for handle in hooks:
                handle.remove()
        for level in self.levels:
            made = found.get(level)
            if not isinstance(made, torch.Tensor) or made.ndim != 4:
                got = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
                raise ValueError(f"level {level} must return a map [N, C, h, w], got {got}.")
        grid = self.size or (int(found[self.levels[0]].shape[2]), int(found[self.levels[0]].shape[3]))
        return torch.cat([_resized(found[level], grid) for level in self.levels], dim=1)


def _default(network: nn.Module) -> tuple[str, ...]:
    if isinstance(network, CrossModalDenoiser):
        return DENOISER_LEVELS
    if isinstance(network, ConvolutionalAutoencoder):
        return AUTOENCODER_LEVELS
    raise ValueError(f"name the levels of {type(network).__name__}: only our own encoders have defaults.")


def _full_name(network: nn.Module, level: str) -> str:
    names = [name for name, _ in network.named_modules() if name]
    fitting = [level] if level in names else [name for name in names if name.endswith(f".{level}")]
    outermost = min((name.count(".") for name in fitting), default=0)
    fitting = [name for name in fitting if name.count(".") == outermost]
    if len(fitting) != 1:
        known = ", ".join(names[:20])
        raise ValueError(f"{level!r} names {len(fitting)} sub-modules of {type(network).__name__}; it has {known} ...")
    return fitting[0]


def _resized(features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    height, width = int(features.shape[2]), int(features.shape[3])
    if (height, width) == grid:
        return features
    if height >= grid[0] and width >= grid[1]:  # interpolation would skip cells
        return nn.functional.adaptive_avg_pool2d(features, grid)
    return nn.functional.interpolate(features, size=grid, mode="bilinear", align_corners=False)
