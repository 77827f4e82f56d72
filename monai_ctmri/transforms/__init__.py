"""A case -> tensors: loading, intensities, masks, augmentation and residual maps as MONAI transforms."""

from __future__ import annotations

from .augmentation import (
    RandIntensityVariation,
    RandIntensityVariationD,
    RandIntensityVariationd,
    RandIntensityVariationDict,
    RandNoiseInjection,
    RandNoiseInjectionD,
    RandNoiseInjectiond,
    RandNoiseInjectionDict,
)
from .brain import BrainMask, BrainMaskD, BrainMaskd, BrainMaskDict, HeadMask, HeadMaskD, HeadMaskd, HeadMaskDict
from .ct import WindowCT, WindowCTD, WindowCTd, WindowCTDict
from .loading import LoadMask, LoadMaskD, LoadMaskd, LoadMaskDict, LoadSlice, LoadSliceD, LoadSliced, LoadSliceDict
from .mri import NormalizeMRI, NormalizeMRID, NormalizeMRId, NormalizeMRIDict
from .residual import MapScore, ResidualMap, ResidualMapD, ResidualMapd, ResidualMapDict

__all__ = [
    "BrainMask",
    "BrainMaskD",
    "BrainMaskDict",
    "BrainMaskd",
    "HeadMask",
    "HeadMaskD",
    "HeadMaskDict",
    "HeadMaskd",
    "LoadMask",
    "LoadMaskD",
    "LoadMaskDict",
    "LoadMaskd",
    "LoadSlice",
    "LoadSliceD",
    "LoadSliceDict",
    "LoadSliced",
    "MapScore",
    "NormalizeMRI",
    "NormalizeMRID",
    "NormalizeMRIDict",
    "NormalizeMRId",
    "RandIntensityVariation",
    "RandIntensityVariationD",
    "RandIntensityVariationDict",
    "RandIntensityVariationd",
    "RandNoiseInjection",
    "RandNoiseInjectionD",
    "RandNoiseInjectionDict",
    "RandNoiseInjectiond",
    "ResidualMap",
    "ResidualMapD",
    "ResidualMapDict",
    "ResidualMapd",
    "WindowCT",
    "WindowCTD",
    "WindowCTDict",
    "WindowCTd",
]
