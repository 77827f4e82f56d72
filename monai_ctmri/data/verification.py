"""Opening every file of a manifest before work starts, so that a bad one is named now and not hours into a run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from monai_ctmri import keys
from monai_ctmri.data.formats import ARRAY_SUFFIXES, PICTURE_SUFFIXES, VOLUME_SUFFIXES, suffix_of
from monai_ctmri.data.manifest import Case, Manifest
from monai_ctmri.errors import InputError

__all__ = ["MAX_VOXELS", "SUFFIXES", "read_pixels", "verify_files"]

SUFFIXES = (*PICTURE_SUFFIXES, *ARRAY_SUFFIXES, *VOLUME_SUFFIXES)
MAX_VOXELS = 512**3
"""Largest file decoded, in voxels: some GB as floating point. A header may claim any size."""

_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_NO_SLICE = "this pipeline takes axial slices: export them one a file"


def verify_files(
    manifest: Manifest, *, max_voxels: int = MAX_VOXELS, progress: Callable[[int, int], None] | None = None
) -> dict[str, tuple[int, int]]:
    """Decode every file of a manifest and compare the sizes within each case.

    Args:
        manifest: the cases; each ``ct``, ``mri`` and ``mask`` is opened, a file named more than once only once.
        max_voxels: larger files are refused.
        progress: called after each case with the number of cases done and of all.

    Returns:
        The size (H, W) in pixels of each case by its name, in picture orientation: for volumes, H runs along the
        anterior-posterior axis and W along the left-right axis.

    Raises:
        InputError: when a file is missing, a folder, of no supported suffix (``SUFFIXES``), broken, cut off, not one
            slice of real finite numbers, or of another size than the others of its case. The message is about the
            first problem and counts the others.
    """
    problems: list[str] = []
    sizes: dict[str, tuple[int, int]] = {}
    known: dict[Path, tuple[int, int] | None] = {}
    for done, case in enumerate(manifest, start=1):
        for path in _files_of(case).values():
            if path not in known:
                try:
                    known[path] = _slice_size(path, max_voxels)
                except InputError as error:
                    known[path] = None
                    problems.append(str(error))
        found = {key: size for key, path in _files_of(case).items() if (size := known[path]) is not None}
        if found:
            first, sizes[case.name] = next(iter(found.items()))
        for key, size in found.items():
            if size != sizes[case.name]:
                problem = f"{key} is {_text(size)} pixels, {first} of case {case.name!r} is {_text(sizes[case.name])}"
                remedy = (
                    "bring both to one grid (registration)" if key == keys.MRI else "draw the mask on the image's grid"
                )
                problems.append(str(InputError.about(_files_of(case)[key], problem, remedy)))
        if progress is not None:
            progress(done, len(manifest))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
    return sizes


def read_pixels(path: str | os.PathLike[str], *, max_voxels: int = MAX_VOXELS, slices_only: bool = True) -> np.ndarray:
    """Decode a whole image file, as stored: no windowing, no reorientation.

    Args:
        path: a file with one of ``SUFFIXES``.
        max_voxels: larger files are refused, by their header.
        slices_only: refuse arrays that are more than one slice, by their header.

    Returns:
        Pictures as (H, W) or (H, W, channels); arrays and volumes in their stored axes, those of length 1 dropped down
        to two. Real numbers, finite in single precision.

    Raises:
        InputError: when the file is missing, a folder, of no supported suffix, broken, cut off, empty, too large, or
            holds other than real finite numbers.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise InputError.about(path, "unsupported kind of file", f"use one of {', '.join(SUFFIXES)}")
    if os.path.isdir(path):
        raise InputError.about(path, "a folder, not a file", "name the image file")
    if not os.path.exists(path):
        raise InputError.about(path, "no such file", "check the path in the manifest")
    if not os.path.isfile(path):  # a pipe would be waited for without end
        raise InputError.about(path, "a device, not a file", "name the image file")
    read = _reader_of(suffix)
    try:
        pixels = read(path, max_voxels, slices_only)
    except (InputError, MemoryError):
        raise
    except PermissionError as error:
        raise InputError.about(path, "no permission to read it", "change the file's permissions") from error
    # Decoders meet broken files with almost any exception (SyntaxError, struct.error, zlib.error, EOFError, ...).
    except Exception as error:
        raise InputError.about(path, f"not a complete {suffix} file", "replace it by an intact copy") from error
    # Everything that follows computes in single precision, where larger values are infinite.
    largest = np.finfo(np.float32).max
    wide = pixels.dtype.kind == "f" and pixels.dtype.itemsize > 4
    if not np.isfinite(pixels).all() or (wide and bool((np.abs(pixels) > largest).any())):
        raise InputError.about(path, "holds values that are not finite", "replace them by the background's value")
    return pixels


