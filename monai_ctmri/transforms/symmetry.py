"""Mid-sagittal alignment of an axial slice and its difference from the mirrored other hemisphere.

A healthy head is nearly its own mirror image; a one-sided lesion is not. The midline is found by maximising the
mirror correlation of the smoothed head over rotation and horizontal shift (the symmetry-plane criterion of Ardekani
et al., IEEE Trans Med Imaging 16(6), 1997, and Prima et al., IEEE Trans Med Imaging 21(2), 2002, in two dimensions).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, Transform
from monai.utils import TraceKeys, TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from numpy.fft import irfft, rfft
from scipy import ndimage

from ..errors import InputError

__all__ = [
    "MAX_ANGLE_DEGREES",
    "MAX_SHIFT_SHARE",
    "MidsagittalAlign",
    "MidsagittalAlignD",
    "MidsagittalAlignDict",
    "MidsagittalAlignd",
    "MirrorDifference",
    "MirrorDifferenceD",
    "MirrorDifferenceDict",
    "MirrorDifferenced",
    "align_midsagittal",
    "find_midline",
]

MAX_ANGLE_DEGREES = 15.0
"""Largest rotation that is searched."""
MAX_SHIFT_SHARE = 0.12
"""Largest horizontal shift that is searched, as a share of the width."""

_SEARCH_SIZE = 128
_ORDERS = {"bilinear": 1, "nearest": 0}


def find_midline(image: np.ndarray) -> tuple[float, float]:
    """Find the rotation and shift that bring the mid-sagittal line onto the centre column.

    Args:
        image: slice (C, H, W), any scale, background lowest; channels are averaged after each is scaled to a range of
            1.

    Returns:
        ``angle``: degrees by which the content has to turn counter-clockwise about the image centre, within
        ``±MAX_ANGLE_DEGREES``, and ``shift``: columns by which it then has to move right, within ``±MAX_SHIFT_SHARE``
        of the width. A constant image gives (0, 0).
    """
    channels = np.asarray(image, dtype=np.float64)
    low = channels.min(axis=(1, 2), keepdims=True)
    span = channels.max(axis=(1, 2), keepdims=True) - low
    head = ((channels - low) / np.where(span > 0, span, 1.0)).mean(axis=0)
    if not head.any():
        return 0.0, 0.0
    head = _largest_piece(head)
    factor = max(1.0, max(head.shape) / _SEARCH_SIZE)
    smooth = ndimage.gaussian_filter(head, 1.5 * factor)
    if factor > 1.0:
        smooth = ndimage.zoom(smooth, 1 / factor, order=1, grid_mode=True, mode="nearest")
    scale = head.shape[1] / smooth.shape[1]

    def best_of(angles: np.ndarray) -> tuple[float, float]:
        found = [_mirror_correlation(smooth, angle) for angle in angles]
        index = int(np.argmax([value for value, _ in found]))
        return float(angles[index]), found[index][1]

    angle, shift = best_of(np.arange(-MAX_ANGLE_DEGREES, MAX_ANGLE_DEGREES + 0.1, 1.5))
    for step in (0.5, 0.125):
        near = np.clip(angle + step * np.arange(-3, 4), -MAX_ANGLE_DEGREES, MAX_ANGLE_DEGREES)
        angle, shift = best_of(near)
    return angle, float(shift * scale)


def align_midsagittal(image: np.ndarray, mode: str = "bilinear") -> tuple[np.ndarray, float, float]:
    """Turn and shift a slice so that its mid-sagittal line is the centre column.

    Args:
        image: slice (C, H, W).
        mode: ``"bilinear"`` or ``"nearest"``.

    Returns:
        The aligned slice (C, H, W) with 0 outside the picture, the angle (degrees) and the shift (pixels) of
        :func:`find_midline`.
    """
    angle, shift = find_midline(image)
    return _resample(np.asarray(image), _matrix(image.shape[1:], angle, shift), mode), angle, shift


class MidsagittalAlign(InvertibleTransform):
    """Align the mid-sagittal line of a slice with the centre column, the same for all channels.

    The angle (degrees) and shift (pixels) of :func:`find_midline` are kept in the metadata as ``midsagittal_angle`` and
    ``midsagittal_shift``; the affine follows, and :py:meth:`inverse` returns to the grid of the input.

    Args:
        mode: interpolation, ``"bilinear"`` (default) or ``"nearest"``.

    Raises:
        InputError: when ``mode`` is unknown, or a slice is not (C, H, W).
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, mode: str = "bilinear") -> None:
        if mode not in _ORDERS:
            raise InputError.about("mode", f"got {mode!r}", f"use one of {', '.join(_ORDERS)}")
        self.mode = mode

    def __call__(
        self, img: NdarrayOrTensor, midline: tuple[float, float] | None = None, mode: str | None = None
    ) -> torch.Tensor:
        """Align ``img`` (C, H, W); ``midline`` = (angle, shift) skips the search."""
        tensor = _as_slice(img, "MidsagittalAlign")
        array = tensor.detach().cpu().numpy()
        angle, shift = find_midline(array) if midline is None else midline
        mode = mode or self.mode
        matrix = _matrix(array.shape[1:], angle, shift)
        out = convert_to_dst_type(_resample(array, matrix, mode), tensor)[0]
        if isinstance(out, MetaTensor):
            self.push_transform(
                out,
                affine=matrix,
                orig_size=tuple(array.shape[1:]),
                extra_info={"angle": float(angle), "shift": float(shift), "mode": mode},
            )
            out.meta["midsagittal_angle"] = float(angle)
            out.meta["midsagittal_shift"] = float(shift)
        return out

    def inverse(self, img: torch.Tensor) -> torch.Tensor:
        """Bring an aligned slice, or a map made from it that kept its metadata, back to the grid of the input."""
        info = self.pop_transform(img)[TraceKeys.EXTRA_INFO]
        backward = np.linalg.inv(_matrix(img.shape[1:], info["angle"], info["shift"]))
        out = convert_to_dst_type(_resample(img.detach().cpu().numpy(), backward, info["mode"]), img)[0]
        if isinstance(out, MetaTensor):
            size = out.affine.shape[-1]
            full = np.eye(size)
            full[:2, :2], full[:2, -1] = backward[:2, :2], backward[:2, 2]
            out.affine = out.affine @ torch.as_tensor(full, dtype=out.affine.dtype)
            out.meta.pop("midsagittal_angle", None)
            out.meta.pop("midsagittal_shift", None)
        return out


