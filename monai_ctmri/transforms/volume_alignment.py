"""Registration of whole volumes outside a transform chain, as ``monai-ctmri prepare --register`` uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from monai.data import MetaTensor

from ..data.reading.volumes import Volume
from ..data.volume_cases import Aligned
from .itk_registration import Registration
from .registration import RegisterToReference

__all__ = ["VolumeAligner"]


class VolumeAligner:
    """Brings a volume onto the grid of another of the same head; an :data:`~monai_ctmri.data.volume_cases.Align`.

    Args:
        kind: ``rigid`` or ``affine``.
        spacing_mm: finest resolution that is compared, mm.
        seed: of the points at which the images are compared.

    Raises:
        InputError: for a value out of range.
    """

    def __init__(self, kind: str = "rigid", spacing_mm: float = 2.0, seed: int = 0) -> None:
        self.kind, self.spacing_mm, self.seed = kind, spacing_mm, seed
        self._images = RegisterToReference(kind, spacing_mm, seed)
        self._masks = RegisterToReference(kind, spacing_mm, seed, mode="nearest")

    def __call__(self, fixed: Volume, moving: Volume) -> Aligned:
        """Return ``moving`` on the grid of ``fixed``, or why it could not be brought there."""
        reference = _image(fixed)
        found = self._images.register(_image(moving), reference)
        if not found.accepted:
            return Aligned(None, found.reason)

        def carry(mask: Volume) -> Volume:
            return _moved(self._masks, mask, fixed, found)

        return Aligned(_moved(self._images, moving, fixed, found), _in_words(found), carry)


def _image(volume: Volume) -> MetaTensor:
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(volume.array[None])), affine=torch.tensor(volume.affine))


def _moved(registrar: RegisterToReference, volume: Volume, fixed: Volume, found: Registration) -> Volume:
    moved = registrar(_image(volume), _image(fixed), found)
    return replace(volume, array=np.asarray(moved[0]), affine=fixed.affine)


def _in_words(found: Registration) -> str:
    words = (
        f"{found.kind}, normalised mutual information {found.quality_before:.3f} to {found.quality:.3f}, "
        f"moved {found.shift_mm:.1f} mm, turned {found.angle_degrees:.1f} degrees"
    )
    return f"{words}; {found.reason}" if found.reason else words
