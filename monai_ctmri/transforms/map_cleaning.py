"""Anomaly maps, cleaned: the rim of the mask, single voxels, faint values and small components are taken away."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from scipy import ndimage

from .. import keys as names
from .mask_geometry import erode_by_mm, voxel_sizes_mm

__all__ = ["CleanMap", "CleanMapD", "CleanMapDict", "CleanMapd", "remove_small_components"]

_NEIGHBOURS = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}


def remove_small_components(found: np.ndarray, least_voxels: float, reach: int = 1) -> np.ndarray:
    """Take the connected components of less than ``least_voxels`` voxels out of a mask.

    Args:
        found: bool, of any number of axes.
        least_voxels: size from which a component stays.
        reach: along how many axes at once neighbours may differ: 1 is 4 / 6 neighbours, 2 is 8 / 18, 3 is 26.
    """
    labels, _ = ndimage.label(found, ndimage.generate_binary_structure(found.ndim, reach))
    large = np.bincount(labels.ravel()) >= least_voxels
    large[0] = False
    return large[labels]


class CleanMap(Transform):
    """Clean an anomaly map, in this order; what is taken away becomes 0.

    1. Median filter of ``median`` voxels a side, reflecting at the border: errors of single voxels go.
    2. What lies outside the mask eroded by ``erode_mm`` goes: reconstructions fail along the rim of the brain in
       normal heads too. Erosion that leaves nothing leaves nothing.
    3. Values of ``threshold`` and under go.
    4. Connected components of what is above 0 then, smaller than ``min_size`` mm2 (mm3 in a volume), go.

    Values that stay are those of the filtered map. Each channel is treated on its own. Median and erosion are the
    post-processing of Kascenas A, Pugeault N, O'Neil AQ, MIDL 2022 (PMLR 172:653-664); small components are removed
    after Baur C et al. Autoencoders for unsupervised anomaly segmentation in brain MR images. Med Image Anal
    2021;69:101952.

    Args:
        erode_mm: erosion of the mask in millimetres. Defaults to 0.
        median: side of the median filter in voxels; 1 means none. Defaults to 5.
        threshold: in the map's unit; None takes none away. Defaults to None.
        min_size: least area in mm2 or volume in mm3 of a component. Defaults to 0.
        neighbours: 4 or 8 in a slice, 6, 18 or 26 in a volume. Defaults to None: 4 and 6.
        pixel_spacing_mm: size of a voxel, one number or one an axis. Defaults to None: ask the affine of the map,
            where ``erode_mm`` or ``min_size`` needs it.

    Raises:
        ValueError: when an argument is out of range.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        erode_mm: float = 0.0,
        median: int = 5,
        threshold: float | None = None,
        min_size: float = 0.0,
        neighbours: int | None = None,
        pixel_spacing_mm: float | Sequence[float] | None = None,
    ) -> None:
        if erode_mm < 0:
            raise ValueError(f"erode_mm must not be negative, got {erode_mm}.")
        if median < 1:
            raise ValueError(f"median must be at least 1, got {median}.")
        if min_size < 0:
            raise ValueError(f"min_size must not be negative, got {min_size}.")
        if neighbours is not None and neighbours not in _NEIGHBOURS:
            raise ValueError(f"neighbours must be one of {', '.join(map(str, _NEIGHBOURS))}, got {neighbours}.")
        self.erode_mm = float(erode_mm)
        self.median = int(median)
        self.threshold = threshold
        self.min_size = float(min_size)
        self.neighbours = neighbours
        self.pixel_spacing_mm = pixel_spacing_mm

    def __call__(self, anomaly_map: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Clean ``anomaly_map`` (C, H, W) or (C, X, Y, Z) within ``mask`` (1 or C, spatial...), above 0 = inside.

        Without a mask the whole image is inside. The result is float32 with the meta of the map.

        Raises:
            InputError: when millimetres are asked for and the size of a voxel is not known.
            ValueError: when the shapes do not fit, or ``neighbours`` is not of the map's number of axes.
        """
        source = convert_to_tensor(anomaly_map, track_meta=get_track_meta())
        values = source.detach().cpu().numpy().astype(np.float32)
        dims = values.ndim - 1
        if dims not in (2, 3):
            raise ValueError(f"expected a map (C, H, W) or (C, X, Y, Z), got shape {values.shape}.")
        wanted, reach = _NEIGHBOURS[self.neighbours] if self.neighbours else (dims, 1)
        if wanted != dims:
            raise ValueError(f"neighbours {self.neighbours} are for {wanted} axes, the map has {dims}.")
        inside = np.ones((1, *values.shape[1:]), dtype=bool)
        if mask is not None:
            inside = np.asarray(convert_to_tensor(mask).detach().cpu().numpy()) > 0
        if inside.shape not in (values.shape, (1, *values.shape[1:])):
            raise ValueError(f"anomaly_map and mask must have one shape, got {values.shape} and {inside.shape}.")
        sizes = voxel_sizes_mm(source, self.pixel_spacing_mm) if self.erode_mm or self.min_size else (1.0,) * dims
        core = np.stack([erode_by_mm(one, self.erode_mm, sizes) for one in inside])
        core = np.broadcast_to(core, values.shape)
        least = self.min_size / float(np.prod(sizes))
        out = np.stack([self._clean(one, within, least, reach) for one, within in zip(values, core, strict=True)])
        return convert_to_dst_type(out, source, dtype=np.float32)[0]

    def _clean(self, values: np.ndarray, core: np.ndarray, least_voxels: float, reach: int) -> np.ndarray:
        if self.median > 1:
            values = ndimage.median_filter(values, size=self.median)
        kept = core if self.threshold is None else core & (values > self.threshold)
        if least_voxels > 1:
            kept = kept & (values <= 0) | remove_small_components(kept & (values > 0), least_voxels - 1e-6, reach)
        return np.where(kept, values, np.float32(0))


class CleanMapd(MapTransform):
    """Dictionary-based wrapper of :py:class:`CleanMap`: the maps are replaced.

    Args:
        keys: entries that hold maps. Defaults to ``"anomaly_map"``. See also: MapTransform.
        mask_key: entry, or one a key, that holds the mask; None means the whole image. Defaults to None.
        erode_mm, median, threshold, min_size, neighbours, pixel_spacing_mm: see :class:`CleanMap`.
        allow_missing_keys: don't raise when a key of ``keys`` is missing. Defaults to False.
    """

    backend = CleanMap.backend

    def __init__(
        self,
        keys: KeysCollection = names.ANOMALY_MAP,
        mask_key: KeysCollection | None = None,
        erode_mm: float = 0.0,
        median: int = 5,
        threshold: float | None = None,
        min_size: float = 0.0,
        neighbours: int | None = None,
        pixel_spacing_mm: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_keys = ensure_tuple_rep(mask_key, len(self.keys))
        self.transform = CleanMap(erode_mm, median, threshold, min_size, neighbours, pixel_spacing_mm)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Clean the maps."""
        d = dict(data)
        for key, mask_key in self.key_iterator(d, self.mask_keys):
            d[key] = self.transform(d[key], None if mask_key is None else d[mask_key])
        return d


CleanMapD = CleanMapDict = CleanMapd
