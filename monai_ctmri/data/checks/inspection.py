"""What one file holds, learnt by opening it once; nothing of its pixels is kept."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_ctmri.data.checks.duplicates import fingerprint, perceptual_hash
from monai_ctmri.data.checks.failures import failures_of
from monai_ctmri.data.checks.isolation import TIME_LIMIT, TOO_LONG, map_isolated
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.formats import kind_of
from monai_ctmri.data.verification import MAX_VOXELS, read_pixels
from monai_ctmri.errors import InputError
from monai_ctmri.keys import MODALITIES

if TYPE_CHECKING:
    from monai_ctmri.data.looking.appearance import Appearance
    from monai_ctmri.data.reading.volumes import Volume

__all__ = ["BINS", "Facts", "inspect_file", "inspect_files"]

BINS = 256
"""Bins of the histogram."""

_LOWEST_WINDOWED = -200.0  # grey levels are hardly negative; in HU the air around a head is near -1000
_LEVELS = (0.4, 0.5, 0.6)  # of a volume's height: where an axial slice is most likely to show brain

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What opening one file told.

    Attributes:
        path: the file, or the folder of a DICOM series.
        kind: ``picture``, ``array``, ``volume`` or ``dicom``; None when its name says none of them.
        bytes: size on disk; of a folder, the sum of its files.
        problem: why it could not be read (``unreadable``, ``truncated``, ``too_large``, ``not_finite``, or an error of
            its series); what follows is empty then.
        shape: (H, W) of a picture, (X, Y, Z) of a volume.
        channels: 1 grey, 2 grey and transparency, 3 colour, 4 colour and transparency.
        dtype: NumPy's name of the stored type.
        bits: of one stored value.
        spacing: size of a pixel or voxel in mm, along the axes of ``shape``; None where the file does not say.
        orientation: direction of the axes of a volume, as ``LAS``; None for a picture.
        affine: 4 x 4, voxel -> RAS mm of a volume; None for a picture.
        minimum, maximum, mean, std, p1, p99: of the values, a colour picture's in grey.
        histogram: how many values lie in each of the 256 bins.
        histogram_range: the values in the middle of the first and last bin for integers of 8 bits, else the outer
            edges of the first and the last bin.
        digest: SHA-256 of values and shape (``duplicates.fingerprint``); None where one value is everywhere.
        phash: ``duplicates.perceptual_hash`` of the picture, of a volume's middle slice; None where that is constant.
        channel_difference: largest mean absolute difference between two colours, as a share of full scale, [0, 1].
        appearance: what it looks like; None for an array of more than one slice.
        windowed: whether the values are grey levels, and not HU or another physical quantity.
        findings: what the reader of a volume or a series remarked.
    """

    path: Path
    kind: str | None = None
    bytes: int = 0
    problem: Finding | None = None
    shape: tuple[int, ...] = ()
    channels: int = 1
    dtype: str = ""
    bits: int = 0
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    minimum: float = 0.0
    maximum: float = 0.0
    mean: float = 0.0
    std: float = 0.0
    p1: float = 0.0
    p99: float = 0.0
    histogram: tuple[int, ...] = ()
    histogram_range: tuple[float, float] = (0.0, 0.0)
    digest: str | None = None
    phash: int | None = None
    channel_difference: float = 0.0
    appearance: Appearance | None = None
    windowed: bool = False
    findings: tuple[Finding, ...] = ()


def inspect_file(
    path: str | os.PathLike[str],
    modality: str | None = None,
    max_voxels: int = MAX_VOXELS,
    *,
    allow_resample: bool = False,
) -> Facts:
    """Open a file, learn what there is to know, and let go of its pixels.

    Args:
        path: a file, or a folder with one DICOM series.
        modality: ``ct`` or ``mri`` as stated; None when not known.
        max_voxels: larger images are refused by their header.
        allow_resample: bring a tilted or uneven series to an even grid, instead of finding fault with it.

    Returns:
        The facts; of a file that is bad in any way, facts with a ``problem``. A bad file never raises.

    Raises:
        InputError: for an unknown modality.
    """
    if modality is not None and modality not in MODALITIES:
        raise InputError.about(f"modality {modality!r}", "unknown", f"use one of {', '.join(MODALITIES)}")
    path = Path(path)
    kind: str | None = None
    size = 0
    # Decoders warn on standard error of much that is harmless, and of large pictures, which max_voxels judges.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind = "dicom" if path.is_dir() else kind_of(path)
            size = sum(entry.stat().st_size for entry in path.iterdir()) if path.is_dir() else path.stat().st_size
            if kind in ("volume", "dicom"):
                found = _facts_of_volume(path, modality, max_voxels, allow_resample)
            else:
                found = _facts_of_pixels(path, kind, modality, max_voxels)
        # Decoders meet broken files with almost any exception (SyntaxError, struct.error, zlib.error, ...).
        except Exception as error:
            logger.debug("%s cannot be read", path, exc_info=True)
            problem, *rest = failures_of(path, error)
            return Facts(path, kind, size, problem, findings=tuple(rest))
    return Facts(path, kind, size, **found)


