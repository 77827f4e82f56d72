"""DICOM series: found by their headers, refused where their slices form no volume, read as one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_ctmri.data.findings import Finding
from monai_ctmri.data.reading.dicom_header import SliceHeader, read_slice_header
from monai_ctmri.data.reading.hounsfield import hounsfield_problem
from monai_ctmri.data.reading.itk_reading import decode
from monai_ctmri.data.reading.resampling import even_grid, resample_slices
from monai_ctmri.data.reading.series_geometry import SeriesGeometry, series_affine, series_geometry
from monai_ctmri.data.reading.volumes import Volume, VolumeHeader, check_voxels
from monai_ctmri.data.verification import MAX_VOXELS
from monai_ctmri.errors import InputError

__all__ = ["AIR_HU", "Series", "find_series", "read_series", "read_series_header", "series_at"]

AIR_HU = -1024.0
"""What padding, and everything else below it, becomes in a CT."""

_RESAMPLE = "give --allow-resample to interpolate it to an even grid"
_PLANE = np.cos(np.deg2rad(20.0))  # slices whose normals differ by more lie in other planes


@dataclass(frozen=True)
class Series:
    """The slices of one volume, or what ought to be one.

    Attributes:
        uid: SeriesInstanceUID; several series share it where one holds slices in several planes (localisers).
        modality: ``ct``, ``mri`` or None for another one.
        patient: PatientID as stored, for grouping alone: it may identify a person and belongs in no output.
        frame_of_reference: its UID; series that share it share coordinates.
        description: SeriesDescription as stored; free text, it may identify a person.
        files: sorted along the normal of the slices by their positions.
        spacing: (row, column, slice) in mm, the last along the normal and None where there is no single one; None
            where the geometry is unusable.
        problems: findings of kind ``tilted``, ``uneven_spacing`` and ``incomplete_series``, about the first file.
        localizer: the header calls it one.
    """

    uid: str
    modality: str | None
    patient: str | None
    frame_of_reference: str | None
    description: str
    files: tuple[Path, ...]
    spacing: tuple[float, float, float | None] | None
    problems: tuple[Finding, ...] = ()
    localizer: bool = False


def find_series(folder: str | os.PathLike[str], recursive: bool = False) -> list[Series]:
    """Find the image series in a folder, by headers alone.

    Files that are no DICOM, and objects without an image of their own (reports, structures, presentation states,
    segmentations, ``DICOMDIR``), are skipped. A series is what shares a SeriesInstanceUID; localisers, multi-frame
    objects and slices in another plane (normals more than 20 degrees apart) are taken out as series of their own.

    Args:
        folder: searched for files of any name.
        recursive: search the folders below it, too; links to folders are not followed.

    Returns:
        Series sorted by their first file.

    Raises:
        InputError: when the folder cannot be listed.
    """
    headers = [header for path in _files(Path(folder), recursive) if (header := read_slice_header(path)) is not None]
    groups: dict[tuple[object, ...], list[SliceHeader]] = {}
    for header in headers:
        alone = header.path if header.frames > 1 else None
        groups.setdefault((header.series, header.localizer, header.modality, header.grey, alone), []).append(header)
    found = [_series(plane) for group in groups.values() for plane in _planes(group)]
    return sorted(found, key=lambda each: min(each.files))


def series_at(path: str | os.PathLike[str]) -> Series:
    """Return the series a DICOM file belongs to, looked for in its folder, or the only one of a folder.

    Localisers and objects without position do not count where a folder has exactly one other series.

    Raises:
        InputError: when there is none, or when a folder has several.
    """
    path = Path(path)
    if not path.is_dir():
        for series in find_series(path.parent):
            if path in series.files:
                return series
        raise InputError.about(path, "no readable DICOM image", "replace it by an intact copy or leave it out")
    series_here = find_series(path)
    if not series_here:
        raise InputError.about(path, "no DICOM image series in this folder", "name the folder that holds the slices")
    volumes = [each for each in series_here if not each.localizer and each.spacing is not None] or series_here
    if len(volumes) > 1:
        listed = ", ".join(f"{min(each.files).name} ({len(each.files)} slices)" for each in volumes[:5])
        problem = f"{len(volumes)} image series in one folder, the first files being {listed}"
        raise InputError.about(path, problem, "name a file of the series you mean")
    return volumes[0]


def read_series(series: Series, *, allow_resample: bool = False, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read a series as one volume.

    Stored values become HU (CT) by the rescale slope and intercept of each file. In CT, pixels marked as padding and
    everything below -1024 HU become -1024 HU; in MR padding becomes 0.

    Args:
        series: from :func:`find_series`.
        allow_resample: bring tilted and unevenly spaced slices, and such with gaps or copies, to an even grid at right
            angles: the plane of the slices is kept and extended to hold all of them, planes lie the median distance
            apart, values between are interpolated linearly and outside they are -1024 (CT) or 0.
        max_voxels: larger series are refused, before pixels are decoded.

    Returns:
        The volume (columns, rows, slices); its path is the first file. Its findings say ``resampled`` where that
        happened and ``implausible_hu`` where a CT's values are no HU.

    Raises:
        InputError: when the slices form no even volume and resampling is not allowed or does not help, when a file is
            broken, cut off, or compressed in a way that cannot be decoded, or when the volume is too large.
    """
    geometry = _checked(series, allow_resample, max_voxels)
    path, modality = geometry.slices[0].path, series.modality
    findings: list[Finding] = []
    if geometry.problems:
        array, affine = _resampled(geometry, modality, max_voxels)
        done = "; ".join(each.measure for each in geometry.problems)
        text = f"to {array.shape[2]} planes {np.linalg.norm(affine[:3, 2]):.2f} mm apart: {done}"
        findings.append(Finding(path, "resampled", text))
    else:
        array, affine = _decoded([each.path for each in geometry.slices], geometry.slices)
        for index, header in enumerate(geometry.slices):
            array[:, :, index] = _cleaned(array[:, :, index], header, modality)
        if len(geometry.slices) == 1:
            affine = series_affine(geometry)
    if modality == "ct" and (problem := hounsfield_problem(array)) is not None:
        findings.append(Finding(path, "implausible_hu", problem))
    return Volume(array, affine, path, modality, tuple(findings))


