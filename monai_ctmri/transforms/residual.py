"""An image and what a network made of it -> a map of where they differ, and numbers from that map."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.metrics.regression import compute_ssim_and_cs
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor, ensure_tuple
from scipy import ndimage

from .. import keys as names

__all__ = ["MapScore", "ResidualMap", "ResidualMapD", "ResidualMapDict", "ResidualMapd"]

_KINDS = ("l1", "l2", "ssim")
_JOINS = ("mean", "max")
_WINDOWS = (7, 11)
_SIGMA_A_PIXEL = 1.5 / 11  # Wang 2004 uses sigma 1.5 in a window of 11 pixels


def _dissimilarity(image: torch.Tensor, pred: torch.Tensor, window: int) -> torch.Tensor:
    """(1 - local SSIM) / 2 in [0, 1] of two tensors (C, H, W) or (C, X, Y, Z)."""
    border, dims = window // 2, image.ndim - 1
    padded = [pred[None], image[None]]
    for axis in range(-dims, 0):
        places = torch.from_numpy(np.pad(np.arange(image.shape[axis]), border, mode="symmetric")).to(image.device)
        padded = [each.index_select(axis, places) for each in padded]
    sizes, sigmas = [window] * dims, [window * _SIGMA_A_PIXEL] * dims
    ssim, _ = compute_ssim_and_cs(padded[0], padded[1], spatial_dims=dims, kernel_size=sizes, kernel_sigma=sigmas)
    return ((1 - ssim[0]) / 2).clamp(0.0, 1.0)


def _pooled(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Mean of each block of ``scale`` voxels a side; what is missing of the last blocks repeats the border."""
    for axis in range(1, image.ndim):
        size = image.shape[axis]
        places = torch.arange(math.ceil(size / scale) * scale, device=image.device).clamp(max=size - 1)
        image = image.index_select(axis, places)
    pool = F.avg_pool2d if image.ndim == 3 else F.avg_pool3d
    return pool(image[None], scale)[0]


def _enlarged(coarse: torch.Tensor, scale: int, shape: Sequence[int]) -> torch.Tensor:
    """Linear interpolation between the centres of the blocks of :func:`_pooled`, cut to ``shape``."""
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    full = F.interpolate(coarse[None], scale_factor=float(scale), mode=mode, align_corners=False)[0]
    for axis, size in enumerate(shape, start=1):
        full = full.narrow(axis, 0, size)
    return full


class ResidualMap(Transform):
    """Map of the difference between an image and its reconstruction or translation; higher is more abnormal.

    - ``l1``: ``|image - pred|``;
    - ``l2``: ``(image - pred)**2``;
    - ``ssim``: ``(1 - SSIM) / 2`` with the local SSIM of Wang et al. 2004 (Gaussian window, K1 = 0.01, K2 = 0.03,
      data range 1, symmetric border), averaged over windows of 7 and 11 pixels with sigma in proportion (0.95 and
      1.5). It answers to lost structure where intensities agree, which l1 does not see (Bergmann et al. 2019).

    At a scale ``s`` above 1 both images are averaged over blocks of ``s`` voxels a side first, and the map is brought
    back to full size by linear interpolation: noise and fine misfit fall away, lesions of that size stay (the windows
    of ``ssim`` grow with it: structure at several scales, as in Wang, Simoncelli, Bovik, Asilomar 2003). Maps of
    several scales are joined voxel by voxel.

    Wang Z, Bovik AC, Sheikh HR, Simoncelli EP. Image quality assessment: from error visibility to structural
    similarity. IEEE Trans Image Process 2004;13:600-612. Bergmann P et al. Improving unsupervised defect segmentation
    by applying structural similarity to autoencoders. VISAPP 2019.

    Args:
        kind: ``"l1"``, ``"l2"`` or ``"ssim"``. Defaults to ``"l1"``.
        scales: whole numbers from 1. Defaults to (1,): full size only.
        join: ``"mean"`` or ``"max"`` over the scales. Defaults to ``"mean"``.

    Raises:
        ValueError: when an argument is none of these.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, kind: str = "l1", scales: Sequence[int] = (1,), join: str = "mean") -> None:
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind}.")
        if join not in _JOINS:
            raise ValueError(f"join must be one of {', '.join(_JOINS)}, got {join}.")
        if not len(scales) or any(scale != int(scale) or scale < 1 for scale in scales):
            raise ValueError(f"scales must be whole numbers from 1, got {tuple(scales)}.")
        self.kind = kind
        self.scales = tuple(int(scale) for scale in scales)
        self.join = join

    def __call__(  # type: ignore[override]  # it takes two inputs
        self, image: NdarrayOrTensor, pred: NdarrayOrTensor
    ) -> NdarrayOrTensor:
        """Compare ``image`` and ``pred``, both (C, H, W) or (C, X, Y, Z) in [0, 1].

        The result is float32 of that shape, >= 0, with the meta of ``image``.

        Raises:
            ValueError: when the shapes differ.
        """
        source = convert_to_tensor(image, track_meta=get_track_meta())
        seen, made = (torch.as_tensor(convert_to_tensor(each), dtype=torch.float32).detach() for each in (image, pred))
        made = made.to(seen.device)
        if seen.shape != made.shape:
            raise ValueError(f"image and pred must have one shape, got {tuple(seen.shape)} and {tuple(made.shape)}.")
        maps = torch.stack([self._at_scale(seen, made, scale) for scale in self.scales])
        out = maps[0] if len(maps) == 1 else maps.mean(dim=0) if self.join == "mean" else maps.amax(dim=0)
        return convert_to_dst_type(out, source, dtype=torch.float32)[0]

    def _at_scale(self, seen: torch.Tensor, made: torch.Tensor, scale: int) -> torch.Tensor:
        if scale > 1:
            coarse = self._at_scale(_pooled(seen, scale), _pooled(made, scale), 1)
            return _enlarged(coarse, scale, seen.shape[1:])
        if self.kind == "l1":
            return (seen - made).abs()
        if self.kind == "l2":
            return (seen - made) ** 2
        return torch.stack([_dissimilarity(seen, made, window) for window in _WINDOWS]).mean(dim=0)


class ResidualMapd(MapTransform):
    """Dictionary-based wrapper of :py:class:`ResidualMap`.

    Args:
        keys: entries that hold images. Defaults to ``"image"``. See also: MapTransform.
        pred_key: entry, or one a key, that holds the reconstruction. Defaults to ``"pred"``.
        output_key: entry, or one a key, that gets the map. Defaults to ``"anomaly_map"``.
        kind: ``"l1"``, ``"l2"`` or ``"ssim"``. Defaults to ``"l1"``.
        allow_missing_keys: don't raise when a key of ``keys`` is missing. Defaults to False.
        scales: whole numbers from 1. Defaults to (1,): full size only.
        join: ``"mean"`` or ``"max"`` over the scales. Defaults to ``"mean"``.

    Raises:
        ValueError: when ``pred_key`` or ``output_key`` does not name one entry a key, or ``kind`` is unknown.
    """

    backend = ResidualMap.backend

    def __init__(
        self,
        keys: KeysCollection = names.IMAGE,
        pred_key: KeysCollection = names.PRED,
        output_key: KeysCollection = names.ANOMALY_MAP,
        kind: str = "l1",
        allow_missing_keys: bool = False,
        *,
        scales: Sequence[int] = (1,),
        join: str = "mean",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.pred_keys = ensure_tuple(pred_key)
        self.output_keys = ensure_tuple(output_key)
        if not len(self.keys) == len(self.pred_keys) == len(self.output_keys):
            raise ValueError(
                f"pred_key and output_key must name one entry for each of {len(self.keys)} keys, "
                f"got {len(self.pred_keys)} and {len(self.output_keys)}."
            )
        self.transform = ResidualMap(kind, scales, join)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Add the maps."""
        d = dict(data)
        for key, pred_key, output_key in self.key_iterator(d, self.pred_keys, self.output_keys):
            d[output_key] = self.transform(d[key], d[pred_key])
        return d


