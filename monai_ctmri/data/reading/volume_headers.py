"""NIfTI, MetaImage and NRRD files: their headers, checked before any voxel is read, and their voxels."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from monai_ctmri.data.formats import suffix_of
from monai_ctmri.data.reading.itk_reading import decode, quiet_itk
from monai_ctmri.data.reading.volumes import VolumeHeader, check_affine, check_voxels
from monai_ctmri.errors import InputError

__all__ = ["check_rest", "header_of", "open_nifti", "voxels_of"]

_LONGEST_HEADER = 1 << 20
_LONGEST_EXTENSIONS = 1 << 24
_LONGEST_REST = 1 << 20  # bytes that may follow the voxels
_CHUNK = 1 << 20
_CLASSES = {".mha": "MetaImageIO", ".nrrd": "NrrdImageIO"}
_INTACT = "replace it by an intact copy"
_PLACES = ("Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation", "ElementSpacing")
_DTYPES = {
    **{"unsigned_char": "u1", "char": "i1", "unsigned_short": "u2", "short": "i2", "unsigned_int": "u4", "int": "i4"},
    **{"unsigned_long": "u8", "long": "i8", "unsigned_long_long": "u8", "long_long": "i8"},
    **{"float": "f4", "double": "f8"},
}


def header_of(path: Path, max_voxels: int) -> VolumeHeader:
    """Read and check a header; see :func:`~monai_ctmri.data.reading.volumes.read_header`.

    Raises:
        InputError: for what the format allows and this project does not.
        Exception: whatever a reader throws at a broken file.
    """
    if path.stat().st_size == 0:
        raise InputError.about(path, "an empty file", _INTACT)
    return _nifti_header(path, max_voxels) if suffix_of(path) not in _CLASSES else _itk_header(path, max_voxels)


def voxels_of(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Decode the voxels of a file whose header :func:`header_of` took: float32 of ``shape``.

    Raises:
        Exception: whatever a reader throws at a broken file.
    """
    if suffix_of(path) in _CLASSES:
        array, _ = decode(path, _CLASSES[suffix_of(path)])
    else:
        from monai.data import NibabelReader

        reader = NibabelReader()
        array, _ = reader.get_data(reader.read(path))
        check_rest(path, open_nifti(path))
    return np.ascontiguousarray(array, dtype=np.float32).reshape(shape)


def open_nifti(path: Path) -> Any:
    """Open a NIfTI file by nibabel, after a look at where its voxels begin: extensions are read as long as they claim
    to be, and a small ``.nii.gz`` unpacks to almost any length.

    Raises:
        InputError: for a header of no NIfTI, and for one whose extensions exceed 16 MiB or the place of the voxels.
        Exception: whatever a reader throws at a broken file.
    """
    import nibabel

    with gzip.open(path) if suffix_of(path) == ".nii.gz" else open(path, "rb") as stream:
        head = stream.read(544)
        order = next((each for each in "<>" if struct.unpack(f"{each}i", head[:4])[0] in (348, 540)), "")
        if not order:
            raise InputError.about(path, "not a NIfTI header", _INTACT)
        size = struct.unpack(f"{order}i", head[:4])[0]
        begin = (
            struct.unpack(f"{order}f", head[108:112])[0]
            if size == 348
            else struct.unpack(f"{order}q", head[168:176])[0]
        )
        if not 0 <= begin <= _LONGEST_EXTENSIONS:
            raise InputError.about(path, f"its voxels begin after {begin:g} bytes", "save it without extensions")
        content = head + stream.read(max(0, int(begin) - len(head)))
    place = size + 4 if content[size : size + 1] not in (b"", b"\0") else int(begin)
    while place + 8 <= begin:
        length = struct.unpack(f"{order}i", content[place : place + 4])[0]
        if length < 8 or place + length > begin:
            raise InputError.about(path, f"an extension of {length} bytes does not fit", "save it without extensions")
        place += length
    image: Any = nibabel.load(path)
    return image


