"""Images brought to what registration compares: grey values in [0, 1] on an isotropic grid, and where the head is.

Everything is in world coordinates (RAS, millimetres) on a grid parallel to the world axes, so flipped, oblique and
sheared (gantry tilt) affines need no case of their own later. A picture is the same in two dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..errors import InputError

__all__ = ["HeadVolume", "likeness", "prepare_head"]

_BINS = 32
_SAMPLES = 40_000
_HU_POINTS, _HU_VALUES = (-1000.0, -100.0, 0.0, 80.0, 1000.0), (0.0, 0.2, 0.3, 0.6, 1.0)
"""Hounsfield units -> [0, 1]: soft tissue gets most bins; bone and air keep their slope, or edges would shift."""
_AIR_HU = -500.0
_MASK_MM = 4.0


@dataclass(frozen=True)
class HeadVolume:
    """One image as registration sees it.

    Attributes:
        values: grey values in [0, 1], float32, axes parallel to the world's; air is lowest.
        head: where the head is; the largest piece that is not air, holes filled.
        seen: where the image has voxels; the rest lies outside its field of view.
        origin: world position of voxel 0, mm.
        spacing_mm: distance of neighbouring voxels along every axis.
    """

    values: np.ndarray
    head: np.ndarray
    seen: np.ndarray
    origin: np.ndarray
    spacing_mm: float

    @cached_property
    def centre(self) -> np.ndarray:
        """Centre of mass of the head, mm; of the grid where there is no head."""
        index = np.argwhere(self.head).mean(axis=0) if self.head.any() else (np.array(self.values.shape) - 1) / 2
        return self.origin + self.spacing_mm * index

    @property
    def head_size(self) -> float:
        """Volume (mm^3) or area (mm^2) of the head."""
        return float(self.head.sum()) * self.spacing_mm**self.values.ndim

    def coarser(self, factor: int) -> HeadVolume:
        """Average blocks of ``factor`` voxels a side."""
        if factor < 2:
            return self
        shift = self.spacing_mm * (factor - 1) / 2
        head, seen = (_block_mean(part.astype(np.float32), (factor,) * part.ndim) for part in (self.head, self.seen))
        values = _block_mean(self.values, (factor,) * self.values.ndim)
        return HeadVolume(values, head >= 0.5, seen >= 0.5, self.origin + shift, self.spacing_mm * factor)

    def samples(self, most: int = _SAMPLES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points that are seen: world positions (D, n), values (n,) and whether they lie in the head (n,)."""
        index = np.argwhere(self.seen)
        if len(index) > most:
            # Spread by a fixed draw: a stride would fall into step with the rows of the grid.
            index = index[np.sort(np.random.default_rng(0).choice(len(index), most, replace=False))]
        at = tuple(index.T)
        return self.origin[:, None] + self.spacing_mm * index.T, self.values[at], self.head[at]


def prepare_head(array: np.ndarray, affine: np.ndarray, spacing_mm: float, margin_mm: float = 15.0) -> HeadVolume:
    """Resample an image to an isotropic grid around the head.

    Values below -500 tell Hounsfield units, which are mapped piecewise linearly with most of the range for soft
    tissue; any other image is scaled from its 1st percentile to the 99.5th percentile of its brighter part.

    Args:
        array: (X, Y, Z) or (X, Y), CT in Hounsfield units or any image with a dark background.
        affine: voxel -> RAS mm, one larger than the number of axes.
        spacing_mm: voxel size of the result; finer input is averaged first.
        margin_mm: what to keep around the head.

    Raises:
        InputError: when the affine is singular or does not fit the array.
    """
    array, affine = np.asarray(array, dtype=np.float32), np.asarray(affine, dtype=np.float64)
    dims = array.ndim
    if affine.shape != (dims + 1, dims + 1) or not np.isfinite(affine).all():
        raise InputError.about("affine", f"got {affine.tolist()} for {dims} axes", "give a finite voxel -> mm matrix")
    if abs(np.linalg.det(affine)) < 1e-9:
        raise InputError.about("affine", "is singular", "give every axis a direction and a spacing in mm")
    sizes = np.linalg.norm(affine[:dims, :dims], axis=0)
    factors = tuple(int(max(1, min(n, spacing_mm / size + 0.01))) for n, size in zip(array.shape, sizes, strict=True))
    blocks = _block_mean(np.nan_to_num(array, posinf=0.0, neginf=0.0), factors)
    to_world = affine.copy()
    to_world[:dims, :dims] *= factors
    to_world[:dims, dims] += affine[:dims, :dims] @ ((np.array(factors) - 1) / 2)
    grey = _grey(blocks)
    low, high = _corners(to_world, np.zeros(dims), np.array(blocks.shape) - 1.0)
    coarse = _on_grid(grey, to_world, low, high, max(_MASK_MM, spacing_mm))
    if coarse.head.any():
        index = np.argwhere(coarse.head)
        low = np.maximum(low, coarse.origin + coarse.spacing_mm * index.min(axis=0) - margin_mm)
        high = np.minimum(high, coarse.origin + coarse.spacing_mm * index.max(axis=0) + margin_mm)
    return _on_grid(grey, to_world, low, high, spacing_mm)


