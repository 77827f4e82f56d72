"""Rigid and affine registration of two images of one head by Mattes mutual information, in ITK.

The metric is that of Mattes et al. (IEEE Trans Med Imaging 22(1), 2003), optimised by regular-step gradient descent
over several resolutions (ITK v4 framework: Avants et al., Front Neuroinform 8:44, 2014). World coordinates are RAS
millimetres throughout; ITK is given grids parallel to the world axes, for which its own convention does not matter.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..errors import InputError
from .head_volumes import HeadVolume, likeness, prepare_head

__all__ = ["KINDS", "Registration", "register_volumes"]

KINDS = ("rigid", "affine")

_COARSEST_MM = 8.0
_TURNS = (-15.0, 0.0, 15.0)
_STARTS = 3
_MARGIN_MM, _TIGHT_MARGIN_MM = 20.0, 6.0
_SIZES_ALIKE = 1.3
"""Volumes of two whole heads differ by less; a skull-stripped one, or one cut by the field of view, by more."""
_LEAST_VOXELS = 8
_LARGEST_ANGLE, _LARGEST_SHIFT_MM, _SCALES, _LEAST_OVERLAP = 45.0, 100.0, (0.7, 1.4), 0.5
_LEAST_ABOVE_CHANCE = 0.02
"""Normalised mutual information over that of shuffled voxels: noise stays under .01, heads reach .05 and more."""

_AS_THE_HEADERS_SAY = "as the headers say"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Registration:
    """What a registration found.

    Attributes:
        matrix: fixed world -> moving world, mm, float64 (D + 1, D + 1); the identity where nothing was accepted.
        kind: ``rigid`` or ``affine`` for what ``matrix`` is, ``identity`` where nothing was found or needed.
        quality: normalised mutual information under ``matrix``, in [1, 2].
        quality_before: the same under the identity, that is as the headers say.
        overlap: share of the smaller head that lies in the other under ``matrix``, in [0, 1].
        angle_degrees: rotation in ``matrix``.
        shift_mm: how far ``matrix`` moves the centre of the fixed head.
        accepted: whether the images lie together under ``matrix``, as far as can be told.
        reason: why not, or what was given up on the way; empty when all went well.
        seconds: time taken.
    """

    matrix: np.ndarray
    kind: str
    quality: float
    quality_before: float
    overlap: float
    angle_degrees: float
    shift_mm: float
    accepted: bool
    reason: str
    seconds: float

    @property
    def gain(self) -> float:
        """Normalised mutual information won over the headers; 0 for the identity."""
        return self.quality - self.quality_before

    def summary(self) -> dict[str, float | str]:
        """Plain values that repeat exactly with the seed, fit to be collated; ``accepted`` is 1.0 or 0.0."""
        names = ("kind", "quality", "quality_before", "gain", "overlap", "angle_degrees", "shift_mm", "reason")
        return {**{name: getattr(self, name) for name in names}, "accepted": float(self.accepted)}


def register_volumes(
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    moving: np.ndarray,
    moving_affine: np.ndarray,
    *,
    kind: str = "rigid",
    spacing_mm: float = 2.0,
    samples: int = 30_000,
    levels: int = 4,
    iterations: int = 100,
    seed: int = 0,
) -> Registration:
    """Find the mapping that brings two images of one head together.

    The search starts from the headers and from the centres of mass of both heads, turned by up to 15 degrees about
    each axis; the best three by normalised mutual information are optimised at 8 mm, and the best of these down to
    ``spacing_mm``. Points are taken in the smaller of the two heads and 20 mm around it, or 6 mm where it is much
    smaller, so that a skull-stripped image is not stretched to the skull of the other. Swapping the images gives the
    inverse.

    Where the result cannot be trusted, the mapping is the IDENTITY, ``accepted`` is False, ``reason`` says why and a
    warning is logged: no head found, the optimiser fails, more than 45 degrees, a scale outside 0.7 to 1.4, heads more
    than 100 mm apart or overlapping under 50 %, or hardly more mutual information than chance gives. Images whose
    headers do not agree then stay apart; ``overlap`` tells. Where the search finds nothing better than what the headers
    say, and that is plausible by the same tests, the identity is accepted. An affine that fails, or is less alike than
    the rigid result, leaves that in place and says so.

    Args:
        fixed: (X, Y, Z) or (H, W), finite; CT in Hounsfield units or any image with a dark background.
        fixed_affine: voxel -> RAS mm, (D + 1, D + 1); may be oblique, flipped or sheared.
        moving: image of as many axes, of any grid.
        moving_affine: voxel -> RAS mm.
        kind: ``rigid`` or ``affine`` (initialised by the rigid result).
        spacing_mm: finest resolution that is compared.
        samples: points drawn at each level.
        levels: most resolutions, each half the one before; never coarser than 8 mm.
        iterations: most steps at each level.
        seed: of the points drawn. One seed gives one matrix bit for bit, whatever the number of threads.

    Raises:
        InputError: for an unknown kind, a value out of range, or images that do not have 2 or 3 axes both.
    """
    _check(np.ndim(fixed), np.ndim(moving), kind, {"spacing_mm": spacing_mm, "samples": samples, "levels": levels})
    began = time.perf_counter()
    dims = np.ndim(fixed)
    images = prepare_head(fixed, fixed_affine, spacing_mm), prepare_head(moving, moving_affine, spacing_mm)
    before, apart = likeness(*images, np.eye(dims + 1))
    found: list[tuple[str, np.ndarray]] = []
    problems: list[str] = []
    empty = [name for name, image in zip(("fixed", "moving"), images, strict=True) if not image.head.any()]
    if empty:
        problems.append(f"no head found in the {' and the '.join(empty)} image")
    else:
        swapped = images[0].head_size > images[1].head_size
        search = _Search(*(images[::-1] if swapped else images), samples, iterations, seed)
        try:
            for stage in KINDS[: KINDS.index(kind) + 1]:
                start = found[-1][1] if found else None
                matrix = search.run(stage, _shrink_factors(images, spacing_mm, levels), start)
                found.append((stage, matrix))
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            problems.append(f"the optimiser failed: {lines[-1] if lines else type(error).__name__}")
        if swapped:
            found = [(stage, np.linalg.inv(matrix)) for stage, matrix in found]
    marks = [likeness(*images, matrix) for _, matrix in found]
    for (stage, matrix), (quality, overlap) in zip(found[::-1], marks[::-1], strict=True):
        problem = _implausible(*images, matrix, overlap) or _unconvincing(*images, matrix, quality, before)
        if stage == "affine" and quality < marks[0][0]:
            problem = problem or f"mutual information {quality:.4f} is less than {marks[0][0]:.4f} of the rigid mapping"
        if not problem:
            reason = "; ".join(problems)
            break
        problems.append(f"{stage}: {problem}")
    else:
        stage, matrix, quality, overlap = "identity", np.eye(dims + 1), before, apart
        reason = "; ".join(problems)
    # Where nothing better than the headers was found, and they hold by themselves, the images lie as they should.
    stands = (
        stage == "identity"
        and bool(found)
        and all(problem.endswith(_AS_THE_HEADERS_SAY) for problem in problems)
        and not _implausible(*images, matrix, overlap)
        and before - likeness(*images, matrix, shuffled=True)[0] >= _LEAST_ABOVE_CHANCE
    )
    if reason and not stands:
        logger.warning("registration: %s; %s is used", reason, f"the {stage} mapping")
    return Registration(
        matrix=matrix,
        kind=stage,
        quality=quality,
        quality_before=before,
        overlap=overlap,
        angle_degrees=_angle_and_scales(matrix)[0],
        shift_mm=float(np.linalg.norm(_map(matrix, images[0].centre) - images[0].centre)),
        accepted=stage != "identity" or stands,
        reason=reason,
        seconds=time.perf_counter() - began,
    )


class _Search:
    """ITK's optimisation of one pair."""

    def __init__(self, fixed: HeadVolume, moving: HeadVolume, samples: int, iterations: int, seed: int) -> None:
        self.fixed, self.moving = fixed, moving
        self.samples, self.iterations, self.seed = samples, iterations, seed
        depth = ndimage.distance_transform_edt(~fixed.head) * fixed.spacing_mm
        alike = moving.head_size < _SIZES_ALIKE * fixed.head_size
        self.where = (depth <= (_MARGIN_MM if alike else _TIGHT_MARGIN_MM)) & fixed.seen

    def run(self, kind: str, factors: list[int], start: np.ndarray | None) -> np.ndarray:
        """Optimise at every factor, coarse to fine, from ``start`` or, without one, from the best of many."""
        if start is not None:
            return self._optimise(kind, factors, start, 2.0)
        coarse = [self._optimise(kind, factors[:1], each, 4.0) for each in self._starts()]
        best = max(coarse, key=lambda matrix: likeness(self.fixed, self.moving, matrix)[0])
        return self._optimise(kind, factors[1:], best, 2.0) if factors[1:] else best

    def _starts(self) -> list[np.ndarray]:
        """The most alike at low resolution among the headers' position and turns about the centre of the head."""
        factor = max(1, round(_COARSEST_MM / self.fixed.spacing_mm))
        fixed, moving = self.fixed.coarser(factor), self.moving.coarser(factor)
        dims = fixed.values.ndim
        starts = [np.eye(dims + 1)]
        for turn in product(_TURNS, repeat=3 if dims == 3 else 1):
            rotation = Rotation.from_euler("xyz" if dims == 3 else "z", turn, degrees=True).as_matrix()[:dims, :dims]
            matrix = np.eye(dims + 1)
            matrix[:dims, :dims] = rotation
            matrix[:dims, dims] = self.moving.centre - rotation @ self.fixed.centre
            starts.append(matrix)
        marks = [likeness(fixed, moving, matrix) for matrix in starts]
        order = sorted(range(len(starts)), key=lambda i: (marks[i][1] < _LEAST_OVERLAP, -marks[i][0]))
        return [starts[i] for i in order[:_STARTS]]

    def _optimise(self, kind: str, factors: list[int], start: np.ndarray, step_mm: float) -> np.ndarray:
        import itk

        dims = self.fixed.values.ndim
        fixed, moving = _itk_image(self.fixed, self.fixed.values), _itk_image(self.moving, self.moving.values)
        mask = itk.ImageMaskSpatialObject[dims].New()
        mask.SetImage(_itk_image(self.fixed, self.where.astype(np.uint8)))
        mask.Update()
        image_type = type(fixed)
        metric = itk.MattesMutualInformationImageToImageMetricv4[image_type, image_type].New(NumberOfHistogramBins=32)
        metric.SetFixedImageMask(mask)
        # Gradients are taken at the samples only: filtering the whole image costs more than all iterations.
        metric.UseMovingImageGradientFilterOff()
        metric.UseFixedImageGradientFilterOff()
        # One work unit adds up in one order, so that a result repeats on any number of cores.
        metric.SetMaximumNumberOfWorkUnits(1)
        scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(Metric=metric)
        optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New(
            LearningRate=step_mm,
            MinimumStepLength=0.001,
            NumberOfIterations=self.iterations,
            RelaxationFactor=0.5,
            ScalesEstimator=scales,
            ReturnBestParametersAndValue=True,
        )
        optimizer.SetDoEstimateLearningRateOnce(False)
        transform = self._transform(kind, start)
        method = itk.ImageRegistrationMethodv4[image_type, image_type].New(
            FixedImage=fixed, MovingImage=moving, Metric=metric, Optimizer=optimizer, InitialTransform=transform
        )
        method.InPlaceOn()
        method.SetNumberOfLevels(len(factors))
        method.SetShrinkFactorsPerLevel(factors)
        method.SetSmoothingSigmasPerLevel([self.fixed.spacing_mm * factor / 2 * (factor > 1) for factor in factors])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetMetricSamplingStrategy(itk.ImageRegistrationMethodv4Enums.MetricSamplingStrategy_RANDOM)
        # The share is of the whole grid; points outside the mask are dropped.
        inside = max(int(self.where.sum()), 1)
        method.SetMetricSamplingPercentagePerLevel([min(1.0, self.samples * f**dims / inside) for f in factors])
        method.MetricSamplingReinitializeSeed(self.seed)
        method.Update()
        matrix = np.eye(dims + 1)
        matrix[:dims, :dims] = itk.array_from_matrix(transform.GetMatrix())
        matrix[:dims, dims] = np.array(transform.GetOffset())
        return matrix

    def _transform(self, kind: str, start: np.ndarray) -> Any:
        import itk

        dims = self.fixed.values.ndim
        if kind == "affine":
            transform = itk.AffineTransform[itk.D, dims].New()
        else:
            transform = (itk.VersorRigid3DTransform if dims == 3 else itk.Euler2DTransform)[itk.D].New()
        centre = self.fixed.centre
        transform.SetCenter(centre.tolist())
        transform.SetMatrix(itk.matrix_from_array(np.ascontiguousarray(start[:dims, :dims])))
        transform.SetTranslation((_map(start, centre) - centre).tolist())
        return transform