def check_rest(path: Path, image: Any) -> None:
    """Read what follows the voxels of a ``.nii.gz``: its checksum stands at the end, where no reader gets.

    Args:
        path: any NIfTI file; one that is not packed has no checksum.
        image: as opened by :func:`open_nifti`.

    Raises:
        InputError: when more than 1 MiB follows.
        Exception: for damage.
    """
    if suffix_of(path) != ".nii.gz":
        return
    claimed = int(image.dataobj.offset) + math.prod(image.shape) * np.dtype(image.get_data_dtype()).itemsize
    unpacked = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(_CHUNK):
            unpacked += len(chunk)
            if unpacked > claimed + _LONGEST_REST:
                raise InputError.about(path, f"holds more than the {claimed} bytes of its image", _INTACT)


def _nifti_header(path: Path, max_voxels: int) -> VolumeHeader:
    image = open_nifti(path)
    dtype = np.dtype(image.get_data_dtype())
    shape = _three(path, image.shape)
    _check_dtype(path, dtype)
    check_voxels(path, shape, max_voxels)
    if suffix_of(path) == ".nii":
        missing = int(image.dataobj.offset) + math.prod(shape) * dtype.itemsize - path.stat().st_size
        if missing > 0:
            raise InputError.about(path, f"truncated: {missing} bytes of its voxels are missing", _INTACT)
    affine = np.asarray(image.affine, dtype=np.float64)
    check_affine(path, affine)
    return VolumeHeader(shape, affine, dtype)


def _itk_header(path: Path, max_voxels: int) -> VolumeHeader:
    """Text first, by a strict reading that refuses what could lead elsewhere; then ITK's own."""
    import itk

    with open(path, "rb") as stream:
        fields = _metaimage_fields(path, stream) if suffix_of(path) == ".mha" else _nrrd_fields(path, stream)
        begin = stream.tell()
    with quiet_itk():
        io = getattr(itk, _CLASSES[suffix_of(path)]).New()
        io.SetFileName(str(path))
        io.ReadImageInformation()
        shape = _three(path, tuple(int(io.GetDimensions(axis)) for axis in range(io.GetNumberOfDimensions())))
        axes = min(3, io.GetNumberOfDimensions())
        affine = np.eye(4)
        for axis in range(axes):
            affine[:axes, axis] = np.array(io.GetDirection(axis))[:axes] * io.GetSpacing(axis)
            affine[axis, 3] = io.GetOrigin(axis)
        name = str(io.GetComponentTypeAsString(io.GetComponentType()))
        if io.GetNumberOfComponents() != 1 or name not in _DTYPES:
            raise InputError.about(path, "holds colours, vectors or complex numbers", "save one real number a voxel")
    dtype = np.dtype(_DTYPES[name])
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's LPS
    check_affine(path, affine)
    check_voxels(path, shape, max_voxels)
    _check_payload(path, begin, fields, math.prod(shape) * dtype.itemsize)
    return VolumeHeader(shape, affine, dtype)


def _metaimage_fields(path: Path, stream: BinaryIO) -> dict[str, str]:
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        # ITK writes its metadata here too, under names such as "dim[0]" and "0008|0060".
        match = re.fullmatch(rb"\s*([^=]+?)\s*=\s*(.*?)\s*", stream.readline(4096))
        if match is None or stream.tell() > _LONGEST_HEADER:
            raise InputError.about(path, "not a MetaImage header", _INTACT)
        fields[match[1].decode("ascii", errors="replace")] = match[2].decode("ascii", errors="replace")
    if fields["ElementDataFile"] != "LOCAL":
        raise InputError.about(path, "its voxels are in another file", "save header and voxels in one file")
    if fields.get("BinaryData", "True").lower() != "true" or int(fields.get("HeaderSize", "0")) != 0:
        raise InputError.about(path, "voxels as text, or behind a foreign header", "save it as plain binary MetaImage")
    _check_lengths(path, fields.get("NDims", ""), fields.get("DimSize", ""))
    for key in _PLACES:  # ITK reads what is no number as 0
        if not np.isfinite([float(each) for each in fields.get(key, "").split()]).all():
            raise InputError.about(path, f"{key} is not finite", "correct the header's orientation and spacing")
    compressed = fields.get("CompressedData", "False").lower() == "true"
    return {"encoding": "zlib" if compressed else "raw"}


