"""The generator of a CycleGAN: an image of one modality in, the same anatomy as another modality would show it out."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["CPU_WIDTH", "GPU_WIDTH", "ResidualGenerator"]

CPU_WIDTH = 16
"""Channels after the first convolution, for processors: 0.5 million weights in 2D with six blocks."""
GPU_WIDTH = 64
"""Channels after the first convolution, for a GPU: 8 million weights in 2D with six blocks, as published."""

_INITIAL_STD = 0.02
_INITIAL_LOGIT = -2.0


class ResidualGenerator(nn.Module):
    """Translate an image by residual blocks at a fraction of its resolution (Zhu et al., "Unpaired image-to-image
    translation using cycle-consistent adversarial networks", ICCV 2017, section 7.1; blocks of Johnson et al., 2016).

    MONAI's ``Generator`` makes an image from a latent vector, not from an image. Differences from the publication: a
    sigmoid, since images here lie in [0, 1]; and enlarging followed by a convolution instead of a transposed
    convolution, which leaves a checkerboard (Odena, Dumoulin and Olah, Distill 2016).

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of its translation.
        width: channels after the first convolution, doubled at each downsampling.
        downsamplings: how often height and width (and depth) are halved, 2 or 3 as a rule.
        blocks: number of residual blocks; 6 for images up to 128 pixels, 9 for larger ones.

    Raises:
        ValueError: for other dimensions, or numbers that are not positive.

    Example:
        >>> generator = ResidualGenerator(width=8, blocks=2)
        >>> generator(torch.rand(1, 1, 64, 64)).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = CPU_WIDTH,
        downsamplings: int = 2,
        blocks: int = 6,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        numbers = {"in_channels": in_channels, "out_channels": out_channels, "width": width}
        for name, number in {**numbers, "downsamplings": downsamplings, "blocks": blocks}.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}.")
        self.divisor = 2**downsamplings
        self.dims = spatial_dims
        layers = _convolution(spatial_dims, in_channels, width, kernel=7)
        for level in range(downsamplings):
            layers += _convolution(spatial_dims, width * 2**level, width * 2 ** (level + 1), stride=2)
        deepest = width * 2**downsamplings
        layers += [_ResidualBlock(spatial_dims, deepest) for _ in range(blocks)]
        self.depth = len(layers)
        for level in reversed(range(downsamplings)):
            layers.append(nn.Upsample(scale_factor=2.0, mode="nearest"))
            layers += _convolution(spatial_dims, width * 2 ** (level + 1), width * 2**level)
        output = _convolution(spatial_dims, width, out_channels, kernel=7)[:2]  # no norm: its level carries meaning
        self.layers = nn.Sequential(*layers, *output, nn.Sigmoid())
        self._initialise()

    def _initialise(self) -> None:
        """As published; but start at a dark image, since most of a slice is background."""
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
        for convolution in convolutions:
            nn.init.normal_(convolution.weight, std=_INITIAL_STD)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        last = convolutions[-1].bias
        if last is not None:
            nn.init.constant_(last, _INITIAL_LOGIT)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Translate ``image`` [N, in_channels, ...] in [0, 1] to [N, out_channels, ...] in [0, 1], of the same size.

        Raises:
            ValueError: when a size is not divisible by 2 ** downsamplings, or less than two of that.
        """
        for size in image.shape[2:]:
            if size % self.divisor != 0 or size < 2 * self.divisor:
                raise ValueError(f"image size {size} is no multiple of {self.divisor} from {2 * self.divisor} up.")
        return self.layers(image)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """The bottleneck [N, width * 2 ** downsamplings, ...] behind the residual blocks."""
        return self.layers[: self.depth](image)


class _ResidualBlock(nn.Module):
    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        first, second = (_convolution(spatial_dims, channels, channels) for _ in range(2))
        self.layers = nn.Sequential(*first, *second[:-1])  # no rectifier on the sum (Johnson et al.)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.layers(image)


def _convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1
) -> list[nn.Module]:
    """Reflection padding, convolution, instance norm, rectifier: zeros at the border would be a feature of it."""
    padding: nn.Module
    convolution: nn.Module
    norm: nn.Module
    if spatial_dims == 2:
        padding = nn.ReflectionPad2d(kernel // 2)
        convolution = nn.Conv2d(in_channels, out_channels, kernel, stride)
        norm = nn.InstanceNorm2d(out_channels)
    else:
        padding = nn.ReflectionPad3d(kernel // 2)
        convolution = nn.Conv3d(in_channels, out_channels, kernel, stride)
        norm = nn.InstanceNorm3d(out_channels)
    return [padding, convolution, norm, nn.ReLU()]
