"""Where to look: masks of the head and of the intracranial region."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple
from scipy import ndimage

from .. import keys as names

__all__ = [
    "BrainMask",
    "BrainMaskD",
    "BrainMaskDict",
    "BrainMaskd",
    "HeadMask",
    "HeadMaskD",
    "HeadMaskDict",
    "HeadMaskd",
]

_BONE = 0.99
_CLOSINGS = (0.03, 0.06, 0.1, 0.15)
_SMALLEST_INSIDE = 0.1
_SCALP_AND_SKULL = 0.15


def _largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected component (4-neighbourhood); an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else mask


def _head(channels: np.ndarray, threshold: float) -> np.ndarray:
    """Largest component above ``threshold`` in any channel (C, H, W), holes filled; bool (H, W)."""
    return ndimage.binary_fill_holes(_largest_component(np.max(channels, axis=0) > threshold))


class HeadMask(Transform):
    """Mask of the head: union of the channels above a threshold, largest connected component, holes filled, eroded.

    Args:
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.
        erode: erosion in pixels (4-neighbourhood). Defaults to 0.

    Raises:
        ValueError: when an argument is out of range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, threshold: float = 0.05, erode: int = 0) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be in [0, 1), got {threshold}.")
        if erode < 0:
            raise ValueError(f"erode must not be negative, got {erode}.")
        self.threshold = float(threshold)
        self.erode = int(erode)

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the float32 {0, 1} mask (1, H, W) of ``img`` (C, H, W) in [0, 1]; all 0 where nothing shows."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        mask = _head(source.detach().cpu().numpy(), self.threshold)
        if self.erode:
            mask = ndimage.binary_erosion(mask, iterations=self.erode)
        return convert_to_dst_type(mask[None].astype(np.float32), source, dtype=np.float32)[0]


class BrainMask(Transform):
    """Mask of the intracranial region.

    From CT in a brain window, bone is what saturates (>= 0.99). Its gaps (sutures, the orbits' roof, the skull base)
    are closed with a disk of 3 % of the head's equivalent radius sqrt(area / pi); of what bone then encloses, the
    largest connected component with its holes filled is the intracranial region. Where that is smaller than 10 % of
    the head, disks of 6, 10 and 15 % are tried. Blood or calcium that both saturates and touches bone counts as bone.

    Where none of these gives a region (no CT channel, an empty one, a skull cut open by the field of view), the head
    mask is eroded by 15 % of its equivalent radius instead, about the thickness of scalp and skull in an adult.

    Args:
        ct_channel: channel that holds CT, or None for MRI alone. Defaults to 0.
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.

    Raises:
        ValueError: when ``threshold`` is out of range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, ct_channel: int | None = 0, threshold: float = 0.05) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be in [0, 1), got {threshold}.")
        self.ct_channel = ct_channel
        self.threshold = float(threshold)

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the float32 {0, 1} mask (1, H, W) of ``img`` (C, H, W) in [0, 1]; all 0 where nothing shows."""
        source = convert_to_tensor(img, track_meta=get_track_meta())
        channels = source.detach().cpu().numpy()
        head = _head(channels, self.threshold)
        radius = math.sqrt(head.sum() / math.pi)
        mask = np.zeros_like(head)
        if self.ct_channel is not None:
            mask = self._inside_skull(channels[self.ct_channel], radius, _SMALLEST_INSIDE * head.sum())
        if not mask.any():
            mask = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1] > _SCALP_AND_SKULL * radius
        return convert_to_dst_type(mask[None].astype(np.float32), source, dtype=np.float32)[0]

    def _inside_skull(self, ct: np.ndarray, radius: float, smallest: float) -> np.ndarray:
        """Region enclosed by bone, with the least closing that makes it as large as ``smallest`` pixels; else empty."""
        bone = ct >= _BONE
        if not bone.any():
            return bone
        border = math.ceil(max(_CLOSINGS) * radius) + 1
        outside = ndimage.distance_transform_edt(np.pad(~bone, border, constant_values=True))
        for reach in (share * radius for share in _CLOSINGS):
            closed = ndimage.distance_transform_edt(outside <= reach) > reach
            closed = closed[border:-border, border:-border] | bone
            inside = ndimage.binary_fill_holes(_largest_component(ndimage.binary_fill_holes(closed) & ~closed))
            if inside.sum() >= smallest:
                return inside
        return np.zeros_like(bone)


class HeadMaskd(MapTransform):
    """Dictionary-based wrapper of :py:class:`HeadMask`.

    Args:
        keys: entries that hold images. Defaults to ``"image"``. See also: MapTransform.
        output_key: entry, or one a key, that gets the mask. Defaults to ``"head"``.
        threshold: grey value in [0, 1) above which a pixel is not air. Defaults to 0.05.
        erode: erosion in pixels. Defaults to 0.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.

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
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = _one_output_a_key(self.keys, output_key)
        self.transform = HeadMask(threshold, erode)

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
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = _one_output_a_key(self.keys, output_key)
        self.transform = BrainMask(ct_channel, threshold)

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
