"""Mid-sagittal alignment of a slice or volume, as invertible transforms.

The line or plane is found by :mod:`~monai_ctmri.transforms.midline_search`; what the aligned head is compared with
lies in :mod:`~monai_ctmri.transforms.mirror_difference`.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys, TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from scipy import ndimage

from ..errors import InputError
from .midline_search import MAX_ANGLE_DEGREES, MAX_SHIFT_SHARE, Midline, Midplane, find_midline, find_midplane
from .mirror_difference import (
    MirrorDifference,
    MirrorDifferenceD,
    MirrorDifferenced,
    MirrorDifferenceDict,
    MirrorRange,
    MirrorRangeD,
    MirrorRanged,
    MirrorRangeDict,
    lateral_axis,
)

__all__ = [
    "DOUBTFUL",
    "MAX_ANGLE_DEGREES",
    "MAX_SHIFT_SHARE",
    "Midline",
    "Midplane",
    "MidsagittalAlign",
    "MidsagittalAlignD",
    "MidsagittalAlignDict",
    "MidsagittalAlignd",
    "MirrorDifference",
    "MirrorDifferenceD",
    "MirrorDifferenceDict",
    "MirrorDifferenced",
    "MirrorRange",
    "MirrorRangeD",
    "MirrorRangeDict",
    "MirrorRanged",
    "align_midsagittal",
    "find_midline",
    "find_midplane",
]

DOUBTFUL = 0.5
"""A line of less confidence is used all the same, and a warning says so."""

_LOGGER = logging.getLogger(__name__)

_ORDERS = {"bilinear": 1, "nearest": 0}
_NOTES = (
    "midsagittal_angle",
    "midsagittal_shift",
    "midsagittal_normal",
    "midsagittal_offset_mm",
    "midsagittal_confidence",
)


def align_midsagittal(image: np.ndarray, mode: str = "bilinear") -> tuple[np.ndarray, float, float]:
    """Turn and shift a slice so that its mid-sagittal line is the centre column.

    Args:
        image: slice (C, H, W).
        mode: ``"bilinear"`` or ``"nearest"``.

    Returns:
        The aligned slice (C, H, W) with 0 outside the picture, the angle (degrees) and the shift (pixels) of
        :func:`find_midline`.
    """
    angle, shift, _ = find_midline(image)
    return _resample(np.asarray(image), _line_matrix(image.shape[1:], angle, shift), mode), angle, shift


class MidsagittalAlign(InvertibleTransform):
    """Bring the mid-sagittal line of a slice, or plane of a volume, onto the middle of the grid.

    All channels move alike. A slice is turned and shifted so that the line is the centre column (:func:`find_midline`;
    ``midsagittal_angle`` in degrees and ``midsagittal_shift`` in pixels in the metadata). A volume of any orientation
    is turned by the shortest way and shifted so that the plane is the middle of the voxel axis nearest to left-right
    (:func:`find_midplane`; ``midsagittal_normal`` and ``midsagittal_offset_mm``). ``midsagittal_confidence`` is in the
    metadata of both, or absent where the caller gave the line without one. Grid size stays, the affine follows, what
    comes from beyond the picture is 0 or the image's lowest value, and :py:meth:`inverse` returns to the input's grid.

    Args:
        mode: interpolation, ``"bilinear"`` (default; trilinear in a volume) or ``"nearest"``.

    Raises:
        InputError: when ``mode`` is unknown, or an image is neither (C, H, W) nor (C, X, Y, Z).
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, mode: str = "bilinear") -> None:
        if mode not in _ORDERS:
            raise InputError.about("mode", f"got {mode!r}", f"use one of {', '.join(_ORDERS)}")
        self.mode = mode

    def __call__(
        self,
        img: NdarrayOrTensor,
        midline: Sequence[float] | Midline | Midplane | None = None,
        mode: str | None = None,
    ) -> torch.Tensor:
        """Align ``img``; ``midline`` = (angle, shift), a :class:`Midline` or a :class:`Midplane` skips the search."""
        tensor = _as_image(img, "MidsagittalAlign")
        array = tensor.detach().cpu().numpy()
        found = _searched(tensor) if midline is None else midline
        matrix = _matrix_of(tensor, found)
        mode = mode or self.mode
        fill = float(min(array.min(), 0)) if array.size else 0.0
        out = convert_to_dst_type(_resample(array, matrix, mode, fill), tensor)[0]
        if isinstance(out, MetaTensor):
            extra = {"matrix": matrix.tolist(), "mode": mode, "fill": fill}
            self.push_transform(out, affine=matrix, orig_size=tuple(array.shape[1:]), extra_info=extra)
            out.meta.update(_notes(found))
        return out

    def inverse(self, img: torch.Tensor) -> torch.Tensor:
        """Bring an aligned image, or a map made from it that kept its metadata, back to the grid of the input."""
        info = self.pop_transform(img)[TraceKeys.EXTRA_INFO]
        backward = np.linalg.inv(np.asarray(info["matrix"]))
        array = img.detach().cpu().numpy()
        out = convert_to_dst_type(_resample(array, backward, info["mode"], min(info["fill"], 0.0)), img)[0]
        if isinstance(out, MetaTensor):
            dims = len(backward) - 1
            full = np.eye(out.affine.shape[-1])
            full[:dims, :dims], full[:dims, -1] = backward[:dims, :dims], backward[:dims, dims]
            out.affine = out.affine @ torch.as_tensor(full, dtype=out.affine.dtype)
            for note in _NOTES:
                out.meta.pop(note, None)
        return out


