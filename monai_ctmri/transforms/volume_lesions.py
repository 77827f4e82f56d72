"""Injected anomalies in whole volumes: a lesion of slices, carried through its neighbours as one body."""

from __future__ import annotations

import copy
import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor
from scipy import ndimage

from .. import keys as names
from ..data.reading.volumes import Volume, same_grid
from ..data.slices import axial_order, cut_slices, restack, select_levels
from ..errors import InputError
from . import lesion_painting as painting
from .artefact import ArtefactTransform
from .lesion import ANOMALY, LesionTransform
from .one_modality import InjectOneModalityd
from .pair_faults import PairFaultTransform

__all__ = ["InjectIntoVolumeD", "InjectIntoVolumeDict", "InjectIntoVolumed"]

_LOGGER = logging.getLogger(__name__)

_SQUARE = 0.05
_WIDE_BRAIN = 0.6
_BRIGHT_PERCENTILE = 99.5


@dataclass(frozen=True)
class _Stack:
    """One volume of a case as slices: ``grid`` in its own unit, pictures for the lesion in HU or [0, 1]."""

    grid: Volume
    meta: dict[str, Any]
    bottom: float = 0.0
    width: float = 1.0

    def plane(self, index: int) -> np.ndarray:
        """Slice (H, W) in picture orientation, own unit."""
        (cut,) = cut_slices(self.grid, [index])
        return np.ascontiguousarray(cut.values[::-1, ::-1, 0].T)

    def picture(self, index: int) -> torch.Tensor:
        """Slice (1, H, W) as a lesion takes it."""
        scaled = (self.plane(index) - self.bottom) / self.width if self.width != 1 else self.plane(index)
        shown = np.clip(scaled, 0.0, 1.0) if self.width != 1 else scaled
        return MetaTensor(torch.from_numpy(shown[None].astype(np.float32)), meta=dict(self.meta))


