"""Networks: tensors in, one tensor out; no training code."""

from __future__ import annotations

from .convolutional_autoencoder import ConvolutionalAutoencoder
from .denoiser import CrossModalDenoiser

__all__ = ["ConvolutionalAutoencoder", "CrossModalDenoiser"]
