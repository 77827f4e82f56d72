"""Headers of volume files: what they may claim, and damage that the decoders let pass."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_ctmri.data.reading.volumes import read_header, read_volume
from monai_ctmri.errors import InputError

VALUES = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype("<i2")  # x, y, z
FORMATS = ("raw.mha", "packed.mha", "raw.nrrd", "packed.nrrd")


def metaimage(values: np.ndarray = VALUES, packed: bool = False, **fields: object) -> bytes:
    """A MetaImage written by hand; fields replace or (None) remove lines of the header."""
    body = values.tobytes(order="F")
    content = zlib.compress(body) if packed else body
    lines: dict[str, object] = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": packed,
        **({"CompressedDataSize": len(content)} if packed else {}),
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "10 20 30",
        "ElementSpacing": "1 2 3",
        "DimSize": "4 5 6",
        "ElementType": "MET_SHORT",
    }
    lines.update(fields)
    lines.setdefault("ElementDataFile", "LOCAL")
    lines["ElementDataFile"] = lines.pop("ElementDataFile")
    return "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None).encode() + content


def nrrd(values: np.ndarray = VALUES, packed: bool = False, **fields: object) -> bytes:
    body = values.tobytes(order="F")
    lines: dict[str, object] = {
        "type": "short",
        "dimension": 3,
        "space": "left-posterior-superior",
        "sizes": "4 5 6",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "endian": "little",
        "encoding": "gzip" if packed else "raw",
        "space origin": "(10,20,30)",
    }
    lines.update({key.replace("_", " "): value for key, value in fields.items()})
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    return f"NRRD0004\n{text}\n".encode() + (gzip.compress(body) if packed else body)


def made(folder: Path, name: str) -> Path:
    path, packed = folder / name, name.startswith("packed")
    path.write_bytes(metaimage(packed=packed) if name.endswith("mha") else nrrd(packed=packed))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_are_read(tmp_path: Path, name: str):
    header = read_header(made(tmp_path, name))
    assert header.shape == (4, 5, 6)
    assert header.dtype == np.int16
    assert header.spacing == pytest.approx((1, 2, 3))
    np.testing.assert_allclose(header.affine, [[-1, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, VALUES)


@pytest.mark.parametrize("name", FORMATS)
def test_every_cut_is_noticed(tmp_path: Path, name: str, capfd: pytest.CaptureFixture):
    content = made(tmp_path, name).read_bytes()
    for keep in (0, 3, 30, 150, len(content) - 100, len(content) - 9, len(content) - 1):
        (tmp_path / name).write_bytes(content[:keep])
        with pytest.raises(InputError) as caught:
            read_volume(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["packed.mha", "packed.nrrd"])
def test_damaged_compression_is_noticed(tmp_path: Path, name: str):
    content = bytearray(made(tmp_path, name).read_bytes())
    content[-60] ^= 255
    (tmp_path / name).write_bytes(bytes(content))
    with pytest.raises(InputError):
        read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ElementDataFile": "/etc/passwd"}, "another file"),
        ({"ElementDataFile": "LIST"}, "another file"),
        ({"ElementDataFile": "local"}, "another file"),
        ({"BinaryData": "False"}, "as text"),
        ({"HeaderSize": "12"}, "foreign header"),
        ({"DimSize": "4 5"}, "no volume"),
        ({"DimSize": "4 0 6"}, "no volume"),
        ({"NDims": "1000000"}, "no volume"),
        ({"NDims": None}, "not a complete"),
        ({"DimSize": "3000 3000 3000"}, "truncated|too large"),
        ({"DimSize": "4 5 7"}, "truncated: 40 bytes"),
        ({"ElementSpacing": "1 0 3"}, "affine|complete"),
        ({"ElementNumberOfChannels": "3"}, "colours"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "affine|complete"),
        ({"Offset": "nan 0 0"}, "not finite"),
        ({"Offset": "one 0 0"}, "complete"),
    ],
)
def test_metaimage_headers_refused(tmp_path: Path, fields: dict[str, object], words: str):
    path = tmp_path / "a.mha"
    path.write_bytes(metaimage(**fields))
    with pytest.raises(InputError, match=words) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"data_file": "/etc/passwd"}, "another file"),
        ({"datafile": "other.raw"}, "another file"),
        ({"Data File": "LIST"}, "another file"),
        ({"byte_skip": -1}, "foreign header"),
        ({"line skip": 2}, "foreign header"),
        ({"encoding": "ascii"}, "neither raw nor gzip"),
        ({"sizes": "4 5 9"}, "truncated"),
        ({"sizes": "4 5"}, "no volume"),
        ({"type": "block"}, "complete"),
        ({"space directions": "(1,0,0) (0,0,0) (0,0,3)"}, "affine|complete"),
        ({"space directions": "(1,0,0) (1,0,0) (0,0,3)"}, "affine|complete"),
    ],
)
def test_nrrd_headers_refused(tmp_path: Path, fields: dict[str, object], words: str):
    path = tmp_path / "a.nrrd"
    path.write_bytes(nrrd(**fields))
    with pytest.raises(InputError, match=words):
        read_header(path)


def test_detached_nrrd_without_an_end_of_header(tmp_path: Path):
    path = tmp_path / "a.nrrd"
    path.write_bytes(nrrd().split(b"\n\n")[0] + b"\ndata file: b.raw\n")
    with pytest.raises(InputError, match="another file"):
        read_header(path)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 1, 1)])
def test_nifti_shapes(tmp_path: Path, shape: tuple[int, ...]):
    nib.save(nib.Nifti1Image(np.zeros(shape, dtype=np.int16), np.eye(4)), tmp_path / "a.nii")
    expected = (*shape, 1)[:3]
    assert read_header(tmp_path / "a.nii").shape == expected
    assert read_volume(tmp_path / "a.nii").shape == expected


@pytest.mark.parametrize(
    ("values", "affine", "words"),
    [
        (np.zeros((4, 5, 6, 2), dtype=np.int16), np.eye(4), "not one volume"),
        (np.zeros((4, 5, 6), dtype=np.complex64), np.eye(4), "complex64"),
        (np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4), "real numbers"),
        (np.zeros((4, 5, 6), dtype=np.int16), np.diag([1, 0, 1, 1]), "affine"),
        (np.zeros((4, 5, 6), dtype=np.int16), np.diag([1, np.nan, 1, 1]), "affine"),
        (np.zeros((4, 5, 6), dtype=np.int16), np.eye(4)[[0, 0, 2, 3]], "affine"),
    ],
)
def test_nifti_headers_refused(tmp_path: Path, values: np.ndarray, affine: np.ndarray, words: str):
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_sform(affine, code=1)
    image.header.set_qform(None, code=0)
    stored = nib.Nifti1Image(values, None, image.header)
    nib.save(stored, tmp_path / "a.nii")
    with pytest.raises(InputError, match=words):
        read_header(tmp_path / "a.nii")


def test_huge_claim_in_a_small_file(tmp_path: Path):
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 20))
    header.set_data_dtype(np.float64)
    for name, pack in (("a.nii", bytes), ("a.nii.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(header.binaryblock + b"\0" * 4))
        with pytest.raises(InputError, match=r"too large|truncated"):
            read_volume(tmp_path / name)


def test_headers_are_read_without_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from monai_ctmri.data.reading import volume_headers

    def fail(*_: object) -> None:
        raise AssertionError("voxels were read")

    monkeypatch.setattr(volume_headers, "decode", fail)
    monkeypatch.setattr(volume_headers, "voxels_of", fail)
    nib.save(nib.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii.gz")
    for path in (tmp_path / "a.nii.gz", made(tmp_path, "raw.mha"), made(tmp_path, "packed.nrrd")):
        assert read_header(path).shape == (4, 5, 6)