def _itk_image(volume: HeadVolume, array: np.ndarray) -> Any:
    import itk

    image = itk.image_from_array(np.ascontiguousarray(array.T))  # ITK's first axis is numpy's last
    image.SetOrigin(volume.origin.tolist())
    image.SetSpacing([float(volume.spacing_mm)] * array.ndim)
    return image


def _shrink_factors(images: tuple[HeadVolume, HeadVolume], spacing_mm: float, levels: int) -> list[int]:
    """Powers of 2, coarse to fine: at most 8 mm, and a thin stack keeps some planes."""
    thinnest = min(min(image.values.shape) for image in images)
    factors = [2**level for level in range(levels)]
    return [f for f in factors[::-1] if f == 1 or (f * spacing_mm <= _COARSEST_MM and thinnest >= f * _LEAST_VOXELS)]


def _map(matrix: np.ndarray, point: np.ndarray) -> np.ndarray:
    dims = len(point)
    return matrix[:dims, :dims] @ point + matrix[:dims, dims]


def _angle_and_scales(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """Rotation in degrees nearest to the linear part (polar decomposition), and its stretches; a mirror gives 180."""
    linear = matrix[:-1, :-1]
    left, stretches, right = np.linalg.svd(linear)
    rotation = left @ right
    if np.linalg.det(rotation) < 0:
        return 180.0, stretches
    cosine = (np.trace(rotation) - 1) / 2 if len(linear) == 3 else rotation[0, 0]
    # Of the identity, rounding leaves an angle of 1e-8 degrees otherwise.
    angle = 0.0 if np.array_equal(linear, np.eye(len(linear))) else float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return angle, stretches


def _implausible(fixed: HeadVolume, moving: HeadVolume, matrix: np.ndarray, overlap: float) -> str:
    """What makes the mapping impossible for one head in two scanners; empty when nothing does."""
    angle, stretches = _angle_and_scales(matrix)
    apart = float(np.linalg.norm(_map(matrix, fixed.centre) - moving.centre))
    if not np.isfinite(matrix).all() or angle > _LARGEST_ANGLE:
        return f"a rotation of {angle:.0f} degrees is more than {_LARGEST_ANGLE:.0f}"
    if stretches.min() < _SCALES[0] or stretches.max() > _SCALES[1]:
        return f"scales {stretches.min():.2f} to {stretches.max():.2f} are outside {_SCALES[0]} to {_SCALES[1]}"
    if apart > _LARGEST_SHIFT_MM:
        return f"the heads' centres stay {apart:.0f} mm apart, more than {_LARGEST_SHIFT_MM:.0f}"
    return "" if overlap >= _LEAST_OVERLAP else f"the heads overlap by {overlap:.0%}, under {_LEAST_OVERLAP:.0%}"


def _unconvincing(fixed: HeadVolume, moving: HeadVolume, matrix: np.ndarray, quality: float, before: float) -> str:
    """Why the mutual information does not speak for the mapping; empty when it does."""
    if quality <= before:
        return f"mutual information {quality:.4f} is no more than {before:.4f} {_AS_THE_HEADERS_SAY}"
    chance = likeness(fixed, moving, matrix, shuffled=True)[0]
    if quality - chance < _LEAST_ABOVE_CHANCE:
        return f"mutual information {quality:.4f} is hardly more than {chance:.4f} by chance"
    return ""


def _check(fixed_axes: int, moving_axes: int, kind: str, positive: dict[str, float]) -> None:
    if kind not in KINDS:
        raise InputError.about("kind", f"got {kind!r}", f"use one of {', '.join(KINDS)}")
    for name, value in positive.items():
        if not value > 0:
            raise InputError.about(name, f"got {value}", "give a value above 0")
    if fixed_axes != moving_axes or fixed_axes not in (2, 3):
        raise InputError.about(
            "images", f"got {fixed_axes} and {moving_axes} axes", "give two volumes (X, Y, Z) or two pictures (H, W)"
        )
