"""How high in the head an axial slice lies: millimetres under the vertex, or the share that is inside the skull."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple

from .. import keys as names
from ..data.looking.appearance import look_at
from ..data.reading.volumes import Volume
from ..data.slices import axial_order, select_levels
from ..errors import InputError

__all__ = [
    "SLICE_LEVEL",
    "SliceLevel",
    "SliceLevelD",
    "SliceLevelDict",
    "SliceLeveld",
    "depths_below_vertex_mm",
    "intracranial_share",
]

SLICE_LEVEL = "slice_level"
"""Entry of a case that holds the level of its slice or slices."""

_UNLIMITED_MM = 1e6


def depths_below_vertex_mm(volume: Volume) -> np.ndarray:
    """Distance of each axial slice below the vertex, along the stored axial axis.

    The vertex is the topmost slice that shows a head, as :func:`~monai_ctmri.data.slices.select_levels` finds it;
    slices above it get negative values. Where the field of view cuts the vertex off, the depths count from the first
    slice that is seen and are too small.

    Args:
        volume: the head, of any orientation.

    Returns:
        float64 (slices,), in millimetres along the slices' normal, in stored order.

    Raises:
        InputError: when no slice shows a head.
    """
    with_head = select_levels(volume, 0.0, _UNLIMITED_MM)
    if not with_head:
        raise InputError.about(volume.path, "shows no head", "give a volume of the head with its spacing in mm")
    order = axial_order(volume.affine)
    axis = int(np.flatnonzero(order[:, 0] == 2)[0])
    step = float(order[axis, 1] * np.linalg.norm(volume.affine[:3, axis]))  # below 0 where slices are stored downwards
    return (with_head[-1] - np.arange(volume.array.shape[axis])) * step


def intracranial_share(plane: np.ndarray, *, windowed: bool) -> float:
    """Share of the head that lies inside the skull, of one axial CT slice.

    About 0.4 and more at brain level, under 0.3 through face, skull base, neck or the very top of the vault: see
    :mod:`monai_ctmri.data.looking.level`. It rises and falls again from the skull base to the vertex, so it tells
    whether a slice is at brain level, not how high.

    Args:
        plane: (H, W), grey levels in a brain window or Hounsfield units.
        windowed: whether they are grey levels.

    Returns:
        In [0, 1]; 0 where there is no head, NaN where the slice clearly looks like MRI.
    """
    return look_at(plane, windowed=windowed, modality=names.CT).intracranial_fraction


class SliceLevel(Transform):
    """Level of an axial slice, or of each axial slice of a volume.

    - A CT slice (C, H, W) gives (1,): the :func:`intracranial_share` of its first channel, in [0, 1]. Values in
      [0, 1], or with ``meta["windowed"]`` or ``meta["window"]``, are grey levels of a brain window, others HU.
    - A volume (C, X, Y, Z), CT or MRI, gives (slices,): :func:`depths_below_vertex_mm` of its first channel, in
      stored order.

    The result is float32 with the meta of the image.
    """

    backend = [TransformBackends.NUMPY]

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the level of ``img``.

        Raises:
            InputError: when no slice of a volume shows a head.
            ValueError: for another number of axes.
        """
        source = convert_to_tensor(img, track_meta=get_track_meta())
        if source.ndim not in (3, 4):
            raise ValueError(f"expected a slice (C, H, W) or a volume (C, X, Y, Z), got {tuple(source.shape)}.")
        first, meta = source[0].detach().cpu().numpy().astype(np.float32), getattr(source, "meta", {})
        if source.ndim == 3:
            grey = bool(meta.get("windowed", False)) or "window" in meta or bool(first.min() >= 0 and first.max() <= 1)
            levels = np.array([intracranial_share(first, windowed=grey)])
        else:
            affine = np.asarray(getattr(source, "affine", np.eye(4)), dtype=float)
            path = Path(str(meta.get("filename_or_obj", "volume")))
            levels = depths_below_vertex_mm(Volume(first, affine, path, meta.get("modality") or None))
        return convert_to_dst_type(levels.astype(np.float32), source, dtype=np.float32)[0]


class SliceLeveld(MapTransform):
    """Dictionary-based wrapper of :py:class:`SliceLevel`.

    Args:
        keys: entries that hold a CT slice or a volume. Defaults to ``"ct"``. See also: MapTransform.
        output_key: entry, or one a key, that gets the level. Defaults to ``"slice_level"``.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.

    Raises:
        ValueError: when ``output_key`` does not name one entry a key.
    """

    backend = SliceLevel.backend

    def __init__(
        self,
        keys: KeysCollection = names.CT,
        output_key: KeysCollection = SLICE_LEVEL,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = ensure_tuple(output_key)
        if len(self.output_keys) != len(self.keys):
            raise ValueError(f"output_key must name one entry for each of {len(self.keys)} keys.")
        self.transform = SliceLevel()

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Add the levels."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key] = self.transform(d[key])
        return d


SliceLevelD = SliceLevelDict = SliceLeveld
