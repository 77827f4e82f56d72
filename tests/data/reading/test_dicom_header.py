"""One DICOM header: what is read, what is no image, what is unusable."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from monai_ctmri.data.reading.dicom_header import read_slice_header

PLANE = np.arange(12.0).reshape(3, 4)


def one(write_series, folder: Path, **options) -> Path:
    return write_series(folder, [PLANE], np.array([[1.0, 2, 3]]), **options)[0]


def test_what_is_stored(tmp_path: Path, write_series):
    path = one(
        write_series, tmp_path, spacing=(0.5, 0.4), rescale=(2.0, -3.0), series="1.2.3", GantryDetectorTilt="+18.5"
    )
    header = read_slice_header(path)
    assert header is not None
    assert (header.path, header.series, header.patient, header.description) == (path, "1.2.3", "p1", "made")
    assert (header.modality, header.size, header.spacing, header.rescale) == ("ct", (3, 4), (0.5, 0.4), (2.0, -3.0))
    assert (header.gantry_tilt, header.frames, header.grey, header.localizer) == (18.5, 1, True, False)
    assert (header.compression, header.missing_bytes, header.padding) == (None, 0, None)
    assert header.dtype == np.int16
    np.testing.assert_allclose(header.position, [1, 2, 3])
    np.testing.assert_allclose(header.normal, [0, 0, 1])


@pytest.mark.parametrize(("stored", "ours"), [("CT", "ct"), ("MR", "mri"), ("PT", None)])
def test_modality(tmp_path: Path, write_series, stored: str, ours: str | None):
    assert read_slice_header(one(write_series, tmp_path, modality=stored)).modality == ours


def test_localizer_and_padding(tmp_path: Path, write_series):
    path = one(
        write_series,
        tmp_path,
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        PixelPaddingValue=-100,
        PixelPaddingRangeLimit=-200,
    )
    header = read_slice_header(path)
    assert header.localizer
    assert header.padding == (-200, -100)


@pytest.mark.parametrize(
    ("element", "value", "attribute"),
    [
        ("PixelSpacing", [0, 1], "spacing"),
        ("PixelSpacing", None, "spacing"),
        ("ImagePositionPatient", None, "position"),
        ("ImagePositionPatient", [1, 2], "position"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "orientation"),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0], "orientation"),
        ("ImageOrientationPatient", [0] * 6, "orientation"),
    ],
)
def test_unusable_geometry_is_none(tmp_path: Path, write_series, element: str, value: object, attribute: str):
    assert getattr(read_slice_header(one(write_series, tmp_path, **{element: value})), attribute) is None


@pytest.mark.parametrize("modality", ["SEG", "SR", "PR", "RTSTRUCT", "RTDOSE", "KO"])
def test_objects_without_an_image_of_their_own(tmp_path: Path, write_series, modality: str):
    assert read_slice_header(one(write_series, tmp_path, change=lambda d, _: setattr(d, "Modality", modality))) is None


def test_no_pixels_no_image(tmp_path: Path, write_series):
    assert read_slice_header(one(write_series, tmp_path, change=lambda d, _: delattr(d, "Rows"))) is None


def test_missing_bytes(tmp_path: Path, write_series):
    path = one(write_series, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert 1 <= read_slice_header(path).missing_bytes <= 7


def test_compression_is_named(tmp_path: Path, write_series):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    def compress(dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([b"none"])
        dataset["PixelData"].is_undefined_length = True

    header = read_slice_header(one(write_series, tmp_path, change=compress))
    assert "JPEG 2000" in header.compression
    assert header.missing_bytes == 0


def test_other_files_are_none_and_broken_dicom_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "note.txt").write_text("text")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "folder.dcm").mkdir()
    for name in ("note.txt", "DICOMDIR", "folder.dcm", "absent.dcm"):
        assert read_slice_header(tmp_path / name) is None
    assert not caplog.records
    (tmp_path / "broken.dcm").write_bytes(b"not DICOM")
    with caplog.at_level(logging.WARNING):
        assert read_slice_header(tmp_path / "broken.dcm") is None
    assert "broken.dcm" in caplog.text
