"""Volumes: reading NIfTI, MetaImage, NRRD and DICOM with their place in space, and writing NIfTI."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from monai_ctmri.data.files import write_atomically
from monai_ctmri.data.findings import Finding
from monai_ctmri.data.formats import VOLUME_SUFFIXES, kind_of, suffix_of
from monai_ctmri.data.reading.hounsfield import hounsfield_problem
from monai_ctmri.data.verification import MAX_VOXELS
from monai_ctmri.errors import InputError

__all__ = ["Volume", "VolumeHeader", "check_voxels", "read_header", "read_volume", "same_grid", "write_volume"]


@dataclass(frozen=True)
class VolumeHeader:
    """What a header says.

    Attributes:
        shape: (X, Y, Z) voxels in stored order of axes.
        affine: (4, 4) float64, voxel -> RAS mm.
        dtype: of the stored values.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along the stored axes in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Volume:
    """A volume as stored, neither reoriented nor resampled unless ``findings`` say so.

    Attributes:
        array: (X, Y, Z) float32, finite; HU for CT where ``findings`` hold no ``implausible_hu``.
        affine: (4, 4) float64, voxel -> RAS mm.
        path: the file or folder it was read from.
        modality: ``ct``, ``mri`` or None where unknown.
        findings: what to know before using it.
    """

    array: np.ndarray
    affine: np.ndarray
    path: Path
    modality: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) voxels."""
        return self.array.shape


class _OnGrid(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def affine(self) -> np.ndarray: ...


def read_header(path: str | os.PathLike[str], *, max_voxels: int = MAX_VOXELS) -> VolumeHeader:
    """Read shape, place and type of a volume, without its voxels.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.mha``, ``.nrrd``, a DICOM file (for its series) or a folder with one series.
        max_voxels: larger volumes are refused.

    Raises:
        InputError: when the file is missing, of another kind, broken, cut off, too large, not one volume of real
            numbers, or without a usable affine; also where voxels would be taken from another file, and for a DICOM
            series that has to be resampled.
    """
    path = Path(path)
    if _kind(path) == "dicom":
        from monai_ctmri.data.reading.dicom import read_series_header, series_at

        return read_series_header(series_at(path), max_voxels=max_voxels)
    from monai_ctmri.data.reading.volume_headers import header_of

    with _one_line(path):
        return header_of(path, max_voxels)


def read_volume(
    path: str | os.PathLike[str],
    modality: str | None = None,
    *,
    allow_resample: bool = False,
    max_voxels: int = MAX_VOXELS,
) -> Volume:
    """Read a volume, through MONAI's readers.

    Args:
        path: as for :func:`read_header`.
        modality: ``ct`` or ``mri`` where known; DICOM tells by itself when None. For ``ct`` the values are checked.
        allow_resample: see :func:`~monai_ctmri.data.reading.dicom.read_series`.
        max_voxels: larger volumes are refused, by their header.

    Returns:
        The volume. Findings: ``implausible_hu`` where a CT's values are no Hounsfield units, ``wrong_modality`` where
        a DICOM header names the other modality, ``resampled``.

    Raises:
        InputError: as :func:`read_header`; also for damaged or compressed voxels that cannot be decoded and for values
            that are not finite.
    """
    path = Path(path)
    if modality not in (None, "ct", "mri"):
        raise InputError(f"modality: {modality!r} is unknown; choose ct or mri")
    if _kind(path) == "dicom":
        return _read_dicom(path, modality, allow_resample, max_voxels)
    from monai_ctmri.data.reading.volume_headers import voxels_of

    header = read_header(path, max_voxels=max_voxels)
    with _one_line(path):
        array = voxels_of(path, header.shape)
    if not np.isfinite(array).all():
        raise InputError.about(path, "holds values that are not finite", "replace them by the background's value")
    problem = hounsfield_problem(array) if modality == "ct" else None
    findings = () if problem is None else (Finding(path, "implausible_hu", problem),)
    return Volume(array, header.affine, path, modality, findings)


def same_grid(one: _OnGrid, other: _OnGrid, tolerance_mm: float = 0.1) -> bool:
    """Whether two volumes (or headers) have one shape and all 8 corner voxels at one place.

    An affine is linear: where the corners agree within ``tolerance_mm``, so does every voxel.
    """
    if tuple(one.shape) != tuple(other.shape):
        return False
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(one.shape[:3]) - 1)
    places = np.column_stack([corners, np.ones(8)]) @ (np.asarray(one.affine) - np.asarray(other.affine)).T
    return bool((np.linalg.norm(places[:, :3], axis=1) <= tolerance_mm).all())


def write_volume(path: str | os.PathLike[str], array: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume as NIfTI, atomically: floating point as float32, whole numbers and truth values as int16.

    Args:
        path: ends in ``.nii`` or ``.nii.gz``.
        array: (X, Y, Z), finite.
        affine: (4, 4) voxel -> RAS mm; written as sform and, as far as a qform can hold it (no shear), as qform.

    Raises:
        InputError: for another suffix, shape or type, values that do not fit, or an affine that is degenerate.
    """
    from nibabel import Nifti1Image, save

    path, values = Path(path), np.asarray(array)
    if suffix_of(path) not in (".nii", ".nii.gz"):
        raise InputError.about(path, "volumes are written as NIfTI", "end the name in .nii.gz")
    if values.ndim != 3 or values.dtype.kind not in "biuf":
        problem = f"an array of shape {values.shape} and type {values.dtype} is no volume"
        raise InputError.about(path, problem, "give real numbers (X, Y, Z)")
    check_affine(path, affine)
    whole = values.dtype.kind in "biu"
    target = np.dtype(np.int16) if whole else np.dtype(np.float32)
    limits = np.iinfo(np.int16) if whole else np.finfo(np.float32)
    if values.size and not (np.isfinite(values).all() and limits.min <= values.min() and values.max() <= limits.max):
        raise InputError.about(path, f"values do not fit {target}", "replace NaN and infinity, or give floating point")
    image = Nifti1Image(values.astype(target), np.asarray(affine, dtype=np.float64))
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with write_atomically(path) as temporary:
        save(image, temporary)


