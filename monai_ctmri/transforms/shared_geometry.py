"""One random geometry for every modality and mask of a case: turned, scaled, sheared, moved and bent alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, RandAffineGrid, RandomizableTransform, Resample
from monai.transforms.utils import create_grid
from monai.utils import TraceKeys, TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple

from .. import keys as names
from ..errors import InputError

__all__ = ["RandSharedGeometryD", "RandSharedGeometryDict", "RandSharedGeometryd"]

_STEEPEST = 0.5
_ITERATIONS = 20


class RandSharedGeometryd(RandomizableTransform, MapTransform, InvertibleTransform):
    """Resample every entry of a case by one random affine and elastic map, so that what was registered stays so.

    ``out(x) = in(A (x + u(x)))`` in pixels from the middle of the picture: ``A`` is drawn by
    :class:`monai.transforms.RandAffineGrid`, ``u`` is bicubic between random control points ``elastic_spacing_mm``
    apart, its greatest length ~ U(0, elastic_mm). Where ``u`` would be steeper than 0.5 it is made smaller, so that
    nothing folds and the map has an inverse, found by fixed-point iteration (it brings points back to a hundredth of a
    pixel; what left the frame is lost). Each entry is interpolated once.

    The result lies on the pixel grid of the input and stands for another head: ``meta``, the affine included, stays.

    Args:
        keys: entries (C, H, W) to interpolate linearly: ct, mri, a stack. See also: MapTransform.
        mask_keys: entries (C, H, W) to sample by nearest neighbour; those a case lacks are passed over. Defaults to
            ``mask`` and ``brain``.
        prob: probability of a change. Defaults to 0.5.
        rotate_degrees: greatest turn either way. Defaults to 10.
        scale: greatest relative change of size, each axis. Defaults to 0.1.
        shear: greatest shear, each axis. Defaults to 0.05.
        translate_mm: greatest shift, each axis. Defaults to 5.
        elastic_mm: greatest elastic displacement; 0 for none. Defaults to 4.
        elastic_spacing_mm: distance between control points. Defaults to 40.
        pixel_spacing_mm: size of a pixel. Defaults to 1.8.
        padding_mode: what lies outside the picture: ``"zeros"`` (default), ``"border"`` or ``"reflection"``.
        allow_missing_keys: don't raise when a modality is missing. Defaults to True.

    Raises:
        InputError: when an option is negative or the entries of a case differ in shape.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        mask_keys: KeysCollection = (names.MASK, "brain"),
        prob: float = 0.5,
        rotate_degrees: float = 10.0,
        scale: float = 0.1,
        shear: float = 0.05,
        translate_mm: float = 5.0,
        elastic_mm: float = 4.0,
        elastic_spacing_mm: float = 40.0,
        pixel_spacing_mm: float = 1.8,
        padding_mode: str = "zeros",
        allow_missing_keys: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        ranges = {"rotate_degrees": rotate_degrees, "scale": scale, "shear": shear, "translate_mm": translate_mm}
        for name, value in {**ranges, "elastic_mm": elastic_mm}.items():
            if not value >= 0:
                raise InputError.about(name, f"got {value}", "give the greatest change, at least 0")
        for name, value in {"elastic_spacing_mm": elastic_spacing_mm, "pixel_spacing_mm": pixel_spacing_mm}.items():
            if not value > 0:
                raise InputError.about(name, f"got {value}", "give a length in mm above 0")
        if not scale < 1:
            raise InputError.about("scale", f"got {scale}", "give a share below 1")
        self.mask_keys = ensure_tuple(mask_keys)
        self.elastic_mm = float(elastic_mm)
        self.elastic_spacing_mm = float(elastic_spacing_mm)
        self.pixel_spacing_mm = float(pixel_spacing_mm)
        self.affine_grid = RandAffineGrid(
            rotate_range=float(np.deg2rad(rotate_degrees)),
            shear_range=(float(shear),) * 2,
            translate_range=(translate_mm / pixel_spacing_mm,) * 2,
            scale_range=(float(scale),) * 2,
        )
        self.padding_mode = padding_mode
        self._elastic = np.zeros((2, 2, 2), dtype=np.float32)

    def randomize(self, data: tuple[int, ...]) -> None:
        """Decide whether to act, and draw the map for pictures of shape ``data`` = (H, W)."""
        super().randomize(None)
        if not self._do_transform:
            return
        self.affine_grid.set_random_state(state=self.R)
        self.affine_grid.randomize()
        reach = [(size - 1) * self.pixel_spacing_mm / self.elastic_spacing_mm for size in data]
        control = self.R.uniform(-1.0, 1.0, (2, *(max(int(np.ceil(each)), 1) + 1 for each in reach)))
        length = self.R.uniform(0.0, self.elastic_mm) / self.pixel_spacing_mm
        dense = _dense(control.astype(np.float32), data)
        longest = float(dense.square().sum(0).amax().sqrt())
        share = length / max(longest, 1e-6)
        share = min(share, _STEEPEST / max(_steepness(dense), 1e-6))
        self._elastic = (control * share).astype(np.float32)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor], randomize: bool = True) -> dict[Hashable, Any]:
        """Resample the entries of one case; ``randomize=False`` repeats the last map."""
        d: dict[Hashable, Any] = dict(data)
        modes = self._modes(d)
        if not modes:
            return d
        shape = self._shape(d, modes)
        if randomize:
            self.randomize(shape)
        grid: torch.Tensor | None = None
        matrix = np.eye(3)
        if self._do_transform:
            grid = _straight(shape)
            grid[:2] += _dense(self._elastic, shape)
            grid = convert_to_tensor(self.affine_grid(grid=grid, randomize=False), track_meta=False)
            matrix = np.asarray(self.affine_grid.get_transformation_matrix(), dtype=np.float64)
        done = {"done": self._do_transform, "matrix": matrix, "elastic": self._elastic}
        for key, mode in modes.items():
            source = convert_to_tensor(d[key], dtype=torch.float32, track_meta=get_track_meta())
            # The trace must not reach the caller's tensor.
            out = source.clone() if grid is None else self._sampled(source, grid, mode)
            if isinstance(out, MetaTensor):
                self.push_transform(out, orig_size=shape, extra_info={**done, "mode": mode})
            d[key] = out
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring every entry, or a map made from it that kept its metadata, back to where it was."""
        d = dict(data)
        grid = None
        for key in self._modes(d):
            info = self.pop_transform(d[key])[TraceKeys.EXTRA_INFO]
            if not info["done"]:
                continue
            if grid is None:
                grid = _inverse_grid(np.asarray(info["matrix"]), np.asarray(info["elastic"]), tuple(d[key].shape[1:]))
            d[key] = self._sampled(d[key], grid, info["mode"])
        return d

    def _modes(self, d: Mapping[Hashable, Any]) -> dict[Hashable, str]:
        present = {key: "bilinear" for key in self.key_iterator(dict(d)) if d[key] is not None}
        return {**present, **{key: "nearest" for key in self.mask_keys if d.get(key) is not None}}

    def _shape(self, d: Mapping[Hashable, Any], modes: Mapping[Hashable, str]) -> tuple[int, ...]:
        shapes = {tuple(d[key].shape[1:]) for key in modes}
        if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
            where = str(d.get(names.CASE, d.get(names.SUBJECT, "case")))
            found = f"entries of shape {', '.join(map(str, sorted(shapes)))}"
            raise InputError.about(where, f"has {found}", "give slices (C, H, W) of one grid")
        return shapes.pop()

    def _sampled(self, image: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
        out = Resample(mode, self.padding_mode, dtype=np.float32)(convert_to_tensor(image, track_meta=False), grid)
        return convert_to_dst_type(convert_to_tensor(out, track_meta=False), image, dtype=torch.float32)[0]


def _straight(shape: tuple[int, ...]) -> torch.Tensor:
    """Homogeneous pixel coordinates (3, H, W) from the middle of the picture."""
    return torch.as_tensor(create_grid(shape, backend=TransformBackends.TORCH, dtype=np.float32))


def _dense(control: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Displacement (2, H, W) in pixels from that at control points spread evenly from edge to edge."""
    return torch.nn.functional.interpolate(
        torch.as_tensor(control)[None], tuple(shape), mode="bicubic", align_corners=True
    )[0]


def _steepness(field: torch.Tensor) -> float:
    """Bound of how fast a displacement (2, H, W) changes a pixel: the greatest Frobenius norm of its gradient."""
    rows = torch.diff(field, dim=1).square().sum(0).amax() if field.shape[1] > 1 else torch.zeros(())
    columns = torch.diff(field, dim=2).square().sum(0).amax() if field.shape[2] > 1 else torch.zeros(())
    return float((rows + columns).sqrt())


def _inverse_grid(matrix: np.ndarray, elastic: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    """Where each pixel went: ``x`` with ``A (x + u(x)) = q``, by ``x <- A^-1 q - u(x)``."""
    field = _dense(elastic, shape)
    at = Resample("bilinear", "border", dtype=np.float32)
    straight = _straight(shape)
    backward = torch.as_tensor(np.linalg.inv(matrix[np.ix_([0, 1, -1], [0, 1, -1])]), dtype=torch.float32)
    straight = (backward @ straight.reshape(3, -1)).reshape(straight.shape)
    grid = straight.clone()
    for _ in range(_ITERATIONS):
        grid[:2] = straight[:2] - convert_to_tensor(at(field, grid), track_meta=False)
    return grid


RandSharedGeometryD = RandSharedGeometryDict = RandSharedGeometryd
