"""Normal head anatomy for the phantom: MNI152 tissue maps, a skull by distance, and one smooth random head for each
seed.

The grey- and white-matter maps are those of the ICBM 2009a symmetric template (Fonov et al., NeuroImage 54, 2011)
that the ``nilearn`` wheel ships. They are symmetric, so every left-right difference of a phantom head is one that
this module draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

__all__ = ["TISSUES", "Head", "Template", "load_template"]

TISSUES = ("air", "csf", "gm", "wm", "bone", "diploe", "fat", "skin", "dura", "calcification")
"""Names of the tissue fractions, in the order of their channels and of the labels in a tissue truth picture."""

LATTICE_MM = 5.0
LATTICE_HALF_MM = 120.0
SULCUS_CLOSING_MM = 14.0
CAVITY_MARGIN_MM = 2.0
NEAR_HEAD_MM = 40.0
"""Beyond this distance from the undeformed cavity there is only air: skull, scalp and deformation stay within it."""


@dataclass(frozen=True)
class Template:
    """Tissue maps in template space (RAS, millimetres, x = 0 is the mid-sagittal plane).

    Attributes:
        gm: grey-matter probability in [0, 1].
        wm: white-matter probability in [0, 1].
        depth: signed distance in mm to the inner surface of the skull; negative inside the intracranial cavity.
        origin: template coordinates in mm of voxel (0, 0, 0); the voxel size is 1 mm.
    """

    gm: np.ndarray
    wm: np.ndarray
    depth: np.ndarray
    origin: np.ndarray


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the maps and derive the intracranial cavity from them; kept in memory for the process."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    gm_image, wm_image = load_mni152_gm_template(resolution=1), load_mni152_wm_template(resolution=1)
    gm = np.clip(np.asarray(gm_image.dataobj, dtype=np.float32), 0, None)
    wm = np.clip(np.asarray(wm_image.dataobj, dtype=np.float32), 0, None)
    gm, wm = gm / gm.max(), wm / wm.max()
    depth = _signed_cavity_distance(gm + wm > 0.4)
    return Template(gm, wm, depth, np.asarray(gm_image.affine, dtype=np.float64)[:3, 3])


def _signed_cavity_distance(brain: np.ndarray) -> np.ndarray:
    """Close sulci and fissures of a 1 mm brain mask, add a subarachnoid margin, return the signed distance in mm."""
    # Every second voxel is enough for a surface this smooth, and eight times faster.
    half = ndimage.binary_fill_holes(ndimage.zoom(brain.astype(np.float32), 0.5, order=1) > 0.5)
    closed = ndimage.distance_transform_edt(~half) * 2 < SULCUS_CLOSING_MM
    cavity = ndimage.distance_transform_edt(closed) * 2 > SULCUS_CLOSING_MM - CAVITY_MARGIN_MM
    signed = ndimage.distance_transform_edt(~cavity) - ndimage.distance_transform_edt(cavity)
    signed = ndimage.gaussian_filter(signed.astype(np.float32) * 2, 1.5)
    return ndimage.zoom(signed, np.array(brain.shape) / np.array(signed.shape), order=1)


def _smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a cubic between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _ramp(distance: np.ndarray, width: float = 0.8) -> np.ndarray:
    """Share of a voxel beyond a surface, from the signed distance in mm (a partial-volume edge of ``width`` mm each
    side)."""
    return np.clip(0.5 + distance / (2 * width), 0, 1)


class Head:
    """One random normal head: a smooth deformation of the template and the thickness of its shells.

    Args:
        seed: the subject; every random number of the head comes from it alone.
        asymmetry: amplitude of the part of the deformation that is not mirror-symmetric, as a share of the symmetric
            part.
    """

    _SHAPE_SCALES = ((110.0, 3.0), (60.0, 0.8))
    """Wavelength and amplitude in mm of the deformation of the whole head: skulls are smooth."""
    _BRAIN_SCALES = ((34.0, 2.4), (16.0, 1.5))
    """Wavelength and amplitude in mm of the deformation of the brain within it: lobes and folds."""

    def __init__(self, seed: int, asymmetry: float = 0.4) -> None:
        rng = np.random.default_rng([seed, 1])
        self.seed = seed
        self.angles = np.deg2rad(rng.normal(0, (2.0, 1.0, 3.5)).clip(-8, 8))
        self.shift_mm = rng.normal(0, (2.5, 3.0, 2.0)).clip(-8, 8)
        self.scale = np.exp(rng.normal(0, 0.035) + rng.normal(0, 0.02, 3))
        self.csf_weight = float(np.exp(rng.normal(0.15, 0.45)))
        self.skull_mm = float(rng.uniform(5.0, 7.5))
        self.scalp_mm = float(rng.uniform(4.0, 7.0))
        self.sinus = float(rng.random() < 0.6) * rng.uniform(4, 9)
        self.falx = float(rng.uniform(0.25, 0.8))
        self.calcified = rng.random() < 0.55
        self.calcification_mm = rng.uniform(0.8, 2.6, 3)
        self._ventricle = float(rng.normal(0, 1.8))
        self._shape = self._draw_displacement(rng, self._SHAPE_SCALES, asymmetry)
        self._brain = self._draw_displacement(rng, self._BRAIN_SCALES, asymmetry)
        self._folding = self._draw_field(rng, 7.0, asymmetry * 2)
        self._thickness = self._draw_field(rng, 35.0, asymmetry)

    @staticmethod
    def _noise_lattice(rng: np.random.Generator, scale_mm: float, components: int) -> np.ndarray:
        """Band-limited noise of unit standard deviation on the lattice, shape (components, n, n, n)."""
        count = round(2 * LATTICE_HALF_MM / LATTICE_MM) + 1
        coarse = int(np.ceil(2 * LATTICE_HALF_MM / scale_mm)) + 3
        noise = rng.standard_normal((components, min(coarse, count), min(coarse, count), min(coarse, count)))
        field = noise
        if coarse < count:
            # Spline interpolation is separable: three small matrix products instead of one slow 3D zoom.
            along = ndimage.zoom(np.eye(coarse), (count / coarse, 1), order=3, mode="nearest")
            field = np.einsum("cxyz,ix,jy,kz->cijk", noise, along, along, along, optimize=True)
        return (field / field.std()).astype(np.float32)

    @classmethod
    def _draw_field(cls, rng: np.random.Generator, scale_mm: float, asymmetry: float) -> np.ndarray:
        """A scalar field, mirror-symmetric but for ``asymmetry``."""
        field, other = cls._noise_lattice(rng, scale_mm, 2)
        return (field + field[::-1]) / np.sqrt(2) + asymmetry * other

    @classmethod
    def _draw_displacement(
        cls, rng: np.random.Generator, scales: tuple[tuple[float, float], ...], asymmetry: float
    ) -> np.ndarray:
        """Displacement in mm on the lattice, shape (3, n, n, n): the x part of a symmetric field is odd in x."""
        total = np.zeros((), dtype=np.float32)
        mirror_sign = np.array([-1, 1, 1], dtype=np.float32)[:, None, None, None]
        for scale_mm, amplitude_mm in scales:
            field = cls._noise_lattice(rng, scale_mm, 3)
            symmetric = (field + mirror_sign * field[:, ::-1]) / np.sqrt(2)
            total = total + amplitude_mm * (symmetric + asymmetry * cls._noise_lattice(rng, scale_mm, 3)) / np.sqrt(2)
        return total

    def _on_lattice(self, field: np.ndarray, points: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(field, (points + LATTICE_HALF_MM) / LATTICE_MM, order=1, mode="nearest")

    def _undo_pose(self, points: np.ndarray) -> np.ndarray:
        """Head coordinates without this head's rotation, shift and size, in template millimetres."""
        pitch, roll, yaw = self.angles
        cx, sx, cy, sy, cz, sz = (f(a) for a in (pitch, roll, yaw) for f in (np.cos, np.sin))
        rotation = (
            np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
            @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        )
        # The template's middle lies 18 mm behind its origin.
        middle = np.array([[0.0], [-18.0], [15.0]])
        return (rotation.T @ (points - self.shift_mm[:, None])) / self.scale[:, None] + middle

    def to_template(self, points: np.ndarray) -> np.ndarray:
        """Map head coordinates (mm, RAS, shape (3, n)) to template coordinates: pose and size, then the deformation."""
        template = self._undo_pose(points)
        shaped = template + np.stack([self._on_lattice(part, template) for part in self._shape])
        depth = self._depth(shaped)
        within = _smooth_step(-depth, 1, 14)
        moved = shaped + within * np.stack([self._on_lattice(part, template) for part in self._brain])
        return self._open_ventricles(moved)

    @staticmethod
    def _depth(at: np.ndarray) -> np.ndarray:
        template = load_template()
        return ndimage.map_coordinates(template.depth, at - template.origin[:, None], order=1, mode="nearest")

    def _open_ventricles(self, points: np.ndarray) -> np.ndarray:
        """Widen or narrow the lateral ventricles: a smooth pull along x that is odd in x, largest 12 mm from the
        midline."""
        x, y, z = points
        pull = x / 12 * np.exp(0.5 - 0.5 * (x / 12) ** 2) * np.exp(-(((y + 15) / 45) ** 2) - ((z - 15) / 22) ** 2)
        return np.stack([x - self._ventricle * pull, y, z])

    def tissue_fractions(self, points: np.ndarray) -> np.ndarray:
        """Share of each tissue at head coordinates.

        Args:
            points: millimetres, RAS, shape (3, n).

        Returns:
            float32 array of shape (len(TISSUES), n); a column sums to 1.
        """
        fractions = np.zeros((len(TISSUES), points.shape[1]), dtype=np.float32)
        fractions[0] = 1
        near = np.flatnonzero(self._depth(self._undo_pose(points)) < NEAR_HEAD_MM)
        fractions[:, near] = self._fractions_near(points[:, near])
        return fractions

    def _fractions_near(self, points: np.ndarray) -> np.ndarray:
        template = load_template()
        at = self.to_template(points)
        voxel = at - template.origin[:, None]
        gm = ndimage.map_coordinates(template.gm, voxel, order=1)
        wm = ndimage.map_coordinates(template.wm, voxel, order=1)
        depth = self._depth(at)
        x, y, z = at
        fractions = np.zeros((len(TISSUES), points.shape[1]), dtype=np.float32)
        inside = _ramp(-depth)
        csf, gm, wm = self._sharpen(gm, wm, self._on_lattice(self._folding, at), depth, x)
        falx = self.falx * np.exp(-((x / 0.9) ** 2)) * _smooth_step(depth, -32, -20) * _smooth_step(z, -8, 6)
        calcification = self._calcification(x, y, z)
        fractions[1:4] = inside * (1 - calcification) * (1 - falx) * np.stack([csf, gm, wm])
        fractions[8] = inside * (1 - calcification) * falx
        fractions[9] = inside * calcification
        self._add_shells(fractions, depth, at)
        np.clip(fractions, 0, 1, out=fractions)
        fractions[0] += np.clip(1 - fractions.sum(0), 0, None)
        return fractions / fractions.sum(0)

    def _sharpen(
        self, gm: np.ndarray, wm: np.ndarray, folding: np.ndarray, depth: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Undo the blur of the population average: each map to the power 2.5, weighted by this head's sulci and
        folds."""
        csf = np.clip(1 - gm - wm, 0, 1)
        # The average fills the interhemispheric fissure with cortex; a head has fluid there.
        fissure = 0.35 * np.exp(-((x / 2.0) ** 2)) * _smooth_step(depth, -40, -25) * (wm < 0.3)
        csf = np.clip(csf + fissure, 0, 1)
        # Sulci lie within 25 mm of the skull; deeper, only the ventricles' size may vary.
        superficial = _smooth_step(depth, -28, -18)
        folds = np.exp(superficial * 0.45 * folding)
        weights = (
            np.stack([csf * self.csf_weight * folds * (1 + 0.35 * superficial), gm, wm * np.exp(0.12 * folding)]) ** 2.5
        )
        weights /= np.maximum(weights.sum(0), 1e-6)
        return weights[0], weights[1], weights[2]

    def _calcification(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Pineal gland and the choroid plexus of both trigones: calcified in about half of normal adults."""
        if not self.calcified:
            return np.zeros_like(x)
        centres = ((0.0, -30.0, 2.0), (22.0, -42.0, 8.0), (-22.0, -42.0, 8.0))
        share = np.zeros_like(x)
        for (cx, cy, cz), radius in zip(centres, self.calcification_mm, strict=True):
            distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + ((z - cz) / 1.5) ** 2)
            share = np.maximum(share, _ramp(radius - distance))
        return share

    def _add_shells(self, fractions: np.ndarray, depth: np.ndarray, at: np.ndarray) -> None:
        """Skull (two tables of bone around diploe), frontal sinus, fat and skin, by distance from the cavity."""
        x, y, z = at
        frontal = np.exp(-((x / 20) ** 2) - ((z + 2) / 13) ** 2) * _smooth_step(y, 30, 55)
        skull = self.skull_mm * (1 + 0.15 * self._on_lattice(self._thickness, at)) + self.sinus * frontal
        skull = np.clip(skull, 2.5, None)
        temporal = np.exp(-(((y - 5) / 28) ** 2)) * _smooth_step(-z, -22, 8) * _smooth_step(np.abs(x), 45, 60)
        scalp = self.scalp_mm + 6 * temporal
        beyond = _ramp(depth)
        bone = beyond * _ramp(skull - depth)
        marrow = _ramp(depth - 0.30 * skull) * _ramp(0.72 * skull - depth) * _smooth_step(skull, 3.5, 6)
        air = marrow * _smooth_step(self.sinus * frontal, 2.5, 4.5)
        outer = _ramp(depth - skull) * _ramp(skull + scalp - depth)
        skin = outer * _ramp(depth - skull - scalp + 1.8)
        muscle = outer * np.clip(temporal * 1.4, 0, 1) * _ramp(skull + scalp - 2.5 - depth)
        fractions[4] = bone * (1 - marrow)
        fractions[5] = bone * (marrow - air)
        fractions[7] = np.maximum(skin, muscle)
        fractions[6] = outer - fractions[7]
        fractions[0] = bone * air
