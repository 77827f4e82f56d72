"""Matter denser than blood: calcification, and metal with its streaks in CT and its void in MRI."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.utils import convert_to_numpy
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import lesion_painting as painting
from . import projections, shapes
from .anatomy_lesion import AnatomyLesionTransform
from .brain import HeadMask
from .lesion import HU_SPAN, Lesion, Range, Region

__all__ = [
    "CALCIFICATION_CT_HU",
    "CALCIFICATION_MRI",
    "METAL_CT_HU",
    "VOID_MRI",
    "InjectCalcificationD",
    "InjectCalcificationDict",
    "InjectCalcificationd",
    "InjectMetalD",
    "InjectMetalDict",
    "InjectMetald",
]

CALCIFICATION_CT_HU: Range = (100.0, 500.0)
"""HU of intracranial calcification: above 100 tells it from blood (textbooks of head CT)."""

CALCIFICATION_MRI: dict[str, Range] = {
    "T1": (-0.6, -0.3),
    "T2": (-0.9, -0.6),
    "PD": (-0.8, -0.5),
    "FLAIR": (-0.85, -0.55),
}
"""Change relative to tissue: few protons and shortened T2*, dark in all (Tsuchiya et al., Neuroradiology 35, 1993)."""

METAL_CT_HU: Range = (2500.0, 6000.0)
"""HU of metal on an extended scale; 12-bit scanners end at 3071 (Glide-Hurst et al., Med Phys 40, 2013)."""

VOID_MRI: dict[str, Range] = {"T1": (-1.0, -0.9), "T2": (-1.0, -0.95), "PD": (-1.0, -0.9), "FLAIR": (-1.0, -0.95)}
"""Change relative to tissue in the signal void around metal (Hargreaves et al., AJR 197, 2011)."""

_OVERSAMPLING = 8
_NEAR_MM = 8.0


class InjectCalcificationd(AnatomyLesionTransform):
    """Calcification in the brain: 100 to 500 HU, a dark void in MRI.

    Pixels are covered in part at its border, and one below the size of a pixel shows as its share of one. See
    :class:`LesionTransform`.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the diameter of the disc with its area.
        args: as for :class:`LesionTransform`.
        kwargs: as for :class:`LesionTransform`.
    """

    kind = "calcification"

    def __init__(
        self, keys: KeysCollection = names.MODALITIES, size_mm: Range = (1.0, 8.0), *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        profile, mask, _ = self._grain(brain, size_mm)
        variation = self._wave(brain.shape, max(size_mm / 4, 1.0))
        region = Region(profile, CALCIFICATION_CT_HU, CALCIFICATION_MRI, self.R.uniform(0.1, 0.9), variation)
        details = {
            "grain_mm": float(size_mm),
            "source": "CT: textbook range; MRI: Tsuchiya et al., Neuroradiology 35, 1993; PD and FLAIR by analogy",
        }
        return Lesion(mask, [region], details)

    def _grain(self, brain: np.ndarray, size_mm: float) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        """Profile and mask, (H, W), of a small irregular body, and its centre, px."""
        spacing = self.pixel_spacing_mm
        row, column = self._centre(brain, max(8.0, size_mm), brain)
        centre = (row + self.R.uniform(-0.5, 0.5), column + self.R.uniform(-0.5, 0.5))
        if self.location is not None:
            centre = (row, column)
        angle, aspect = self.R.uniform(0.0, np.pi), self.R.uniform(0.65, 0.95)
        wobble = self.R.uniform(0.0, 2 * np.pi, 3), self.R.uniform(0.02, 0.08, 3)
        # Shares of pixels are counted on a finer grid, for a grain may be smaller than a pixel.
        half = int(np.ceil(size_mm / spacing)) + 2
        top, left = round(centre[0]) - half, round(centre[1]) - half
        steps = (np.arange((2 * half + 1) * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - 0.5
        down = (steps[:, None] + top - centre[0]) * spacing
        right = (steps[None] + left - centre[1]) * spacing
        along = down * np.cos(angle) + right * np.sin(angle)
        across = right * np.cos(angle) - down * np.sin(angle)
        turn = np.arctan2(across, along)
        lobes = sum(a * np.cos(n * turn + p) for n, p, a in zip((2, 3, 5), *wobble, strict=True))
        inside = np.hypot(along * np.sqrt(aspect), across / np.sqrt(aspect)) <= size_mm / 2 * (1 + lobes)
        coarse = inside.reshape(2 * half + 1, _OVERSAMPLING, 2 * half + 1, _OVERSAMPLING).mean(axis=(1, 3))
        profile = np.zeros(brain.shape)
        rows = slice(max(top, 0), min(top + len(coarse), brain.shape[0]))
        columns = slice(max(left, 0), min(left + len(coarse), brain.shape[1]))
        profile[rows, columns] = coarse[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        mask = (profile > 0.5) | (profile >= profile.max())
        near = ndimage.distance_transform_edt(~mask) <= shapes.EDGE_REACH_PX
        return np.where(near, profile, 0.0), mask, centre


@dataclass(frozen=True)
class _Metal:
    """What metal does beyond itself: streaks (H, W) in HU and the void of MRI."""

    streaks: np.ndarray
    void: Region | None


class InjectMetald(InjectCalcificationd):
    """Metal fragment: above 2000 HU with streaks in CT, a void that blooms beyond it in MRI.

    The streaks are the filtered back-projection of the error of the projections through the metal (beam hardening
    together with bone, few photons: :mod:`~monai_ctmri.transforms.projections`), scaled to 50 to 300 HU; they cover
    the soft tissue of the whole head, the one change outside of the mask. The mask is the metal, with the void where
    MRI is shown; ``anomaly`` records ``metal_mm``, ``void_mm`` (0 without MRI) and ``streak_hu`` (0 without CT).

    Args:
        keys: CT and MRI entries.
        size_mm: range of the diameter of the metal.
        args: as for :class:`LesionTransform`.
        streak_hu: range of the strength of the streaks: 95th percentile within 8 mm of the metal, largest for large
            metal.
        blooming: range of the diameter of the void over that of the metal.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when ``streak_hu`` or ``blooming`` is no range.
    """

    kind = "metal"

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (1.0, 8.0),
        *args: Any,
        streak_hu: Range = (50.0, 300.0),
        blooming: Range = (1.8, 3.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        for name, value, least in (("streak_hu", streak_hu, 0.0), ("blooming", blooming, 1.0)):
            if len(value) != 2 or not least <= value[0] <= value[1]:
                raise InputError.about(name, f"got {value}", f"give (low, high) with {least:g} <= low <= high")
        self.streak_hu = (float(streak_hu[0]), float(streak_hu[1]))
        self.blooming = (float(blooming[0]), float(blooming[1]))
        self._beyond: _Metal | None = None

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        profile, mask, centre = self._grain(brain, size_mm)
        flat = np.zeros(brain.shape)
        region = Region(profile, METAL_CT_HU, VOID_MRI, self.R.uniform(0.1, 0.9), flat)
        # Larger pieces of metal stop more photons; a small one is near the low end.
        low, high = self.streak_hu
        strength = low + (high - low) * min(size_mm / 8.0, 1.0) * float(self.R.uniform(0.5, 1.0))
        diameter = size_mm * float(self.R.uniform(*self.blooming))
        blob = shapes.blob_level(self.R, brain.shape, centre, diameter, spacing, 0.06)
        area = np.pi / 4 * diameter**2
        softness = self.R.uniform(*self._softness_mm)
        noise = np.random.RandomState(self.R.randint(2**31 - 1))
        void = None
        if self._picture(names.MRI) is not None:
            around, void_mask = shapes.soft_edge(
                np.maximum(shapes.level_for_area(blob, brain, area, spacing), np.where(mask, 1.0, -np.inf)),
                brain | mask,
                softness,
                spacing,
            )
            void = Region(around, METAL_CT_HU, VOID_MRI, region.pick, flat)
            mask = mask | void_mask
        streaks = self._streaks(centre, size_mm, strength, noise)
        self._beyond = _Metal(streaks, void)
        details = {
            "metal_mm": float(size_mm),
            "void_mm": float(diameter) if void is not None else 0.0,
            "streak_hu": strength if streaks.any() else 0.0,
            "source": "CT: Glide-Hurst 2013, streaks De Man 1999 and Barrett 2004; MRI: Hargreaves 2011",
        }
        return Lesion(mask, [region], details)

    def _streaks(
        self, centre: tuple[float, float], size_mm: float, strength: float, noise: np.random.RandomState
    ) -> np.ndarray:
        """Streaks in HU, (H, W), in what is neither air nor bone."""
        ct = self._picture(names.CT)
        if ct is None:
            return np.zeros((1, 1))
        spacing = self.pixel_spacing_mm
        bone = ct >= 0.99
        head = np.asarray(convert_to_numpy(HeadMask()(ct[None].astype(np.float32))))[0] > 0.5
        metal = projections.disc_integrals(ct.shape, centre, size_mm / 2, spacing)
        through = projections.line_integrals(bone.astype(np.float64), spacing)
        error = projections.streak_error(
            noise, metal / max(float(metal.max()), 1e-9), through / max(float(through.max()), 1e-9)
        )
        found = projections.reconstruct(error, ct.shape, spacing)
        y, x = np.indices(ct.shape)
        soft = head & ~bone & (np.hypot(y - centre[0], x - centre[1]) * spacing > size_mm / 2 + spacing)
        if not soft.any():
            return np.zeros(ct.shape)
        near = soft & (np.hypot(y - centre[0], x - centre[1]) * spacing < size_mm / 2 + _NEAR_MM)
        level = float(np.percentile(np.abs(found[near if near.any() else soft]), 95.0))
        # Bone and air lie outside of most windows: what a windowed picture does not show must not appear in it.
        return np.where(soft, np.clip(found * strength / max(level, 1e-12), -2 * strength, 2 * strength), 0.0)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last lesion."""
        shown = super().__call__(data, randomize)
        if not self._do_transform or self._beyond is None or not self.contrast:
            return shown
        d = dict(data)
        before, after = self._images(d), self._images(shown)
        lesion, brain = self._drawn, self._brain(d)
        ring = painting.around(lesion.mask, brain, 12.0 / self.pixel_spacing_mm)
        void = self._beyond.void
        for key, image in after.items():
            full = image
            if key == names.CT:
                full = image + self.contrast * self._beyond.streaks / HU_SPAN
            elif void is not None:
                weighting = str(d.get("mri_contrast", self.mri_contrast)).upper()
                dark = painting.paint(before[key], [void], brain, ring, weighting) - before[key]
                full = np.minimum(image, before[key] + self.contrast * dark)
            confined = painting.unit_of(d, key).confined(full)
            after[key] = np.where(full != before[key], confined, before[key])
        return self._finish(d, before, after, lesion.mask, ring, lesion.details)


InjectCalcificationD = InjectCalcificationDict = InjectCalcificationd
InjectMetalD = InjectMetalDict = InjectMetald