class InjectIntoVolumed(RandomizableTransform, MapTransform):
    """Inject an anomaly of slices into volumes: a lesion as a body that shrinks like a ball from its middle slice on,
    an artefact or a fault of a pair, drawn once, in every slice that shows brain.

    A slice at brain level is drawn, and the lesion in it; the slices around it get the same lesion (same random
    state, same place) with its area and its displacements scaled by ``1 - (z / h)^2``, where z is the distance in mm
    from the middle slice and h half the height of the body. Slices that hold no brain at that place end the body.

    CT in HU stays HU. MRI of any unit is brought to [0, 1] by the 99.5th percentile of its positive voxels for the
    lesion alone, and keeps its unit. Voxels that the lesion does not reach keep their bits. The result holds
    ``mask_key`` (float (1, X, Y, Z) on the same grid), ``label`` = 1 and ``anomaly``: what the lesion says of its
    middle slice, and ``volume_mm3``, ``height_mm``, ``slices`` (number changed), ``slice_index`` (the middle one,
    along the stored axial axis) and ``centre_mm`` (R, A, S).

    Args:
        lesion: a lesion of slices; its ``size_mm``, ``contrast``, ``location`` and kind hold here, its keys, spacing
            and probability do not.
        keys: volumes [1, X, Y, Z] of any orientation that lie on one grid. Defaults to ct and mri.
        levels_mm: distance below the vertex between which the middle slice lies. Defaults to 25 to 80.
        height_mm: height of the body. Defaults to None: the drawn size of the lesion.
        prob: probability of injecting; otherwise the case is returned as it came.
        allow_missing_keys: don't raise when a modality is missing. Defaults to True.

    Raises:
        InputError: when ``lesion`` replaces whole pictures, volumes differ in grid or have oblong pixels, no slice
            lies at brain level, or as the lesion.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        lesion: LesionTransform,
        keys: KeysCollection = names.MODALITIES,
        levels_mm: tuple[float, float] = (25.0, 80.0),
        height_mm: float | None = None,
        prob: float = 1.0,
        allow_missing_keys: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if not isinstance(lesion, LesionTransform) or hasattr(lesion, "donors"):
            raise InputError.about("lesion", f"{type(lesion).__name__} draws none", "give a lesion of slices")
        # One modality shows the lesion; where it is, is drawn in the brain that both show.
        self.only = lesion.key if isinstance(lesion, InjectOneModalityd) else None
        if height_mm is not None and not height_mm > 0:
            raise InputError.about("height_mm", f"got {height_mm}", "give a height in mm")
        self.lesion = lesion.lesion if isinstance(lesion, InjectOneModalityd) else lesion
        self.family = lesion.family
        self.kind = lesion.kind
        self.levels_mm = levels_mm
        self.height_mm = height_mm
        self._drawn: tuple[int, float, int] | None = None

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to inject, and draw the seed of the lesion, its size and its middle slice."""
        super().randomize(None)
        seed, size, place = self.R.randint(2**31 - 1), self.R.uniform(*self.lesion.size_mm), self.R.uniform()
        if self._do_transform:
            stacks = self._stacks(data)
            levels = self._levels(data, stacks)
            self._drawn = (int(seed), float(size), levels[int(place * len(levels))])

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last lesion."""
        d = dict(data)
        if randomize:
            self.randomize(d)
        if not self._do_transform:
            return d
        if self._drawn is None:
            raise InputError.about(painting.case_name(d), "no lesion was drawn yet", "call with randomize=True first")
        stacks = self._stacks(d)
        seed, size, middle = self._drawn
        height = self.height_mm or size
        own = self._own(stacks, size, seed)
        first = self._slice(d, stacks, middle)
        own.randomize(first)
        results: dict[int, dict[Hashable, Any]] = {}
        spacing = _spacing(next(iter(stacks.values())).grid)[2]
        if isinstance(own, ArtefactTransform | PairFaultTransform):
            for index, _ in _around(stacks, middle, np.inf):
                result = self._repeated(self._slice(d, stacks, index), own)
                if result is not None:
                    results[index] = result
            return self._finish(d, stacks, results, middle, len(results) * spacing)
        row, column = ndimage.center_of_mass(own._drawn.mask)
        # A gap in the skull has its centre outside the brain: there is no brain at that place in any slice.
        in_brain = bool(own._brain(first)[round(row), round(column)])
        for index, below in _around(stacks, middle, 0.5 * height / spacing):
            share = 1 - (2 * below * spacing / height) ** 2
            result = self._injected(self._slice(d, stacks, index), own, seed, size, share, (row, column), in_brain)
            if result is not None:
                results[index] = result
            elif index == middle:
                raise InputError.about(painting.case_name(d), "the lesion has no room", "give another size or level")
        return self._finish(d, stacks, results, middle, height)

    def _injected(
        self,
        case: dict[Hashable, Any],
        own: LesionTransform,
        seed: int,
        size: float,
        share: float,
        place: tuple[float, float],
        in_brain: bool,
    ) -> dict[Hashable, Any] | None:
        """One slice with its part of the body; None where there is no room for it."""
        size_mm = size * float(np.sqrt(share))
        if size_mm < own.pixel_spacing_mm:
            return None
        try:
            brain = own._brain(case)
            if in_brain and not brain[round(place[0]), round(place[1])]:
                return None
            rows, columns = (np.flatnonzero(brain.any(axis=axis)) for axis in (1, 0))
            own.location = (
                float((place[0] - rows[0]) / max(rows[-1] - rows[0], 1)),
                float((place[1] - columns[0]) / max(columns[-1] - columns[0], 1)),
            )
            own.size_mm = (size_mm, size_mm)
            own.set_random_state(seed=seed)
            own.randomize(case)
            if own._drawn.warp is not None:
                own._drawn = replace(own._drawn, warp=share * own._drawn.warp)
            return own(case, randomize=False)
        except InputError as error:
            _LOGGER.debug("slice left as it is: %s", error)
            return None

    def _repeated(self, case: dict[Hashable, Any], own: LesionTransform) -> dict[Hashable, Any] | None:
        """One slice with what was drawn for all; None where it shows no brain."""
        try:
            return own(case, randomize=False)
        except InputError as error:
            _LOGGER.debug("slice left as it is: %s", error)
            return None

    def _finish(
        self,
        d: dict[Hashable, Any],
        stacks: Mapping[Hashable, _Stack],
        results: Mapping[int, Mapping[Hashable, Any]],
        middle: int,
        height: float,
    ) -> dict[Hashable, Any]:
        grid = next(iter(stacks.values())).grid
        for key, stack in stacks.items():
            planes = {}
            for index, result in results.items():
                plane = stack.plane(index)
                before, after = (np.asarray(convert_to_numpy(one))[0] for one in (stack.picture(index), result[key]))
                change = after.astype(np.float64) - before
                new = plane + stack.width * change if stack.width != 1 else after
                planes[index] = _to_ras(np.where(change != 0, new, plane))
            inside = restack({index: np.ones_like(plane) for index, plane in planes.items()}, grid.shape, grid.affine)
            values = np.where(inside > 0, restack(planes, grid.shape, grid.affine), stack.grid.array)
            like = convert_to_tensor(d[key], track_meta=get_track_meta())
            d[key] = convert_to_dst_type(values[None], like, dtype=torch.float32)[0]
        masks = {
            index: _to_ras(np.asarray(convert_to_numpy(result[self.lesion.mask_key]))[0])
            for index, result in results.items()
        }
        mask = restack(masks, grid.shape, grid.affine)
        d[self.lesion.mask_key] = convert_to_dst_type(mask[None], d[next(iter(stacks))], dtype=torch.float32)[0]
        d[names.LABEL] = 1
        voxel = abs(float(np.linalg.det(grid.affine[:3, :3])))
        centre = grid.affine[:3, :3] @ np.array(ndimage.center_of_mass(mask > 0.5)) + grid.affine[:3, 3]
        record = {**results[middle][ANOMALY], "kind": self.kind}
        if self.only is not None:
            record["shown_in"] = str(self.only)
        if "warped" in record:
            record["warped"] = any(result[ANOMALY].get("warped", False) for result in results.values())
        d[ANOMALY] = {
            **record,
            "volume_mm3": float(np.count_nonzero(mask)) * voxel,
            "height_mm": float(height),
            "slices": len(results),
            "slice_index": int(middle),
            "centre_mm": [float(value) for value in centre],
        }
        return d

    def _own(self, stacks: Mapping[Hashable, _Stack], size: float, seed: int) -> LesionTransform:
        """The lesion for slices of these volumes; the one that was given stays as it is."""
        own = copy.copy(self.lesion)
        grid = next(iter(stacks.values())).grid
        row_mm, column_mm, _ = _spacing(grid)
        if abs(row_mm - column_mm) > _SQUARE * row_mm:
            problem = f"pixels of {row_mm:g} x {column_mm:g} mm are not square"
            raise InputError.about(grid.path, problem, "resample it to square pixels first")
        own.keys = tuple(stacks) if self.only is None else (self.only,)
        own.prob = 1.0
        own.allow_missing_keys = True
        own.pixel_spacing_mm = float(np.sqrt(row_mm * column_mm))
        own.size_mm = (size, size)
        own.set_random_state(seed=seed)
        return own

    def _levels(self, data: Mapping[Hashable, Any], stacks: Mapping[Hashable, _Stack]) -> list[int]:
        """Slices that can be the middle: at the wished level, where the brain is wide."""
        grid = next(iter(stacks.values())).grid
        own = self._own(stacks, self.lesion.size_mm[0], 0)
        areas = {}
        for index in select_levels(grid, *self.levels_mm):
            try:
                areas[index] = np.count_nonzero(own._brain(self._slice(data, stacks, index)))
            except InputError as error:
                _LOGGER.debug("slice %d holds no brain: %s", index, error)
        wide = [index for index, area in areas.items() if area >= _WIDE_BRAIN * max(areas.values())]
        if not wide:
            problem = f"no slice with brain lies {self.levels_mm[0]:g} to {self.levels_mm[1]:g} mm below the vertex"
            raise InputError.about(painting.case_name(data), problem, "give levels_mm that it covers")
        return wide

    def _slice(
        self, data: Mapping[Hashable, Any], stacks: Mapping[Hashable, _Stack], index: int
    ) -> dict[Hashable, Any]:
        """The case of one slice."""
        case: dict[Hashable, Any] = {
            key: data[key] for key in (names.CASE, names.SUBJECT, "mri_contrast") if data.get(key) is not None
        }
        case.update({key: stack.picture(index) for key, stack in stacks.items()})
        brain = data.get(self.lesion.brain_key)
        if brain is not None:
            grid = next(iter(stacks.values())).grid
            stack = _Stack(replace(grid, array=np.asarray(convert_to_numpy(brain))[0].astype(np.float32)), {})
            case[self.lesion.brain_key] = stack.picture(index)
        elif self.only is not None:
            case[self.lesion.brain_key] = self.lesion._brain(case)[None]
        return case

    def _stacks(self, data: Mapping[Hashable, Any]) -> dict[Hashable, _Stack]:
        """The volumes that are present, on one grid."""
        case = painting.case_name(data)
        found = {key: _stack(data, key) for key in self.key_iterator(dict(data)) if data[key] is not None}
        if not found:
            raise InputError.about(case, f"none of {', '.join(map(str, self.keys))} is present", "give at least one")
        if data.get(names.IMAGE) is not None:
            raise InputError.about(case, "has an entry image", "inject before the modalities are concatenated")
        grids = [stack.grid for stack in found.values()]
        if not all(grid.shape == grids[0].shape and same_grid(grid, grids[0]) for grid in grids):
            raise InputError.about(case, "the volumes lie on different grids", "register them to one grid first")
        return found


def _stack(data: Mapping[Hashable, Any], key: Hashable) -> _Stack:
    where = f"{painting.case_name(data)}: {key}"
    image = data[key]
    array = np.asarray(convert_to_numpy(image), dtype=np.float32)
    if array.ndim != 4 or array.shape[0] != 1:
        raise InputError.about(where, f"got shape {array.shape}", "give one volume of shape (1, X, Y, Z)")
    if not np.isfinite(array).all():
        raise InputError.about(where, "has values that are not finite", "repair the volume first")
    affine = np.asarray(getattr(image, "affine", np.eye(4)), dtype=np.float64)
    meta = getattr(image, "meta", {})
    modality = str(key) if key in names.MODALITIES else None
    grid = Volume(array[0], affine, Path(str(meta.get("filename_or_obj", where))), modality)
    if key == names.CT:
        unit = painting.unit_of(data, key)
        window = {"window": meta["window"]} if "window" in meta else {}
        return _Stack(grid, window if unit.closed else {"windowed": False})
    positive = array[array > 0]
    if (array.min() >= 0 and array.max() <= 1) or positive.size == 0:
        return _Stack(grid, {})
    return _Stack(grid, {}, 0.0, float(np.percentile(positive, _BRIGHT_PERCENTILE)))


def _spacing(grid: Volume) -> tuple[float, float, float]:
    """Size of a pixel of the axial slices (row, column) and distance of the slices, mm."""
    (cut,) = cut_slices(grid, [0])
    column, row, slice_ = np.linalg.norm(cut.affine[:3, :3], axis=0)
    return float(row), float(column), float(slice_)


def _around(stacks: Mapping[Hashable, _Stack], middle: int, reach: float) -> list[tuple[int, int]]:
    """Indices of slices nearer to the middle one than ``reach`` slices, with their distance in slices."""
    grid = next(iter(stacks.values())).grid
    axis = int(np.flatnonzero(axial_order(grid.affine)[:, 0] == 2)[0])
    numbers = range(grid.shape[axis])
    return [(index, abs(index - middle)) for index in numbers if abs(index - middle) < reach]


def _to_ras(picture: np.ndarray) -> np.ndarray:
    """(H, W) in picture orientation -> (X, Y) in RAS order."""
    return np.ascontiguousarray(picture.T[::-1, ::-1])


InjectIntoVolumeD = InjectIntoVolumeDict = InjectIntoVolumed
