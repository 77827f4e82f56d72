"""Cut off, too large, not finite or broken: the words of decoders and the ends of files tell."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from monai_ctmri.data.checks.failures import failure_of
from monai_ctmri.errors import InputError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("image file is truncated (12 bytes not processed)"), "truncated"),
        (EOFError(), "truncated"),
        (OSError("Expected 512 bytes, got 3 bytes from object\n - could the file be damaged?"), "truncated"),
        (ValueError("mmap length is greater than file size"), "truncated"),
        (InputError.about("a.xyz", "truncated: 12 bytes of its pixels are missing", "replace it"), "truncated"),
        (InputError.about("a.xyz", "shape (9, 9) exceeds 5 voxels", "crop it"), "too_large"),
        (InputError.about("a.xyz", "too large: its header claims more", "crop it"), "too_large"),
        (MemoryError(), "too_large"),
        (InputError.about("a.xyz", "holds values that are not finite", "replace them"), "not_finite"),
        (ValueError("odd"), "unreadable"),
        (FileNotFoundError(2, "No such file or directory", "a.xyz"), "unreadable"),
        (InputError.about("a.xyz", "unsupported kind of file", "use a picture"), "unreadable"),
    ],
)
def test_words(error: Exception, kind: str) -> None:
    finding = failure_of("a.xyz", error)
    assert finding.kind == kind
    assert finding.file == Path("a.xyz")
    assert finding.severity == "error"
    assert finding.measure
    assert "a.xyz" not in finding.measure
    wrapped = caused(InputError.about("a.xyz", "not a complete .xyz file", "replace it by an intact copy"), error)
    assert failure_of("a.xyz", wrapped).kind == kind


def test_the_measure_is_the_cause_and_short() -> None:
    wrapped = caused(InputError.about("a.xyz", "not complete", "replace it"), ValueError("bad magic"))
    assert failure_of("a.xyz", wrapped).measure == "bad magic"
    assert failure_of("a.xyz", InputError.about("a.xyz", "a folder", "name the file")).measure == "a folder"
    assert failure_of("a.xyz", KeyError()).measure == "KeyError"
    assert len(failure_of("a.xyz", ValueError("x" * 1000)).measure) == 160


def test_the_files_own_name_is_not_taken_for_words() -> None:
    path = "/data/truncated/nan_infinity.png"
    assert failure_of(path, ValueError(f"cannot identify {path!r}")).kind == "unreadable"


def test_another_file_of_the_series_is_named_without_folders() -> None:
    error = InputError.about("/data/series/02.dcm", "its pixels cannot be decoded", "export it")
    assert failure_of("/data/series", error).measure == "02.dcm: its pixels cannot be decoded"
    assert failure_of("/data/series/01.dcm", error).measure == "02.dcm: its pixels cannot be decoded"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.png", b"", "truncated"),
        ("a.png", b"\x89PNG\r\n", "truncated"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(30), "truncated"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(30) + b"IEND1234", "unreadable"),
        ("a.png", b"no picture at all", "unreadable"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(100), "truncated"),
        ("a.jpg", b"\xff\xd8\xff\xe0" + bytes(100) + b"\xff\xd9", "unreadable"),
        ("a.tif", b"II*\0\x00\x10\0\0" + bytes(8), "truncated"),
        ("a.tif", b"MM\0*\0\0\x10\x00" + bytes(8), "truncated"),
        ("a.tif", b"II*\0\x08\0\0\0" + bytes(8), "unreadable"),
        ("a.npy", b"\x93NUMPY\x01", "truncated"),
        ("a.npy", b"\x93NUMPY\x01\x00\x00\x00\x00\x00", "unreadable"),
        ("a.nii", bytes(100), "truncated"),
        ("a.nii", bytes(400), "unreadable"),
        ("a.nii.gz", gzip.compress(bytes(400), mtime=0), "unreadable"),
        ("a.nii.gz", gzip.compress(bytes(range(256)) * 4, mtime=0)[:-20], "truncated"),
        ("a.nii.gz", b"no stream", "unreadable"),
    ],
)
def test_ends(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert failure_of(tmp_path / name, ValueError("odd")).kind == kind


def test_a_missing_file_or_folder_does_not_raise(tmp_path: Path) -> None:
    assert failure_of(tmp_path / "none.png", ValueError("odd")).kind == "unreadable"
    assert failure_of(tmp_path, ValueError("odd")).kind == "unreadable"
    assert failure_of(Path("/"), ValueError("odd")).kind == "unreadable"
