"""The mirrored image as further channels: what a network needs to compare a hemisphere with the other one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

__all__ = ["AppendMirrorD", "AppendMirrorDict", "AppendMirrord"]


class AppendMirrord(MapTransform):
    """Append the image, flipped along its last axis, as further channels: (C, ..., W) -> (2C, ..., W).

    For slices in picture orientation that were aligned to the mid-sagittal line, the last axis runs from right to left,
    so that channel ``C + c`` shows at each pixel what channel ``c`` shows at the same place of the other hemisphere.
    MONAI's ``RandFlipd`` and ``Flipd`` replace an entry, and record themselves as invertible; here nothing moves.

    Args:
        keys: entries (C, ..., W). See also: MapTransform.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Return the case with twice the channels, type and metadata kept."""
        d = dict(data)
        for key in self.key_iterator(d):
            source = convert_to_tensor(d[key], track_meta=get_track_meta())
            plain = convert_to_tensor(source, track_meta=False)
            doubled = torch.cat([plain, torch.flip(plain, dims=(-1,))])
            d[key] = convert_to_dst_type(doubled, source, dtype=doubled.dtype)[0]
        return d


AppendMirrorD = AppendMirrorDict = AppendMirrord
