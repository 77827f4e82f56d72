"""Anomalies of family A: generic changes a model may be trained on, drawn anew at every call.

They look like no disease on purpose. Clinical types are family B, which only tests; shapes, textures and values of
the two families come from different code.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from monai.config import KeysCollection
from scipy import ndimage

from .. import keys as names
from .intervals import Range, interval
from .training_anomaly import Drawn, TrainingAnomaly
from .training_shapes import bump_profile, coarse_noise, sample_pixel, star_profile

__all__ = [
    "RandGainShiftD",
    "RandGainShiftDict",
    "RandGainShiftd",
    "RandLocalWarpD",
    "RandLocalWarpDict",
    "RandLocalWarpd",
    "RandNoiseBlobsD",
    "RandNoiseBlobsDict",
    "RandNoiseBlobsd",
]


class RandNoiseBlobsd(TrainingAnomaly):
    """Noise inside one or several star-shaped blobs: ``x + profile * s * noise``.

    The noise is coarse, one normal value every ``grain_mm``, after Kascenas, Pugeault and O'Neil, "Denoising
    autoencoders for unsupervised anomaly detection in brain MRI", MIDL 2022; the blobs stay inside the brain.

    Args:
        keys: see :class:`TrainingAnomaly`.
        size_mm: range of the diameter of each blob. Defaults to (10, 40).
        std: range of ``s``, in units of [0, 1]. Defaults to (0.05, 0.3).
        grain_mm: range of the distance between values of the noise. Defaults to (2, 16).
        count: least and greatest number of blobs. Defaults to (1, 3).
        kwargs: as for :class:`TrainingAnomaly`.
    """

    kind = "noise_blobs"
    source = "Kascenas et al., MIDL 2022"

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (10.0, 40.0),
        std: Range = (0.05, 0.3),
        grain_mm: Range = (2.0, 16.0),
        count: tuple[int, int] = (1, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, **kwargs)
        self.std = interval("std", std, 0.0)
        self.grain_mm = interval("grain_mm", grain_mm, 1e-3)
        self.count = tuple(int(end) for end in interval("count", count, 1))

    def _draw_profile(self, brain: np.ndarray, size_px: float) -> np.ndarray:
        profile = super()._draw_profile(brain, size_px)
        for _ in range(self.R.randint(self.count[0], self.count[1] + 1) - 1):
            size_px = self.R.uniform(*self.size_mm) / self.pixel_spacing_mm
            profile = np.maximum(profile, super()._draw_profile(brain, size_px))
        return profile

    def _draw_effect(self, profile: np.ndarray) -> np.ndarray:
        grain_px = self.R.uniform(*self.grain_mm) / self.pixel_spacing_mm
        return np.float32(self.R.uniform(*self.std)) * coarse_noise(self.R, profile.shape, grain_px)

    def _changed(self, pictures: dict[Hashable, np.ndarray], drawn: Drawn) -> dict[Hashable, np.ndarray]:
        share = np.float32(self.contrast) * drawn.profile
        return {key: picture + share * drawn.effects[key] for key, picture in pictures.items()}


class RandGainShiftd(TrainingAnomaly):
    """Brighten or darken a star-shaped region of the brain with a soft edge: ``x * (1 + profile * (g - 1))``.

    Args:
        keys: see :class:`TrainingAnomaly`.
        size_mm: range of the diameter. Defaults to (10, 60).
        gain: range of the gain above 1; ``g`` is it or, with even odds, one over it. Defaults to (1.15, 1.8).
        edge_mm: range of the width of the edge on either side of the border. Defaults to (1, 10).
        kwargs: as for :class:`TrainingAnomaly`.
    """

    kind = "gain_shift"
    source = "generic: local multiplicative gain"

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (10.0, 60.0),
        gain: Range = (1.15, 1.8),
        edge_mm: Range = (1.0, 10.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, **kwargs)
        self.gain = interval("gain", gain, 1.0)
        self.edge_mm = interval("edge_mm", edge_mm, 0.0)

    def _draw_profile(self, brain: np.ndarray, size_px: float) -> np.ndarray:
        # An edge wider than the radius would leave no plateau.
        edge_px = min(self.R.uniform(*self.edge_mm) / self.pixel_spacing_mm, 0.4 * size_px)
        return star_profile(self.R, brain.shape, sample_pixel(self.R, brain), size_px, edge_px) * brain

    def _draw_effect(self, profile: np.ndarray) -> float:
        low, high = np.log(self.gain)
        return float(np.exp(self.R.choice([-1.0, 1.0]) * self.R.uniform(low, high)))

    def _changed(self, pictures: dict[Hashable, np.ndarray], drawn: Drawn) -> dict[Hashable, np.ndarray]:
        share = np.float32(self.contrast) * drawn.profile
        return {key: picture * (1 + share * np.float32(drawn.effects[key] - 1)) for key, picture in pictures.items()}


class RandLocalWarpd(TrainingAnomaly):
    """Push the tissue of a round region aside, or draw it together or apart.

    Backward displacement ``out(x) = in(x + profile(x) v)`` (push, ``|v|`` = ``reach`` of the diameter) or
    ``out(x) = in(x + profile(x) q (x - c))`` (``|q|`` = ``reach``: pinch where positive, bulge where negative). The
    profile is a raised cosine, .5 where the mask ends and 0 at twice its radius; nothing moves beyond. No tissue folds.

    Args:
        keys: see :class:`TrainingAnomaly`.
        size_mm: range of the diameter of the mask. Defaults to (10, 60).
        reach: range of the strength, at most .5. Defaults to (0.1, 0.35).
        shared_effect: move all modalities alike. Defaults to True, since they show one anatomy.
        kwargs: as for :class:`TrainingAnomaly`.
    """

    kind = "local_warp"
    source = "generic: smooth local displacement"

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (10.0, 60.0),
        reach: Range = (0.1, 0.35),
        shared_effect: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, shared_effect=shared_effect, **kwargs)
        self.reach = interval("reach", reach, 0.0, 0.5)
        self._diameter_px = 0.0
        self._centre = (0.0, 0.0)

    def _draw_profile(self, brain: np.ndarray, size_px: float) -> np.ndarray:
        self._centre, self._diameter_px = sample_pixel(self.R, brain), size_px
        return bump_profile(brain.shape, self._centre, size_px)

    def _draw_effect(self, profile: np.ndarray) -> np.ndarray:
        strength = self.R.uniform(*self.reach)
        rows, columns = np.nonzero(profile)
        warp = np.zeros((2, *profile.shape), dtype=np.float32)
        if self.R.uniform() < 0.5:
            angle = self.R.uniform(0.0, 2 * np.pi)
            away = np.array([[np.cos(angle)], [np.sin(angle)]]) * self._diameter_px
        else:
            away = self.R.choice([-1.0, 1.0]) * np.stack([rows - self._centre[0], columns - self._centre[1]])
        warp[:, rows, columns] = strength * away * profile[rows, columns]
        return warp

    def _changed(self, pictures: dict[Hashable, np.ndarray], drawn: Drawn) -> dict[Hashable, np.ndarray]:
        rows, columns = np.nonzero(drawn.profile)
        out = {}
        for key, picture in pictures.items():
            place = np.stack([rows, columns]) + self.contrast * drawn.effects[key][:, rows, columns]
            out[key] = picture.copy()
            out[key][rows, columns] = ndimage.map_coordinates(picture, place, order=1, mode="nearest")
        return out


RandNoiseBlobsD = RandNoiseBlobsDict = RandNoiseBlobsd
RandGainShiftD = RandGainShiftDict = RandGainShiftd
RandLocalWarpD = RandLocalWarpDict = RandLocalWarpd