class MapScore:
    """Numbers from an anomaly map; higher is more abnormal.

    ``mean`` is the mean over the mask. ``top`` is the mean of the highest values within the eroded mask after a median
    filter: errors at the rim of the head and at single pixels are large in normal cases too, and erosion and median
    filter, the post-processing of Kascenas et al. 2022, take them away.

    Kascenas A, Pugeault N, O'Neil AQ. Denoising autoencoders for unsupervised anomaly detection in brain MRI. MIDL
    2022, PMLR 172:653-664.

    Args:
        top_fraction: share of the eroded mask that ``top`` averages over, in (0, 1]; at least one pixel. Defaults to
            0.01.
        erode: erosion in pixels (4-neighbourhood), less where that would leave nothing. Defaults to 5.
        median: side of the median filter in pixels; 1 means none. Defaults to 5.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, top_fraction: float = 0.01, erode: int = 5, median: int = 5) -> None:
        if not 0 < top_fraction <= 1:
            raise ValueError(f"top_fraction must be in (0, 1], got {top_fraction}.")
        if erode < 0:
            raise ValueError(f"erode must not be negative, got {erode}.")
        if median < 1:
            raise ValueError(f"median must be at least 1, got {median}.")
        self.top_fraction = float(top_fraction)
        self.erode = int(erode)
        self.median = int(median)

    def __call__(self, anomaly_map: NdarrayOrTensor, mask: NdarrayOrTensor) -> dict[str, float]:
        """Score a map (H, W) or (1, H, W) within a mask of that shape (above 0 = inside); an empty mask gives 0.0.

        Raises:
            ValueError: when the shapes differ or hold more than one channel.
        """
        values, inside = _plane(anomaly_map).astype(np.float64), _plane(mask) > 0
        if values.shape != inside.shape:
            raise ValueError(f"anomaly_map and mask must have one shape, got {values.shape} and {inside.shape}.")
        if not inside.any():
            return {"mean": 0.0, "top": 0.0}
        candidates = self._smooth_core(values, inside)
        count = max(1, math.ceil(self.top_fraction * candidates.size))
        return {"mean": float(values[inside].mean()), "top": float(np.sort(candidates)[-count:].mean())}

    def _smooth_core(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Filtered values in the eroded mask; the filter runs on its bounding box and the margin it needs."""
        core = self._core(inside)
        if self.median == 1:
            return values[core]
        rows, columns = np.flatnonzero(core.any(1)), np.flatnonzero(core.any(0))
        box = tuple(slice(max(0, span[0] - self.median), span[-1] + 1 + self.median) for span in (rows, columns))
        return ndimage.median_filter(values[box], size=self.median)[core[box]]

    def _core(self, inside: np.ndarray) -> np.ndarray:
        """Erode pixel by pixel and stop before nothing is left."""
        for _ in range(self.erode):
            smaller = ndimage.binary_erosion(inside)
            if not smaller.any():
                break
            inside = smaller
        return inside


def _plane(array: NdarrayOrTensor) -> np.ndarray:
    plane = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if plane.ndim == 3 and len(plane) == 1:
        plane = plane[0]
    if plane.ndim != 2:
        raise ValueError(f"expected shape (H, W) or (1, H, W), got {plane.shape}.")
    return plane


ResidualMapD = ResidualMapDict = ResidualMapd
