"""What every injected imaging artefact shares: one modality changes, the other does not know of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from monai.utils import convert_to_numpy
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from .brain import HeadMask
from .lesion import HU_SPAN, Lesion, LesionTransform, Range, case_name
from .lesion_painting import Unit, unit_of

__all__ = ["ArtefactTransform", "as_hounsfield", "head_of"]

MASK_SHARE = 0.25
_BONE_HU = 1000.0
_AIR_HU = -1000.0


class ArtefactTransform(LesionTransform):
    """Base of the imaging artefacts: the scanner of one modality went wrong, the anatomy did not.

    The result is as for :class:`LesionTransform`. What differs: the change may reach all of the picture. The mask holds
    the pixels of the head where the change at ``contrast`` 1, as root mean square over a Gaussian of 2 mm (0.5 for
    rings, 4 for what covers the whole head), exceeds a quarter of its 99th percentile in the head; ``size_mm`` of the
    record is the diameter of the disc with the area of that mask. The record adds ``strength``, ``modality``,
    ``source`` and what was drawn. The other modality stays as it is, bit for bit.

    Args:
        keys: CT and MRI entries; the artefact takes its own modality, the other helps to find the brain.
        strength: range of the strength, in the unit that the subclass states.
        contrast: factor on the change; 0 changes no voxel while mask and label are still given.
        kwargs: as for :class:`LesionTransform`; ``size_mm`` and ``location`` have no effect.

    Raises:
        InputError: as for :class:`LesionTransform`; when the modality is absent or blank or ``strength`` no range.
    """

    modality: str = names.CT
    source: str = ""
    _strength: Range = (0.0, 0.0)
    _level_mm = 2.0

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        strength: Range | None = None,
        *,
        contrast: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, contrast=contrast, **kwargs)
        low, high = strength or self._strength
        if not 0 < low <= high < np.inf:
            raise InputError.about("strength", f"got {strength}", "give (low, high) with 0 < low <= high")
        self.strength = (float(low), float(high))
        self._noise = np.random.RandomState(0)
        if self.modality not in self.keys:
            raise InputError.about("keys", f"lacks {self.modality}", f"name {self.modality}, which {self.kind} changes")

    @abstractmethod
    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Draw from ``self.R`` what the artefact needs, as plain numbers for the record."""

    @abstractmethod
    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        """Change (H, W) of ``image`` at contrast 1, in its unit (HU for CT)."""

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        return Lesion(brain)

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to inject, and draw the artefact."""
        RandomizableTransform.randomize(self, None)
        if self._do_transform:
            image = self._own(data, self._images(data))
            strength = float(self.R.uniform(*self.strength))
            # Noise of an artefact has a seed of its own, so that a repeated call repeats it.
            seed = int(self.R.randint(2**31 - 1))
            self._drawn = ({"strength": strength, **self._sample(image.shape)}, seed)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last artefact."""
        d = dict(data)
        if randomize:
            self.randomize(d)
        if not self._do_transform:
            return d
        if self._drawn is None:
            raise InputError.about(case_name(d), "no artefact was drawn yet", "call with randomize=True first")
        drawn, seed = self._drawn
        images = self._images(d)
        image, unit = self._own(d, images), unit_of(d, self.modality)
        head = head_of(image)
        self._noise = np.random.RandomState(seed)
        if self.modality == names.CT:
            change = self._change(as_hounsfield(image, head, unit), head, drawn) / HU_SPAN
        else:
            change = self._change(image, head, drawn)
        # Air stays at the bottom of a window, whatever is added to it.
        where = (change != 0) & (head if self.modality == names.CT and unit.closed else True)

        def shown(contrast: float) -> np.ndarray:
            return np.where(where, unit.confined(image + contrast * change), image)

        after = dict(images)
        if self.contrast:
            after[self.modality] = shown(self.contrast)
        mask = self._extent(shown(1.0) - image, head)
        details = {"modality": self.modality, "source": self.source, **drawn}
        return self._finish(d, images, after, mask, self._brain(d), details)

    def _own(self, d: Mapping[Hashable, Any], images: Mapping[Hashable, np.ndarray]) -> np.ndarray:
        if self.modality not in images:
            raise InputError.about(case_name(d), f"has no {self.modality} picture", f"{self.kind} needs one")
        return images[self.modality]

    def _extent(self, change: np.ndarray, head: np.ndarray) -> np.ndarray:
        # Metal on the scalp is ten times its streaks: it must not set the scale.
        seen = np.where(head, np.minimum(np.abs(change), np.percentile(np.abs(change[head]), 99)), 0.0)
        level = np.sqrt(ndimage.gaussian_filter(seen**2, self._level_mm / self.pixel_spacing_mm))
        mask = head & (level > MASK_SHARE * np.percentile(level[head], 99))
        return mask if mask.any() else head


def head_of(image: np.ndarray) -> np.ndarray:
    """Head, boolean (H, W), of a picture (H, W) of a case: CT in HU / 80 or MRI in [0, 1]."""
    return np.asarray(convert_to_numpy(HeadMask()(np.clip(image, 0.0, 1.0)[None])))[0] > 0.5


def as_hounsfield(image: np.ndarray, head: np.ndarray, unit: Unit) -> np.ndarray:
    """HU (H, W) of CT in HU / 80; where a window cut it off, bone is taken as 1000 HU and what lies around as air."""
    if not unit.closed:
        return image * HU_SPAN
    saturated = image >= unit.bottom + 0.99 * unit.width
    return np.where(head, np.where(saturated, _BONE_HU, image * HU_SPAN), _AIR_HU)