def inspect_files(
    items: Sequence[tuple[str | os.PathLike[str], str | None]],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    *,
    max_voxels: int = MAX_VOXELS,
    allow_resample: bool = False,
    time_limit: float = TIME_LIMIT,
) -> list[Facts]:
    """Inspect many files.

    Args:
        items: path and stated modality of each.
        workers: processes; with more than one, a file at which a decoder brings its process down or never ends is
            ``unreadable`` and the others go on.
        progress: called after each file with the number of files done and of all.
        max_voxels, allow_resample: see :func:`inspect_file`.
        time_limit: seconds for one file, with more than one process.

    Returns:
        Facts in the order of the items.
    """
    look = partial(_look, max_voxels=max_voxels, allow_resample=allow_resample)
    pairs = [(Path(path), modality) for path, modality in items]
    if workers > 1 and len(pairs) > 1:
        return map_isolated(look, pairs, workers, _given_up, progress, time_limit)
    facts = []
    for item in pairs:
        facts.append(look(item))
        if progress is not None:
            progress(len(facts), len(pairs))
    return facts


def _look(item: tuple[Path, str | None], max_voxels: int, allow_resample: bool) -> Facts:
    return inspect_file(*item, max_voxels, allow_resample=allow_resample)


def _given_up(item: tuple[Path, str | None], reason: str) -> Facts:
    path = item[0]
    measure = "takes its decoder too long" if reason == TOO_LONG else "brings the decoder's process down"
    return Facts(path, problem=Finding(path, "unreadable", measure))


