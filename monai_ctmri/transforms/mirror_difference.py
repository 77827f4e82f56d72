"""How an aligned head differs from its own mirror image, forgiving that no head is exactly symmetric."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from scipy import ndimage

from ..errors import InputError
from .mask_geometry import voxel_sizes_mm

__all__ = [
    "SIGNS",
    "MirrorDifference",
    "MirrorDifferenceD",
    "MirrorDifferenceDict",
    "MirrorDifferenced",
    "MirrorRange",
    "MirrorRangeD",
    "MirrorRangeDict",
    "MirrorRanged",
    "lateral_axis",
]

SIGNS = ("both", "brighter", "darker")
"""What counts as different from the other side."""


def lateral_axis(image: NdarrayOrTensor) -> int:
    """Axis (from the end) across which an aligned (C, H, W) or (C, X, Y, Z) image is mirrored.

    The last of a slice; of a volume the voxel axis nearest to left-right, the first where no affine is known.
    """
    if image.ndim == 3:
        return -1
    affine = np.asarray(image.affine, dtype=float) if isinstance(image, MetaTensor) else np.eye(4)
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return int(np.argmax(np.abs(columns[0]))) - 3


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
        tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if tensor.ndim != 3:
            raise InputError.about(
                "MirrorDifference", f"got shape {tuple(tensor.shape)}", "give one slice of shape (C, H, W)"
            )
        image = _plain(tensor)
        least = (image - torch.flip(image, dims=(-1,))).abs()
        for moved in _moved(torch.flip(image, dims=(-1,)), _offsets((self.tolerance,) * 2, (1.0, 1.0))):
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


class MirrorRange(Transform):
    """How far each voxel of an aligned image lies outside the range of the other side near its mirror place.

    ``max(x(p) - max m, 0)`` (brighter) and ``max(min m - x(p), 0)`` (darker), with ``m`` the image mirrored about the
    centre of its lateral axis (:func:`lateral_axis`), maximum and minimum over the voxels within ``tolerance_mm`` of p,
    and the border repeated; the map is their sum or one of them, median filtered. Whatever the other side also has
    within the tolerance is forgiven: a sulcus moved by less than it, and partial volume between two values that are
    both there.

    A difference alone does not say which side is to blame. Within a mask the range is therefore widened to the median
    of the image there: the side that looks like most of the brain is not the abnormal one.

    Args:
        tolerance_mm: radius of the disc or ball; 0 compares voxel with voxel. Defaults to 4.
        sign: ``"both"``, ``"brighter"`` or ``"darker"`` than the other side. Defaults to ``"both"``.
        median_mm: side of the window of the median filter, rounded to an odd number of voxels; 0 means none. Defaults
            to 8.
        pixel_spacing_mm: size of a voxel, one number or one an axis. Defaults to None: ask the affine.

    Raises:
        InputError: when an option is out of range.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self,
        tolerance_mm: float = 4.0,
        sign: str = "both",
        median_mm: float = 8.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        for name, value in (("tolerance_mm", tolerance_mm), ("median_mm", median_mm)):
            if not value >= 0:
                raise InputError.about(name, f"got {value}", "give millimetres of at least 0")
        if sign not in SIGNS:
            raise InputError.about("sign", f"got {sign!r}", f"use one of {', '.join(SIGNS)}")
        self.tolerance_mm = float(tolerance_mm)
        self.sign = sign
        self.median_mm = float(median_mm)
        self.pixel_spacing_mm = pixel_spacing_mm

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> torch.Tensor:
        """Return the map of ``img`` (C, H, W) or (C, X, Y, Z): its shape and unit, float, >= 0.

        Args:
            img: aligned image.
            mask: (1, spatial...), above 0 inside: the map is 0 where the voxel or its mirror place lies outside.
                Without one both sides of a difference are marked.

        Raises:
            InputError: when the image has another number of axes, the mask another grid, or the size of a voxel is not
                known.
        """
        tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if tensor.ndim not in (3, 4):
            problem = f"got shape {tuple(tensor.shape)}"
            raise InputError.about("MirrorRange", problem, "give a slice (C, H, W) or a volume (C, X, Y, Z)")
        sizes = voxel_sizes_mm(tensor, self.pixel_spacing_mm)
        image, axis = _plain(tensor), lateral_axis(tensor)
        mirrored = torch.flip(image, dims=(axis,))
        high, low = mirrored.clone(), mirrored.clone()
        for moved in _moved(mirrored, _offsets((self.tolerance_mm,) * len(sizes), sizes)):
            high, low = torch.maximum(high, moved), torch.minimum(low, moved)
        inside = None
        if mask is not None:
            inside = torch.as_tensor(np.asarray(mask)).to(image.device) > 0
            if tuple(inside.shape) != (1, *image.shape[1:]):
                problem = f"shape {tuple(inside.shape)} for an image of {tuple(image.shape)}"
                raise InputError.about("mask", problem, "give one channel on the grid of the image")
            if inside.any():
                usual = image[:, inside[0]].median(dim=1).values.reshape([-1] + [1] * len(sizes))
                high, low = torch.maximum(high, usual), torch.minimum(low, usual)
        out = torch.zeros_like(image)
        if self.sign != "darker":
            out += (image - high).clamp(min=0)
        if self.sign != "brighter":
            out += (low - image).clamp(min=0)
        window = [1 + 2 * int(self.median_mm / 2 / size + 1e-6) for size in sizes]
        if max(window) > 1:
            filtered = [ndimage.median_filter(one, size=window) for one in out.cpu().numpy()]
            out = torch.from_numpy(np.stack(filtered)).to(out)
        if inside is not None:
            out = out * (inside & torch.flip(inside, dims=(axis,)))
        return convert_to_dst_type(out, tensor, dtype=out.dtype)[0]


