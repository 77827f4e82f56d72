"""Where to look: masks of the head and of the intracranial region."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple
from scipy import ndimage

from .. import keys as names
from .ct_skull import SMALLEST_INSIDE, inside_skull, to_unit_range
from .mask_geometry import axial_axis, axial_planes, erode_by_mm, largest_component, voxel_sizes_mm
from .mri_brain import inside_dark_ring

__all__ = [
    "BRAIN_METHOD",
    "BrainMask",
    "BrainMaskD",
    "BrainMaskDict",
    "BrainMaskd",
    "HeadMask",
    "HeadMaskD",
    "HeadMaskDict",
    "HeadMaskd",
]

BRAIN_METHOD = "brain_method"
"""Entry of a brain mask's ``meta``: ``skull``, ``ring`` or ``inset``; for a volume those used, joined by ``+``."""

_METHODS = ("inset", "ring")
_SCALP_AND_SKULL = 0.15


def _head(channels: np.ndarray, threshold: float) -> np.ndarray:
    """Largest component above ``threshold`` in any channel (C, H, W), holes filled; bool (H, W)."""
    return ndimage.binary_fill_holes(largest_component(np.max(channels, axis=0) > threshold))


def _check(threshold: float, erode_mm: float) -> None:
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be in [0, 1), got {threshold}.")
    if erode_mm < 0:
        raise ValueError(f"erode_mm must not be negative, got {erode_mm}.")


