"""The third witness: how a brain differs from its own other hemisphere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from monai_ctmri import keys
from monai_ctmri.errors import InputError
from monai_ctmri.scoring.scorer import Evidence
from monai_ctmri.scoring.smoothing import MapSmoothing, smoothed
from monai_ctmri.transforms.brain import BrainMask
from monai_ctmri.transforms.mirror_difference import SIGNS, MirrorRange
from monai_ctmri.transforms.residual import MapScore
from monai_ctmri.transforms.symmetry import MidsagittalAlign, find_midline

__all__ = ["AsymmetryScorer"]


class AsymmetryScorer:
    """Mirror differences of an axial slice beyond a tolerance, within the brain; nothing is learnt.

    Maps ``asymmetry`` (mean over the modalities present) and ``asymmetry_<modality>``, in units of the image and on its
    grid; scores ``<map>_mean`` and ``<map>_top``; feature ``midsagittal_confidence``. A modality whose channel is 0
    everywhere is absent and left out. See :class:`~monai_ctmri.transforms.mirror_difference.MirrorRange` for the
    comparison.

    What both hemispheres share it cannot see: bilateral lesions, atrophy, hydrocephalus, lesions of the midline.

    Args:
        modalities: the channels of ``image`` in order.
        tolerance_mm: misregistration that is forgiven. Defaults to 5.
        pixel_spacing_mm: size of a pixel; None asks the image's affine. Defaults to 1.875, a field of view of 240 mm
            in 128 pixels.
        signed: False for any difference; ``"brighter"`` (or True) or ``"darker"`` than the other side. Defaults to
            False.
        align: find the mid-sagittal line and bring the maps back to the image's grid; False takes images whose line is
            the centre column already. Defaults to True.
        median_mm: side of the median filter's window. Defaults to 8.
        mask_method: ``"ring"`` or ``"inset"``, where no CT tells the brain; see
            :class:`~monai_ctmri.transforms.brain.BrainMask`. Defaults to ``"ring"``.
        erode_mm: erosion of the brain mask. Defaults to 0.
        top_fraction: share of the mask that ``_top`` averages over. Defaults to 0.01.
        smoothing: of the maps before they are masked and scored, (1, H, W) to (1, H, W), e.g.
            :class:`monai.transforms.GaussianSmooth`. Defaults to None.

    Raises:
        InputError: when an option is out of range.
        ValueError: when an option of the mask or of the top fraction is.
    """

    def __init__(
        self,
        modalities: Sequence[str] = keys.MODALITIES,
        tolerance_mm: float = 5.0,
        pixel_spacing_mm: float | None = 1.875,
        signed: bool | str = False,
        align: bool = True,
        median_mm: float = 8.0,
        mask_method: str = "ring",
        erode_mm: float = 0.0,
        top_fraction: float = 0.01,
        smoothing: MapSmoothing | None = None,
    ) -> None:
        sign = "both" if signed is False else "brighter" if signed is True else signed
        if sign not in SIGNS:
            raise InputError.about("signed", f"got {signed!r}", f"use False, True or one of {', '.join(SIGNS)}")
        self.modalities = tuple(modalities)
        self.align = align
        self.smoothing = smoothing
        self.comparison = MirrorRange(tolerance_mm, sign, median_mm, pixel_spacing_mm)
        self.mask_options: dict[str, Any] = {
            "method": mask_method,
            "erode_mm": erode_mm,
            "pixel_spacing_mm": pixel_spacing_mm,
        }
        BrainMask(**self.mask_options)
        # Erosion and median are done in millimetres before.
        self.map_score = MapScore(top_fraction, erode=0, median=1)

    def fit(self, normal_cases: Iterable[Mapping[str, Any]]) -> AsymmetryScorer:
        """Learn nothing."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """Nothing was learnt."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing."""

    def score(self, case: Mapping[str, Any]) -> Evidence:
        """Judge one case; its ``image`` is (M, H, W) in [0, 1], one channel a modality.

        Raises:
            InputError: the image has not one channel a modality, is not finite, or its pixel size is not known.
        """
        image = self._image(case)
        present = [index for index in range(len(self.modalities)) if bool(torch.as_tensor(image[index] != 0).any())]
        if not present:
            return Evidence(features={"midsagittal_confidence": 0.0})
        shown = image[present]
        line = find_midline(np.asarray(shown))
        aligner = MidsagittalAlign()
        aligned = aligner(shown, midline=line) if self.align else shown
        names = [self.modalities[index] for index in present]
        ct = names.index(keys.CT) if keys.CT in names else None
        brain = np.asarray(BrainMask(ct_channel=ct, **self.mask_options)(aligned))
        brain = brain * brain[..., ::-1]
        difference = self.comparison(aligned, brain)
        if self.smoothing is not None:
            for channel in difference:
                channel[:] = torch.as_tensor(smoothed(np.asarray(channel), self.smoothing) * brain[0])
        scores: dict[str, float] = {}
        for suffix, one in self._named(names, np.asarray(difference)).items():
            for number, value in self.map_score(one, brain).items():
                scores[f"asymmetry{suffix}_{number}"] = value
        placed = aligner.inverse(difference) if self.align else difference
        maps = {f"asymmetry{suffix}": one for suffix, one in self._named(names, np.asarray(placed)).items()}
        return Evidence(maps=maps, scores=scores, features={"midsagittal_confidence": line.confidence})

    @staticmethod
    def _named(names: Sequence[str], channels: np.ndarray) -> dict[str, np.ndarray]:
        channels = channels.astype(np.float32)
        named = {"": channels.mean(axis=0)}
        return named | {f"_{name}": channel for name, channel in zip(names, channels, strict=True)}

    def _image(self, case: Mapping[str, Any]) -> MetaTensor:
        """The case's image as float32 (M, H, W) on the CPU, checked, without the history of other transforms."""
        image, name = case[keys.IMAGE], str(case.get(keys.CASE, "case without a name"))
        plain = image.as_tensor() if isinstance(image, MetaTensor) else torch.as_tensor(image)
        plain = plain.detach().to("cpu", torch.float32)
        if plain.ndim != 3 or plain.shape[0] != len(self.modalities):
            problem = f"image of shape {tuple(plain.shape)} has not the channels {', '.join(self.modalities)}"
            raise InputError.about(name, problem, "give (M, H, W) with one channel a modality")
        if not torch.isfinite(plain).all():
            raise InputError.about(name, "the image holds NaN or infinity", "check its preprocessing")
        meta = {k: v for k, v in image.meta.items() if k != "affine"} if isinstance(image, MetaTensor) else None
        affine = image.affine if isinstance(image, MetaTensor) else None
        return MetaTensor(plain, affine=affine, meta=meta)
