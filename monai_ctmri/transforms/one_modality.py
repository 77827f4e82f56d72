"""Injected lesions that one modality shows and the other does not: tests of fusion."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta
from monai.utils import convert_to_tensor

from .. import keys as names
from ..errors import InputError
from .lesion import ANOMALY, Lesion, LesionTransform, case_name

__all__ = ["InjectOneModalityD", "InjectOneModalityDict", "InjectOneModalityd", "one_modality"]


class InjectOneModalityd(LesionTransform):
    """Show a lesion in one modality only; the other stays as it is, bit for bit.

    What the lesion is, and where, is drawn as its own transform does, in the brain that both modalities show; the same
    transform with ``keys`` of one modality looks for the brain in that one. ``kind`` is that of the lesion with
    ``_ct_only`` or ``_mri_only`` appended, and the record adds ``shown_in``. Early ischaemia that MRI shows before CT
    does, and calcification that MRI hides, are the usual ones; a lesion that displaces anatomy would be a fault of
    registration as well.

    Args:
        lesion: transform of the lesion, for both modalities; it is copied.
        key: the modality that shows it, ``"ct"`` or ``"mri"``.
        allow_missing_keys: do not raise when a modality is missing. Defaults to None: as ``lesion`` has it.

    Raises:
        InputError: when ``lesion`` injects no lesion or ``key`` is none of its modalities; at the call, when the case
        has no picture of it, and as the lesion does.
    """

    def __init__(self, lesion: LesionTransform, key: str = names.MRI, allow_missing_keys: bool | None = None) -> None:
        if not isinstance(lesion, LesionTransform):
            raise InputError.about("lesion", f"is a {type(lesion).__name__}", "give a transform that injects a lesion")
        if key not in lesion.keys or key not in names.MODALITIES:
            raise InputError.about("key", f"got {key!r}", f"use one of {', '.join(map(str, lesion.keys))}")
        super().__init__(
            lesion.keys,
            lesion.size_mm,
            lesion.contrast,
            lesion.pixel_spacing_mm,
            lesion.mri_contrast,
            lesion.brain_key,
            lesion.mask_key,
            lesion.prob,
            lesion.allow_missing_keys if allow_missing_keys is None else allow_missing_keys,
            lesion.location,
        )
        self.lesion = copy.copy(lesion)
        self.lesion.allow_missing_keys = self.allow_missing_keys
        self.key = key
        self.kind = f"{lesion.kind}_{key}_only"

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        return self.lesion._draw(brain, size_mm)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last lesion."""
        d = dict(data)
        if self.key not in self._images(d):
            raise InputError.about(case_name(d), f"has no {self.key} picture", f"{self.kind} shows in it alone")
        # A copy for this call: shallow copies of this transform must not share what was drawn.
        alone = copy.copy(self.lesion)
        alone.set_random_state(state=self.R)
        alone.keys = (self.key,)
        held = d.get(self.brain_key)
        d[self.brain_key] = self.lesion._brain(d)[None]
        d = alone(d, randomize)
        self.lesion = copy.copy(alone)
        self.lesion.keys = self.keys
        self._do_transform = alone._do_transform
        if held is not None or self.brain_key in data:
            d[self.brain_key] = held
        else:
            del d[self.brain_key]
        if not self._do_transform:
            return d
        for key in names.MODALITIES:
            if key != self.key and d.get(key) is not None:
                d[key] = convert_to_tensor(d[key], dtype=torch.float32, track_meta=get_track_meta())
        d[ANOMALY] = {**d[ANOMALY], "kind": self.kind, "shown_in": self.key}
        return d


def one_modality(lesion_class: type[LesionTransform], key: str, **options: Any) -> InjectOneModalityd:
    """Make a lesion that one modality shows.

    Args:
        lesion_class: transform of the lesion, as :class:`~monai_ctmri.transforms.anomalies.InjectInfarctd`.
        key: the modality that shows it, ``"ct"`` or ``"mri"``.
        options: arguments of ``lesion_class``.
    """
    return InjectOneModalityd(lesion_class(**options), key)


InjectOneModalityD = InjectOneModalityDict = InjectOneModalityd
