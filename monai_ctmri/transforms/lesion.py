"""What every injected lesion shares: tables of values, how it is shown in CT and MRI, and the base transform.

A lesion is one thing seen by both modalities, so its transforms exist for dictionaries only. They act on preprocessed
slices (CT in [0, 1] for the window 0 to 80 HU, MRI in [0, 1], picture orientation).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import shapes
from .brain import BrainMask

__all__ = [
    "ANOMALY",
    "CT_HU",
    "HU_SPAN",
    "MRI_RELATIVE",
    "Lesion",
    "LesionTransform",
    "Range",
    "Region",
    "case_name",
    "picture_of",
]

ANOMALY = "anomaly"
"""Entry of a case that describes what was injected."""

HU_SPAN = 80.0
"""Width in HU of the CT window that [0, 1] stands for; the window starts at 0 HU."""

Range = tuple[float, float]

CT_HU: dict[str, dict[str, Range]] = {
    "hemorrhage": {"core": (50, 80), "rim": (10, 20)},
    "infarct": {"early": (-8, -3), "subacute": (-20, -8)},
    "tumour": {"core": (20, 50), "oedema": (10, 25), "necrosis": (5, 15)},
}
"""HU of each part; for the infarct, change in HU. Working ranges: acute blood and vasogenic oedema as in textbooks of
head CT; early ischaemia after Dzialowski et al., J Neuroimaging 14, 2004. They are ranges for tests, not measurements
of one study."""

MRI_RELATIVE: dict[str, dict[str, dict[str, Range]]] = {
    "hemorrhage": {
        "core": {"T1": (-0.15, 0.0), "T2": (-0.65, -0.4), "PD": (-0.4, -0.2), "FLAIR": (-0.55, -0.25)},
        "rim": {"T1": (-0.25, -0.1), "T2": (0.5, 0.9), "PD": (0.1, 0.3), "FLAIR": (0.4, 0.9)},
    },
    "infarct": {
        "early": {"T1": (-0.05, 0.0), "T2": (0.0, 0.1), "PD": (0.0, 0.05), "FLAIR": (0.0, 0.1)},
        "subacute": {"T1": (-0.3, -0.15), "T2": (0.4, 0.8), "PD": (0.15, 0.35), "FLAIR": (0.4, 0.8)},
    },
    "tumour": {
        "core": {"T1": (-0.35, -0.15), "T2": (0.2, 0.5), "PD": (0.1, 0.25), "FLAIR": (0.3, 0.6)},
        "oedema": {"T1": (-0.25, -0.1), "T2": (0.55, 0.95), "PD": (0.15, 0.35), "FLAIR": (0.6, 1.0)},
        "necrosis": {"T1": (-0.6, -0.4), "T2": (0.9, 1.4), "PD": (0.2, 0.4), "FLAIR": (-0.1, 0.3)},
    },
}
"""Change relative to the local tissue (-0.3 = 30 % darker). Working ranges that keep the order of signals of
conventional spin-echo imaging (acute blood: Bradley, Radiology 189, 1993); scanners differ more than these ranges
do."""

_RING_MM = 12.0
_LOCAL_PX = 2.0
_TISSUE_SPREAD = (0.45, 0.75)
_FLATTENING = 0.5


@dataclass(frozen=True)
class Region:
    """One part of a lesion.

    Attributes:
        profile: share of the part in each pixel, (H, W) in [0, 1].
        ct: HU range of :data:`CT_HU`.
        mri: range of relative change of :data:`MRI_RELATIVE`, by contrast.
        pick: where in the ranges this part lies, 0 to 1.
        variation: slow inner variation (H, W), standard deviation 1.
        replaces: True: the part is new matter at ``ct`` HU; False: tissue that stays, changed by ``ct`` HU, with grey
            and white drawn together.
        spares_fluid: leave what differs from tissue by more than about half (ventricles, sulci, vessels) as it is.
    """

    profile: np.ndarray
    ct: Range
    mri: dict[str, Range]
    pick: float
    variation: np.ndarray
    replaces: bool = True
    spares_fluid: bool = False


@dataclass(frozen=True)
class Lesion:
    """A drawn lesion: mask, boolean (H, W); parts, painted in order; and plain facts for the record."""

    mask: np.ndarray
    regions: list[Region] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


class LesionTransform(RandomizableTransform, MapTransform):
    """Base of the injected anomalies: draw a lesion in the brain of one case and show it in every modality present.

    The result holds the changed images, ``mask_key`` (float (1, H, W), 1 where the lesion fills more than half of a
    pixel), ``label`` = 1 and :data:`ANOMALY` (plain numbers and strings: ``kind``, ``family``, ``size_mm``,
    ``contrast``, ``contrast_to_noise`` = mean absolute change in the mask over the robust standard deviation of the
    brain around it, the larger of the modalities, and ``contrast_to_noise_of`` for each); an ``image`` entry is
    concatenated anew. Lesions replace or shift the local mean and keep the slice's own fine texture, so that noise
    inside and outside agree. A modality that is absent or constant (a filled-in blank) stays as it is.

    Args:
        keys: ``ct``, ``mri`` or both; each entry (1, H, W) in [0, 1]. One key makes a lesion that one modality shows.
            See also: :py:class:`monai.transforms.MapTransform`
        size_mm: range of the diameter of the disc with the area of the mask.
        contrast: factor on the change; 1 is the table's, 0 changes no voxel while mask and label are still given (a
            negative control).
        pixel_spacing_mm: size of a pixel.
        mri_contrast: ``T1``, ``T2``, ``PD`` or ``FLAIR``; an entry ``mri_contrast`` of the case goes first.
        brain_key: entry with the intracranial region (1, H, W); derived from CT, else MRI, when absent.
        mask_key: entry to write the mask to.
        prob: probability of injecting; otherwise the case is returned as it came.
        allow_missing_keys: do not raise when a modality is missing.

    Raises:
        InputError: when an option or an image is out of its range, no image is present, or there is no brain to put a
        lesion into.
    """

    family = "B"
    kind = ""
    backend = [TransformBackends.NUMPY]
    _softness_mm: Range = (0.5, 1.5)

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (10.0, 40.0),
        contrast: float = 1.0,
        pixel_spacing_mm: float = 1.8,
        mri_contrast: str = "T2",
        brain_key: str = "brain",
        mask_key: str = names.MASK,
        prob: float = 1.0,
        allow_missing_keys: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(size_mm) != 2 or not 0 < size_mm[0] <= size_mm[1]:
            raise InputError.about("size_mm", f"got {size_mm}", "give (low, high) in mm with 0 < low <= high")
        if not contrast >= 0:
            raise InputError.about("contrast", f"got {contrast}", "give a factor of at least 0")
        if not pixel_spacing_mm > 0:
            raise InputError.about("pixel_spacing_mm", f"got {pixel_spacing_mm}", "give the size of a pixel in mm")
        self.size_mm = (float(size_mm[0]), float(size_mm[1]))
        self.contrast = float(contrast)
        self.pixel_spacing_mm = float(pixel_spacing_mm)
        self.mri_contrast = _known_contrast(mri_contrast, "mri_contrast")
        self.brain_key = brain_key
        self.mask_key = mask_key
        self._drawn: Any = None

    @abstractmethod
    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        """Draw a lesion of ``size_mm`` inside ``brain`` from ``self.R``."""

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to inject, and draw the lesion."""
        super().randomize(None)
        size = self.R.uniform(*self.size_mm)
        if self._do_transform:
            self._drawn = self._draw(self._brain(data), size)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last lesion."""
        d = dict(data)
        if randomize:
            self.randomize(d)
        if not self._do_transform:
            return d
        if self._drawn is None:
            raise InputError.about(case_name(d), "no lesion was drawn yet", "call with randomize=True first")
        images = self._images(d)
        mri_contrast = _known_contrast(d.get("mri_contrast", self.mri_contrast), f"{case_name(d)}: mri_contrast")
        brain = self._brain(d)
        ring = _ring(self._drawn.mask, brain, _RING_MM / self.pixel_spacing_mm)
        changed = {}
        for key, image in images.items():
            full = _show(image, self._drawn.regions, brain, ring, None if key == names.CT else mri_contrast)
            change = self.contrast * (full - image)
            changed[key] = np.where(change != 0, np.clip(image + change, 0.0, 1.0), image)
        return self._finish(d, images, changed, self._drawn.mask, ring, self._drawn.details)

    def _finish(
        self,
        d: dict[Hashable, Any],
        before: Mapping[Hashable, np.ndarray],
        after: Mapping[Hashable, np.ndarray],
        mask: np.ndarray,
        around: np.ndarray,
        details: Mapping[str, Any],
    ) -> dict[Hashable, Any]:
        noise = {
            key: float(np.abs(after[key] - before[key])[mask].mean()) / _spread(before[key][around]) for key in after
        }
        stack = d.get(names.IMAGE)
        stacked = [key for key in names.MODALITIES if d.get(key) is not None]
        if stack is not None and stack.shape[0] != len(stacked):
            raise InputError.about(
                case_name(d),
                f"image has {stack.shape[0]} channels but the case {len(stacked)} modalities",
                "inject before the modalities are concatenated",
            )
        for key, image in after.items():
            like = convert_to_tensor(d[key], track_meta=get_track_meta())
            d[key] = convert_to_dst_type(image[None], like)[0]
        like = d[next(iter(after))]
        if stack is not None:
            whole = np.concatenate([convert_to_numpy(d[key]) for key in stacked])
            d[names.IMAGE] = convert_to_dst_type(whole, convert_to_tensor(stack, track_meta=get_track_meta()))[0]
        d[self.mask_key] = convert_to_dst_type(mask[None].astype(np.float32), like, dtype=torch.float32)[0]
        d[names.LABEL] = 1
        d[ANOMALY] = {
            "kind": self.kind,
            "family": self.family,
            "size_mm": shapes.equivalent_diameter_mm(mask, self.pixel_spacing_mm),
            "contrast": self.contrast,
            "contrast_to_noise": max(noise.values()),
            "contrast_to_noise_of": {str(key): value for key, value in noise.items()},
            **details,
        }
        return d

    def _images(self, d: Mapping[Hashable, Any]) -> dict[Hashable, np.ndarray]:
        """The modalities that carry a picture, as float64 (H, W)."""
        found: dict[Hashable, np.ndarray] = {}
        for key in self.key_iterator(dict(d)):
            image = None if d[key] is None else picture_of(d, key)
            if image is not None and image.max() > image.min():
                found[key] = image
        if not found:
            problem = f"none of {', '.join(map(str, self.keys))} holds a picture"
            raise InputError.about(case_name(d), problem, "give at least one")
        if len({image.shape for image in found.values()}) > 1:
            raise InputError.about(case_name(d), "the modalities differ in shape", "register them to one grid first")
        return found

    def _brain(self, d: Mapping[Hashable, Any]) -> np.ndarray:
        key, first = next(iter(self._images(d).items()))
        given = d.get(self.brain_key)
        if given is not None:
            brain = np.asarray(convert_to_numpy(given))[0] > 0.5
        else:
            brain = shapes.intracranial_mask(first)
            if key != names.CT:
                # Bone is dark in MRI, so a thin skull lets the scalp in; the inset head keeps lesions out of it.
                brain &= convert_to_numpy(BrainMask(ct_channel=None)(first[None])).astype(bool)[0]
        if brain.shape != first.shape or np.count_nonzero(brain) < 100:
            raise InputError.about(case_name(d), "no brain to put a lesion into", f"give the entry {self.brain_key}")
        return brain

    def _area_mm2(self, size_mm: float, brain: np.ndarray) -> float:
        largest = 0.3 * np.count_nonzero(brain) * self.pixel_spacing_mm**2
        return float(min(np.pi / 4 * size_mm**2, largest))

    def _part(self, level: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shapes.soft_edge(level, allowed, self.R.uniform(*self._softness_mm), self.pixel_spacing_mm)

    def _one_side(self, region: np.ndarray, brain: np.ndarray) -> np.ndarray:
        """The part of ``region`` in a drawn hemisphere: lesions of tissue end at the fissure, a little wavy."""
        spacing = self.pixel_spacing_mm
        side = self.R.choice([-1.0, 1.0])
        away_mm = (np.arange(brain.shape[1]) - ndimage.center_of_mass(brain)[1]) * side * spacing
        wave = shapes.band_limited_noise(self.R, brain.shape, 5.0, spacing)
        half = region & (away_mm[None] > 3.0 + 1.5 * wave)
        return half if np.count_nonzero(half) >= 25 else region

    def _region(self, profile: np.ndarray, part: str, size_mm: float, **options: Any) -> Region:
        variation = shapes.band_limited_noise(self.R, profile.shape, max(size_mm / 8, 2.0), self.pixel_spacing_mm)
        ct, mri = CT_HU[self.kind.removeprefix("early_")][part], MRI_RELATIVE[self.kind.removeprefix("early_")][part]
        return Region(profile, ct, mri, self.R.uniform(0.2, 0.8), variation, **options)


def _show(
    image: np.ndarray, regions: Sequence[Region], brain: np.ndarray, ring: np.ndarray, mri_contrast: str | None
) -> np.ndarray:
    """Picture (H, W) with the lesion at full contrast; ``mri_contrast`` None means CT."""
    weight = ndimage.gaussian_filter(brain.astype(np.float64), _LOCAL_PX)
    local = ndimage.gaussian_filter(np.where(brain, image, 0.0), _LOCAL_PX) / np.maximum(weight, 1e-6)
    fine = image - local
    spread = 1.4826 * float(np.median(np.abs(fine[brain])))
    # Limited, so that edges of what the lesion replaces do not show through as ghosts.
    texture = np.clip(fine, -3 * spread, 3 * spread)
    tissue = float(np.median(image[ring]))
    low, high = _TISSUE_SPREAD
    strangeness = np.abs(local - tissue) / max(tissue, 1e-6)
    ordinary = np.clip((high - strangeness) / (high - low), 0.0, 1.0)
    full = image.copy()
    for region in regions:
        value_range = region.ct if mri_contrast is None else region.mri[mri_contrast]
        bottom, top = sorted(value_range)
        width = top - bottom
        inner = np.clip(bottom + region.pick * width + 0.1 * width * region.variation, bottom, top)
        share = region.profile * (ordinary if region.spares_fluid else 1.0)
        if region.replaces:
            target = inner / HU_SPAN if mri_contrast is None else tissue * (1 + inner)
            full = full + share * (target + texture - full)
        else:
            shift = inner / HU_SPAN if mri_contrast is None else tissue * inner
            full = full + share * (shift - _FLATTENING * (local - tissue))
    return np.clip(full, 0.0, 1.0)


def picture_of(d: Mapping[Hashable, Any], key: Hashable) -> np.ndarray:
    """The preprocessed slice (1, H, W) of a case as float64 (H, W); InputError unless it is finite and in [0, 1]."""
    where = f"{case_name(d)}: {key}"
    image = np.asarray(convert_to_numpy(d[key]), dtype=np.float64)
    if image.ndim != 3 or image.shape[0] != 1:
        raise InputError.about(where, f"got shape {image.shape}", "give one slice of shape (1, H, W)")
    if not np.isfinite(image).all() or image.min() < -1e-4 or image.max() > 1 + 1e-4:
        raise InputError.about(where, "has values outside [0, 1]", "preprocess the case first")
    return image[0]


def _ring(mask: np.ndarray, brain: np.ndarray, width_px: float) -> np.ndarray:
    """Brain around a lesion; the whole brain where nothing is left around it."""
    around = brain & ~mask & (ndimage.distance_transform_edt(~mask) <= width_px)
    return around if np.count_nonzero(around) >= 20 else brain


def _spread(values: np.ndarray) -> float:
    """Robust standard deviation, at least one grey level of 255."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1 / 255)


def _known_contrast(value: Any, where: str) -> str:
    contrast = str(value).upper()
    if contrast not in ("T1", "T2", "PD", "FLAIR"):
        raise InputError.about(where, f"got {value!r}", "use T1, T2, PD or FLAIR")
    return contrast


def case_name(d: Mapping[Hashable, Any]) -> str:
    """How messages call a case: its name, else its subject."""
    return str(d.get(names.CASE, d.get(names.SUBJECT, "case")))
