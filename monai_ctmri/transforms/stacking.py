"""The modalities of a case -> one image whose channels are always in the same order; what is missing is 0."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_to_tensor

from .. import keys as names
from ..errors import InputError

__all__ = ["StackModalitiesD", "StackModalitiesDict", "StackModalitiesd"]


class StackModalitiesd(MapTransform):
    """Make one image (C, spatial...) of single-channel entries; a missing one becomes a channel of zeros.

    MONAI's ``ConcatItemsd`` leaves a missing entry out, so that the next channel takes its place. Metadata and the
    record of invertible transforms are those of the first entry that is present; a further entry on another grid of the
    same shape in millimetres (the same proportions) is resampled to it linearly.

    Args:
        keys: entries (1, spatial...) in the order of the channels. Defaults to ``ct`` and ``mri``. See also:
            MapTransform.
        name: entry that receives the image. Defaults to ``image``.
        drop: remove the single entries. Defaults to True.
        allow_missing_keys: False refuses a case that lacks an entry. Defaults to True.

    Raises:
        KeyError: when an entry is missing and that is not allowed.
        InputError: when no entry is there, one has more than one channel, or the proportions differ.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        name: str = names.IMAGE,
        drop: bool = True,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.name = name
        self.drop = drop

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the case with its image, float32."""
        d = dict(data)
        case = str(d.get(names.CASE, "case without a name"))
        given = [key for key in self.key_iterator(d) if d[key] is not None]
        found = {key: _one_channel(d[key], key, case) for key in given}
        if not found:
            wanted = " nor ".join(str(key) for key in self.keys)
            raise InputError.about(case, f"has neither {wanted}", "give at least one modality")
        first = next(iter(found.values()))
        shape = tuple(first.shape[1:])
        channels = [
            _on_grid(found[key], shape, case) if key in found else torch.zeros((1, *shape)) for key in self.keys
        ]
        image: torch.Tensor = torch.cat([convert_to_tensor(one, track_meta=False) for one in channels])
        if isinstance(first, MetaTensor):
            image = MetaTensor(image, meta=first.meta, applied_operations=first.applied_operations)
        d[self.name] = image
        for key in self.keys if self.drop else ():
            if key != self.name:
                d.pop(key, None)
        return d


def _one_channel(entry: NdarrayOrTensor, key: Hashable, case: str) -> torch.Tensor:
    tensor = convert_to_tensor(entry, dtype=torch.float32, track_meta=get_track_meta())
    if tensor.ndim < 3 or tensor.shape[0] != 1:
        raise InputError.about(case, f"{key} has shape {tuple(tensor.shape)}", "give one channel: (1, spatial...)")
    return tensor


def _on_grid(channel: torch.Tensor, shape: Sequence[int], case: str) -> torch.Tensor:
    if tuple(channel.shape[1:]) == tuple(shape):
        return channel
    factors = [new / old for new, old in zip(shape, channel.shape[1:], strict=True)]
    slack = 1.0 / min(min(shape), min(channel.shape[1:]))  # a pixel more or less along one side is rounding
    if max(factors) / min(factors) - 1.0 > slack:
        problem = f"the modalities have shapes {tuple(shape)} and {tuple(channel.shape[1:])}"
        raise InputError.about(case, problem, "bring them to one grid first")
    plain = convert_to_tensor(channel, track_meta=False)[None]
    if len(shape) == 2:
        # MONAI's Resize smooths before it shrinks with zeros beyond the border, which darkens the rim.
        return F.interpolate(plain, size=list(shape), mode="bilinear", antialias=True)[0]
    mode = "trilinear" if min(factors) >= 1.0 else "area"
    return F.interpolate(plain, size=list(shape), mode=mode)[0]


StackModalitiesD = StackModalitiesDict = StackModalitiesd
