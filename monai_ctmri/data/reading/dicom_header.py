"""What the header of one DICOM image says, without its pixels."""

from __future__ import annotations

import logging
import math
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["SliceHeader", "read_slice_header"]

_LOGGER = logging.getLogger(__name__)
_MODALITIES = {"CT": "ct", "MR": "mri"}
_NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "DOC", "FID", "PLAN")
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META = 1 << 16
_LONGEST_DATASET = 1 << 28
_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "PatientID"),
    *("Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("PixelRepresentation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "GantryDetectorTilt"),
    *("RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)


@dataclass(frozen=True)
class SliceHeader:
    """Header of one image object.

    Attributes:
        path: its file.
        instance, series, frame_of_reference: SOP instance UID, series UID and frame of reference UID.
        patient, description: patient ID and series description as stored; both may identify a person.
        modality: ``ct``, ``mri`` or None for another one.
        localizer: its image type says so.
        size: (rows, columns).
        frames: 1 unless it is a multi-frame object.
        grey: one sample a pixel.
        dtype: of the stored pixels.
        spacing: (between rows, between columns) in mm, None where absent.
        position: centre of the first pixel in LPS mm, (3,), None where absent.
        orientation: unit vectors in LPS along a row (rising column number) and along a column, (2, 3), None where
            absent.
        rescale: slope and intercept.
        padding: lowest and highest stored value that marks pixels outside the scan, None where absent.
        gantry_tilt: degrees as stored, None where absent.
        compression: name of the transfer syntax where pixels are compressed, None otherwise.
        missing_bytes: how much an uncompressed file is shorter than its header claims.
    """

    path: Path
    instance: str
    series: str
    frame_of_reference: str | None
    patient: str | None
    description: str
    modality: str | None
    localizer: bool
    size: tuple[int, int]
    frames: int
    grey: bool
    dtype: np.dtype
    spacing: tuple[float, float] | None
    position: np.ndarray | None
    orientation: np.ndarray | None
    rescale: tuple[float, float]
    padding: tuple[float, float] | None
    gantry_tilt: float | None
    compression: str | None
    missing_bytes: int

    @property
    def normal(self) -> np.ndarray:
        """Unit vector in LPS across the slice: along a row times along a column."""
        assert self.orientation is not None
        return np.cross(self.orientation[0], self.orientation[1])


def read_slice_header(path: str | os.PathLike[str]) -> SliceHeader | None:
    """Read the header of a DICOM image; None for every other file, DICOM objects without an image among them.

    A file named ``.dcm`` or ``.ima`` that is no readable DICOM is logged as a warning.
    """
    import pydicom

    path = Path(path)
    try:
        if not path.is_file() or path.name.upper() == "DICOMDIR":
            return None
        with warnings.catch_warnings(), open(path, "rb") as stream:
            warnings.simplefilter("ignore")
            _check_deflated(stream)
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(_TAGS))
            return _header(path, dataset, stream.tell())
    except MemoryError:
        raise
    except Exception as error:  # broken files make pydicom raise almost anything
        if path.suffix.lower() in (".dcm", ".ima"):
            _LOGGER.warning("%s: left out, no readable DICOM header (%s)", path, type(error).__name__)
        return None


def _check_deflated(stream: BinaryIO) -> None:
    """Raise ValueError where a deflated data set unpacks to more than 256 MiB: the reader would hold all of it.

    Such a data set is a raw stream that begins after the file's own elements, whose length their first one tells
    (PS3.5, A.5; PS3.10, 7.1).
    """
    meta = stream.read(_META)
    if _DEFLATED in meta:
        stream.seek(144 + int.from_bytes(meta[140:144], "little"))
        unpacker, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacker.eof and (chunk := unpacker.unconsumed_tail or stream.read(1 << 20)):
            unpacked += len(unpacker.decompress(chunk, 1 << 24))
            if unpacked > _LONGEST_DATASET:
                raise ValueError("too large: deflated")
    stream.seek(0)


def _header(path: Path, dataset: Any, pixels_at: int) -> SliceHeader | None:
    modality = str(dataset.get("Modality") or "")
    rows, columns = (int(dataset.get(name) or 0) for name in ("Rows", "Columns"))
    if modality in _NO_IMAGES or not rows or not columns or not dataset.get("SeriesInstanceUID"):
        return None
    bits = int(dataset.get("BitsAllocated") or 16)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    native = syntax in _NATIVE
    expected = pixels_at + 8 + rows * columns * frames * samples * (bits // 8)
    limits = [_number(dataset, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    given = [each for each in limits if each is not None]
    slope = _number(dataset, "RescaleSlope")
    return SliceHeader(
        path=path,
        instance=str(dataset.get("SOPInstanceUID") or ""),
        series=str(dataset.SeriesInstanceUID),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID") or "") or None,
        patient=str(dataset.get("PatientID") or "") or None,
        description=str(dataset.get("SeriesDescription") or ""),
        modality=_MODALITIES.get(modality),
        localizer="LOCALIZER" in [str(each).upper() for each in _several(dataset.get("ImageType"))],
        size=(rows, columns),
        frames=frames,
        grey=samples == 1,
        dtype=np.dtype(f"{'i' if dataset.get('PixelRepresentation') else 'u'}{max(1, bits // 8)}"),
        spacing=_spacing(dataset),
        position=_vector(dataset, "ImagePositionPatient", 3),
        orientation=_orientation(dataset),
        rescale=(1.0 if slope is None or slope == 0 else slope, _number(dataset, "RescaleIntercept") or 0.0),
        padding=(min(given), max(given)) if limits[0] is not None else None,
        gantry_tilt=_number(dataset, "GantryDetectorTilt"),
        compression=None if native or not syntax else str(syntax.name),
        missing_bytes=max(0, expected - path.stat().st_size) if native else 0,
    )


def _several(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _vector(dataset: Any, name: str, length: int) -> np.ndarray | None:
    """The numbers of an element, None where it is absent, of another length or not finite."""
    try:
        values = np.array([float(each) for each in dataset.get(name)])
    except (TypeError, ValueError):
        return None
    return values if values.shape == (length,) and np.isfinite(values).all() else None


def _number(dataset: Any, name: str) -> float | None:
    try:
        value = float(dataset.get(name))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _spacing(dataset: Any) -> tuple[float, float] | None:
    values = _vector(dataset, "PixelSpacing", 2)
    return None if values is None or values.min() <= 0 else (float(values[0]), float(values[1]))


def _orientation(dataset: Any) -> np.ndarray | None:
    """Two unit vectors at a right angle, None where the stored ones are not."""
    values = _vector(dataset, "ImageOrientationPatient", 6)
    if values is None:
        return None
    vectors = values.reshape(2, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(vectors[0] @ vectors[1])) > 0.01:
        return None
    return vectors / lengths[:, None]