def read_series_header(series: Series, *, max_voxels: int = MAX_VOXELS) -> VolumeHeader:
    """Return what :func:`read_series` would give, without decoding a pixel.

    Raises:
        InputError: as :func:`read_series` without resampling.
    """
    geometry = _checked(series, False, max_voxels)
    rows, columns = geometry.slices[0].size
    affine = series_affine(geometry)
    return VolumeHeader((columns, rows, len(geometry.slices)), affine, geometry.slices[0].dtype)


def _files(folder: Path, recursive: bool) -> list[Path]:
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise InputError.about(error.filename or folder, "cannot be listed", "check the folder") from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(folders) if recursive else []
        found += [Path(parent) / name for name in sorted(names)]
    return found


def _planes(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Divide slices by the direction of their normal; what has no orientation stays together."""
    planes: list[list[SliceHeader]] = []
    for header in headers:
        for plane in planes:
            one, other = header.orientation, plane[0].orientation
            if (one is None) == (other is None) and (one is None or abs(header.normal @ plane[0].normal) >= _PLANE):
                plane.append(header)
                break
        else:
            planes.append([header])
    return planes


def _series(headers: Sequence[SliceHeader]) -> Series:
    geometry = series_geometry(headers)
    first = geometry.slices[0]
    return Series(
        uid=first.series,
        modality=first.modality,
        patient=first.patient,
        frame_of_reference=first.frame_of_reference,
        description=first.description,
        files=tuple(each.path for each in geometry.slices),
        spacing=geometry.spacing,
        problems=geometry.problems,
        localizer=first.localizer,
    )


def _checked(series: Series, allow_resample: bool, max_voxels: int) -> SeriesGeometry:
    """Read the headers again, and refuse what cannot be read as one volume."""
    headers = []
    for path in series.files:
        header = read_slice_header(path)
        if header is None:
            raise InputError.about(path, "no readable DICOM image", "replace it by an intact copy or leave it out")
        if header.missing_bytes:
            problem = f"truncated: {header.missing_bytes} bytes of its pixels are missing"
            raise InputError.about(path, problem, "replace it by an intact copy")
        headers.append(header)
    if not headers:
        raise InputError("series: it has no files; take one that find_series gives")
    geometry = series_geometry(headers)
    first = geometry.slices[0]
    if geometry.hopeless is not None:
        problem = f"its series forms no volume ({geometry.hopeless})"
        raise InputError.about(first.path, problem, "export the series again; --allow-resample does not help here")
    if geometry.problems and not allow_resample:
        reasons = ", ".join(f"{each.kind}: {each.measure}" for each in geometry.problems)
        raise InputError.about(
            first.path, f"its series of {len(headers)} slices forms no even volume ({reasons})", _RESAMPLE
        )
    check_voxels(first.path, (first.size[1], first.size[0], len(headers)), max_voxels)
    return geometry


def _decoded(files: Sequence[Path], headers: Sequence[SliceHeader]) -> tuple[np.ndarray, np.ndarray]:
    """Decode files in this order to (columns, rows, files); name the file at fault where that fails."""
    rows, columns = headers[0].size
    try:
        array, affine = decode(files if len(files) > 1 else files[0], "GDCMImageIO")
        if array.shape == (columns, rows):
            array = array[:, :, None]
        if array.shape != (columns, rows, len(files)):
            raise ValueError(f"shape {array.shape} instead of {(columns, rows, len(files))}")
    except MemoryError:
        raise
    except Exception as error:
        if len(files) > 1:
            for path, header in zip(files, headers, strict=True):
                _decoded([path], [header])
        compression = headers[0].compression
        problem = f"its pixels cannot be decoded{f' ({compression})' if compression else ''}"
        remedy = "export it uncompressed" if compression else "replace it by an intact copy"
        raise InputError.about(files[0], problem, remedy) from error
    if not np.isfinite(array).all():
        raise InputError.about(files[0], "holds values that are not finite", "export the series again")
    return array, affine


def _cleaned(values: np.ndarray, header: SliceHeader, modality: str | None) -> np.ndarray:
    """Turn padding into air."""
    fill = _fill(modality)
    if header.padding is not None:
        slope, intercept = header.rescale
        low, high = sorted(limit * slope + intercept for limit in header.padding)
        margin = abs(slope) / 4  # stored values are whole numbers
        values = np.where((values >= low - margin) & (values <= high + margin), np.float32(fill), values)
    return np.maximum(values, np.float32(fill)) if modality == "ct" else values


def _fill(modality: str | None) -> float:
    return AIR_HU if modality == "ct" else 0.0


def _resampled(geometry: SeriesGeometry, modality: str | None, max_voxels: int) -> tuple[np.ndarray, np.ndarray]:
    slices = _without_copies(geometry.slices)
    first = slices[0]
    assert first.spacing is not None
    assert first.orientation is not None
    positions = np.array([each.position for each in slices])
    grid = even_grid(positions, first.orientation, first.spacing[::-1], first.size[::-1])
    check_voxels(first.path, grid.shape, max_voxels)

    def load(index: int) -> np.ndarray:
        array, _ = _decoded([slices[index].path], [slices[index]])
        return _cleaned(array[:, :, 0], slices[index], modality)

    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    return resample_slices(load, grid, _fill(modality)), affine


def _without_copies(slices: Iterable[SliceHeader]) -> list[SliceHeader]:
    kept: dict[str, SliceHeader] = {}
    for number, each in enumerate(slices):
        kept.setdefault(each.instance or str(number), each)
    return list(kept.values())
