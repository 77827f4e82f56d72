"""Networks: tensors in, one tensor out; no training code."""

from __future__ import annotations

from .convolutional_autoencoder import ConvolutionalAutoencoder
from .cycle_networks import CycleNetworks
from .denoiser import CrossModalDenoiser
from .feature_maps import FeatureMaps
from .generator import ResidualGenerator
from .variational_autoencoder import VariationalAutoencoder

__all__ = [
    "ConvolutionalAutoencoder",
    "CrossModalDenoiser",
    "CycleNetworks",
    "FeatureMaps",
    "ResidualGenerator",
    "VariationalAutoencoder",
]
