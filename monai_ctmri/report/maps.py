"""Anomaly maps as files on the grid of the case they belong to."""

from __future__ import annotations

import os

import numpy as np

from monai_ctmri.data.files import write_float_picture

__all__ = ["to_case_grid", "write_map"]


def to_case_grid(anomaly_map: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring a map from the network's square grid back to the pixels of its case.

    The preprocessing scales the longer side to the network's size and pads the shorter one evenly; here the padding
    is cut off and the rest scaled back, bilinear.

    Args:
        anomaly_map: shape (S, S).
        height, width: size of the case's files in pixels.

    Returns:
        float32 array (height, width).
    """
    import torch
    from monai.transforms import Resize

    size = anomaly_map.shape[0]
    scale = size / max(height, width)
    inner_height, inner_width = (max(1, round(side * scale)) for side in (height, width))
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    inner = np.asarray(anomaly_map, np.float32)[top : top + inner_height, left : left + inner_width]
    back = Resize((height, width), mode="bilinear")(torch.as_tensor(inner[None]))
    return np.asarray(back)[0].astype(np.float32)


def write_map(path: str | os.PathLike[str], anomaly_map: np.ndarray, height: int, width: int) -> None:
    """Write a map as float32 TIFF with the height and width of the case's own files, atomically."""
    write_float_picture(path, to_case_grid(anomaly_map, height, width))
