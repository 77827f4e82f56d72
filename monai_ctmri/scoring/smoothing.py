"""Anomaly maps, smoothed before they become numbers: a lesion is larger than the grain of an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ["MapSmoothing", "smoothed"]

MapSmoothing = Callable[[Any], Any]
"""From a map (1, H, W) to one of the same shape, e.g. :class:`monai.transforms.GaussianSmooth`."""


def smoothed(anomaly_map: np.ndarray, smoothing: MapSmoothing | None) -> np.ndarray:
    """Smooth one map.

    A Gaussian over the map is the usual last step of detectors that look at single places (standard deviation 4 of 224
    pixels: Defard et al. 2021, PaDiM; Roth et al. 2022, PatchCore).

    Args:
        anomaly_map: (H, W).
        smoothing: takes and gives (1, H, W); None leaves the map as it is.

    Returns:
        float32 (H, W).

    Raises:
        ValueError: the transform gives another shape.
    """
    values = np.asarray(anomaly_map, dtype=np.float32)
    if smoothing is None:
        return values
    out = np.asarray(smoothing(torch.from_numpy(np.ascontiguousarray(values))[None]), dtype=np.float32)
    if out.shape != (1, *values.shape):
        raise ValueError(f"smoothing a map of shape {(1, *values.shape)} gave {out.shape}.")
    return out[0]
