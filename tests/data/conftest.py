"""A writer of DICOM series, shared by the tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def write_series(series_writer: Callable[..., list[Path]]) -> Callable[..., list[Path]]:
    """As ``series_writer``."""
    return series_writer


@pytest.fixture(scope="session")
def series_writer() -> Callable[..., list[Path]]:
    """Writes one file a plane; see the arguments. Positions are LPS mm of pixel (0, 0)."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

    def write(
        folder: Path,
        planes: Sequence[np.ndarray],
        positions: np.ndarray,
        *,
        orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
        spacing: tuple[float, float] = (2.0, 1.5),
        modality: str = "CT",
        rescale: tuple[float, float] | None = (1.0, -1024.0),
        series: str | None = None,
        names: Sequence[str] | None = None,
        change: Callable[[Any, int], None] | None = None,
        **elements: Any,
    ) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        uid, frame, paths = series or generate_uid(), generate_uid(), []
        for number, (plane, position) in enumerate(zip(planes, positions, strict=True)):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
            meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
            dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.StudyInstanceUID = uid, frame, uid
            dataset.Modality, dataset.PatientID, dataset.SeriesDescription = modality, "p1", "made"
            dataset.ImageType, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], 1000 - number
            dataset.Rows, dataset.Columns = plane.shape
            dataset.PixelSpacing, dataset.SliceThickness = list(spacing), 1
            dataset.ImagePositionPatient = [f"{value:.7g}" for value in position]
            dataset.ImageOrientationPatient = [f"{value:.9g}" for value in orientation]
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
            if rescale is not None:
                dataset.RescaleSlope, dataset.RescaleIntercept = rescale
            slope, intercept = rescale or (1.0, 0.0)
            stored = np.round((np.asarray(plane, dtype=float) - intercept) / slope).astype("<i2")
            dataset.PixelData = stored.tobytes()
            for name, value in elements.items():
                setattr(dataset, name, value)
            if change is not None:
                change(dataset, number)
            path = folder / (names[number] if names else f"{number:03d}.dcm")
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    return write
