"""What every training anomaly of family A shares: the draw, the record and the checks of a case."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, convert_to_tensor

from .. import keys as names
from ..errors import InputError
from .brain import BrainMask
from .intervals import Range, interval
from .lesion import ANOMALY, case_name
from .training_shapes import sample_pixel, star_profile

__all__ = ["Drawn", "TrainingAnomaly", "plane_of"]


@dataclass(frozen=True)
class Drawn:
    """What one call drew.

    Attributes:
        profile: where, float32 (H, W) in [0, 1], shared by the modalities.
        effects: what happens to each modality, by entry.
        donor: subject and pictures (H, W) of another case; None where there is none.
    """

    profile: np.ndarray
    effects: dict[Hashable, Any]
    donor: Mapping[Hashable, Any] | None = None


class TrainingAnomaly(RandomizableTransform, MapTransform):
    """Base of the training anomalies: one place for all modalities of a case, an effect of its own for each.

    The result holds the changed images, ``mask_key`` (float (1, H, W): 1, or the share of the foreign patch, where
    the anomaly is; the larger where several transforms act), ``label`` = 1 and the entry ``anomaly`` (plain numbers
    and strings: ``kind``, ``family``, ``source`` = the paper, ``size_mm`` = diameter of the disc with the area of the
    mask, ``contrast``, ``change`` = mean absolute change inside the mask, the larger of the modalities, and
    ``donor_subject``). An ``image`` entry is concatenated anew. A case that is not chosen gets a mask of 0, ``label``
    0 and an ``anomaly`` of kind ``none`` where it has none of its own, so that a batch of both kinds can be collated.
    Copy the images beforehand (:py:class:`monai.transforms.CopyItemsd`) to train on restoring them.

    A modality that is absent or constant (a filled-in blank) stays as it is.

    Args:
        keys: ``ct``, ``mri`` or both; each entry (1, H, W) in [0, 1]. One key makes an anomaly that one modality
            shows. See also: :py:class:`monai.transforms.MapTransform`
        size_mm: range of the diameter of the disc with the area of the anomaly. Defaults to (10, 60).
        contrast: factor on the effect, 0 to 1; 0 changes no pixel while mask and label are still given.
        shared_effect: one effect for all modalities instead of one each. Defaults to False.
        pixel_spacing_mm: size of a pixel.
        brain_key: entry with the intracranial region (1, H, W), in which the centre lies; derived from CT, else MRI,
            when absent.
        mask_key: entry to write the mask to.
        prob: probability of an anomaly. Defaults to 0.5.
        allow_missing_keys: don't raise when a modality is missing.

    Raises:
        InputError: when an option or an image is out of its range, no image is present, or there is no brain.
    """

    family = "A"
    kind = ""
    source = ""
    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (10.0, 60.0),
        contrast: float = 1.0,
        shared_effect: bool = False,
        pixel_spacing_mm: float = 1.8,
        brain_key: str = "brain",
        mask_key: str = names.MASK,
        prob: float = 0.5,
        allow_missing_keys: bool = True,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.size_mm = interval("size_mm", size_mm, 1e-3)
        if not 0 <= contrast <= 1:
            raise InputError.about("contrast", f"got {contrast}", "give a factor from 0 to 1")
        if not pixel_spacing_mm > 0:
            raise InputError.about("pixel_spacing_mm", f"got {pixel_spacing_mm}", "give the size of a pixel in mm")
        self.contrast = float(contrast)
        self.shared_effect = bool(shared_effect)
        self.pixel_spacing_mm = float(pixel_spacing_mm)
        self.brain_key = brain_key
        self.mask_key = mask_key
        self._drawn: Drawn | None = None

    def _draw_profile(self, brain: np.ndarray, size_px: float) -> np.ndarray:
        """Draw the shape, float32 (H, W) in [0, 1], from ``self.R``."""
        return star_profile(self.R, brain.shape, sample_pixel(self.R, brain), size_px) * brain

    @abstractmethod
    def _draw_effect(self, profile: np.ndarray) -> Any:
        """Draw what happens to one modality from ``self.R``."""

    @abstractmethod
    def _changed(self, pictures: dict[Hashable, np.ndarray], drawn: Drawn) -> dict[Hashable, np.ndarray]:
        """Show it in the pictures (H, W); the base clips to [0, 1] and keeps what is unchanged to the last bit."""

    def _limited(self, profile: np.ndarray, pictures: dict[Hashable, np.ndarray], donor: Any) -> np.ndarray:
        """Take away what the shape must not cover."""
        return profile

    def _mask(self, drawn: Drawn) -> np.ndarray:
        return (drawn.profile > 0.5).astype(np.float32)

    def _draw_donor(self, data: Mapping[Hashable, Any], pictures: dict[Hashable, np.ndarray]) -> Any:
        return None

    def randomize(self, data: Mapping[Hashable, Any]) -> None:
        """Decide whether to act, and draw place and effects."""
        super().randomize(None)
        if not self._do_transform:
            return
        pictures = self._pictures(data)
        donor = self._draw_donor(data, pictures)
        size_px = self.R.uniform(*self.size_mm) / self.pixel_spacing_mm
        profile = self._draw_profile(self._brain(data, pictures), size_px)
        profile = self._limited(profile, pictures, donor)
        effects: dict[Hashable, Any] = {}
        for key in pictures:
            effects[key] = (
                next(iter(effects.values())) if self.shared_effect and effects else self._draw_effect(profile)
            )
        self._drawn = Drawn(profile, effects, donor)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Change one case; ``randomize=False`` repeats the last anomaly."""
        d = dict(data)
        if randomize:
            self.randomize(d)
        pictures = self._pictures(d)
        for key in self.key_iterator(d):
            if d[key] is not None:
                d[key] = convert_to_tensor(d[key], dtype=torch.float32, track_meta=get_track_meta())
        if not self._do_transform:
            return self._untouched(d, next(iter(pictures)))
        if self._drawn is None or set(self._drawn.effects) != set(pictures):
            raise InputError.about(
                case_name(d), "nothing was drawn for its modalities", "call with randomize=True first"
            )
        full = self._changed(pictures, self._drawn) if self.contrast else pictures
        after = {key: np.where(full[key] == old, old, np.clip(full[key], 0.0, 1.0)) for key, old in pictures.items()}
        return self._finish(d, pictures, after, self._drawn)

    def _untouched(self, d: dict[Hashable, Any], like: Hashable) -> dict[Hashable, Any]:
        if d.get(self.mask_key) is None:
            d[self.mask_key] = convert_to_dst_type(np.zeros(d[like].shape, np.float32), d[like])[0]
        if d.get(names.LABEL) is None:
            d[names.LABEL] = 0
        d.setdefault(ANOMALY, self._record("none"))
        return d

    def _finish(
        self,
        d: dict[Hashable, Any],
        before: Mapping[Hashable, np.ndarray],
        after: Mapping[Hashable, np.ndarray],
        drawn: Drawn,
    ) -> dict[Hashable, Any]:
        stack = d.get(names.IMAGE)
        stacked = [key for key in names.MODALITIES if d.get(key) is not None]
        if stack is not None and stack.shape[0] != len(stacked):
            raise InputError.about(
                case_name(d),
                f"image has {stack.shape[0]} channels but the case {len(stacked)} modalities",
                "inject before the modalities are concatenated",
            )
        for key, picture in after.items():
            d[key] = convert_to_dst_type(picture[None].astype(np.float32), d[key])[0]
        if stack is not None:
            whole = np.concatenate([convert_to_numpy(d[key]) for key in stacked])
            like = convert_to_tensor(stack, dtype=torch.float32, track_meta=get_track_meta())
            d[names.IMAGE] = convert_to_dst_type(whole, like, dtype=torch.float32)[0]
        mask = self._mask(drawn)
        inside = mask > 0
        change = [float(np.abs(after[key] - before[key])[inside].mean()) if inside.any() else 0.0 for key in after]
        earlier = d.get(self.mask_key)
        together = mask[None] if earlier is None else np.maximum(mask[None], convert_to_numpy(earlier))
        like = d[next(iter(after))]
        d[self.mask_key] = convert_to_dst_type(together.astype(np.float32), like, dtype=torch.float32)[0]
        d[names.LABEL] = 1
        size_mm = 2 * math.sqrt(np.count_nonzero(inside) / math.pi) * self.pixel_spacing_mm
        donor = "" if drawn.donor is None else str(drawn.donor[names.SUBJECT])
        d[ANOMALY] = self._record(self.kind, self.source, size_mm, max(change), donor)
        return d

    def _record(
        self, kind: str, source: str = "", size_mm: float = 0.0, change: float = 0.0, donor: str = ""
    ) -> dict[str, Any]:
        record = {"kind": kind, "family": self.family, "source": source, "size_mm": size_mm}
        return {**record, "contrast": self.contrast, "change": change, "donor_subject": donor}

    def _pictures(self, d: Mapping[Hashable, Any]) -> dict[Hashable, np.ndarray]:
        """The modalities that carry a picture, float32 (H, W)."""
        found: dict[Hashable, np.ndarray] = {}
        for key in self.key_iterator(dict(d)):
            if d[key] is None:
                continue
            picture = plane_of(d, key)
            if picture.max() > picture.min():
                found[key] = picture
        if not found:
            problem = f"none of {', '.join(map(str, self.keys))} holds a picture"
            raise InputError.about(case_name(d), problem, "give at least one")
        if len({picture.shape for picture in found.values()}) > 1:
            raise InputError.about(case_name(d), "the modalities differ in shape", "register them to one grid first")
        return found

    def _brain(self, d: Mapping[Hashable, Any], pictures: Mapping[Hashable, np.ndarray]) -> np.ndarray:
        key, first = next(iter(pictures.items()))
        given = d.get(self.brain_key)
        if given is None:
            given = BrainMask(ct_channel=0 if key == names.CT else None)(first[None])
        brain = np.asarray(convert_to_numpy(given))[0] > 0.5
        if brain.shape != first.shape or not brain.any():
            raise InputError.about(case_name(d), "no brain to put an anomaly into", f"give the entry {self.brain_key}")
        return brain


def plane_of(d: Mapping[Hashable, Any], key: Hashable) -> np.ndarray:
    """The preprocessed slice (1, H, W) of a case as float32 (H, W); InputError unless it is finite and in [0, 1]."""
    picture = np.asarray(convert_to_numpy(d[key]), dtype=np.float32)
    where = f"{case_name(d)}: {key}"
    if picture.ndim != 3 or picture.shape[0] != 1:
        raise InputError.about(where, f"got shape {picture.shape}", "give one slice of shape (1, H, W)")
    # A NaN fails the comparison as well.
    if not (picture.min() >= -1e-4 and picture.max() <= 1 + 1e-4):
        raise InputError.about(where, "has values outside [0, 1]", "preprocess the case first")
    return picture[0]
