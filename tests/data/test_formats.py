"""The kind of a file follows from its name; where that says nothing, from its first bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_ctmri.data.formats import IMAGE_SUFFIXES, is_dicom, kind_of, stem_of, suffix_of
from monai_ctmri.data.verification import SUFFIXES

DICOM = bytes(128) + b"DICM" + bytes(20)


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("ct12.png", "ct12", ".png"),
        ("MRI.JPG", "MRI", ".jpg"),
        ("Head.NII.GZ", "Head", ".nii.gz"),
        ("a.b.nii.gz", "a.b", ".nii.gz"),
        ("notes.tar.gz", "notes.tar", ".gz"),
        ("1.2.840.113619", "1.2.840", ".113619"),
        ("IM-0001", "IM-0001", ""),
        (".hidden", ".hidden", ""),
        ("folder.nii/file", "file", ""),
    ],
)
def test_stem_and_suffix(name: str, stem: str, suffix: str) -> None:
    assert (stem_of(name), suffix_of(name)) == (stem, suffix)
    assert (stem + suffix).lower() == Path(name).name.lower()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "picture"),
        ("a.JPEG", "picture"),
        ("a.tif", "picture"),
        ("a.npy", "array"),
        ("a.nii", "volume"),
        ("a.nii.gz", "volume"),
        ("a.mha", "volume"),
        ("a.nrrd", "volume"),
        ("a.dcm", "dicom"),
        ("a.IMA", "dicom"),
        ("a.mhd", None),
        ("a.gz", None),
        ("a.npz", None),
        ("a.txt", None),
        ("none", None),
    ],
)
def test_kind_by_name(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_every_suffix_has_a_kind() -> None:
    assert all(kind_of(f"x{suffix}") for suffix in IMAGE_SUFFIXES)
    assert set(SUFFIXES) <= set(IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619.7", "I10"])
def test_a_file_without_a_telling_name_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DICOM)
    assert kind_of(tmp_path / name) == "dicom"
    (tmp_path / name).write_bytes(DICOM.replace(b"DICM", b"DCIM"))
    assert kind_of(tmp_path / name) is None


def test_a_telling_name_is_believed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(DICOM)
    (tmp_path / "a.png").write_bytes(DICOM)
    assert kind_of(tmp_path / "a.txt") is None
    assert kind_of(tmp_path / "a.png") == "picture"


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir"])
def test_an_index_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DICOM)
    assert not is_dicom(tmp_path / name)
    assert kind_of(tmp_path / name) is None


def test_what_cannot_be_opened_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(DICOM[:130])
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    assert not any(is_dicom(tmp_path / name) for name in ("short", "folder", "link", "missing"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_stop_the_search(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_dicom(tmp_path / "pipe")


def test_real_dicom_files(real_data: Path) -> None:
    files = [path for path in (real_data / "dicom").rglob("*") if path.is_file()]
    assert files
    assert all(kind_of(path) == "dicom" for path in files if is_dicom(path))
    assert sum(is_dicom(path) for path in files) >= 48
