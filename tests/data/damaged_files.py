"""Small good files of every kind that is read, and what becomes of them when they are damaged in every way thought of.

Each damage is drawn from a local generator: the same seed gives the same files.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from monai_ctmri.data.formats import DICOM_SUFFIXES, IMAGE_SUFFIXES, PICTURE_SUFFIXES, suffix_of
from monai_ctmri.data.reading.volumes import read_header, read_volume
from monai_ctmri.data.trees.content import any_pixel, grid_of, read_plane
from monai_ctmri.data.verification import read_pixels
from monai_ctmri.errors import InputError

MIXED_MODES = ("truncated", "flipped_header", "flipped_body")
PER_FORMAT = 6
"""How many files of each of these damages there are for each format."""
HEADER = 96  # bytes: the fields that say what follows are among the first
_SHAPE = (24, 20, 8)
_NO_IMAGES = {
    "text": b"subject,label\n1,0\n" * 40,
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 8,
    "noise": np.random.default_rng(7).bytes(2000),
}


@dataclass(frozen=True)
class Damaged:
    """One damaged file.

    Attributes:
        path: where it lies.
        damage: the kind of damage.
        format: what the file was, or is called.
        surely_bad: whether it cannot hold a usable image any more; else it may be read.
    """

    path: Path
    damage: str
    format: str
    surely_bad: bool = True


def volume_values(seed: int = 0) -> np.ndarray:
    """A bright ellipsoid with noise, int16, that could be a head."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in _SHAPE], indexing="ij")
    head = x**2 + y**2 + z**2 / 4 < 0.8
    noise = np.random.default_rng(seed).normal(0, 20, _SHAPE)
    return np.where(head, 40 + noise, -1000).astype(np.int16)


