"""Whether the slices of a DICOM series form one volume: their order, distances, tilt and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from monai_ctmri.data.findings import Finding
from monai_ctmri.data.reading.dicom_header import SliceHeader

__all__ = ["SeriesGeometry", "series_affine", "series_geometry"]

_TILT_DEGREES = 0.5
_SHIFT_MM = 0.05
_SAME_PLACE_MM = 0.01
_MISSING_SHARE = 0.25
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SeriesGeometry:
    """How the slices of a series lie.

    Attributes:
        slices: sorted along the normal of the slices, by the positions alone.
        spacing: (row, column, slice) in mm; the last is the distance along the normal, None where there is no single
            one; None where no usable geometry is stored.
        problems: findings of kind ``tilted``, ``uneven_spacing`` and ``incomplete_series``.
        hopeless: why the slices cannot be resampled to one volume, None where they can.
    """

    slices: tuple[SliceHeader, ...]
    spacing: tuple[float, float, float | None] | None
    problems: tuple[Finding, ...]
    hopeless: str | None


def series_geometry(headers: Sequence[SliceHeader]) -> SeriesGeometry:
    """Sort slices along their normal and look for what keeps them from being one volume.

    Distances are taken from ImagePositionPatient along the normal; SliceThickness and SpacingBetweenSlices say nothing
    about where slices lie (DICOM PS3.3, C.7.6.2.1.1) and are not used. Distances count as even when each is within
    1 % or 0.05 mm (whichever is more) of their median and no slice lies more than a tenth of it off the even grid.
    Slices count as tilted when a step between neighbours is more than 0.5 degrees and 0.05 mm off the normal. A
    distance that is a whole multiple of the median means missing slices, unless more than a quarter of them are.

    Args:
        headers: of one series, at least one.
    """
    ordered = sorted(headers, key=lambda each: each.path)
    first = ordered[0]
    unusable = _unusable(ordered)
    if unusable is not None:
        problem = Finding(first.path, "incomplete_series", unusable)
        return SeriesGeometry(tuple(ordered), None, (problem,), unusable)
    normal = first.normal
    ordered.sort(key=lambda each: float(_position(each) @ normal))
    first = ordered[0]
    assert first.spacing is not None
    problems, hopeless = [], None
    different = _different(ordered)
    if different:
        problems.append(Finding(first.path, "incomplete_series", f"slices differ in {', '.join(different)}"))
        others = [each for each in different if each != "rescale"]
        hopeless = f"slices differ in {', '.join(others)}" if others else None
    steps = np.diff([_position(each) for each in ordered], axis=0).reshape(-1, 3)
    distances = np.linalg.norm(steps, axis=1)
    same = distances <= _SAME_PLACE_MM
    if same.any():
        copies = [one.instance == other.instance for one, other in pairwise(ordered)]
        what = "copies of one image" if all(np.array(copies)[same]) else "different images at one position"
        text = f"{int(same.sum())} slices at the position of another ({what})"
        problems.append(Finding(first.path, "incomplete_series", text))
        hopeless = hopeless or (None if what.startswith("copies") else text)
    steps, distances = steps[~same], distances[~same]
    gaps = steps @ normal
    distance: float | None = None
    if len(gaps):
        problems += _tilt(first, ordered, steps, normal)
        found = _unevenness(first, gaps, distances)
        problems += found
        if not found:
            distance = float(gaps.mean())
        if gaps.min() <= _SAME_PLACE_MM:
            hopeless = hopeless or "slices lie beside each other instead of one above the other"
    return SeriesGeometry(tuple(ordered), (*first.spacing, distance), tuple(problems), hopeless)


def series_affine(geometry: SeriesGeometry) -> np.ndarray:
    """The affine (column, row, slice) -> RAS mm of an even series, (4, 4).

    A single slice has no distance to another: 1 mm stands for it. The third axis runs along the line of positions.
    """
    first, last = geometry.slices[0], geometry.slices[-1]
    assert first.spacing is not None
    assert first.orientation is not None
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing[1]
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    count = len(geometry.slices) - 1
    affine[:3, 2] = (_position(last) - _position(first)) / count if count else first.normal
    affine[:3, 3] = _position(first)
    return np.asarray(_LPS_TO_RAS @ affine)


def _position(header: SliceHeader) -> np.ndarray:
    assert header.position is not None
    return header.position


def _array(values: np.ndarray | tuple[float, float] | None) -> np.ndarray:
    assert values is not None
    return np.asarray(values)


def _unusable(headers: Sequence[SliceHeader]) -> str | None:
    if any(each.frames > 1 for each in headers):
        return "a multi-frame object, which is not supported"
    if not all(each.grey for each in headers):
        return "colour pictures"
    if any(each.position is None or each.orientation is None or each.spacing is None for each in headers):
        return "no usable position, orientation or pixel spacing in the header"
    return None


def _different(headers: Sequence[SliceHeader]) -> list[str]:
    first = headers[0]
    differs = {
        "rows or columns": lambda each: each.size != first.size,
        "pixel spacing": lambda each: not np.allclose(_array(each.spacing), _array(first.spacing), rtol=1e-3),
        "orientation": lambda each: not np.allclose(_array(each.orientation), _array(first.orientation), atol=2e-3),
        "frame of reference": lambda each: each.frame_of_reference != first.frame_of_reference,
        "rescale": lambda each: each.rescale != first.rescale,
    }
    return [name for name, test in differs.items() if any(test(each) for each in headers)]


def _tilt(first: SliceHeader, headers: Sequence[SliceHeader], steps: np.ndarray, normal: np.ndarray) -> list[Finding]:
    along = steps @ normal
    sideways = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    angles = np.rad2deg(np.arctan2(sideways, along))
    angles[sideways <= _SHIFT_MM] = 0
    if angles.max() <= _TILT_DEGREES:
        return []
    stated = sorted({each.gantry_tilt for each in headers if each.gantry_tilt is not None})
    text = f"steps between slices lean {angles.max():.1f} degrees off their normal"
    if stated:
        text += f" (GantryDetectorTilt {', '.join(f'{each:g}' for each in stated)})"
    return [Finding(first.path, "tilted", text)]


def _unevenness(first: SliceHeader, gaps: np.ndarray, distances: np.ndarray) -> list[Finding]:
    middle = float(np.median(gaps))
    tolerance = max(0.01 * middle, 0.05)
    places = np.cumsum(gaps)
    off_grid = np.abs(places - np.arange(1, len(gaps) + 1) * places[-1] / len(gaps))
    if np.abs(gaps - middle).max() <= tolerance and off_grid.max() <= max(0.1 * middle, 0.05):
        return []
    multiples = np.round(gaps / middle)
    multiple = (np.abs(gaps - multiples * middle) <= tolerance * multiples) & (multiples >= 1)
    missing = int((multiples - 1)[multiple].sum())
    text = _table(distances)
    if multiple.all() and 0 < (multiples > 1).mean() <= _MISSING_SHARE:
        return [Finding(first.path, "incomplete_series", f"{missing} slices missing: distances {text}")]
    return [Finding(first.path, "uneven_spacing", f"distances {text}")]


def _table(distances: np.ndarray) -> str:
    """The distinct distances with how often each comes, e.g. ``4.22 mm (13), 7.38 mm (13)``."""
    counts = sorted(Counter(np.round(distances, 2).tolist()).items())
    shown = ", ".join(f"{value:.2f} mm ({count})" for value, count in counts[:8])
    return shown + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")
