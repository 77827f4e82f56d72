"""One fixed scale for every heatmap of a run, learned from normal cases."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from itertools import repeat

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor

from .. import keys as names
from ..errors import InputError

__all__ = ["HeatmapScale", "HeatmapScaleD", "HeatmapScaleDict", "HeatmapScaled"]


class HeatmapScale(Transform):
    """Anomaly map -> [0, 1] on a scale that is the same for every case.

    .. math:: y = \\mathrm{clip}((x - l) / (u - l), 0, 1)

    A map rescaled by its own maximum makes every normal case glow. Here ``u`` comes from normal cases, or is given.

    Args:
        upper: value that becomes 1. Defaults to None: :meth:`fit` comes first.
        lower: value that becomes 0. Defaults to 0.
        quantile: of :meth:`fit`, in (0, 1]: which value of a normal map counts. Defaults to 0.995.
        headroom: of :meth:`fit`, ``u - l`` is this many times the normal value less ``l``; 1 lets 0.5 % of a typical
            normal case saturate. Defaults to 2.

    Raises:
        ValueError: when an argument is out of range.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, upper: float | None = None, lower: float = 0.0, quantile: float = 0.995, headroom: float = 2.0
    ) -> None:
        if upper is not None and not upper > lower:
            raise ValueError(f"upper must be above lower, got {upper} and {lower}.")
        if not 0 < quantile <= 1:
            raise ValueError(f"quantile must be in (0, 1], got {quantile}.")
        if not headroom > 0:
            raise ValueError(f"headroom must be positive, got {headroom}.")
        self.upper = None if upper is None else float(upper)
        self.lower = float(lower)
        self.quantile = float(quantile)
        self.headroom = float(headroom)

    def fit(
        self, maps: Iterable[NdarrayOrTensor], masks: Iterable[NdarrayOrTensor | None] | None = None
    ) -> HeatmapScale:
        """Set ``upper`` from normal cases: the median over them of each map's quantile within its mask.

        The median keeps a few bad cases among the normal ones from deciding. Maps are taken one by one.

        Args:
            maps: each (C, spatial...).
            masks: one a map, (1 or C, spatial...), above 0 = inside; None means everywhere. Empty ones are left out.

        Raises:
            InputError: without a map, or where normal maps do not rise above ``lower``.
        """
        found = []
        for one, mask in zip(maps, repeat(None) if masks is None else masks, strict=False):
            values = np.asarray(convert_to_numpy(one), dtype=np.float64)
            if mask is not None:
                values = values[np.broadcast_to(np.asarray(convert_to_numpy(mask)) > 0, values.shape)]
            if values.size:
                found.append(float(np.quantile(values, self.quantile)))
        normal = float(np.median(found)) if found else float("nan")
        if not normal > self.lower:
            problem = f"{len(found)} normal maps whose upper end is {normal:g}"
            raise InputError.about("heatmap scale", problem, f"give normal maps with values above {self.lower:g}")
        self.upper = self.lower + self.headroom * (normal - self.lower)
        return self

    def __call__(self, anomaly_map: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the map (C, spatial...) on the scale, float32 in [0, 1], with its meta.

        Raises:
            InputError: before :meth:`fit`.
        """
        if self.upper is None:
            raise InputError.about("heatmap scale", "is not set", "call fit, or give upper")
        source = convert_to_tensor(anomaly_map, track_meta=get_track_meta())
        share = (source.detach().to(torch.float32) - self.lower) / (self.upper - self.lower)
        return convert_to_dst_type(share.clamp(0.0, 1.0), source, dtype=torch.float32)[0]


class HeatmapScaled(MapTransform):
    """Dictionary-based wrapper of :py:class:`HeatmapScale`: the maps are replaced.

    Args:
        keys: entries that hold maps. Defaults to ``"anomaly_map"``. See also: MapTransform.
        upper: value that becomes 1. Defaults to 1.
        lower: value that becomes 0. Defaults to 0.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.

    Raises:
        ValueError: when ``upper`` is not above ``lower``.
    """

    backend = HeatmapScale.backend

    def __init__(
        self,
        keys: KeysCollection = names.ANOMALY_MAP,
        upper: float = 1.0,
        lower: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = HeatmapScale(upper, lower)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Put the maps on the scale."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


HeatmapScaleD = HeatmapScaleDict = HeatmapScaled