def _facts_of_pixels(path: Path, kind: str | None, modality: str | None, max_voxels: int) -> dict[str, Any]:
    pixels = read_pixels(path, max_voxels=max_voxels, slices_only=False)
    coloured = kind == "picture" and pixels.ndim == 3
    if pixels.ndim > 3:
        raise ValueError(f"an array of {pixels.ndim} axes")
    facts: dict[str, Any] = {
        "shape": pixels.shape[:2] if coloured else pixels.shape,
        "channels": pixels.shape[2] if coloured else 1,
        "dtype": str(pixels.dtype),
        "bits": _bits(pixels.dtype),
        "digest": fingerprint(pixels, channels=coloured),
    }
    if coloured:
        facts["channel_difference"] = _channel_difference(pixels)
        pixels = _grey(pixels)
    facts |= _statistics(pixels)
    facts["windowed"] = kind == "picture" or facts["minimum"] >= _LOWEST_WINDOWED
    if pixels.ndim == 3:
        return facts | _hash(pixels[:, :, pixels.shape[2] // 2])
    seen = pixels * np.uint8(255) if pixels.dtype == bool else pixels
    return facts | _hash(pixels) | {"appearance": _appearance([seen], facts["windowed"], modality)}


def _facts_of_volume(path: Path, modality: str | None, max_voxels: int, allow_resample: bool) -> dict[str, Any]:
    from monai_ctmri.data.reading.volumes import read_header, read_volume

    volume = read_volume(path, modality, allow_resample=allow_resample, max_voxels=max_voxels)
    if not np.isfinite(volume.array).all():
        raise ValueError("holds values that are not finite")
    try:
        stored = np.dtype(read_header(path).dtype)
    except InputError:  # a series on an even grid has no header of its own
        stored = volume.array.dtype
    affine = np.asarray(volume.affine, dtype=float)
    facts = {
        "shape": tuple(int(length) for length in volume.array.shape),
        "dtype": str(stored),
        "bits": _bits(stored),
        "spacing": tuple(float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)),
        "orientation": _orientation(affine),
        "affine": tuple(tuple(row) for row in affine.tolist()),
        "digest": fingerprint(_without_length_one(volume.array)),
        "findings": tuple(volume.findings),
        **_statistics(volume.array),
    }
    # An 8-bit volume was made from pictures, unless its header scales it to something else.
    facts["windowed"] = facts["bits"] == 8 and facts["minimum"] >= 0 and facts["maximum"] <= 255
    planes = _middle_planes(volume)
    looks = _appearance(planes, facts["windowed"], volume.modality or modality)
    return facts | _hash(planes[len(planes) // 2]) | {"appearance": looks}


def _statistics(values: np.ndarray) -> dict[str, Any]:
    mean = float(values.mean(dtype=np.float64))
    # Row by row: a volume in double precision would take several times its memory.
    squares = sum(float(np.square(row.astype(np.float64) - mean).sum()) for row in values)
    lowest, highest = float(values.min()), float(values.max())
    whole = values.dtype.kind in "bu" and _bits(values.dtype) <= 8
    p1, p99 = np.percentile(values.view(np.uint8) if values.dtype == bool else values, (1, 99)).tolist()
    if whole:
        counts, low, high = np.bincount(values.ravel(), minlength=BINS), 0.0, float(BINS - 1)
    else:
        span = (lowest, highest) if highest > lowest else (lowest - 0.5, lowest + 0.5)
        counts, edges = np.histogram(values, bins=BINS, range=span)
        low, high = float(edges[0]), float(edges[-1])
    return {
        "minimum": lowest,
        "maximum": highest,
        "mean": mean,
        "std": float(np.sqrt(squares / values.size)),
        "p1": p1,
        "p99": p99,
        "histogram": tuple(counts.tolist()),
        "histogram_range": (low, high),
    }


def _hash(plane: np.ndarray) -> dict[str, int | None]:
    return {"phash": perceptual_hash(_clipped(plane)) if plane.min() < plane.max() else None}


def _clipped(plane: np.ndarray) -> np.ndarray:
    """Return a plane as float; of other than 8 bits, without outliers: metal at 3000 HU would outweigh the brain."""
    if _bits(plane.dtype) <= 8:
        return plane.astype(np.float32)
    low, high = np.percentile(plane, (1, 99))
    return np.clip(plane, low, high, dtype=np.float32) if low < high else plane.astype(np.float32)


def _appearance(planes: Sequence[np.ndarray], windowed: bool, modality: str | None) -> Appearance:
    """Look at each plane; return the view whose likeness to CT is the middle one."""
    from monai_ctmri.data.looking.appearance import look_at

    looks = [look_at(plane.astype(np.float32), windowed=windowed, modality=modality) for plane in planes]
    return sorted(looks, key=lambda look: look.ct_likeness)[len(looks) // 2]


def _middle_planes(volume: Volume) -> list[np.ndarray]:
    """Axial slices in picture orientation: row 0 is anterior, column 0 the patient's right."""
    from monai_ctmri.data.slices import axial_order, cut_slices

    axis = int(np.flatnonzero(axial_order(volume.affine)[:, 0] == 2)[0])
    length = volume.array.shape[axis]
    places = sorted({min(int(level * length), length - 1) for level in _LEVELS})
    return [one.values[::-1, ::-1, 0].T for one in cut_slices(volume, places)]


def _channel_difference(pixels: np.ndarray) -> float:
    colours = pixels[..., :3].astype(np.float64) if pixels.shape[2] >= 3 else pixels[..., :1].astype(np.float64)
    full = 255.0 if pixels.dtype == np.uint8 else float(max(1.0, colours.max()))
    pairs = ((a, b) for a in range(colours.shape[2]) for b in range(a))
    return max((float(np.abs(colours[..., a] - colours[..., b]).mean()) / full for a, b in pairs), default=0.0)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Return the luma (ITU-R BT.601, as PIL weighs it) of a colour picture (H, W, C), without transparency."""
    if pixels.shape[2] < 3 or pixels.dtype != np.uint8:
        return pixels[..., 0]
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels[..., :3])).convert("L"))


def _without_length_one(array: np.ndarray) -> np.ndarray:
    """Drop axes of length 1, first ones first, down to two, as ``read_pixels`` does: equal digests either way."""
    kept = list(array.shape)
    while len(kept) > 2 and 1 in kept:
        kept.remove(1)
    return array.reshape(kept)


def _orientation(affine: np.ndarray) -> str:
    from nibabel.orientations import aff2axcodes

    return "".join(str(code or "?") for code in aff2axcodes(affine))


def _bits(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind == "b" else dtype.itemsize * 8