def check_voxels(path: Path, shape: tuple[int, ...], max_voxels: int) -> None:
    """Raise InputError where a volume has no voxel or more than ``max_voxels``."""
    count = math.prod(int(length) for length in shape)
    if count == 0:
        raise InputError.about(path, f"shape {shape} holds no voxel", "replace it by an intact copy")
    if count > max_voxels:
        problem = f"too large: its header claims shape {shape}, more than {max_voxels} voxels"
        raise InputError.about(path, problem, "crop or resample it")


def check_affine(path: Path, affine: np.ndarray) -> None:
    """Raise InputError where an affine is not finite or maps voxels onto a plane, a line or a point."""
    matrix = np.asarray(affine, dtype=np.float64)
    finite = matrix.shape == (4, 4) and bool(np.isfinite(matrix).all())
    lengths = np.linalg.norm(matrix[:3, :3], axis=0) if finite else np.zeros(3)
    if not finite or lengths.min() <= 0 or abs(np.linalg.det(matrix[:3, :3] / np.where(lengths, lengths, 1))) < 1e-3:
        problem = "no usable affine: a voxel axis has no length, or two run along one direction"
        raise InputError.about(path, problem, "correct the header's orientation and spacing")


def _read_dicom(path: Path, modality: str | None, allow_resample: bool, max_voxels: int) -> Volume:
    from monai_ctmri.data.reading.dicom import read_series, series_at

    series = series_at(path)
    known = series.modality or modality
    volume = read_series(replace(series, modality=known), allow_resample=allow_resample, max_voxels=max_voxels)
    findings = tuple(replace(each, file=path) for each in volume.findings)
    if modality is not None and known != modality:
        text = f"its header says {'CT' if known == 'ct' else 'MR'}, it is listed as {modality}"
        findings = (Finding(path, "wrong_modality", text), *findings)
    return replace(volume, path=path, findings=findings)


def _kind(path: Path) -> str:
    """``volume`` or ``dicom``; refuses what is missing, no regular file, or of another kind."""
    try:
        folder, there, regular = path.is_dir(), path.exists(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long
        raise InputError.about(path, "cannot be opened", "check the path in the manifest") from error
    if not there:
        raise InputError.about(path, "no such file", "check the path in the manifest")
    if folder and suffix_of(path) not in VOLUME_SUFFIXES:
        return "dicom"
    if not regular:  # a pipe would be waited for without end
        raise InputError.about(path, "a folder or device, not a file", "name the image file")
    kind = kind_of(path)
    if kind not in ("volume", "dicom"):
        known = ", ".join(VOLUME_SUFFIXES)
        raise InputError.about(path, "not a kind of volume that is read here", f"use one of {known} or DICOM")
    return kind


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what decoders throw at broken files (almost anything) into one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError.about(path, "no permission to read it", "change the file's permissions") from error
    except Exception as error:
        raise InputError.about(
            path, f"not a complete {suffix_of(path)} file", "replace it by an intact copy"
        ) from error
