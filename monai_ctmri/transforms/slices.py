"""A volume -> its axial slices at brain level, and slices -> the volume they came from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform
from monai.transforms.traits import MultiSampleTrait
from monai.utils import TransformBackends, convert_to_tensor

from .. import keys as names
from ..data.reading.volumes import Volume, same_grid
from ..data.slices import axial_order, cut_slices, restack, select_levels
from ..errors import InputError

__all__ = ["SLICE_INDEX", "AxialSlicesD", "AxialSlicesDict", "AxialSlicesd", "restack_slices"]

SLICE_INDEX = "slice_index"
"""Entry of a case that holds the number of its slice along the stored axial axis of the volume."""

_NOT_SHARED = ("affine", "original_affine", "spatial_shape", "original_shape")


class AxialSlicesd(MapTransform, MultiSampleTrait):
    """Cut volumes that lie on one grid into axial slices, one case a slice; no value is interpolated.

    A volume [C, X, Y, Z] of any orientation becomes slices [C, H, W] in picture orientation (row 0 anterior, column 0
    the patient's right), from inferior to superior. Which slices is decided once, on ``reference_key``, see
    :func:`~monai_ctmri.data.slices.select_levels`. Each case is a copy of the input's with the slices in place of the
    volumes, and :data:`SLICE_INDEX`; a case name gets ``_z<index>`` appended. ``meta`` of a slice holds its own
    ``affine`` ((row, column, slice) -> RAS mm) and ``volume_affine``, ``volume_shape``, by which
    :func:`restack_slices` puts maps of slices back.

    Args:
        keys: entries that hold volumes. Defaults to ct and mri.
        reference_key: entry that decides the levels. Defaults to None: the first one present.
        levels_mm: distance from the vertex of the first and last slice; None takes every slice.
        allow_missing_keys: don't raise when a key is missing. Defaults to True, since a case may have one modality.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        reference_key: str | None = None,
        levels_mm: tuple[float, float] | None = (20.0, 100.0),
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference_key = reference_key
        self.levels_mm = levels_mm

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> list[dict[Hashable, Any]]:
        """Return one case a slice; none where no slice is at brain level. A case without volumes stays as it is.

        Raises:
            InputError: when the volumes of a case lie on different grids.
            ValueError: when an entry is no volume [C, X, Y, Z].
        """
        present = list(self.key_iterator(dict(data)))
        if not present:
            return [dict(data)]
        channels = {key: _volumes(data[key], key) for key in present}
        first = channels[self.reference_key if self.reference_key in channels else present[0]][0]
        for key in present:
            if not same_grid(channels[key][0], first):
                raise InputError.about(f"entry {key!r}", "lies on another grid", "register it to the others first")
        if self.levels_mm is None:
            axis = int(np.flatnonzero(axial_order(first.affine)[:, 0] == 2)[0])
            indices = list(range(first.array.shape[axis]))
            indices = indices if axial_order(first.affine)[axis, 1] > 0 else indices[::-1]
        else:
            indices = select_levels(first, *self.levels_mm)
        planes = {key: _pictures(data[key], channels[key], indices) for key in present}
        cases = []
        for place, index in enumerate(indices):
            case: dict[Hashable, Any] = {**data, **{key: planes[key][place] for key in present}, SLICE_INDEX: index}
            if names.CASE in case:
                case[names.CASE] = f"{case[names.CASE]}_z{index:03d}"
            cases.append(case)
        return cases


def restack_slices(slices: Sequence[torch.Tensor], indices: Sequence[int], fill: float = 0.0) -> torch.Tensor:
    """Put slices back onto the grid of the volume they were cut from.

    Args:
        slices: tensors [C, H, W] with the ``meta`` that :class:`AxialSlicesd` gave, e.g. heatmaps on their grid.
        indices: :data:`SLICE_INDEX` of each.
        fill: value of the slices that are not given.

    Returns:
        MetaTensor [C, X, Y, Z] float32 in the stored order of axes, with the volume's affine.

    Raises:
        InputError: without slices, without their ``meta``, or when one does not fit.
    """
    if not len(slices) or len(slices) != len(indices):
        raise InputError.about(
            "slices", f"{len(slices)} with {len(indices)} indices", "give one index a slice, and one"
        )
    meta = getattr(slices[0], "meta", {})
    if "volume_affine" not in meta:
        raise InputError.about("slices", "do not say from which volume they come", "cut them with AxialSlicesd")
    affine, shape = np.asarray(meta["volume_affine"], dtype=float), [int(n) for n in np.asarray(meta["volume_shape"])]
    arrays = [np.asarray(one.detach().cpu()) for one in slices]
    stacks = [
        restack({i: _from_picture(a[channel]) for i, a in zip(indices, arrays, strict=True)}, shape, affine, fill)
        for channel in range(arrays[0].shape[0])
    ]
    kept = {key: meta[key] for key in ("filename_or_obj", "modality", "windowed", "space") if key in meta}
    return MetaTensor(torch.from_numpy(np.stack(stacks)), affine=torch.from_numpy(affine), meta=kept)


def _volumes(image: NdarrayOrTensor, key: Hashable) -> list[Volume]:
    """One volume a channel."""
    tensor, meta = convert_to_tensor(image), getattr(image, "meta", {})
    if tensor.ndim != 4:
        raise ValueError(f"{key!r} must be a volume [C, X, Y, Z], got shape {tuple(tensor.shape)}.")
    array, affine = tensor.detach().cpu().numpy(), np.asarray(getattr(image, "affine", np.eye(4)), dtype=float)
    path = Path(str(meta.get("filename_or_obj", key)))
    modality = meta.get("modality") or (str(key) if key in names.MODALITIES else None)
    return [Volume(channel.astype(np.float32, copy=False), affine, path, modality) for channel in array]


def _pictures(image: NdarrayOrTensor, channels: Sequence[Volume], indices: Sequence[int]) -> list[torch.Tensor]:
    first, tracked = channels[0], get_track_meta()
    shared = {key: value for key, value in getattr(image, "meta", {}).items() if key not in _NOT_SHARED}
    cut = [list(cut_slices(volume, indices)) for volume in channels]
    pictures: list[torch.Tensor] = []
    for place in range(len(indices)):
        pixels = torch.from_numpy(np.stack([_to_picture(one[place].values) for one in cut]))
        if not tracked:
            pictures.append(pixels)
            continue
        affine = _picture_affine(cut[0][place].values.shape, cut[0][place].affine)
        meta = {**shared, "volume_affine": first.affine.copy(), "volume_shape": np.asarray(first.array.shape)}
        pictures.append(MetaTensor(pixels, affine=torch.from_numpy(affine), meta=meta))
    return pictures


def _to_picture(values: np.ndarray) -> np.ndarray:
    """(X, Y, 1) in RAS order -> (H, W): row 0 anterior, column 0 the patient's right."""
    return np.ascontiguousarray(values[::-1, ::-1, 0].T, dtype=np.float32)


def _from_picture(pixels: np.ndarray) -> np.ndarray:
    return pixels.T[::-1, ::-1]


def _picture_affine(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Affine of (row, column, slice) for a slice whose (x, y, z) voxels have ``affine``."""
    flip = np.array([[0, -1, 0, shape[0] - 1], [-1, 0, 0, shape[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=float)
    return affine @ flip


AxialSlicesD = AxialSlicesDict = AxialSlicesd
