"""The plain convolutional autoencoder: a narrow network that can only copy what it has seen often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["ConvolutionalAutoencoder"]


class ConvolutionalAutoencoder(nn.Module):
    """Reconstruct slices through a bottleneck of a quarter of their height and width.

    Three 3x3 convolutions with ReLU (``channels`` wide) and two 2x2 max poolings lead to the latent, a mirrored decoder
    with nearest-neighbour upsampling and a final sigmoid leads back, so the prediction lies in (0, 1) like the input.
    Trained on normal slices with the mean squared error, it reconstructs abnormal tissue worse than normal tissue (Baur
    et al., "Autoencoders for unsupervised anomaly segmentation in brain MR images", Medical Image Analysis 69, 2021, is
    a review of the family).

    Args:
        in_channels: number of image channels: 2 for CT and MRI, 1 for one of them.
        channels: widths of the three convolutions of the encoder.
        latent_dim: None keeps the latent a map ``[N, channels[2], H/4, W/4]``; a number adds a dense latent of that
            length (one linear layer in, one out). The dense latent ties the network to one ``spatial_size``.
        spatial_size: (height, width) of the images, both divisible by 4; needed with ``latent_dim`` only.

    Raises:
        ValueError: when a number is not positive, when ``latent_dim`` comes without ``spatial_size``, or when an image
            size is not divisible by 4.

    Example:
        >>> network = ConvolutionalAutoencoder(in_channels=2)
        >>> network(torch.rand(1, 2, 64, 64)).shape
        torch.Size([1, 2, 64, 64])
    """

    def __init__(
        self,
        in_channels: int = 2,
        channels: Sequence[int] = (32, 64, 128),
        latent_dim: int | None = None,
        spatial_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
        if len(channels) != 3 or min(channels) < 1:
            raise ValueError(f"channels must be three positive numbers, got {tuple(channels)}.")
        first, second, third = channels
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
        )
        self.to_latent: nn.Module = nn.Identity()
        self.from_latent: nn.Module = nn.Identity()
        self.height, self.width = 0, 0  # 0: any size
        if latent_dim is not None:
            if latent_dim < 1:
                raise ValueError(f"latent_dim must be at least 1, got {latent_dim}.")
            if spatial_size is None or len(spatial_size) != 2:
                raise ValueError("latent_dim needs spatial_size=(height, width): a dense latent fits one image size.")
            self.height, self.width = int(spatial_size[0]), int(spatial_size[1])
            if self.height % 4 or self.width % 4 or min(self.height, self.width) < 4:
                raise ValueError(f"spatial_size {self.height} x {self.width} is not divisible by 4.")
            shape = (third, self.height // 4, self.width // 4)
            numbers = shape[0] * shape[1] * shape[2]
            self.to_latent = nn.Sequential(nn.Flatten(), nn.Linear(numbers, latent_dim))
            self.from_latent = nn.Sequential(nn.Linear(latent_dim, numbers), nn.ReLU(), nn.Unflatten(1, shape))
        self.decoder = nn.Sequential(
            nn.Conv2d(third, second, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(second, first, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(first, in_channels, 3, padding=1),
            nn.Sigmoid(),
        )
        self._initialise()

    def _initialise(self) -> None:
        """Start at a dark image.

        From grey, the mostly black target drives the sigmoid into saturation, where the squared error has no gradient.
        """
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        output = convolutions[-1]
        nn.init.xavier_uniform_(output.weight)
        if output.bias is not None:
            nn.init.constant_(output.bias, -2.0)  # sigmoid(-2) = 0.12: about the mean of a slice and its background

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Return the latent of ``image`` [N, C, H, W]: [N, channels[2], H/4, W/4], or [N, latent_dim] if dense.

        Raises:
            ValueError: when H or W is not divisible by 4 or not the ``spatial_size`` of a dense latent.
        """
        height, width = image.shape[2], image.shape[3]
        if height % 4 != 0 or width % 4 != 0:
            raise ValueError(f"image size {height} x {width} is not divisible by 4; resize or pad it.")
        if self.height > 0 and (height != self.height or width != self.width):
            raise ValueError(
                f"image size {height} x {width} does not fit the dense latent built for {self.height} x {self.width}."
            )
        return self.to_latent(self.encoder(image))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the image [N, C, H, W] in (0, 1) of a latent from :meth:`encode`."""
        return self.decoder(self.from_latent(latent))

    @torch.jit.export
    def reconstruct(self, image: torch.Tensor) -> torch.Tensor:
        """Return what the network makes of ``image``; same as calling it."""
        return self.decode(self.encode(image))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction, shaped like ``image`` [N, C, H, W] in [0, 1]."""
        return self.decode(self.encode(image))