class MirrorRanged(MapTransform):
    """Dictionary-based wrapper of :py:class:`MirrorRange`.

    Args:
        keys: aligned entries. See also: :py:class:`monai.transforms.MapTransform`
        tolerance_mm: radius of the misregistration that is forgiven. Defaults to 4.
        sign: ``"both"``, ``"brighter"`` or ``"darker"`` than the other side. Defaults to ``"both"``.
        median_mm: side of the median filter's window. Defaults to 8.
        pixel_spacing_mm: size of a voxel; None asks the affine. Defaults to None.
        mask_key: entry with the aligned mask (1, spatial...) outside which the map is 0. Defaults to None: everywhere.
        new_key_prefix: when given, the map of ``key`` is stored as ``f"{new_key_prefix}{key}"``; by default it
            replaces the entry.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        InputError: when an option is out of range, or ``mask_key`` is missing from a case.
    """

    backend = MirrorRange.backend

    def __init__(
        self,
        keys: KeysCollection,
        tolerance_mm: float = 4.0,
        sign: str = "both",
        median_mm: float = 8.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
        mask_key: Hashable | None = None,
        new_key_prefix: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.comparison = MirrorRange(tolerance_mm, sign, median_mm, pixel_spacing_mm)
        self.mask_key = mask_key
        self.new_key_prefix = new_key_prefix

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        d = dict(data)
        if self.mask_key is not None and self.mask_key not in d:
            raise InputError.about(str(self.mask_key), "missing from the case", "make the mask first")
        mask = None if self.mask_key is None else d[self.mask_key]
        for key in self.key_iterator(d):
            name = key if self.new_key_prefix is None else f"{self.new_key_prefix}{key}"
            d[name] = self.comparison(d[key], mask)
        return d


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach() if plain.is_floating_point() else plain.detach().float()


def _offsets(radii: Sequence[float], sizes: Sequence[float]) -> list[tuple[int, ...]]:
    """Whole-voxel steps, other than none, within an ellipsoid of ``radii`` in the unit of ``sizes``."""
    reach = [int(radius / size + 1e-6) for radius, size in zip(radii, sizes, strict=True)]
    steps = product(*(range(-far, far + 1) for far in reach))
    limit = (radii[0] + 1e-6) ** 2
    return [
        step for step in steps if any(step) and sum((n * s) ** 2 for n, s in zip(step, sizes, strict=True)) <= limit
    ]


def _moved(image: torch.Tensor, offsets: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """The image (C, spatial...) seen at each offset, its border repeated."""
    if not offsets:
        return []
    reach = [max(abs(step[axis]) for step in offsets) for axis in range(image.ndim - 1)]
    pads = [far for far in reversed(reach) for _ in range(2)]
    padded = torch.nn.functional.pad(image[None], pads, mode="replicate")[0]
    views = []
    for step in offsets:
        view = padded
        for axis, (far, n, size) in enumerate(zip(reach, step, image.shape[1:], strict=True), start=1):
            view = view.narrow(axis, far + n, size)
        views.append(view)
    return views


MirrorDifferenceD = MirrorDifferenceDict = MirrorDifferenced
MirrorRangeD = MirrorRangeDict = MirrorRanged