def _reader_of(suffix: str) -> Callable[[Path, int, bool], np.ndarray]:
    if suffix in PICTURE_SUFFIXES:
        return _read_picture
    if suffix in ARRAY_SUFFIXES:
        return _read_array
    return _read_nifti if suffix in _NIFTI_SUFFIXES else _read_volume


def _read_picture(path: Path, max_voxels: int, slices_only: bool) -> np.ndarray:
    from PIL import Image

    # Only the formats named: others reach for decoders (such as Ghostscript) that no slice needs.
    with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
        frames = getattr(image, "n_frames", 1)
        _check_shape(path, (image.height, image.width), max_voxels)
        if frames > 1:
            raise InputError.about(path, f"a stack of {frames} pictures", _NO_SLICE)
        image.load()
        # A palette's indices are no grey values, and a print's inks run the other way.
        return np.asarray(image.convert("RGB") if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB") else image)


def _read_array(path: Path, max_voxels: int, slices_only: bool) -> np.ndarray:
    # Mapped, not loaded: the header may claim more than there is memory. Pickled objects are code, so never allowed.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError.about(path, "an archive of arrays", "save one array with numpy.save")
    if array.dtype.kind not in "biuf":
        raise InputError.about(path, f"holds {array.dtype}, not real numbers", "save integers or floating point")
    shape = _check_shape(path, array.shape, max_voxels)
    if slices_only and len(shape) != 2:
        raise InputError.about(path, f"an array of shape {array.shape}, not one slice (H, W)", _NO_SLICE)
    return np.array(array).reshape(shape)


def _read_nifti(path: Path, max_voxels: int, slices_only: bool) -> np.ndarray:
    from monai_ctmri.data.reading.volume_headers import check_rest, open_nifti

    image = open_nifti(path)
    shape = _check_shape(path, image.shape, max_voxels)
    if slices_only and (len(shape) != 2 or any(length > 1 for length in image.shape[3:])):
        raise InputError.about(path, f"a volume of shape {image.shape}, not one slice", _NO_SLICE)
    pixels = np.asarray(image.dataobj)
    if pixels.dtype.kind not in "biuf":
        raise InputError.about(path, f"holds {pixels.dtype}, not real numbers", "save integers or floating point")
    check_rest(path, image)
    return pixels.reshape(shape)


def _read_volume(path: Path, max_voxels: int, slices_only: bool) -> np.ndarray:
    from monai_ctmri.data.reading.volumes import read_header, read_volume

    shape = _check_shape(path, read_header(path, max_voxels=max_voxels).shape, max_voxels)
    if slices_only and len(shape) != 2:
        raise InputError.about(path, f"a volume of shape {shape}, not one slice", _NO_SLICE)
    return read_volume(path, max_voxels=max_voxels).array.reshape(shape)


def _check_shape(path: Path, shape: tuple[int, ...], max_voxels: int) -> tuple[int, ...]:
    """Return the shape with axes of length 1 dropped, first ones first, down to two; or refuse it."""
    if 0 in shape or len(shape) < 2:
        raise InputError.about(path, f"an array of shape {shape} holds no slice", "save one slice as (H, W)")
    if math.prod(int(length) for length in shape) > max_voxels:
        raise InputError.about(path, f"shape {shape} exceeds {max_voxels} voxels", "crop or resample it")
    kept = list(shape)
    while len(kept) > 2 and 1 in kept:
        kept.remove(1)
    return tuple(kept)


def _slice_size(path: Path, max_voxels: int) -> tuple[int, int]:
    shape = read_pixels(path, max_voxels=max_voxels).shape
    if suffix_of(path) not in VOLUME_SUFFIXES:
        return shape[0], shape[1]
    from nibabel.orientations import io_orientation

    from monai_ctmri.data.reading.volumes import read_header

    # World axis (0 left-right, 1 posterior-anterior, 2 inferior-superior) that each voxel axis runs along.
    image = read_header(path, max_voxels=max_voxels)
    world = io_orientation(image.affine)[:, 0].tolist()
    lengths = image.shape
    if sorted(world) != [0, 1, 2] or lengths[world.index(2)] != 1:
        raise InputError.about(path, "its affine says that the slice is not axial", _NO_SLICE)
    return lengths[world.index(1)], lengths[world.index(0)]


def _files_of(case: Case) -> dict[str, Path]:
    return {key: getattr(case, key) for key in (keys.CT, keys.MRI, keys.MASK) if getattr(case, key) is not None}


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
