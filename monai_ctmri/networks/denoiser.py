"""The cross-modal denoiser: one U-Net that says what CT and MRI should be, given whatever is there, and how surely."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNet
from torch import nn

__all__ = ["CPU_FEATURES", "GPU_FEATURES", "CrossModalDenoiser"]

CPU_FEATURES = (24, 32, 64, 96, 128, 24)
"""Widths for processors: 0.9 million weights in 2D."""
GPU_FEATURES = (64, 64, 128, 256, 512, 64)
"""Widths for a GPU: 8 million weights in 2D."""

_PATCH = 2
_GROUPS = 8


class CrossModalDenoiser(nn.Module):
    """Predict every modality, mean and scale of a Laplace distribution a voxel, from those that are present.

    Trained to undo coarse noise (Kascenas, Pugeault and O'Neil, "Denoising autoencoders for unsupervised anomaly
    detection in brain MRI", MIDL 2022) with modalities dropped at random, one network reconstructs, translates CT to
    MRI and MRI to CT, gives the uncertainty of each voxel, and serves cases that lack a modality.

    A channel that is 0 everywhere is absent; which ones are present is part of the input as further constant channels.
    Blocks of 2 x 2 (x 2) voxels become channels before MONAI's BasicUNet and voxels again after it (Shi et al., CVPR
    2016): half the time a step of the same U-Net at full resolution.

    Args:
        spatial_dims: 2 or 3.
        modalities: number of modalities M, e.g. 2 for CT and MRI.
        features: six widths of :class:`monai.networks.nets.BasicUNet`, each divisible by 8.
        mirror: also take the mirrored image as M further channels (the other hemisphere of an aligned image).
        log_scale_range: the logarithm of the Laplace scale is clamped to this interval.

    Raises:
        ValueError: for other dimensions, no modality, or widths that are not six numbers divisible by 8.

    Example:
        >>> network = CrossModalDenoiser()
        >>> network(torch.rand(1, 2, 64, 64)).shape  # mean of CT, mean of MRI, log-scale of CT, log-scale of MRI
        torch.Size([1, 4, 64, 64])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        modalities: int = 2,
        features: Sequence[int] = CPU_FEATURES,
        mirror: bool = False,
        log_scale_range: Sequence[float] = (-5.0, 3.0),
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if modalities < 1:
            raise ValueError(f"modalities must be at least 1, got {modalities}.")
        if len(features) != 6 or any(width < 1 or width % _GROUPS for width in features):
            raise ValueError(f"features must be six numbers divisible by {_GROUPS}, got {tuple(features)}.")
        low, high = (float(end) for end in log_scale_range)
        if not low < high:
            raise ValueError(f"log_scale_range must rise, got {tuple(log_scale_range)}.")
        self.spatial_dims = spatial_dims
        self.modalities = modalities
        self.mirror = mirror
        self.in_channels = modalities * (2 if mirror else 1)
        self.low, self.high = low, high
        voxels = _PATCH**spatial_dims
        self.unet = BasicUNet(
            spatial_dims=spatial_dims,
            in_channels=self.in_channels * (voxels + 1),
            out_channels=2 * modalities * voxels,
            features=tuple(features),
            act=("swish", {}),
            norm=("group", {"num_groups": _GROUPS}),
            upsample="deconv",
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict all modalities.

        Args:
            image: [N, M, ...] in [0, 1], or [N, 2M, ...] with the mirrored image behind it where the network was built
                for that; each spatial size even. A channel of zeros is absent.

        Returns:
            [N, 2M, ...]: M means, near [0, 1] but not clipped, then M logarithms of the Laplace scale.

        Raises:
            ValueError: for another number of channels or an odd size.
        """
        pred = _to_voxels(self.unet(self._prepared(image)), self.spatial_dims)
        # What is given plus a correction: fine structure need not be learnt, only what has to be taken away.
        mean, log_scale = image[:, : self.modalities] + pred[:, : self.modalities], pred[:, self.modalities :]
        return torch.cat([mean, log_scale.clamp(self.low, self.high)], dim=1)

    @torch.jit.export
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Return the bottleneck [N, features[4], ...], each side a 32nd of the image's (rounded down)."""
        unet = self.unet
        level = unet.down_2(unet.down_1(unet.conv_0(self._prepared(image))))
        return unet.down_4(unet.down_3(level))

    @torch.jit.export
    def reconstruct(self, image: torch.Tensor) -> torch.Tensor:
        """Return the means alone, [N, M, ...]."""
        return self.forward(image)[:, : self.modalities]

    @torch.jit.export
    def translate(self, image: torch.Tensor, source: int) -> torch.Tensor:
        """Predict all modalities, as :meth:`forward` does, from the channel ``source`` alone."""
        alone = torch.zeros_like(image)
        alone[:, source] = image[:, source]
        return self.forward(alone)

    def _prepared(self, image: torch.Tensor) -> torch.Tensor:
        """Blocks of voxels as channels, and a constant channel for the presence of each channel."""
        channels = image.shape[1]
        if channels != self.in_channels:
            if channels != self.modalities:
                raise ValueError(f"image has {channels} channels, the network takes {self.in_channels}.")
            image = torch.cat([image, torch.zeros_like(image)], dim=1)
        for size in image.shape[2:]:
            if size % 2 != 0:
                raise ValueError(f"image size {size} is not even; resize or pad it.")
        blocks = _to_channels(image, self.spatial_dims)
        present = (image != 0).flatten(2).any(dim=2).to(image.dtype)
        for _ in range(self.spatial_dims):
            present = present.unsqueeze(-1)
        everywhere = present * torch.ones_like(blocks[:, :1])
        return torch.cat([blocks, everywhere], dim=1)


def _to_channels(image: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """[N, C, 2h, 2w(, 2d)] -> [N, 4C (8C), h, w(, d)]."""
    n, c = image.shape[0], image.shape[1]
    if spatial_dims == 2:
        return torch.nn.functional.pixel_unshuffle(image, 2)
    h, w, d = image.shape[2] // 2, image.shape[3] // 2, image.shape[4] // 2
    blocks = image.reshape(n, c, h, 2, w, 2, d, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return blocks.reshape(n, 8 * c, h, w, d)


def _to_voxels(blocks: torch.Tensor, spatial_dims: int) -> torch.Tensor:
    """The inverse of :func:`_to_channels`."""
    if spatial_dims == 2:
        return torch.nn.functional.pixel_shuffle(blocks, 2)
    n, c, h, w, d = blocks.shape[0], blocks.shape[1] // 8, blocks.shape[2], blocks.shape[3], blocks.shape[4]
    image = blocks.reshape(n, c, 2, 2, 2, h, w, d).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return image.reshape(n, c, 2 * h, 2 * w, 2 * d)
