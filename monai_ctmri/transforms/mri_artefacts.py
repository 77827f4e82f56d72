"""Injected artefacts of MRI, by way of k-space: motion, ghosts, spikes, and the bias of the coil."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import keys as names
from . import k_space
from .artefact import ArtefactTransform
from .lesion import Range

__all__ = [
    "InjectBiasD",
    "InjectBiasDict",
    "InjectBiasd",
    "InjectGhostingD",
    "InjectGhostingDict",
    "InjectGhostingd",
    "InjectMotionD",
    "InjectMotionDict",
    "InjectMotiond",
    "InjectSpikeD",
    "InjectSpikeDict",
    "InjectSpiked",
]


class InjectMotiond(ArtefactTransform):
    """The head moves three to eight times while k-space is filled: blur and stripes along the phase-encoded axis.

    ``strength`` is the size of each movement: that many millimetres of shift and half as many degrees of turn
    about the middle of the picture; 3 to 10 by default. See :func:`~monai_ctmri.transforms.k_space.moved_k_space` and
    :class:`ArtefactTransform`.
    """

    kind = "mri_motion"
    modality = names.MRI
    source = "Shaw et al., Proc MIDL (PMLR 102), 2019; Zaitsev et al., J Magn Reson Imaging 42(4), 2015"
    _strength: Range = (3.0, 10.0)

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        axis = int(self.R.randint(2))
        lines, count = shape[axis], int(self.R.randint(3, 9))
        # Movements fall where there is energy, the first next to the middle of k-space, which itself sees one pose.
        near, far = 2 + lines // 64, 2 + lines // 16
        first = lines // 2 + int(self.R.randint(near, far)) * int(self.R.choice([-1, 1]))
        rest = np.r_[lines // 4 : lines // 2 - far, lines // 2 + far + 1 : lines - lines // 4]
        starts = np.sort([first, *self.R.choice(rest, min(count - 1, len(rest)), replace=False)])
        angles = self.R.uniform(0, 2 * np.pi, len(starts) + 1)
        return {
            "phase_axis": axis,
            "starts": [0, *(int(each) for each in starts)],
            "turns": [float(each) for each in self.R.choice([-0.5, 0.5], len(angles))],
            "shifts": [[float(np.sin(each)), float(np.cos(each))] for each in angles],
        }

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        size, across = drawn["strength"], drawn["phase_axis"] == 1
        poses = [
            (size * turn, size * shift[0] / self.pixel_spacing_mm, size * shift[1] / self.pixel_spacing_mm)
            for turn, shift in zip(drawn["turns"], drawn["shifts"], strict=True)
        ]
        lying = image.T if across else image
        moved = np.abs(k_space.from_k_space(k_space.moved_k_space(lying, poses, drawn["starts"])))
        return (moved.T if across else moved) - image


class InjectGhostingd(ArtefactTransform):
    """Two ghosts of the head, a half to a sixth of the field of view away along the phase-encoded axis.

    ``strength`` is each ghost's height relative to the picture, 0.08 to 0.3 by default. See
    :func:`~monai_ctmri.transforms.k_space.ghosts` and :class:`ArtefactTransform`.
    """

    kind = "mri_ghosting"
    modality = names.MRI
    source = "Wood and Henkelman, Med Phys 12(2), 1985"
    _strength: Range = (0.08, 0.3)

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {
            "phase_axis": int(self.R.randint(2)),
            "shift_of_view": float(1.0 / self.R.uniform(2.0, 6.0)),
            "phase": float(self.R.uniform(0, 2 * np.pi)),
        }

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        across = drawn["phase_axis"] == 1
        lying = image.T if across else image
        shift = drawn["shift_of_view"] * lying.shape[0]
        ghosted = k_space.ghosts(lying, shift, drawn["strength"], drawn["phase"])
        return (ghosted.T if across else ghosted) - image


class InjectSpiked(ArtefactTransform):
    """One wrong sample of k-space: stripes across the whole picture, 6 to 40 mm apart.

    ``strength`` is their height relative to the median of the head, 0.1 to 0.4 by default. See
    :func:`~monai_ctmri.transforms.k_space.spike` and :class:`ArtefactTransform`.
    """

    kind = "mri_spike"
    modality = names.MRI
    source = "Zhuo and Gullapalli, RadioGraphics 26(1), 2006"
    _strength: Range = (0.1, 0.4)
    _level_mm = 4.0

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        period, angle = self.R.uniform(6.0, 40.0), self.R.uniform(0, np.pi)
        waves = [side * self.pixel_spacing_mm / period for side in shape]
        at = [round(waves[0] * np.sin(angle)), round(waves[1] * np.cos(angle))]
        return {"at": [int(each) for each in at] if any(at) else [1, 0]}

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        height = drawn["strength"] * float(np.median(image[head]))
        return np.abs(k_space.spike(image, (drawn["at"][0], drawn["at"][1]), height)) - image


class InjectBiasd(ArtefactTransform):
    """Uneven sensitivity of the coil: a smooth factor over the whole picture.

    ``strength`` 0.5 brightens the brightest part of the head by half and darkens the darkest by a third (1 / 1.5);
    0.3 to 0.8 by default. See :func:`~monai_ctmri.transforms.k_space.bias_field` and :class:`ArtefactTransform`.
    """

    kind = "mri_bias"
    modality = names.MRI
    source = "Van Leemput et al., IEEE Trans Med Imaging 18(10), 1999"
    _strength: Range = (0.3, 0.8)

    def _sample(self, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}

    def _change(self, image: np.ndarray, head: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        return image * (k_space.bias_field(self._noise, head, drawn["strength"]) - 1.0)


InjectMotionD = InjectMotionDict = InjectMotiond
InjectGhostingD = InjectGhostingDict = InjectGhostingd
InjectSpikeD = InjectSpikeDict = InjectSpiked
InjectBiasD = InjectBiasDict = InjectBiasd
