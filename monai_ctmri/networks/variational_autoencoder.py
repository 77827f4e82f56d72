"""The variational autoencoder: MONAI's, made to return one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.nets import VarAutoEncoder
from torch import nn

__all__ = ["VariationalAutoencoder", "kl_from_standard_normal"]

_GROUPS = 8


def kl_from_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of N(mean, variance) from N(0, 1) in nats, summed over the latent.

    ``sum (mean^2 + variance - log variance - 1) / 2`` (Kingma and Welling, ICLR 2014, appendix B).

    Args:
        mean: [N, L].
        log_variance: [N, L].

    Returns:
        [N], >= 0 up to rounding.
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(dim=1)


class VariationalAutoencoder(nn.Module):
    """Reconstruct an image through a latent that is a normal distribution, with the likelihood of each voxel.

    The layers are those of :class:`monai.networks.nets.VarAutoEncoder`, whose ``forward`` returns a tuple of four; here
    it returns one tensor, so that inferers, evaluators, exports and distributed training take it as any other network.
    The decoder gives mean and scale of each voxel (An and Cho, "Variational autoencoder based anomaly detection using
    reconstruction probability", SNU Data Mining Center, 2015).

    Args:
        in_channels: number of image channels C.
        spatial_size: (height, width) of the images, or three sizes; each divisible by 2 to the number of ``channels``.
        latent_dim: length L of the latent.
        channels: widths of the encoder, each divisible by 8; every level halves the image.
        scale: None learns the scale of each voxel; a number in (0, 1] is the scale of all.
        log_scale_range: a learned logarithm of the scale is clamped to this interval; scales far below the noise of
            the images would let a few voxels rule loss and score.

    Raises:
        ValueError: for sizes, widths, scale or range other than these.

    Example:
        >>> network = VariationalAutoencoder(in_channels=2, spatial_size=(64, 64)).eval()
        >>> network(torch.rand(1, 2, 64, 64)).shape
        torch.Size([1, 2, 64, 64])
    """

    def __init__(
        self,
        in_channels: int = 2,
        spatial_size: Sequence[int] = (128, 128),
        latent_dim: int = 128,
        channels: Sequence[int] = (32, 64, 96, 128, 128),
        scale: float | None = None,
        log_scale_range: Sequence[float] = (-4.0, 1.0),
    ) -> None:
        super().__init__()
        if in_channels < 1 or latent_dim < 1:
            raise ValueError(f"in_channels and latent_dim must be at least 1, got {in_channels} and {latent_dim}.")
        if not channels or any(width < 1 or width % _GROUPS for width in channels):
            raise ValueError(f"channels must be numbers divisible by {_GROUPS}, got {tuple(channels)}.")
        step = 2 ** len(channels)
        if len(spatial_size) not in (2, 3) or any(size < step or size % step for size in spatial_size):
            raise ValueError(f"spatial_size must be two or three numbers divisible by {step}, got {spatial_size}.")
        if scale is not None and not 0 < scale <= 1:
            raise ValueError(f"scale must be None or in (0, 1], got {scale}.")
        low, high = (float(end) for end in log_scale_range)
        if not low < high:
            raise ValueError(f"log_scale_range must rise, got {tuple(log_scale_range)}.")
        self.in_channels = in_channels
        self.spatial_size = [int(size) for size in spatial_size]
        self.low, self.high = low, high
        self.learns_scale = scale is None
        self.log_scale = 0.0 if scale is None else math.log(scale)
        self.autoencoder = VarAutoEncoder(
            spatial_dims=len(spatial_size),
            in_shape=(in_channels, *self.spatial_size),
            out_channels=in_channels * (2 if self.learns_scale else 1),
            latent_size=latent_dim,
            channels=tuple(channels),
            strides=(2,) * len(channels),
            act=("swish", {}),
            norm=("group", {"num_groups": _GROUPS}),
            use_sigmoid=False,
        )
        self._initialise()

    def _initialise(self) -> None:
        """Start at a dark image with a scale of the size of its first errors: sigmoid(-2) = 0.12, exp(-2) = 0.14."""
        last = [module for module in self.autoencoder.decode.modules() if hasattr(module, "bias")][-1]
        nn.init.constant_(last.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Reconstruct ``image`` [N, C, ...] in [0, 1].

        Returns:
            In ``eval()`` the reconstruction [N, C, ...] in (0, 1) from the mean latent; deterministic. In ``train()``
            what :meth:`training_outputs` says, [N, 2C + 1, ...].

        Raises:
            ValueError: for another shape than the network was built for.
        """
        if self.training:
            return self.training_outputs(image)
        return self.decode(self.encode(image))

    @torch.jit.export
    def posterior(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and logarithm of the variance of the latent given ``image``, each [N, L], float32.

        Raises:
            ValueError: for another shape than the network was built for.
        """
        if image.shape[1] != self.in_channels or list(image.shape[2:]) != self.spatial_size:
            raise ValueError(
                f"image of shape {list(image.shape)} does not fit a network for {self.in_channels} channels of "
                f"{self.spatial_size}."
            )
        # MONAI's encode_forward takes a view, which fails on images in channels_last.
        encoded = self.autoencoder.intermediate(self.autoencoder.encode(image)).flatten(1)
        # The limits of MONAI's AutoencoderKL: exp stays finite in float32.
        log_variance = self.autoencoder.logvar(encoded).float().clamp(-30.0, 20.0)
        return self.autoencoder.mu(encoded).float(), log_variance

    @torch.jit.export
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mean latent [N, L] of ``image``."""
        return self.posterior(image)[0]

    @torch.jit.export
    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction [N, C, ...] in (0, 1) of a latent [N, L]."""
        return self.likelihood(latent)[:, : self.in_channels]

    @torch.jit.export
    def reconstruct(self, image: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction from the mean latent, in ``train()`` too."""
        return self.decode(self.encode(image))

    @torch.jit.export
    def likelihood(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the distribution of the image given a latent [N, L]: [N, 2C, ...], C means and C log-scales."""
        pred = self.autoencoder.decode_forward(latent, False).float()
        mean = torch.sigmoid(pred[:, : self.in_channels])
        if self.learns_scale:
            log_scale = pred[:, self.in_channels :].clamp(self.low, self.high)
        else:
            log_scale = torch.full_like(mean, self.log_scale)
        return torch.cat([mean, log_scale], dim=1)

    @torch.jit.export
    def training_outputs(self, image: torch.Tensor) -> torch.Tensor:
        """Return all that :class:`~monai_ctmri.losses.EvidenceLowerBoundLoss` needs, for one random latent a case.

        One tensor, not a tuple: a distributed wrapper, an inferer and MONAI's decollation pass it on unchanged.

        Returns:
            [N, 2C + 1, ...], float32: C means, C log-scales, and a channel that holds, at each voxel, the divergence of
            the case's latent from the prior (:func:`kl_from_standard_normal`).
        """
        mean, log_variance = self.posterior(image)
        pred = self.likelihood(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
        divergence = kl_from_standard_normal(mean, log_variance).reshape([-1] + [1] * (pred.dim() - 1))
        return torch.cat([pred, divergence.expand_as(pred[:, :1])], dim=1)