def good_formats(folder: Path, write_series: Callable[..., list[Path]]) -> dict[str, Path]:
    """Write one good file of each format and return its path by the format's name."""
    folder.mkdir(parents=True, exist_ok=True)
    values = volume_values()
    plane = values[:, :, 4].T
    grey = np.clip(plane + 60, 0, 255).astype(np.uint8)
    found: dict[str, Path] = {}

    def name(label: str, suffix: str) -> Path:
        found[label] = folder / f"{label.replace('.', '_')}{suffix}"
        return found[label]

    Image.fromarray(grey).save(name("png8", ".png"))
    Image.fromarray(plane.clip(0).astype(np.uint16) * 300).save(name("png16", ".png"))
    Image.fromarray(np.dstack([grey, grey // 2, grey])).save(name("png_rgb", ".png"))
    Image.fromarray(grey).quantize(16).save(name("png_palette", ".png"))
    Image.fromarray(grey).save(name("jpg", ".jpg"))
    Image.fromarray(grey).save(name("tif8", ".tif"))
    Image.fromarray(plane.clip(0).astype(np.uint16)).save(name("tif16", ".tiff"))
    Image.fromarray(plane.astype(np.float32)).save(name("tif_float", ".tif"), compression="tiff_deflate")
    np.save(name("npy_u1", ".npy"), grey)
    np.save(name("npy_i2", ".npy"), plane)
    np.save(name("npy_f4", ".npy"), plane.astype(np.float32))
    np.save(name("npy_f8", ".npy"), plane.astype(np.float64))
    for suffix in (".nii", ".nii.gz"):
        nib.save(nib.Nifti1Image(values, np.diag([-2.0, -2.0, 5.0, 1.0])), name(suffix[1:], suffix))
    for label, suffix, packed in (("mha", ".mha", False), ("mha_zlib", ".mha", True)):
        itk_file(name(label, suffix), values, packed)
    for label, suffix, packed in (("nrrd", ".nrrd", False), ("nrrd_gzip", ".nrrd", True)):
        itk_file(name(label, suffix), values, packed)
    places = np.column_stack([np.zeros(8), np.zeros(8), 5.0 * np.arange(8)])
    series = write_series(folder / "series", values.transpose(2, 1, 0), places)
    found["dicom"] = series[0]
    return found


def itk_file(path: Path, values: np.ndarray, packed: bool = False) -> Path:
    import itk

    image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
    image.SetSpacing([2.0, 2.0, 5.0])
    itk.imwrite(image, str(path), compression=packed)
    return path


class Damager:
    """Writes damaged files into a folder, each in a folder of its own so that DICOM files form no series."""

    def __init__(self, folder: Path, good: dict[str, Path], seed: int = 0) -> None:
        self.folder, self.good = folder, good
        self.rng = np.random.default_rng(seed)
        self.made: list[Damaged] = []

    def place(self, damage: str, label: str, suffix: str, surely_bad: bool = True) -> Path:
        path = self.folder / damage / f"{len(self.made):04d}" / f"x{suffix}"
        path.parent.mkdir(parents=True)
        self.made.append(Damaged(path, damage, label, surely_bad))
        return path

    def write(self, damage: str, label: str, suffix: str, content: bytes, surely_bad: bool = True) -> Path:
        path = self.place(damage, label, suffix, surely_bad)
        path.write_bytes(content)
        return path

    def everything(self) -> list[Damaged]:
        self.truncated()
        self.flipped()
        self.wrong_extension()
        self.empty()
        self.huge_header()
        self.not_finite()
        self.no_place_in_space()
        self.links()
        self.folders_and_pipes()
        self.code_in_arrays()
        self.voxels_elsewhere()
        self.not_one_slice()
        return self.made

    def truncated(self) -> None:
        for label, path in self.good.items():
            content = path.read_bytes()
            # The last bytes of a PNG or JPEG only say that it ends: without them every pixel is there.
            whole = len(content) - (16 if label.startswith(("png", "jpg")) else 0)
            for cut in self.rng.integers(1, whole, PER_FORMAT):
                self.write("truncated", label, suffix_of(path), content[:cut])

    def flipped(self) -> None:
        for label, path in self.good.items():
            content = path.read_bytes()
            begin = 128 if label == "dicom" else 0  # its first 128 bytes mean nothing
            header = (begin, min(len(content), begin + (400 if label == "dicom" else HEADER)))
            for damage, (low, high) in (("flipped_header", header), ("flipped_body", (header[1], len(content)))):
                for _ in range(PER_FORMAT):
                    bits = np.unpackbits(np.frombuffer(content, np.uint8))
                    places = self.rng.integers(8 * low, 8 * high, self.rng.integers(1, 65))
                    bits[np.unique(places)] ^= 1
                    self.write(damage, label, suffix_of(path), np.packbits(bits).tobytes(), surely_bad=False)

    def wrong_extension(self) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as stream:
            stream.writestr("a.txt", "text")
        contents = {**_NO_IMAGES, "zip": archive.getvalue(), "gzip": gzip.compress(b"text")}
        for label in ("png8", "npy_f4", "nii", "nii.gz", "mha", "nrrd", "dicom"):
            contents[label] = self.good[label].read_bytes()
        own = {".npy": "npy_f4", ".nii": "nii", ".nii.gz": "nii.gz", ".mha": "mha", ".nrrd": "nrrd"}
        own |= dict.fromkeys(DICOM_SUFFIXES, "dicom") | dict.fromkeys(PICTURE_SUFFIXES, "png8")
        for suffix in IMAGE_SUFFIXES:
            for label, content in contents.items():
                if own[suffix] != label:
                    self.write("wrong_extension", f"{label} as {suffix}", suffix, content)

    def empty(self) -> None:
        for suffix in IMAGE_SUFFIXES:
            self.write("zero_length", suffix, suffix, b"")

    def huge_header(self) -> None:
        """Headers that claim up to 2**60 voxels."""
        for dims in ((32767, 32767, 32767), (32767, 32767, 1), (2000, 2000, 2000)):
            for label in ("nii", "nii.gz"):
                content = bytearray(_unpacked(self.good[label]))
                struct.pack_into("<8h", content, 40, 3, *dims, 1, 1, 1, 1)
                data = bytes(content) if label == "nii" else gzip.compress(bytes(content))
                self.write("huge_header", label, f".{label}", data)
        for sizes in ("100000 100000 100000", "2147483647 2147483647 1", "4294967297 4294967297 4294967297", "-1 9 9"):
            for label, key in (
                ("mha", b"DimSize"),
                ("mha_zlib", b"DimSize"),
                ("nrrd", b"sizes"),
                ("nrrd_gzip", b"sizes"),
            ):
                self.write("huge_header", label, f".{label[:4].rstrip('_')}", _line(self.good[label], key, sizes))
        self.write(
            "huge_header", "mha_zlib", ".mha", _line(self.good["mha_zlib"], b"CompressedDataSize", "999999999999")
        )
        for shape in ((10**5, 10**6), (2**40, 2**20), (10**6,), (3, 4, 5, 6, 7), (2**62, 4)):
            header = io.BytesIO()
            fields = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(header, fields)
            self.write("huge_header", "npy_f4", ".npy", header.getvalue() + bytes(4096))
        for width, height in ((2**31 - 1, 2**31 - 1), (10**5, 10**5), (16000, 16000)):
            for label in ("png8", "png16", "png_rgb"):
                content = bytearray(self.good[label].read_bytes())
                struct.pack_into(">II", content, 16, width, height)
                struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
                self.write("huge_header", label, ".png", bytes(content))
        content = bytearray(self.good["jpg"].read_bytes())
        struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, 65500, 65500)
        self.write("huge_header", "jpg", ".jpg", bytes(content))
        for label in ("tif8", "tif16", "tif_float"):
            for size in (60000, 2**31 - 1):
                self.write(
                    "huge_header", label, ".tif", _tiff_with(self.good[label].read_bytes(), {256: size, 257: size})
                )
        for number in (65535, 40000):
            self.dicom("huge_header", Rows=number, Columns=number)
        self.dicom("huge_header", NumberOfFrames=2**31 - 1)
        self.dicom("huge_header", BitsAllocated=65535)

    def not_finite(self) -> None:
        for bad in (np.nan, np.inf, -np.inf):
            plane = volume_values()[:, :, 4].astype(np.float32)
            plane[3, 4] = bad
            stack = volume_values().astype(np.float32)
            stack[3, 4, 5] = bad
            for dtype in ("f2", "f4", "f8"):
                np.save(self.place("not_finite", f"npy_{dtype}", ".npy"), plane.astype(dtype))
            Image.fromarray(plane).save(self.place("not_finite", "tif_float", ".tif"))
            for suffix in (".nii", ".nii.gz"):
                nib.save(nib.Nifti1Image(stack, np.eye(4)), self.place("not_finite", suffix[1:], suffix))
            for label, suffix in (("mha", ".mha"), ("nrrd", ".nrrd")):
                for packed in (False, True):
                    itk_file(self.place("not_finite", label, suffix), stack, packed)
            slope = nib.Nifti1Image(volume_values(), np.eye(4))
            path = self.place("not_finite", "nii slope", ".nii")
            nib.save(slope, path)
            content = bytearray(path.read_bytes())
            struct.pack_into("<ff", content, 112, 1.0, bad if np.isfinite(bad) else 3e38)  # 3e38 x values overflow
            struct.pack_into("<f", content, 112, 3e38)
            path.write_bytes(bytes(content))

    def no_place_in_space(self) -> None:
        """Affines that are not finite, or map a volume onto a plane, a line or a point."""
        rows = {
            "nan": (np.nan, 0, 0, 0),
            "inf": (np.inf, 0, 0, 0),
            "far": (2, 0, 0, np.inf),
            "flat": (0, 0, 0, 0),
            "twice": (0, 2, 0, 0),
        }
        for row in rows.values():
            for label in ("nii", "nii.gz"):
                content = bytearray(_unpacked(self.good[label]))
                struct.pack_into("<hh", content, 252, 0, 1)
                struct.pack_into("<4f", content, 280, *row)
                struct.pack_into("<4f", content, 296, 0, 2, 0, 0)
                data = bytes(content) if label == "nii" else gzip.compress(bytes(content))
                self.write("affine", label, f".{label}", data)
        for key, value in (
            (b"TransformMatrix", "nan 0 0 0 1 0 0 0 1"),
            (b"TransformMatrix", "0 0 0 0 0 0 0 0 0"),
            (b"TransformMatrix", "1 0 0 1 0 0 0 0 1"),
            (b"Offset", "inf 0 0"),
            (b"ElementSpacing", "nan 1 1"),
            (b"ElementSpacing", "0 1 1"),
        ):
            for label in ("mha", "mha_zlib"):
                self.write("affine", label, ".mha", _line(self.good[label], key, value))
        for key, value in (
            (b"space directions", "(nan,0,0) (0,2,0) (0,0,5)"),
            (b"space directions", "(0,0,0) (0,2,0) (0,0,5)"),
            (b"space directions", "(0,2,0) (0,2,0) (0,0,5)"),
            (b"space origin", "(inf,0,0)"),
            (b"space origin", "(nan,nan,nan)"),
        ):
            for label in ("nrrd", "nrrd_gzip"):
                self.write("affine", label, ".nrrd", _line(self.good[label], key, value))
        for elements in (
            {"PixelSpacing": ["0", "0"]},
            {"ImageOrientationPatient": ["0"] * 6},
            {"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]},
            {"ImagePositionPatient": ["1e999", "0", "0"]},
        ):
            self.dicom("affine", **elements)

    def links(self) -> None:
        for suffix in IMAGE_SUFFIXES:
            path = self.place("link", f"loop {suffix}", suffix)
            other = path.with_name(f"y{suffix}")
            path.symlink_to(other)
            other.symlink_to(path)
        for suffix in (".png", ".npy", ".nii.gz", ".mha", ".dcm"):
            path = self.place("link", f"self {suffix}", suffix)
            path.symlink_to(path)
            path = self.place("link", f"dangling {suffix}", suffix)
            path.symlink_to(path.with_name("nowhere"))
            path = self.place("link", f"device {suffix}", suffix)
            path.symlink_to("/dev/zero")

    def folders_and_pipes(self) -> None:
        for suffix in IMAGE_SUFFIXES:
            self.place("folder", suffix, suffix).mkdir()
        for suffix in IMAGE_SUFFIXES:
            os.mkfifo(self.place("pipe", suffix, suffix))
        if os.geteuid() != 0:  # everything is readable to root
            for label in ("png8", "npy_f4", "nii", "mha", "nrrd", "dicom"):
                path = self.write("forbidden", label, suffix_of(self.good[label]), self.good[label].read_bytes())
                path.chmod(0)

    def code_in_arrays(self) -> None:
        """Pickles that would write a file named ``executed`` beside them."""
        for kind in ("objects", "object", "bare", "version2"):
            path = self.place("pickled", kind, ".npy")
            marker = path.with_name("executed")
            payload = f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode()
            if kind == "bare":
                path.write_bytes(payload)
                continue
            header = io.BytesIO()
            fields = {"descr": "|O", "fortran_order": False, "shape": () if kind == "object" else (8, 8)}
            form: Any = np.lib.format
            (form.write_array_header_2_0 if kind == "version2" else form.write_array_header_1_0)(header, fields)
            path.write_bytes(header.getvalue() + payload)

    def voxels_elsewhere(self) -> None:
        for target in ("/etc/passwd", "../../../../etc/passwd", "LIST", "%03d.raw 1 2 1"):
            content = _line(self.good["mha"], b"ElementDataFile", target)
            self.write("elsewhere", "mha", ".mha", content)
            text = self.good["nrrd"].read_bytes().partition(b"\n\n")[0]
            self.write("elsewhere", "nrrd", ".nrrd", text + f"\ndata file: {target}\n\n".encode() + bytes(9000))
            self.write("elsewhere", "nrrd", ".nrrd", text + f"\ndatafile: {target}\n".encode())

    def not_one_slice(self) -> None:
        pages = [Image.fromarray(np.full((9, 9), number, np.uint8)) for number in range(3)]
        pages[0].save(self.place("pages", "tif", ".tif"), save_all=True, append_images=pages[1:])
        pages[0].save(
            self.place("pages", "tif", ".tiff"), save_all=True, append_images=pages[1:], compression="tiff_lzw"
        )
        for dtype in ("c8", "S3", "U2", "M8[s]", "V4"):
            np.save(self.place("dtype", "npy", ".npy"), np.zeros((8, 8), dtype))
        self.write("dtype", "nii", ".nii", _nifti_of(np.zeros((8, 8, 8), np.complex64)))
        colours = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
        self.write("dtype", "nii", ".nii", _nifti_of(colours))

    def dicom(self, damage: str, **elements: Any) -> None:
        """Write the good DICOM file with other elements, as text where its type is text."""
        import pydicom

        dataset = pydicom.dcmread(self.good["dicom"])
        for name, value in elements.items():
            with pydicom.config.disable_value_validation():
                setattr(dataset, name, value)
                if isinstance(value, list):  # as it is, not as a number
                    dataset[name]._value = pydicom.multival.MultiValue(str, value)
        dataset.save_as(self.place(damage, "dicom", ".dcm"), enforce_file_format=True)


def bombs(folder: Path, good: dict[str, Path]) -> Iterator[Damaged]:
    """Small files that unpack to gigabytes, in headers as in voxels."""
    folder.mkdir(parents=True, exist_ok=True)
    zeros = bytes(1 << 24)
    member = gzip.compress(zeros, 1)
    head = _unpacked(good["nii.gz"])
    huge, padded, extended = bytearray(head), bytearray(head), bytearray(head)
    struct.pack_into("<8h", huge, 40, 3, 2000, 1000, 1000, 1, 1, 1, 1)
    struct.pack_into("<f", padded, 108, 3.0e9)  # voxels begin after 3 GB
    struct.pack_into("<f", extended, 108, 2.0e9)
    extended[348:352] = b"\1\0\0\0"
    extended[352:360] = struct.pack("<ii", 1_999_999_632, 6)
    for name, begin in (("shape", huge), ("tail", head), ("offset", padded), ("extension", extended)):
        path = folder / f"{name}.nii.gz"
        path.write_bytes(gzip.compress(bytes(begin)) + member * 192)
        yield Damaged(path, "bomb", f"nii.gz {name}")
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    stream = b"\x78\x01" + block * 192
    for label, key in (("mha_zlib", b"DimSize"), ("nrrd_gzip", b"sizes")):
        content = _line(good[label], key, "2000 1000 1000")
        head_only = content.partition(b"LOCAL\n")[0] + b"LOCAL\n" if label == "mha_zlib" else b""
        text = head_only or content.partition(b"\n\n")[0] + b"\n\n"
        data = stream if label == "mha_zlib" else member * 192
        path = folder / f"{label}.{'mha' if label == 'mha_zlib' else 'nrrd'}"
        path.write_bytes(text + data)
        yield Damaged(path, "bomb", label)
        small = text.replace(b"2000 1000 1000", b"24 20 8")
        path = folder / f"{label}_small.{'mha' if label == 'mha_zlib' else 'nrrd'}"
        path.write_bytes(small + data)
        yield Damaged(path, "bomb", f"{label} tail", surely_bad=False)
    png = good["png8"].read_bytes()
    at = png.index(b"IDAT") - 4
    for field in (b"zTXt", b"iCCP"):
        chunk = field + b"key\0\0" + stream
        path = folder / f"{field.decode()}.png"
        path.write_bytes(
            png[:at] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[at:]
        )
        yield Damaged(path, "bomb", f"png {field.decode()}", surely_bad=False)
    chunk = b"IDAT" + stream
    path = folder / "rows.png"
    path.write_bytes(
        png[:at] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]
    )
    yield Damaged(path, "bomb", "png rows", surely_bad=False)
    path = folder / "deflated" / "x.dcm"
    path.parent.mkdir()
    path.write_bytes(_deflated_dicom(good["dicom"], block * 192))
    yield Damaged(path, "bomb", "dicom")


def _deflated_dicom(good: Path, body: bytes) -> bytes:
    """A file whose data set is deflated (PS3.5, A.5): after the file's own header comes a raw stream."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset = pydicom.dcmread(good)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    length = 144 + struct.unpack_from("<I", stream.getvalue(), 140)[0]
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    # A data element of unknown use that claims what follows.
    first = packer.compress(struct.pack("<HH2sHI", 0x0007, 0x0010, b"OB", 0, 3 << 30)) + packer.flush(zlib.Z_FULL_FLUSH)
    return stream.getvalue()[:length] + first + body + b"\3\0"  # the block that ends a stream


def open_in_every_way(path: Path) -> list[str]:
    """What else opens files; returns the names of those that neither work nor refuse in one line."""
    wrong = []
    for reader in (read_header, read_volume, read_pixels, grid_of, read_plane, any_pixel):
        try:
            reader(path)
        except (InputError, MemoryError) as error:
            if "\n" in str(error):
                wrong.append(reader.__name__)
        except Exception as error:
            wrong.append(f"{reader.__name__} {type(error).__name__}: {error}")
    return wrong


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.endswith(".gz") else content


def _line(path: Path, key: bytes, value: str) -> bytes:
    """The file with another value in one line of its text header."""
    content = path.read_bytes()
    begin = content.index(key)
    end = content.index(b"\n", begin)
    sign = b": " if path.name.endswith(".nrrd") else b" = "
    return content[:begin] + key + sign + value.encode() + content[end:]


def _tiff_with(content: bytes, tags: dict[int, int]) -> bytes:
    """A little-endian TIFF with other values in entries of its first directory."""
    changed = bytearray(content)
    directory = struct.unpack_from("<I", changed, 4)[0]
    for entry in range(struct.unpack_from("<H", changed, directory)[0]):
        at = directory + 2 + 12 * entry
        if (tag := struct.unpack_from("<H", changed, at)[0]) in tags:
            struct.pack_into("<HII", changed, at + 2, 4, 1, tags[tag])
    return bytes(changed)


def _nifti_of(values: np.ndarray) -> bytes:
    image: Any = nib.Nifti1Image(values, np.eye(4))
    return bytes(image.to_bytes())