def _nrrd_fields(path: Path, stream: BinaryIO) -> dict[str, str]:
    if not stream.readline(64).startswith(b"NRRD000"):
        raise InputError.about(path, "not an NRRD header", _INTACT)
    fields: dict[str, str] = {}
    while line := stream.readline(4096).decode("ascii", errors="replace"):
        if stream.tell() > _LONGEST_HEADER:
            break
        text = line.strip()
        if not text:
            return _checked_nrrd(path, fields)
        if not text.startswith("#") and ":" in text:
            key, value = text.split(":", 1)
            fields[re.sub(r"\s", "", key).lower()] = value.strip()
    # A header without the empty line that ends it has its voxels elsewhere.
    if "datafile" in fields:
        return _checked_nrrd(path, fields)
    raise InputError.about(path, "not an NRRD header", _INTACT)


def _checked_nrrd(path: Path, fields: dict[str, str]) -> dict[str, str]:
    if "datafile" in fields:
        raise InputError.about(path, "its voxels are in another file", "save header and voxels in one file")
    if any(int(fields.get(key, "0")) != 0 for key in ("lineskip", "byteskip")):
        raise InputError.about(path, "its voxels are behind a foreign header", "save it as plain NRRD")
    encoding = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise InputError.about(path, "its voxels are neither raw nor gzip", "save it as raw or gzip NRRD")
    _check_lengths(path, fields.get("dimension", ""), fields.get("sizes", ""))
    for key in ("spaceorigin", "spacedirections", "spacings"):  # ITK reads what is no number as 0
        if re.search(r"nan|inf", fields.get(key, "").lower()):
            raise InputError.about(path, f"{key} is not finite", "correct the header's orientation and spacing")
    return {"encoding": encoding}


def _check_lengths(path: Path, count: str, lengths: str) -> None:
    # The C readers behind ITK trust these numbers.
    sizes = [int(each) for each in lengths.split()]
    if not 2 <= int(count) <= 4 or len(sizes) != int(count) or min(sizes) < 1:
        raise InputError.about(path, f"{count} axes of lengths {lengths}: no volume", "save one volume (X, Y, Z)")


def _check_payload(path: Path, begin: int, fields: dict[str, str], expected: int) -> None:
    """Check what the readers let pass: voxels that end early, or compressed ones that do not unpack."""
    if fields["encoding"] == "raw":
        missing = begin + expected - path.stat().st_size
    else:
        unpacker = zlib.decompressobj(47)  # zlib or gzip, told by its first bytes
        unpacked = 0
        with open(path, "rb") as stream:
            stream.seek(begin)
            while (
                unpacked < expected and not unpacker.eof and (chunk := unpacker.unconsumed_tail or stream.read(_CHUNK))
            ):
                unpacked += len(unpacker.decompress(chunk, 16 * _CHUNK))
            while (
                not unpacker.eof and unpacked <= expected and (chunk := unpacker.unconsumed_tail or stream.read(_CHUNK))
            ):
                unpacked += len(unpacker.decompress(chunk, 16 * _CHUNK))  # what is left is the checksum
        missing = expected - unpacked if unpacker.eof else max(1, expected - unpacked)
    if missing > 0:
        raise InputError.about(path, f"truncated: {missing} bytes of its voxels are missing", _INTACT)


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 2 or any(length != 1 for length in shape[3:]):
        raise InputError.about(path, f"shape {shape}, not one volume", "save one volume (X, Y, Z) a file")
    x, y, z = (*shape, 1)[:3]
    return int(x), int(y), int(z)


def _check_dtype(path: Path, dtype: np.dtype) -> None:
    if dtype.kind not in "biuf":
        raise InputError.about(path, f"holds {dtype}, not real numbers", "save one real number a voxel")
