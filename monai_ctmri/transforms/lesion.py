"""What every injected lesion shares: the base transform that draws a lesion and shows it in CT and MRI.

A lesion is one thing seen by both modalities, so its transforms exist for dictionaries only. They act on slices in
picture orientation: CT in HU or in [0, 1] for a window (0 to 80 HU unless ``meta`` says otherwise), MRI in [0, 1].
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import replace
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
from . import lesion_painting as painting
from . import shapes
from .brain import BrainMask
from .lesion_painting import Lesion, Region, case_name, picture_of
from .lesion_values import CT_HU, HU_SPAN, MRI_RELATIVE, SOURCES, Range
from .lesion_warps import radial_warp

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

_RING_MM = 12.0


class LesionTransform(RandomizableTransform, MapTransform):
    """Base of the injected anomalies: draw a lesion in the brain of one case and show it in every modality present.

    The result holds the changed images, ``mask_key`` (float (1, H, W), 1 where the lesion fills more than half of a
    pixel), ``label`` = 1 and :data:`ANOMALY` (plain numbers and strings: ``kind``, ``family``, ``size_mm``,
    ``contrast``, ``contrast_to_noise`` = mean absolute change in the mask over the robust standard deviation of the
    brain around it, the larger of the modalities, ``contrast_to_noise_of`` for each, and ``source`` of the values;
    ``warped``: True where anatomy outside the mask was displaced, absent where the lesion displaces nothing); an
    ``image`` entry is concatenated anew. Lesions replace or shift the local mean and keep the slice's own fine
    texture, so that noise inside and outside agree. A modality that is absent or constant (a filled-in blank) stays
    as it is. Nothing changes farther than :data:`~monai_ctmri.transforms.shapes.EDGE_REACH_PX` from the mask, unless
    the lesion displaces it.

    CT may be in HU (``meta["windowed"]`` False and no ``meta["window"]``, with values outside [0, 1]); the result is
    HU then and nothing is clipped. Otherwise a slice lies in [0, 1] and so does the result.

    Args:
        keys: ``ct``, ``mri`` or both; each entry (1, H, W). One key makes a lesion that one modality shows.
            See also: :py:class:`monai.transforms.MapTransform`
        size_mm: range of the diameter of the disc with the area of the mask.
        contrast: factor on the change, and up to 1 on the displacement; 1 is the table's, 0 changes no voxel while
            mask and label are still given (a negative control).
        pixel_spacing_mm: size of a pixel.
        mri_contrast: ``T1``, ``T2``, ``PD`` or ``FLAIR``; an entry ``mri_contrast`` of the case goes first.
        brain_key: entry with the intracranial region (1, H, W); derived from CT, else MRI, when absent.
        mask_key: entry to write the mask to.
        prob: probability of injecting; otherwise the case is returned as it came.
        allow_missing_keys: do not raise when a modality is missing.
        location: (row, column) of the middle as shares of the box around the brain, (0, 0) at the front on the
            picture's left; the nearest place a lesion of the kind can have. Defaults to None: it is drawn.

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
        location: tuple[float, float] | None = None,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(size_mm) != 2 or not 0 < size_mm[0] <= size_mm[1]:
            raise InputError.about("size_mm", f"got {size_mm}", "give (low, high) in mm with 0 < low <= high")
        if not contrast >= 0:
            raise InputError.about("contrast", f"got {contrast}", "give a factor of at least 0")
        if not pixel_spacing_mm > 0:
            raise InputError.about("pixel_spacing_mm", f"got {pixel_spacing_mm}", "give the size of a pixel in mm")
        if location is not None and (len(location) != 2 or not all(0 <= part <= 1 for part in location)):
            raise InputError.about("location", f"got {location}", "give (row, column) as shares of the brain, 0 to 1")
        self.size_mm = (float(size_mm[0]), float(size_mm[1]))
        self.contrast = float(contrast)
        self.pixel_spacing_mm = float(pixel_spacing_mm)
        self.mri_contrast = _known_contrast(mri_contrast, "mri_contrast")
        self.brain_key = brain_key
        self.mask_key = mask_key
        self.location = None if location is None else (float(location[0]), float(location[1]))
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
        lesion = self._drawn
        ring = painting.around(lesion.mask, brain, _RING_MM / self.pixel_spacing_mm)
        changed = {}
        for key, image in images.items():
            moved = image
            if lesion.warp is not None:
                warp = min(self.contrast, 1.0) * lesion.warp
                moved = painting.retexture(painting.displace(image, warp), image, warp, brain)
            full = painting.paint(moved, lesion.regions, brain, ring, None if key == names.CT else mri_contrast)
            unit = painting.unit_of(d, key)
            change = self.contrast * (unit.confined(full) - moved)
            changed[key] = np.where((change != 0) | (moved != image), unit.confined(moved + change), image)
        return self._finish(d, images, changed, lesion.mask, ring, {**lesion.details, **self._displacement(lesion)})

    def _displacement(self, lesion: Lesion) -> dict[str, bool]:
        if lesion.warp is None:
            return {}
        reach = ndimage.distance_transform_edt(~lesion.mask) > shapes.EDGE_REACH_PX
        return {"warped": bool(self.contrast) and bool(np.any(lesion.warp[:, reach] != 0))}

    def _finish(
        self,
        d: dict[Hashable, Any],
        before: Mapping[Hashable, np.ndarray],
        after: Mapping[Hashable, np.ndarray],
        mask: np.ndarray,
        around: np.ndarray,
        details: Mapping[str, Any],
    ) -> dict[Hashable, Any]:
        """Result of a case; ``before`` and ``after`` are in the unit of :func:`picture_of`."""
        noise = {
            key: float(np.abs(after[key] - before[key])[mask].mean()) / painting.spread_of(before[key][around])
            for key in after
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
            stored = painting.unit_of(d, key).stored(np.asarray(convert_to_numpy(d[key]))[0], before[key], image)
            d[key] = convert_to_dst_type(stored[None], like, dtype=torch.float32)[0]
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
            "source": SOURCES.get(self.kind, ""),
            **details,
        }
        return d

    def _images(self, d: Mapping[Hashable, Any]) -> dict[Hashable, np.ndarray]:
        """The modalities that carry a picture, as float64 (H, W): CT in HU / 80, MRI in [0, 1]."""
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

    def _pushing(self, lesion: Lesion, core: np.ndarray, brain: np.ndarray, outward_mm: float) -> Lesion:
        """The lesion with tissue displaced away from ``core`` (towards it where negative); as it is for 0."""
        if outward_mm == 0:
            return lesion
        warp = radial_warp(core, brain, outward_mm, self.pixel_spacing_mm)
        largest = float(np.hypot(*warp).max()) * self.pixel_spacing_mm
        return replace(lesion, warp=warp, details={**lesion.details, "displacement_mm": largest})

    def _part(self, level: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shapes.soft_edge(level, allowed, self.R.uniform(*self._softness_mm), self.pixel_spacing_mm)

    def _centre(self, region: np.ndarray, margin_mm: float, brain: np.ndarray) -> tuple[float, float]:
        """Row and column of ``location``, or of the pixel of ``region`` next to it; a drawn one where it is None."""
        if self.location is None:
            return shapes.sample_centre(self.R, region, margin_mm, self.pixel_spacing_mm)
        wished = self._wished(brain)
        nearest = np.argwhere(region)
        if len(nearest) == 0:
            return wished
        row, column = nearest[int(np.argmin(np.hypot(*(nearest - wished).T)))]
        inside = max(abs(row - wished[0]), abs(column - wished[1])) <= 0.5
        return wished if inside else (float(row), float(column))

    def _wished(self, brain: np.ndarray) -> tuple[float, float]:
        """Row and column that ``location`` stands for."""
        down, right = self.location or (0.5, 0.5)
        rows, columns = (np.flatnonzero(brain.any(axis=axis)) for axis in (1, 0))
        return (
            float(rows[0] + down * (rows[-1] - rows[0])),
            float(columns[0] + right * (columns[-1] - columns[0])),
        )

    def _one_side(self, region: np.ndarray, brain: np.ndarray) -> np.ndarray:
        """The part of ``region`` in the hemisphere of ``location``, or a drawn one.

        Lesions of tissue end at the fissure, a little wavy.
        """
        spacing = self.pixel_spacing_mm
        side = self.R.choice([-1.0, 1.0])
        if self.location is not None:
            side = 1.0 if self._wished(brain)[1] >= ndimage.center_of_mass(brain)[1] else -1.0
        away_mm = (np.arange(brain.shape[1]) - ndimage.center_of_mass(brain)[1]) * side * spacing
        wave = shapes.band_limited_noise(self.R, brain.shape, 5.0, spacing)
        half = region & (away_mm[None] > 3.0 + 1.5 * wave)
        return half if np.count_nonzero(half) >= 25 else region

    def _region(self, profile: np.ndarray, part: str, size_mm: float, **options: Any) -> Region:
        variation = shapes.band_limited_noise(self.R, profile.shape, max(size_mm / 8, 2.0), self.pixel_spacing_mm)
        ct, mri = CT_HU[self.kind.removeprefix("early_")][part], MRI_RELATIVE[self.kind.removeprefix("early_")][part]
        return Region(profile, ct, mri, self.R.uniform(0.2, 0.8), variation, **options)


def _known_contrast(value: Any, where: str) -> str:
    contrast = str(value).upper()
    if contrast not in ("T1", "T2", "PD", "FLAIR"):
        raise InputError.about(where, f"got {value!r}", "use T1, T2, PD or FLAIR")
    return contrast