def likeness(
    fixed: HeadVolume, moving: HeadVolume, matrix: np.ndarray, *, shuffled: bool = False
) -> tuple[float, float]:
    """Compare two images under a mapping.

    Args:
        fixed: the image whose points are mapped.
        moving: the image they are mapped into.
        matrix: fixed world -> moving world, mm.
        shuffled: compare with voxels of the moving image in random order: what as many voxels share by chance.

    Returns:
        Normalised mutual information ``(H(a) + H(b)) / H(a, b)`` in [1, 2] (Studholme, Hill, Hawkes, Pattern
        Recognition 32, 1999; 1 also where nothing can be told) over what both see, and the share in [0, 1] of the
        smaller head that lies in the other.
    """
    dims = fixed.values.ndim
    points, values, head = fixed.samples()
    mapped = matrix[:dims, :dims] @ points + matrix[:dims, dims:]
    index = (mapped - moving.origin[:, None]) / moving.spacing_mm
    # -1 marks what the moving image does not see.
    at = ndimage.map_coordinates(np.where(moving.seen, moving.values, -1.0), index, order=1, cval=-1.0)
    both = at >= 0
    in_moving = ndimage.map_coordinates(moving.head.astype(np.float32), index, order=1) >= 0.5
    shrunk = moving.head_size / max(abs(float(np.linalg.det(matrix[:dims, :dims]))), 1e-9)
    smaller = min(fixed.head_size, shrunk)
    shared = fixed.head_size * float((head & in_moving).sum()) / max(int(head.sum()), 1)
    overlap = min(1.0, shared / smaller) if smaller > 0 else 0.0
    other = np.random.default_rng(0).permutation(at[both]) if shuffled else at[both]
    return _normalised_mutual_information(values[both], other), overlap


def _normalised_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    cells = (a * (_BINS - 1) + 0.5).astype(np.intp) * _BINS + (b * (_BINS - 1) + 0.5).astype(np.intp)
    joint = np.bincount(cells, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / max(len(cells), 1)
    together = _entropy(joint)
    return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / together if together > 1e-9 else 1.0


def _entropy(shares: np.ndarray) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def _block_mean(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Mean of whole blocks; what is left over at the far end is dropped."""
    if all(factor == 1 for factor in factors):
        return array
    counts = [n // factor for n, factor in zip(array.shape, factors, strict=True)]
    kept = array[tuple(slice(0, n * factor) for n, factor in zip(counts, factors, strict=True))]
    split = kept.reshape([part for pair in zip(counts, factors, strict=True) for part in pair])
    return split.mean(axis=tuple(range(1, 2 * array.ndim, 2)))


def _grey(array: np.ndarray) -> np.ndarray:
    if array.min() < _AIR_HU:
        return np.interp(array, _HU_POINTS, _HU_VALUES).astype(np.float32)
    low = float(np.percentile(array, 1))
    bright = array[array > array.mean()]
    high = float(np.percentile(bright, 99.5)) if bright.size else low
    return np.clip((array - low) / (high - low), 0, 1) if high > low else np.zeros_like(array)


def _corners(affine: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest world coordinates of a box of voxels."""
    dims = len(first)
    picks = np.stack(np.meshgrid(*zip(first, last, strict=True), indexing="ij")).reshape(dims, -1)
    corners = affine[:dims, :dims] @ picks + affine[:dims, dims:]
    return corners.min(axis=1), corners.max(axis=1)


def _on_grid(grey: np.ndarray, affine: np.ndarray, low: np.ndarray, high: np.ndarray, spacing_mm: float) -> HeadVolume:
    dims = grey.ndim
    shape = tuple(int(n) for n in np.maximum(1, np.floor((high - low) / spacing_mm + 1e-6) + 1))
    inverse = np.linalg.inv(affine)
    matrix = inverse[:dims, :dims] * spacing_mm
    offset = inverse[:dims, :dims] @ low + inverse[:dims, dims]
    values = ndimage.affine_transform(grey, matrix, offset, shape, order=1, cval=-1.0)
    seen = values >= 0
    values = np.clip(values, 0, 1)
    return HeadVolume(values, _head(values, spacing_mm), seen, np.asarray(low, dtype=np.float64), spacing_mm)


def _head(values: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Largest piece brighter than air, thin bridges (headrest, tubes) cut, holes filled."""
    from skimage.filters import threshold_otsu

    if values.max() - values.min() < 1e-3:
        return np.zeros(values.shape, dtype=bool)
    mask = values > 0.5 * threshold_otsu(values.ravel())
    cuts = max(1, round(_MASK_MM / spacing_mm))
    pieces, count = ndimage.label(ndimage.binary_opening(mask, iterations=cuts))
    if not count:
        return np.zeros(values.shape, dtype=bool)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return ndimage.binary_fill_holes(largest)
