"""Anomaly maps in units of what is normal at each place: healthy mean and spread a voxel, and z-maps from them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from os import PathLike
from pathlib import Path

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor
from scipy import ndimage

from .. import keys as names
from ..data.files import write_atomically
from ..errors import InputError

__all__ = ["HealthyStatistics", "HealthyZMap", "HealthyZMapD", "HealthyZMapDict", "HealthyZMapd"]

_LEAST_CASES = 2.0
_FIELDS = ("mean", "sd", "count")


@dataclass(frozen=True, eq=False)
class HealthyStatistics:
    """What an anomaly map shows in normal cases, place by place.

    Attributes:
        mean: float32 (C, spatial...).
        sd: standard deviation, float32 (C, spatial...), above 0.
        count: cases seen at each voxel, float32 (C, spatial...).
    """

    mean: np.ndarray
    sd: np.ndarray
    count: np.ndarray

    @classmethod
    def of(
        cls,
        maps: Iterable[NdarrayOrTensor],
        masks: Iterable[NdarrayOrTensor | None] | None = None,
        smoothing: float = 2.0,
        floor: float = 0.1,
    ) -> HealthyStatistics:
        """Learn them from the maps of normal cases that lie on one grid.

        Mean and variance (n - 1) of each voxel run over the cases whose mask holds it (Welford 1962). Both are then
        smoothed by a Gaussian that is weighted by n and n - 1, so what lies outside the masks has no part. Where the
        smoothed n is under 2, both are those of all voxels together. The standard deviation is at least ``floor``
        times its median: a voxel that hardly varied in few cases must not turn noise into a finding.

        Args:
            maps: each (C, spatial...), finite; taken one by one.
            masks: one a map, (1 or C, spatial...), above 0 = inside; None means everywhere.
            smoothing: sigma in voxels. Defaults to 2.
            floor: share of the median standard deviation. Defaults to 0.1.

        Raises:
            InputError: for less than two maps, other shapes, values that are not finite, or masks that share nothing.
            ValueError: when ``smoothing`` is negative or ``floor`` not positive.
        """
        if smoothing < 0 or not floor > 0:
            raise ValueError(f"smoothing must be >= 0 and floor > 0, got {smoothing} and {floor}.")
        count, mean, scatter = _moments(maps, repeat(None) if masks is None else masks)
        spread = (0.0, *(float(smoothing) for _ in count.shape[1:]))
        weight, freedom = (ndimage.gaussian_filter(each, spread) for each in (count, np.clip(count - 1, 0, None)))
        seen = weight >= min(_LEAST_CASES, float(count.max()))
        if not freedom[seen].sum() > 0:
            raise InputError.about("healthy maps", "no voxel lies in two masks", "give masks on one grid that overlap")
        smooth_mean = ndimage.gaussian_filter(count * mean, spread) / np.where(seen, weight, 1.0)
        variance = ndimage.gaussian_filter(scatter, spread) / np.where(freedom > 0, freedom, 1.0)
        everywhere = float((count * mean).sum() / count.sum())
        smooth_mean = np.where(seen, smooth_mean, everywhere)
        sd = np.sqrt(np.where(seen, variance, scatter.sum() / max(float(np.clip(count - 1, 0, None).sum()), 1.0)))
        sd = np.maximum(sd, max(floor * float(np.median(sd[seen])), float(np.finfo(np.float32).tiny)))
        return cls(*(each.astype(np.float32) for each in (smooth_mean, sd, count)))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write them to an ``.npz`` file of plain arrays."""
        with write_atomically(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, mean=self.mean, sd=self.sd, count=self.count)
        return Path(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> HealthyStatistics:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Raises:
            InputError: when the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = [np.asarray(stored[name], dtype=np.float32) for name in _FIELDS]
        except FileNotFoundError as error:
            raise InputError.about(path, "no such file", "write it with HealthyZMap.fit and save") from error
        except Exception as error:  # broken bytes make numpy and zipfile raise many kinds
            problem = f"holds no healthy statistics ({type(error).__name__})"
            raise InputError.about(path, problem, "write it with HealthyZMap.fit and save") from error
        mean, sd, count = arrays
        if not mean.shape == sd.shape == count.shape or not np.isfinite(mean).all() or not (sd > 0).all():
            raise InputError.about(path, "holds statistics that cannot be", "write it with HealthyZMap.fit and save")
        return cls(mean, sd, count)


def _moments(
    maps: Iterable[NdarrayOrTensor], masks: Iterable[NdarrayOrTensor | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and sum of squared deviations of each voxel; float64."""
    count: np.ndarray = np.zeros(0)
    mean: np.ndarray = count
    scatter: np.ndarray = count
    cases = 0
    for one, mask in zip(maps, masks, strict=False):
        values = np.asarray(convert_to_numpy(one), dtype=np.float64)
        inside = np.ones(values.shape, dtype=bool)
        if mask is not None:
            given = np.asarray(convert_to_numpy(mask)) > 0
            if given.shape not in (values.shape, (1, *values.shape[1:])):
                raise InputError.about("healthy maps", f"mask of shape {given.shape}", f"give {values.shape}")
            inside = np.broadcast_to(given, values.shape)
        if not cases:
            count = mean = scatter = np.zeros(values.shape)
        if values.shape != count.shape:
            problem = f"shapes {count.shape} and {values.shape}"
            raise InputError.about("healthy maps", problem, "bring the maps to one grid")
        if not np.isfinite(values[inside]).all():
            raise InputError.about("healthy maps", f"map {cases} has values that are not finite", "leave it out")
        count = count + inside
        step = np.where(inside, values - mean, 0.0)
        mean = mean + step / np.maximum(count, 1)
        scatter = scatter + step * np.where(inside, values - mean, 0.0)
        cases += 1
    if cases < _LEAST_CASES:
        raise InputError.about("healthy maps", f"got {cases}", "give the maps of at least two normal cases")
    return count, mean, scatter


class HealthyZMap(Transform):
    """Anomaly map -> z-map: how many healthy standard deviations above the healthy mean, voxel by voxel.

    .. math:: z = (x - \\mu) / \\sigma

    Places where a model errs in every normal head (sulci, the rim of the brain) stop standing out. The sign stays:
    below 0 is less than normal there.

    Args:
        statistics: healthy statistics or the file that holds them. Defaults to None: :meth:`fit` comes first.
        smoothing: of :meth:`fit`, sigma in voxels. Defaults to 2.
        floor: of :meth:`fit`, least standard deviation as a share of its median. Defaults to 0.1.

    Raises:
        InputError: when the file cannot be read.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        statistics: HealthyStatistics | str | PathLike[str] | None = None,
        smoothing: float = 2.0,
        floor: float = 0.1,
    ) -> None:
        if isinstance(statistics, str | PathLike):
            statistics = HealthyStatistics.load(statistics)
        self.statistics: HealthyStatistics | None = statistics
        self.smoothing = float(smoothing)
        self.floor = float(floor)

    def fit(
        self, maps: Iterable[NdarrayOrTensor], masks: Iterable[NdarrayOrTensor | None] | None = None
    ) -> HealthyZMap:
        """Learn what is normal, see :meth:`HealthyStatistics.of`; returns itself."""
        self.statistics = HealthyStatistics.of(maps, masks, self.smoothing, self.floor)
        return self

    def __call__(self, anomaly_map: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the z-map of a map (C, spatial...), float32 with its meta.

        Raises:
            InputError: before :meth:`fit`, or when the map lies on another grid.
        """
        if self.statistics is None:
            raise InputError.about("HealthyZMap", "knows no healthy cases", "call fit, or give it saved statistics")
        source = convert_to_tensor(anomaly_map, track_meta=get_track_meta())
        values = source.detach().cpu().numpy()
        if values.shape != self.statistics.mean.shape:
            problem = f"map of shape {values.shape}, healthy ones of {self.statistics.mean.shape}"
            raise InputError.about("HealthyZMap", problem, "bring the map to the grid of the healthy ones")
        return convert_to_dst_type((values - self.statistics.mean) / self.statistics.sd, source, dtype=np.float32)[0]


class HealthyZMapd(MapTransform):
    """Dictionary-based wrapper of :py:class:`HealthyZMap`: the maps are replaced.

    Args:
        keys: entries that hold maps on one grid. Defaults to ``"anomaly_map"``. See also: MapTransform.
        statistics: healthy statistics or the file that holds them.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = HealthyZMap.backend

    def __init__(
        self,
        keys: KeysCollection = names.ANOMALY_MAP,
        statistics: HealthyStatistics | str | PathLike[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = HealthyZMap(statistics)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Replace the maps by z-maps."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


HealthyZMapD = HealthyZMapDict = HealthyZMapd