def _slice_by_slice(source: torch.Tensor, channels: np.ndarray, find: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mask (spatial...) of a slice or, from its axial planes and then their largest component, of a volume."""
    if channels.ndim == 3:
        return find(channels)
    if channels.ndim != 4:
        raise ValueError(f"expected a slice (C, H, W) or a volume (C, X, Y, Z), got shape {channels.shape}.")
    axis = axial_axis(source)
    return largest_component(np.stack([find(plane) for plane in axial_planes(channels, axis)], axis=axis))


class HeadMask(Transform):
    """Mask of the head: union of the channels above a threshold, largest connected component, holes filled, eroded.

    A volume is taken slice by slice along the axial axis of its affine; of the slices' masks the largest component
    in three dimensions is kept. A channel in Hounsfield units (values under -300) has its air under -300 HU instead.

    Args:
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.
        erode: erosion in pixels (4-neighbourhood; 6 in a volume). Defaults to 0.
        erode_mm: erosion in millimetres, after the one in pixels. Defaults to 0.
        pixel_spacing_mm: size of a pixel, one number or one an axis. Defaults to None: ask the affine.

    Raises:
        ValueError: when an argument is out of range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        threshold: float = 0.05,
        erode: int = 0,
        erode_mm: float = 0.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        _check(threshold, erode_mm)
        if erode < 0:
            raise ValueError(f"erode must not be negative, got {erode}.")
        self.threshold = float(threshold)
        self.erode = int(erode)
        self.erode_mm = float(erode_mm)
        self.pixel_spacing_mm = pixel_spacing_mm

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the float32 {0, 1} mask (1, spatial...) of ``img`` (C, H, W) or (C, X, Y, Z) in [0, 1] or HU.

        All 0 where nothing shows.

        Raises:
            InputError: when ``erode_mm`` is set and the size of a pixel is not known.
            ValueError: for another number of axes.
        """
        source = convert_to_tensor(img, track_meta=get_track_meta())
        meta = getattr(source, "meta", {})
        channels = to_unit_range(source.detach().cpu().numpy(), meta, None, self.threshold)
        mask = _slice_by_slice(source, channels, lambda plane: _head(plane, self.threshold))
        if self.erode:
            mask = ndimage.binary_erosion(mask, iterations=self.erode)
        if self.erode_mm:
            mask = erode_by_mm(mask, self.erode_mm, voxel_sizes_mm(source, self.pixel_spacing_mm))
        return convert_to_dst_type(mask[None].astype(np.float32), source, dtype=np.float32)[0]


class BrainMask(Transform):
    """Mask of the intracranial region.

    From CT (``skull``) in a brain window, bone is what saturates (>= 0.99); from CT in Hounsfield units, what reaches
    300 HU. Its gaps (sutures, the orbits' roof, the skull base) are closed with a disk of 3 % of the head's equivalent
    radius sqrt(area / pi); of what bone then encloses, the largest connected component with its holes filled is the
    intracranial region. Where that is smaller than 10 % of the head, disks of 6, 10 and 15 % are tried. Blood or
    calcium that both reaches bone's level and touches bone counts as bone.

    Where none of these gives a region (no CT channel, an empty one, a skull cut open by the field of view), the head
    mask is eroded by 15 % of its equivalent radius instead (``inset``), about the thickness of scalp and skull in an
    adult. With ``method="ring"`` the first channel that is not CT is searched for the dark ring of the skull before
    (:func:`~monai_ctmri.transforms.mri_brain.inside_dark_ring`), and the inset is left for slices that show none.

    A volume is taken slice by slice along the axial axis of its affine; of the slices' masks the largest component in
    three dimensions is kept. Slices of a CT volume whose bone encloses nothing stay empty where others have a region.

    ``meta["brain_method"]`` of the mask says what was used.

    Args:
        ct_channel: channel that holds CT, or None for MRI alone. Defaults to 0.
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.
        method: ``"inset"`` or ``"ring"``, where CT gives no region. Defaults to ``"inset"``.
        erode_mm: erosion of the mask in millimetres. Defaults to 0.
        pixel_spacing_mm: size of a pixel, one number or one an axis. Defaults to None: ask the affine.

    Raises:
        ValueError: when an argument is out of range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        ct_channel: int | None = 0,
        threshold: float = 0.05,
        method: str = "inset",
        erode_mm: float = 0.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        _check(threshold, erode_mm)
        if method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method}.")
        self.ct_channel = ct_channel
        self.threshold = float(threshold)
        self.method = method
        self.erode_mm = float(erode_mm)
        self.pixel_spacing_mm = pixel_spacing_mm

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the float32 {0, 1} mask (1, spatial...) of ``img`` (C, H, W) or (C, X, Y, Z), CT in [0, 1] or HU.

        All 0 where nothing shows.

        Raises:
            InputError: when ``erode_mm`` is set and the size of a pixel is not known.
            ValueError: for another number of axes.
        """
        source = convert_to_tensor(img, track_meta=get_track_meta())
        meta = getattr(source, "meta", {})
        channels = to_unit_range(source.detach().cpu().numpy(), meta, self.ct_channel, self.threshold)
        used: list[str] = []

        def from_ct(plane: np.ndarray) -> np.ndarray:
            head = _head(plane, self.threshold)
            radius = math.sqrt(head.sum() / math.pi)
            return inside_skull(plane[self.ct_channel], radius, SMALLEST_INSIDE * head.sum())

        mask = np.zeros(channels.shape[1:], dtype=bool)
        if self.ct_channel is not None:
            mask = _slice_by_slice(source, channels, from_ct)
            used += ["skull"] if mask.any() else []
        if not mask.any():
            mask = _slice_by_slice(source, channels, lambda plane: self._without_ct(plane, used))
        if self.erode_mm:
            mask = erode_by_mm(mask, self.erode_mm, voxel_sizes_mm(source, self.pixel_spacing_mm))
        out = convert_to_dst_type(mask[None].astype(np.float32), source, dtype=np.float32)[0]
        if isinstance(out, MetaTensor):
            out.meta[BRAIN_METHOD] = "+".join(sorted(set(used), reverse=True))
        return out

    def _without_ct(self, plane: np.ndarray, used: list[str]) -> np.ndarray:
        """Region inside the dark ring where that is asked for and found, else the inset head; notes which."""
        others = [channel for index, channel in enumerate(plane) if index != self.ct_channel]
        if self.method == "ring" and others:
            mask = inside_dark_ring(others[0])
            if mask.any():
                used.append("ring")
                return mask
        head = _head(plane, self.threshold)
        radius = math.sqrt(head.sum() / math.pi)
        if head.any():
            used.append("inset")
        return ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1] > _SCALP_AND_SKULL * radius


class HeadMaskd(MapTransform):
    """Dictionary-based wrapper of :py:class:`HeadMask`.

    Args:
        keys: entries that hold images. Defaults to ``"image"``. See also: MapTransform.
        output_key: entry, or one a key, that gets the mask. Defaults to ``"head"``.
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.
        erode: erosion in pixels. Defaults to 0.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
        erode_mm: erosion in millimetres. Defaults to 0.
        pixel_spacing_mm: size of a pixel; None asks the affine. Defaults to None.

    Raises:
        ValueError: when ``output_key`` does not name one entry a key.
    """

    backend = HeadMask.backend

    def __init__(
        self,
        keys: KeysCollection = names.IMAGE,
        output_key: KeysCollection = "head",
        threshold: float = 0.05,
        erode: int = 0,
        allow_missing_keys: bool = False,
        *,
        erode_mm: float = 0.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = _one_output_a_key(self.keys, output_key)
        self.transform = HeadMask(threshold, erode, erode_mm, pixel_spacing_mm)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Add the masks."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key] = self.transform(d[key])
        return d


class BrainMaskd(MapTransform):
    """Dictionary-based wrapper of :py:class:`BrainMask`.

    Args:
        keys: entries that hold images. Defaults to ``"image"``. See also: MapTransform.
        output_key: entry, or one a key, that gets the mask. Defaults to ``"brain"``.
        ct_channel: channel that holds CT, or None for MRI alone. Defaults to 0.
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
        method: ``"inset"`` or ``"ring"``, where CT gives no region. Defaults to ``"inset"``.
        erode_mm: erosion of the mask in millimetres. Defaults to 0.
        pixel_spacing_mm: size of a pixel; None asks the affine. Defaults to None.

    Raises:
        ValueError: when ``output_key`` does not name one entry a key.
    """

    backend = BrainMask.backend

    def __init__(
        self,
        keys: KeysCollection = names.IMAGE,
        output_key: KeysCollection = "brain",
        ct_channel: int | None = 0,
        threshold: float = 0.05,
        allow_missing_keys: bool = False,
        *,
        method: str = "inset",
        erode_mm: float = 0.0,
        pixel_spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = _one_output_a_key(self.keys, output_key)
        self.transform = BrainMask(ct_channel, threshold, method, erode_mm, pixel_spacing_mm)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Add the masks."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key] = self.transform(d[key])
        return d


def _one_output_a_key(keys: tuple[Hashable, ...], output_key: KeysCollection) -> tuple[Hashable, ...]:
    outputs = ensure_tuple(output_key)
    if len(outputs) != len(keys):
        raise ValueError(f"output_key must name one entry for each of {len(keys)} keys, got {len(outputs)}.")
    return outputs


HeadMaskD = HeadMaskDict = HeadMaskd
BrainMaskD = BrainMaskDict = BrainMaskd
