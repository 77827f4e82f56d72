"""Axial slices of a volume: which ones, cut out with their place in space, and put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monai_ctmri.errors import InputError

if TYPE_CHECKING:
    from monai_ctmri.data.reading.volumes import Volume

__all__ = ["AxialSlice", "axial_order", "cut_slices", "restack", "select_levels"]

_AIR_HU = -300.0
_AIR_SHARE = 0.1  # of the 99th percentile, where there is no physical unit
_SMALLEST_HEAD_MM2 = 1500.0
_CUT_HEAD_MM2 = 9000.0


@dataclass(frozen=True)
class AxialSlice:
    """One slice of a volume.

    Attributes:
        index: number along the stored axis that runs nearest to inferior-superior.
        height_mm: z of the slice's centre in RAS.
        values: (X, Y, 1), x towards the patient's right to left (R), y towards anterior (A), as NIfTI stores RAS.
        affine: (4, 4) voxel -> RAS millimetres of ``values``.
    """

    index: int
    height_mm: float
    values: np.ndarray
    affine: np.ndarray


def axial_order(affine: np.ndarray) -> np.ndarray:
    """Return nibabel's orientation (3, 2) that brings stored axes nearest to R, A, S without resampling.

    Raises:
        InputError: when two stored axes run along one direction: the affine is no orientation.
    """
    from nibabel.orientations import io_orientation

    found = io_orientation(affine)
    if not np.isfinite(found).all():
        raise InputError.about("affine", "a voxel axis of no length", "correct the header's orientation")
    return found


def select_levels(volume: Volume, top_mm: float = 20.0, bottom_mm: float = 100.0) -> list[int]:
    """Choose the slices that lie at brain level, by their distance from the vertex.

    The vertex is the topmost slice in which the head measures at least 15 cm2; an adult's brain reaches from about
    15 mm below it (scalp and skull) to about 130 mm, its lowest third beside the skull base. Where the head is already
    larger than 90 cm2 in the topmost slice, the vertex lies outside the field of view and that slice is the beginning.

    Args:
        volume: the head.
        top_mm, bottom_mm: distance from the vertex of the first and last slice taken.

    Returns:
        Indices along the stored axial axis, from inferior to superior; empty when there is no head.
    """
    if not 0 <= top_mm < bottom_mm:
        raise InputError.about(f"levels {top_mm:g} to {bottom_mm:g} mm", "not a range", "give two rising distances")
    from nibabel.affines import voxel_sizes
    from nibabel.orientations import apply_orientation

    order = axial_order(volume.affine)
    stack = np.asarray(apply_orientation(volume.array, order))
    sizes = voxel_sizes(volume.affine)[_stored_axes(order)]
    areas = head_areas_mm2(stack, float(sizes[0] * sizes[1]), volume.modality)
    with_head = np.flatnonzero(areas >= _SMALLEST_HEAD_MM2)
    if not len(with_head):
        return []
    vertex = int(with_head[-1])
    begin = 0.0 if vertex == len(areas) - 1 and areas[vertex] > _CUT_HEAD_MM2 else top_mm
    depth = (vertex - np.arange(len(areas))) * float(sizes[2])
    tolerance = 1e-6 * float(sizes[2])
    chosen = (depth >= begin - tolerance) & (depth <= bottom_mm + tolerance) & (areas >= _SMALLEST_HEAD_MM2)
    indices = np.flatnonzero(chosen)
    if order[_axial_axis(order), 1] < 0:
        indices = stack.shape[2] - 1 - indices
    return [int(index) for index in indices]


def head_areas_mm2(stack: np.ndarray, pixel_mm2: float, modality: str | None) -> np.ndarray:
    """Area of the head in each slice of a stack (X, Y, Z), in square millimetres."""
    from scipy import ndimage

    threshold = _AIR_HU if modality == "ct" and stack.min() < _AIR_HU else _AIR_SHARE * float(np.percentile(stack, 99))
    areas = np.zeros(stack.shape[2])
    for index in range(stack.shape[2]):
        labels, count = ndimage.label(ndimage.binary_opening(stack[:, :, index] > threshold))
        if count:
            head = ndimage.binary_fill_holes(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))
            areas[index] = head.sum() * pixel_mm2
    return areas


def cut_slices(volume: Volume, indices: Sequence[int]) -> Iterator[AxialSlice]:
    """Cut slices out, brought to the RAS order of axes by flipping and swapping alone: no value is interpolated.

    Args:
        volume: of any orientation.
        indices: along the stored axis that runs nearest to inferior-superior.

    Raises:
        InputError: for an index outside the volume.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    order = axial_order(volume.affine)
    axis = _axial_axis(order)
    length = volume.array.shape[axis]
    stack = np.asarray(apply_orientation(volume.array, order))
    affine = np.asarray(volume.affine @ inv_ornt_aff(order, volume.array.shape))
    for index in indices:
        if not 0 <= index < length:
            raise InputError.about(volume.path, f"has no axial slice {index}", f"name one of 0 to {length - 1}")
        place = length - 1 - index if order[axis, 1] < 0 else index
        shifted = affine.copy()
        shifted[:3, 3] = affine[:3, :] @ np.array([0, 0, place, 1.0])
        values = np.ascontiguousarray(stack[:, :, place : place + 1])
        centre = shifted @ np.array([(values.shape[0] - 1) / 2, (values.shape[1] - 1) / 2, 0, 1.0])
        yield AxialSlice(int(index), float(centre[2]), values, shifted)


def restack(
    planes: Mapping[int, np.ndarray], shape: Sequence[int], affine: np.ndarray, fill: float = 0.0
) -> np.ndarray:
    """Put slices back where :func:`cut_slices` took them.

    Args:
        planes: by index, each (X, Y) or (X, Y, 1) in the RAS order that :func:`cut_slices` gives.
        shape: of the volume they came from.
        affine: of the volume they came from.
        fill: value of the slices that are not given.

    Returns:
        The volume (X, Y, Z) in its stored order of axes, float32.

    Raises:
        InputError: when a plane is not of the size of the volume's slices, or its index lies outside.
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    order = axial_order(affine)
    axis = _axial_axis(order)
    stored = _stored_axes(order)
    size = tuple(int(shape[number]) for number in stored)
    stack = np.full(size, fill, dtype=np.float32)
    for index, plane in planes.items():
        values = np.asarray(plane).reshape(np.asarray(plane).shape[:2])
        if values.shape != size[:2] or not 0 <= index < size[2]:
            problem = f"slice {index} of size {values.shape} does not fit a volume of shape {tuple(shape)}"
            raise InputError.about("slices", problem, "give slices on the grid they were cut from")
        place = size[2] - 1 - index if order[axis, 1] < 0 else index
        stack[:, :, place] = values
    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(affine))
    return np.ascontiguousarray(apply_orientation(stack, back))


def _axial_axis(order: np.ndarray) -> int:
    """The stored axis that runs nearest to inferior-superior."""
    return int(np.flatnonzero(order[:, 0] == 2)[0])


def _stored_axes(order: np.ndarray) -> list[int]:
    """For each of the axes R, A, S the stored axis that runs along it."""
    return [int(np.flatnonzero(order[:, 0] == number)[0]) for number in range(3)]
