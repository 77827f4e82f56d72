"""Masks and millimetres: voxel sizes of an image, erosion by a distance, components, axial planes of a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from scipy import ndimage

from ..data.slices import axial_order
from ..errors import InputError

__all__ = ["axial_axis", "axial_planes", "erode_by_mm", "largest_component", "voxel_sizes_mm"]


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected component (4 neighbours, 6 in a volume); an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else mask


def erode_by_mm(mask: np.ndarray, distance_mm: float, sizes_mm: Sequence[float]) -> np.ndarray:
    """Keep the voxels whose centre lies further than a distance from the centre of every voxel outside the mask.

    What lies beyond the image's border counts as outside.

    Args:
        mask: bool, of any number of axes.
        distance_mm: 0 changes nothing.
        sizes_mm: size of a voxel along each axis.
    """
    if distance_mm <= 0 or not mask.any():
        return mask
    inner = (slice(1, -1),) * mask.ndim
    return ndimage.distance_transform_edt(np.pad(mask, 1), sampling=tuple(sizes_mm))[inner] > distance_mm


def voxel_sizes_mm(image: NdarrayOrTensor, given: float | Sequence[float] | None = None) -> tuple[float, ...]:
    """Size in mm of a voxel along each spatial axis of an image (C, spatial...).

    ``given`` (one number, or one an axis) wins. Otherwise the affine tells, where it can: that of a volume, or of a
    slice that came from one. A picture or array has no geometry; its affine is the identity, or what resizing made
    of it (``meta["windowed"]``).

    Raises:
        InputError: when the size is not known, or ``given`` does not fit.
    """
    dims = image.ndim - 1
    if given is not None:
        sizes = (
            tuple(float(size) for size in np.broadcast_to(np.asarray(given, dtype=float).ravel(), (dims,)))
            if (np.size(given) in (1, dims))
            else ()
        )
        if not sizes or not all(size > 0 for size in sizes):
            problem = f"got {given} for an image of {dims} axes"
            raise InputError.about("pixel_spacing_mm", problem, "give one positive number, or one an axis")
        return sizes
    name = getattr(image, "meta", {}).get("filename_or_obj", "image")
    if isinstance(image, MetaTensor):
        affine = np.asarray(image.affine, dtype=float)
        known = not image.meta.get("windowed", False) and (dims == 3 or not np.allclose(affine, np.eye(len(affine))))
        if known and affine.shape[0] > dims:
            return tuple(float(size) for size in np.linalg.norm(affine[:-1, :dims], axis=0))
    raise InputError.about(name, "does not say how large its pixels are", "give pixel_spacing_mm")


def axial_axis(image: NdarrayOrTensor) -> int:
    """Spatial axis of a volume (C, X, Y, Z) that runs nearest to inferior-superior; the last without an affine."""
    affine = np.asarray(image.affine, dtype=float) if isinstance(image, MetaTensor) else np.eye(4)
    return int(np.flatnonzero(axial_order(affine)[:, 0] == 2)[0])


def axial_planes(channels: np.ndarray, axis: int) -> Iterator[np.ndarray]:
    """Axial planes (C, H, W) of a volume (C, X, Y, Z), in stored order; H and W are its other axes."""
    yield from np.moveaxis(channels, 1 + axis, 0)
