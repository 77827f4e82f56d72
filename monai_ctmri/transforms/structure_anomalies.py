"""A part of the head that is missing, or one that does not belong: bone gap, cavity, catheter, swapped patch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from scipy import ndimage

from .. import keys as names
from ..errors import InputError
from . import lesion_painting as painting
from . import shapes
from .anatomy_lesion import AnatomyLesionTransform
from .lesion import Lesion, Range, Region

__all__ = [
    "CATHETER_CT_HU",
    "CATHETER_MRI",
    "SCALP_CT_HU",
    "SCALP_MRI",
    "InjectForeignStructureD",
    "InjectForeignStructureDict",
    "InjectForeignStructured",
    "InjectMissingStructureD",
    "InjectMissingStructureDict",
    "InjectMissingStructured",
]

SCALP_CT_HU: Range = (20.0, 50.0)
"""HU of the muscle, scar and dura that close a craniectomy (soft tissue in textbooks of CT)."""

SCALP_MRI: dict[str, Range] = {"T1": (-0.1, 0.2), "T2": (-0.4, 0.0), "PD": (-0.2, 0.0), "FLAIR": (-0.3, 0.0)}
"""The same relative to brain tissue: muscle and scar, between brain and bone."""

CATHETER_CT_HU: Range = (200.0, 2000.0)
"""HU of a ventricular catheter: silicone filled with barium or tantalum (table of working ranges)."""

CATHETER_MRI: dict[str, Range] = {"T1": (-0.9, -0.7), "T2": (-0.9, -0.7), "PD": (-0.9, -0.7), "FLAIR": (-0.9, -0.7)}
"""Silicone has hardly a signal in MRI."""

_BONE = 0.95
_MOST_BONE_MM = 18.0
_SKULL_MM = 7.0
_CATHETER_MM = 2.8
_DARK = 0.4
_AIR = 0.05


class InjectMissingStructured(AnatomyLesionTransform):
    """A craniectomy (a gap of the skull) or a resection cavity filled with fluid.

    *Craniectomy*: bone over an arc of the convexity is replaced by soft tissue (20 to 50 HU); without CT, what is dark
    in MRI between brain and scalp is taken for bone, else a band of 7 mm. ``size_mm`` is the length of the arc and
    the mask is the bone that is gone. *Resection*: a rounded cavity at the cortex of one side, filled with fluid;
    ``size_mm`` is the diameter of the disc with its area, and it is the mask.

    Kinds: ``craniectomy``, ``resection``.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the size.
        args: as for :class:`LesionTransform`.
        structure: ``"craniectomy"`` or ``"resection"``.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when ``structure`` is unknown.
    """

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (25.0, 60.0),
        *args: Any,
        structure: str = "craniectomy",
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        if structure not in ("craniectomy", "resection"):
            raise InputError.about("structure", f"got {structure!r}", "use craniectomy or resection")
        self.structure = structure
        self.kind = structure

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        return self._gap(brain, size_mm) if self.structure == "craniectomy" else self._cavity(brain, size_mm)

    def _gap(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        inside = self._inner_skull(brain)
        bearings, radius = self._bearings(inside)
        bearing = self._bearing(inside, 40.0, 125.0)
        half = min(np.rad2deg(0.5 * size_mm / radius), 80.0)
        away = np.abs((bearings - bearing + 180.0) % 360.0 - 180.0)
        outside = ndimage.distance_transform_edt(~inside) * spacing
        ct = self._picture(names.CT)
        mri = self._picture(names.MRI)
        if ct is None and mri is not None:
            head = ndimage.binary_fill_holes(mri > _AIR)
            dark = mri < _DARK * float(np.median(mri[brain]))
            bone = head & dark & ~inside & (outside <= _MOST_BONE_MM)
        else:
            # The diploe between the tables of the skull is part of it.
            dense = np.zeros(brain.shape, dtype=bool) if ct is None else ct >= _BONE
            bone = ndimage.binary_closing(np.pad(dense, 4), iterations=max(1, round(3.0 / spacing)))[4:-4, 4:-4]
            bone &= ~inside & (outside <= _MOST_BONE_MM)
        gone = bone & (away < half)
        if not gone.any():
            gone = ~inside & (outside <= _SKULL_MM) & (away < half)
        # Partial volume: pixels beside bone hold some of it, except at the two sawn ends.
        reach = ndimage.distance_transform_edt(~gone)
        ends = np.clip((half - away) * np.deg2rad(radius) / spacing + 0.5, 0.0, 1.0)
        profile = np.clip(1.5 - 0.5 * reach, 0.0, 1.0) * np.where(gone, 1.0, ends)
        profile = np.where(reach <= shapes.EDGE_REACH_PX, np.where(gone, 1.0, np.minimum(profile, 0.5)), 0.0)
        if ct is not None:
            profile = np.where(gone | (ct > 0.6), profile, 0.0)
        region = Region(profile, SCALP_CT_HU, SCALP_MRI, self.R.uniform(0.2, 0.8), self._wave(brain.shape, 1.5))
        details = {
            "arc_mm": float(2 * np.deg2rad(half) * radius),
            "bearing_degrees": bearing,
            "source": "CT: soft tissue, textbook range; MRI: muscle and scar by analogy",
        }
        return Lesion(gone, [region], details)

    def _cavity(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        half = self._one_side(brain, brain)
        depth = self._depth(half)
        shore = half & (depth >= min(0.25 * size_mm, 0.6 * float(depth.max()))) & (depth <= 0.45 * size_mm)
        rim = half & (self._depth(brain) <= 0.5 * size_mm)
        centre = self._centre(shore & rim if (shore & rim).any() else half, 0.0, brain)
        area = min(self._area_mm2(size_mm, brain), 0.5 * np.count_nonzero(half) * spacing**2)
        blob = shapes.blob_level(self.R, brain.shape, centre, size_mm, spacing, 0.05)
        profile, mask = self._part(shapes.level_for_area(blob, half, area, spacing), half)
        details = {"source": "CT and MRI: cerebrospinal fluid, FLUID_CT_HU and FLUID_MRI"}
        return Lesion(mask, [self._fluid_region(profile)], details)


class InjectForeignStructured(AnatomyLesionTransform):
    """A shunt catheter, or a patch of the same slice in the wrong place.

    *Catheter*: a tube of 2.8 mm, 200 to 2000 HU and dark in MRI. As a ``"line"`` it runs from under the skull towards
    the middle for ``size_mm``; as a ``"ring"`` it is cut across. *Patch*: a rounded piece of brain of ``size_mm``
    shows what lies at another place of the brain, at least its own diameter away, in all modalities alike.

    Kinds: ``shunt_catheter``, ``swapped_patch``.

    Args:
        keys: CT and MRI entries.
        size_mm: range of the length of a line, or of the diameter of a patch.
        args: as for :class:`LesionTransform`.
        structure: ``"catheter"`` or ``"patch"``.
        form: of the catheter: ``"line"``, ``"ring"`` or None, which draws one.
        kwargs: as for :class:`LesionTransform`.

    Raises:
        InputError: when ``structure`` or ``form`` is unknown.
    """

    _tries = 200

    def __init__(
        self,
        keys: KeysCollection = names.MODALITIES,
        size_mm: Range = (20.0, 50.0),
        *args: Any,
        structure: str = "catheter",
        form: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, size_mm, *args, **kwargs)
        if structure not in ("catheter", "patch"):
            raise InputError.about("structure", f"got {structure!r}", "use catheter or patch")
        if form not in ("line", "ring", None):
            raise InputError.about("form", f"got {form!r}", "use line, ring or None")
        self.structure = structure
        self.form = form
        self.kind = "shunt_catheter" if structure == "catheter" else "swapped_patch"
        self._patch: tuple[np.ndarray, tuple[int, int]] | None = None

    def _draw(self, brain: np.ndarray, size_mm: float) -> Lesion:
        return self._catheter(brain, size_mm) if self.structure == "catheter" else self._swap(brain, size_mm)

    def _catheter(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        form = self.form or ("line", "ring")[int(self.R.uniform() < 0.35)]
        y, x = np.indices(brain.shape, dtype=np.float64)
        radius = _CATHETER_MM / 2
        if form == "ring":
            row, column = self._centre(brain, 12.0, brain)
            distance = np.hypot(y - row, x - column) * spacing
            # The lumen, 1.4 mm, is below the pixel of most slices: the share of the wall in each pixel shows it.
            profile = _share(radius - distance, spacing) - _share(0.7 - distance, spacing)
            profile = profile / max(float(profile.max()), 0.5)
            mask = _share(radius - distance, spacing) > 0.5
        else:
            inside = self._inner_skull(brain)
            middle = self._point(inside) or ndimage.center_of_mass(inside)
            side = self.R.choice([-1.0, 1.0])
            if self.location is not None:
                # The way in from the nearer side.
                side = 1.0 if middle[1] >= ndimage.center_of_mass(inside)[1] else -1.0
            bearing = np.deg2rad(self.R.uniform(25.0, 155.0) * side)
            direction = np.array([-np.cos(bearing), np.sin(bearing)])
            steps = np.arange(0.0, float(np.hypot(*brain.shape)), 0.5)
            path = np.rint(np.array(middle)[:, None] + direction[:, None] * steps).astype(int)
            framed = np.all((path >= 0) & (path < np.array(brain.shape)[:, None]), axis=0)
            within = steps[framed][inside[tuple(path[:, framed])]]
            start = np.array(middle) + direction * (float(within[-1]) if within.size else 0.0)
            down, right = (y - start[0]) * spacing, (x - start[1]) * spacing
            along = -(down * direction[0] + right * direction[1])
            sag = self.R.uniform(-0.08, 0.08) * size_mm
            across = down * direction[1] - right * direction[0] - sag * np.sin(np.pi * np.clip(along / size_mm, 0, 1))
            distance = np.hypot(across, along - np.clip(along, 0.0, size_mm))
            profile = np.where(inside, _share(radius - distance, spacing), 0.0)
            mask = profile > 0.5
        if not mask.any():
            mask = profile >= profile.max()
        near = ndimage.distance_transform_edt(~mask) <= shapes.EDGE_REACH_PX
        region = Region(
            np.where(near, profile, 0.0),
            CATHETER_CT_HU,
            CATHETER_MRI,
            self.R.uniform(0.1, 0.9),
            np.zeros(brain.shape),
        )
        details = {
            "form": form,
            "catheter_mm": _CATHETER_MM,
            "source": "CT: 200 to 2000 HU, table of working ranges; MRI: no signal of silicone",
        }
        return Lesion(mask, [region], details)

    def _swap(self, brain: np.ndarray, size_mm: float) -> Lesion:
        spacing = self.pixel_spacing_mm
        size_mm = min(size_mm, 0.5 * float(np.sqrt(np.count_nonzero(brain))) * spacing)
        centre = self._centre(brain, 0.5 * size_mm, brain)
        blob = shapes.blob_level(self.R, brain.shape, centre, size_mm, spacing, 0.06)
        level = shapes.level_for_area(blob, brain, self._area_mm2(size_mm, brain), spacing)
        profile, mask = self._part(level, brain)
        needed = np.argwhere(profile > 0)
        places = np.argwhere(brain)
        best, offset = -1.0, (0, 0)
        for _ in range(self._tries):
            row, column = places[self.R.randint(len(places))] - np.rint(centre).astype(int)
            if np.hypot(row, column) * spacing < size_mm:
                continue
            source = needed + np.array([row, column])
            framed = np.all((source >= 0) & (source < brain.shape), axis=1)
            fits = float(brain[tuple(source[framed].T)].sum()) / len(source)
            if fits > best:
                best, offset = fits, (int(row), int(column))
            if fits > 0.98:
                break
        self._patch = (profile, offset)
        details = {
            "offset_mm": [float(part) * spacing for part in offset],
            "source": "intensities of the slice itself; swapped patch after Tan et al., MELBA 2022 (FPI)",
        }
        return Lesion(mask, [], details)

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Inject into one case; ``randomize=False`` repeats the last lesion."""
        shown = super().__call__(data, randomize)
        if not self._do_transform or self.structure == "catheter" or self._patch is None or not self.contrast:
            return shown
        d = dict(data)
        profile, offset = self._patch
        before = self._images(d)
        after = {}
        for key, image in before.items():
            other = ndimage.shift(image, [-part for part in offset], order=0, mode="nearest")
            changed = image + self.contrast * profile * (other - image)
            after[key] = np.where(profile > 0, painting.unit_of(d, key).confined(changed), image)
        lesion, brain = self._drawn, self._brain(d)
        ring = painting.around(lesion.mask, brain, 12.0 / self.pixel_spacing_mm)
        return self._finish(d, before, after, lesion.mask, ring, lesion.details)


def _share(level_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Share of each pixel inside a border, from the distance to it in mm."""
    return np.clip(0.5 + level_mm / spacing_mm, 0.0, 1.0)


InjectMissingStructureD = InjectMissingStructureDict = InjectMissingStructured
InjectForeignStructureD = InjectForeignStructureDict = InjectForeignStructured
