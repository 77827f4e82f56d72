"""MRI on a standard scale: histogram landmarks learned from normal images (Nyul), kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from .. import keys as names
from ..data.files import write_json
from ..errors import InputError
from .mri import mask_like

__all__ = [
    "DECILES",
    "HistogramLandmarks",
    "NyulNormalize",
    "NyulNormalizeD",
    "NyulNormalizeDict",
    "NyulNormalized",
]

DECILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.8)
"""Percentiles of the foreground used as landmarks: the deciles between the two ends that Nyul et al. took."""

_KIND = "histogram landmarks"
_SCHEMA = 1


@dataclass(frozen=True)
class HistogramLandmarks:
    """The standard scale.

    Attributes:
        percentiles: percentiles of an image's foreground, strictly increasing, in [0, 100].
        values: where each lies on the standard scale, increasing from 0 to 1.
        images: number of images the scale was learned from.
    """

    percentiles: tuple[float, ...]
    values: tuple[float, ...]
    images: int

    def __post_init__(self) -> None:
        for name, row in (("percentiles", self.percentiles), ("values", self.values)):
            if len(row) < 2 or not np.isfinite(row).all() or not (np.diff(row) > 0).all():
                raise ValueError(f"{name} must be at least two finite, increasing numbers, got {row}")
        if len(self.percentiles) != len(self.values):
            raise ValueError(f"{len(self.percentiles)} percentiles and {len(self.values)} values")
        if self.percentiles[0] < 0 or self.percentiles[-1] > 100:
            raise ValueError(f"percentiles must lie in [0, 100], got {self.percentiles}")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the landmarks as JSON."""
        content = {"kind": _KIND, "schema": _SCHEMA, "images": self.images}
        write_json(path, {**content, "percentiles": list(self.percentiles), "values": list(self.values)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> HistogramLandmarks:
        """Read what :py:meth:`save` wrote.

        Raises:
            InputError: when the file is missing, no such JSON, of another schema, or holds impossible landmarks.
        """
        remedy = "save landmarks again with NyulNormalize.save"
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError.about(path, "no such file", "fit NyulNormalize on normal cases and save it") from error
        except (OSError, ValueError) as error:
            raise InputError.about(path, "is not readable JSON", remedy) from error
        if not isinstance(content, dict) or content.get("kind") != _KIND:
            raise InputError.about(path, "holds no histogram landmarks", remedy)
        if content.get("schema") != _SCHEMA:
            problem = f"has schema {content.get('schema')!r}, this version reads {_SCHEMA}"
            raise InputError.about(path, problem, remedy)
        try:
            rows = [tuple(float(each) for each in content[name]) for name in ("percentiles", "values")]
            return cls(rows[0], rows[1], int(content["images"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError.about(path, f"holds impossible landmarks ({error})", remedy) from error


class NyulNormalize(Transform):
    """Bring MRI to a standard scale on which the same tissue has the same value, whatever the scanner's gain.

    After Nyul and Udupa, Magn Reson Med 42, 1999, and Nyul, Udupa and Zhang, IEEE Trans Med Imaging 19(2), 2000, with
    the deciles as landmarks. :py:meth:`fit` maps each normal image linearly so that its 1st percentile becomes 0 and
    its 99.8th becomes 1, and averages where the deciles between come to lie. An image is then mapped piecewise linearly
    so that its own landmarks fall on these: a monotone map. Beyond the ends the first and the last piece are
    continued, and the result is clipped to [0, 1]. Landmarks that coincide in an image (few grey levels) are joined
    to one at the mean of their values.

    Percentiles are those of the foreground: the given mask, else the head. Fit and use it on one contrast (T1, T2,
    ...), with masks of the same kind, and on slices of like levels: the share of each tissue is taken as given, so a
    large lesion shifts the deciles.

    The result is float32 of the input's shape; each channel is treated on its own. A channel whose foreground is
    empty or constant gives zeros.

    Args:
        landmarks: fitted landmarks, or a path of a file that holds them. Defaults to None: call :py:meth:`fit`.
        percentiles: landmarks to fit, ignored where ``landmarks`` are given. Defaults to :py:data:`DECILES`.

    Attributes:
        landmarks_: the landmarks in use, None until fitted.

    Raises:
        InputError: when the file cannot be used.
        ValueError: when ``percentiles`` are not increasing within [0, 100].
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        landmarks: HistogramLandmarks | str | PathLike[str] | None = None,
        percentiles: Iterable[float] = DECILES,
    ) -> None:
        if isinstance(landmarks, str | PathLike):
            landmarks = HistogramLandmarks.load(landmarks)
        self.landmarks_: HistogramLandmarks | None = landmarks
        self.percentiles = tuple(float(each) for each in percentiles) if landmarks is None else landmarks.percentiles
        HistogramLandmarks(self.percentiles, tuple(np.linspace(0, 1, len(self.percentiles))), 0)

    def fit(
        self, images: Iterable[NdarrayOrTensor], masks: Iterable[NdarrayOrTensor | None] | None = None
    ) -> NyulNormalize:
        """Learn the standard scale from normal images.

        Args:
            images: each (1, spatial...), one contrast.
            masks: the foreground of each, (1, spatial...); None takes the head.

        Raises:
            InputError: when there is no image, or one whose foreground is empty or constant.
        """
        rows = []
        pairs = zip(images, repeat(None), strict=False) if masks is None else zip(images, masks, strict=True)
        for number, (image, mask) in enumerate(pairs):
            row = self._landmarks_of(*_plain(image, mask))
            if row is None or len(image) != 1:
                problem = "has no foreground with contrast" if len(image) == 1 else f"has {len(image)} channels"
                raise InputError.about(f"image {number}", problem, "fit on normal images of one channel")
            rows.append((row - row[0]) / (row[-1] - row[0]))
        if not rows:
            raise InputError.about("images", "there is none", "fit on normal images")
        mean = np.mean(rows, axis=0)
        if not (np.diff(mean) > 0).all():
            raise InputError.about("images", "landmarks coincide in every image", "give fewer percentiles")
        self.landmarks_ = HistogramLandmarks(self.percentiles, tuple(float(each) for each in mean), len(rows))
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Write the fitted landmarks as JSON.

        Raises:
            InputError: when nothing is fitted.
        """
        self._fitted().save(path)

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Normalise ``img`` of shape (C, spatial...) to [0, 1].

        Args:
            img: MRI in any unit.
            mask: (1, spatial...), above 0 in the foreground; the head where it is None.

        Raises:
            InputError: when nothing is fitted.
        """
        standard = np.asarray(self._fitted().values)
        source = convert_to_tensor(img, track_meta=get_track_meta())
        values, inside = _plain(source, mask)
        out = np.zeros(values.shape, dtype=np.float32)
        for channel, result in zip(values, out, strict=True):
            row = self._landmarks_of(channel[None], inside)
            if row is not None:
                result[...] = np.clip(_piecewise(channel, row, standard), 0.0, 1.0)
        return convert_to_dst_type(out, source, dtype=np.float32)[0]

    def _fitted(self) -> HistogramLandmarks:
        if self.landmarks_ is None:
            raise InputError.about("NyulNormalize", "is not fitted", "call fit on normal images or give landmarks")
        return self.landmarks_

    def _landmarks_of(self, image: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
        foreground = image[0][inside]
        if foreground.size == 0:
            return None
        row = np.percentile(foreground, self.percentiles)
        return row if row[-1] > row[0] else None


def _plain(image: NdarrayOrTensor, mask: NdarrayOrTensor | None) -> tuple[np.ndarray, np.ndarray]:
    """The image as float64 (C, spatial...) and its foreground as bool (spatial...)."""
    tensor = convert_to_tensor(image, track_meta=False)
    return tensor.detach().cpu().numpy().astype(np.float64), mask_like(mask, tensor)[0].cpu().numpy()


def _piecewise(values: np.ndarray, row: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """Map ``row`` onto ``standard`` linearly between landmarks, the first and last piece continued beyond them."""
    knots, index = np.unique(row, return_inverse=True)
    levels = np.bincount(index, standard) / np.bincount(index)
    slopes = np.diff(levels) / np.diff(knots)
    piece = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(slopes) - 1)
    return levels[piece] + slopes[piece] * (values - knots[piece])


class NyulNormalized(MapTransform):
    """Dictionary-based wrapper of :py:class:`NyulNormalize`.

    Args:
        keys: entries that hold MRI of the contrast the landmarks were learned from. See also: MapTransform.
        landmarks: fitted landmarks, or a path of a file that holds them.
        mask_key: entry that holds the foreground; a case without it gets the head mask. Defaults to ``"brain"``.
        allow_missing_keys: don't raise when a key is missing. Defaults to False.
    """

    backend = NyulNormalize.backend

    def __init__(
        self,
        keys: KeysCollection = names.MRI,
        landmarks: HistogramLandmarks | str | PathLike[str] | None = None,
        mask_key: str = "brain",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.transform = NyulNormalize(landmarks)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise the entries of ``keys``."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], d.get(self.mask_key))
        return d


NyulNormalizeD = NyulNormalizeDict = NyulNormalized