class MidsagittalAlignd(MapTransform, InvertibleTransform):
    """Dictionary-based wrapper of :py:class:`MidsagittalAlign`: one line or plane, applied to every key.

    Args:
        keys: entries (C, H, W) or (C, X, Y, Z) of one grid to align. See also:
            :py:class:`monai.transforms.MapTransform`
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
        source = _as_image(d[reference], str(reference))
        midline = _searched(source)
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


def _as_image(img: NdarrayOrTensor, name: str) -> torch.Tensor:
    tensor = convert_to_tensor(img, track_meta=get_track_meta())
    if tensor.ndim not in (3, 4):
        problem = f"got shape {tuple(tensor.shape)}"
        raise InputError.about(name, problem, "give a slice of shape (C, H, W) or a volume (C, X, Y, Z)")
    return tensor


def _affine(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.affine, dtype=np.float64) if isinstance(tensor, MetaTensor) else np.eye(4)


def _searched(tensor: torch.Tensor) -> Midline | Midplane:
    """The line or plane of an image, and a warning where it is in doubt."""
    array = tensor.detach().cpu().numpy()
    found = find_midline(array) if array.ndim == 3 else find_midplane(array, _affine(tensor))
    if found.confidence < DOUBTFUL:
        name = getattr(tensor, "meta", {}).get("filename_or_obj", "image")
        _LOGGER.warning("%s: doubtful mid-sagittal line, confidence %.2f", name, found.confidence)
    return found


def _notes(found: Sequence[float] | Midline | Midplane) -> dict[str, Any]:
    if isinstance(found, Midplane):
        return {
            "midsagittal_normal": [float(part) for part in found.normal],
            "midsagittal_offset_mm": float(found.offset_mm),
            "midsagittal_confidence": float(found.confidence),
        }
    names = ("midsagittal_angle", "midsagittal_shift", "midsagittal_confidence")
    return {name: float(value) for name, value in zip(names, found, strict=False)}


def _matrix_of(tensor: torch.Tensor, found: Sequence[float] | Midline | Midplane) -> np.ndarray:
    """Homogeneous matrix from aligned voxel to voxel of the input."""
    if isinstance(found, Midplane) != (tensor.ndim == 4):
        raise InputError.about("midline", f"{type(found).__name__} for an image of {tensor.ndim - 1} axes", "search it")
    if isinstance(found, Midplane):
        return _plane_matrix(tuple(tensor.shape[1:]), _affine(tensor), found, 3 + lateral_axis(tensor))
    return _line_matrix(tuple(tensor.shape[1:]), float(found[0]), float(found[1]))


def _line_matrix(shape: tuple[int, ...], angle: float, shift: float) -> np.ndarray:
    """Homogeneous 3x3 matrix from an aligned (row, column) to the (row, column) of the input."""
    centre = (np.asarray(shape, dtype=np.float64) - 1) / 2
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    turn = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = centre - turn @ (centre + np.array([0.0, shift]))
    return matrix


def _plane_matrix(shape: tuple[int, ...], affine: np.ndarray, plane: Midplane, axis: int) -> np.ndarray:
    """Homogeneous 4x4 matrix from an aligned voxel to that of the input: a rotation and shift in the world."""
    linear = affine[:3, :3]
    middle = linear @ ((np.asarray(shape, dtype=np.float64) - 1) / 2) + affine[:3, 3]
    normal = np.asarray(plane.normal, dtype=np.float64)
    # The middle of the axis is a plane spanned by the other two; it has to become the one that was found.
    across = np.linalg.inv(linear)[axis]
    across = across / np.linalg.norm(across)
    across = across if across @ normal >= 0 else -across
    wedge = np.outer(normal, across) - np.outer(across, normal)
    turn = np.eye(3) + wedge + wedge @ wedge / (1 + float(normal @ across))
    world = np.eye(4)
    world[:3, :3] = turn
    world[:3, 3] = middle + normal * (plane.offset_mm - normal @ middle) - turn @ middle
    return np.linalg.inv(affine) @ world @ affine


def _resample(image: np.ndarray, matrix: np.ndarray, mode: str, fill: float = 0.0) -> np.ndarray:
    work, dims = image.astype(np.float32, copy=False), len(matrix) - 1
    linear, start = matrix[:dims, :dims], matrix[:dims, dims]
    options: dict[str, Any] = {"order": _ORDERS[mode], "mode": "constant", "cval": fill}
    moved = np.stack([ndimage.affine_transform(channel, linear, start, **options) for channel in work])
    return (np.rint(moved) if np.issubdtype(image.dtype, np.integer) else moved).astype(image.dtype, copy=False)


MidsagittalAlignD = MidsagittalAlignDict = MidsagittalAlignd