class MidsagittalAlignd(MapTransform, InvertibleTransform):
    """Dictionary-based wrapper of :py:class:`MidsagittalAlign`: one midline, applied to every key.

    Args:
        keys: entries (C, H, W) of one grid to align. See also: :py:class:`monai.transforms.MapTransform`
        reference_key: entry in which the midline is searched; by default the first of ``keys`` that is present.
        mode: interpolation, one for all or one per key (``"nearest"`` for masks).
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        InputError: when ``mode`` is unknown, ``reference_key`` is missing or the entries differ in grid.
    """

    backend = MidsagittalAlign.backend

    def __init__(
        self,
        keys: KeysCollection,
        reference_key: Hashable | None = None,
        mode: str | tuple[str, ...] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference_key = reference_key
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.aligners = [MidsagittalAlign(one) for one in self.mode]

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        d = dict(data)
        reference = self.reference_key if self.reference_key is not None else self.first_key(d)
        if not isinstance(reference, Hashable) or reference == ():
            return d
        if reference not in d:
            raise InputError.about(str(reference), "missing from the case", "give a reference_key that every case has")
        source = _as_slice(d[reference], str(reference))
        midline = find_midline(source.detach().cpu().numpy())
        for key, aligner in self.key_iterator(d, self.aligners):
            if tuple(d[key].shape[1:]) != tuple(source.shape[1:]):
                raise InputError.about(
                    str(key),
                    f"grid {tuple(d[key].shape[1:])} differs from {tuple(source.shape[1:])} of {reference}",
                    "bring both to one grid first",
                )
            d[key] = aligner(d[key], midline=midline)
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring every key back to the grid of the input."""
        d = dict(data)
        for key, aligner in self.key_iterator(d, self.aligners):
            d[key] = aligner.inverse(d[key])
        return d


class MirrorDifference(Transform):
    """Absolute difference of an aligned slice from its mirror image, forgiving small misregistration.

    ``min over |o| <= tolerance of |x(p) - m(p + o)|`` with ``m`` the slice mirrored about the centre column,
    whole-pixel offsets ``o`` in a disc, and the border repeated.

    Args:
        tolerance: radius of the disc, pixels; 0 compares pixel with pixel. Defaults to 2.

    Raises:
        InputError: when ``tolerance`` is negative or a slice is not (C, H, W).
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, tolerance: float = 2.0) -> None:
        if tolerance < 0:
            raise InputError.about("tolerance", f"got {tolerance}", "give a radius in pixels of at least 0")
        self.tolerance = tolerance

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Return the map (C, H, W), float, unit of the image; higher is less symmetric."""
        tensor = _as_slice(img, "MirrorDifference")
        image = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
        image = image if image.is_floating_point() else image.float()
        mirrored = torch.flip(image, dims=(-1,))
        reach = int(self.tolerance)
        padded = torch.nn.functional.pad(mirrored[None], (reach,) * 4, mode="replicate")[0] if reach else mirrored
        height, width = image.shape[1:]
        least = (image - mirrored).abs()
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                if (down, right) != (0, 0) and down**2 + right**2 <= self.tolerance**2:
                    moved = padded[:, reach + down : reach + down + height, reach + right : reach + right + width]
                    least = torch.minimum(least, (image - moved).abs())
        return convert_to_dst_type(least, tensor, dtype=least.dtype)[0]


class MirrorDifferenced(MapTransform):
    """Dictionary-based wrapper of :py:class:`MirrorDifference`.

    Args:
        keys: aligned entries (C, H, W). See also: :py:class:`monai.transforms.MapTransform`
        tolerance: radius in pixels of the misregistration that is forgiven. Defaults to 2.
        new_key_prefix: when given, the map of ``key`` is stored as ``f"{new_key_prefix}{key}"``; by default it
            replaces the entry.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = MirrorDifference.backend

    def __init__(
        self,
        keys: KeysCollection,
        tolerance: float = 2.0,
        new_key_prefix: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.difference = MirrorDifference(tolerance)
        self.new_key_prefix = new_key_prefix

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        d = dict(data)
        for key in self.key_iterator(d):
            name = key if self.new_key_prefix is None else f"{self.new_key_prefix}{key}"
            d[name] = self.difference(d[key])
        return d


def _as_slice(img: NdarrayOrTensor, name: str) -> torch.Tensor:
    tensor = convert_to_tensor(img, track_meta=get_track_meta())
    if tensor.ndim != 3:
        raise InputError.about(name, f"got shape {tuple(tensor.shape)}", "give one slice of shape (C, H, W)")
    return tensor


def _largest_piece(head: np.ndarray) -> np.ndarray:
    """Blank what is not the head: the table of a scanner would pull the midline."""
    pieces, count = ndimage.label(head > 0.1 * head.max())
    if count < 2:
        return head
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return np.where(ndimage.binary_fill_holes(largest), head, 0.0)


def _matrix(shape: tuple[int, ...], angle: float, shift: float) -> np.ndarray:
    """Homogeneous 3x3 matrix from an aligned (row, column) to the (row, column) of the input."""
    centre = (np.asarray(shape, dtype=np.float64) - 1) / 2
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = centre - turn @ (centre + np.array([0.0, shift]))
    return matrix


def _resample(image: np.ndarray, matrix: np.ndarray, mode: str) -> np.ndarray:
    work = image.astype(np.float32, copy=False)
    return np.stack(
        [
            ndimage.affine_transform(channel, matrix[:2, :2], matrix[:2, 2], order=_ORDERS[mode], mode="constant")
            for channel in work
        ]
    ).astype(image.dtype, copy=False)


def _mirror_correlation(head: np.ndarray, angle: float) -> tuple[float, float]:
    """Best mirror correlation of a turned head over horizontal shifts, and that shift (pixels, right)."""
    turned = _resample(head[None], _matrix(head.shape, angle, 0.0), "bilinear")[0].astype(np.float64)
    width = turned.shape[1]
    size = 2 * width
    spectrum = rfft(turned, size, axis=1)
    # sum over c of x(c) x(k - c): the mirror correlation about column k / 2, for every k at once
    products = irfft((spectrum**2).sum(axis=0), size) / max(float((turned**2).sum()), 1e-12)
    middle = width - 1
    reach = int(2 * MAX_SHIFT_SHARE * width)
    window = products[middle - reach : middle + reach + 1]
    index = int(np.argmax(window))
    peak, value = float(index), float(window[index])
    if 0 < index < len(window) - 1:
        before, at, after = window[index - 1 : index + 2]
        offset = 0.5 * (before - after) / min(before - 2 * at + after, -1e-12)
        peak, value = peak + offset, value - 0.25 * (before - after) * offset
    return value, -(peak - reach) / 2


MidsagittalAlignD = MidsagittalAlignDict = MidsagittalAlignd
MirrorDifferenceD = MirrorDifferenceDict = MirrorDifferenced
