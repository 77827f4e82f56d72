"""A look into image files where their names do not settle a question: size, one plane, modality, an empty mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_ctmri.data.formats import kind_of, suffix_of
from monai_ctmri.data.verification import MAX_VOXELS, read_pixels
from monai_ctmri.errors import InputError

__all__ = ["AGREEMENT", "Grid", "Vote", "any_pixel", "appearance_of", "grid_of", "on_one_grid", "read_plane", "vote"]

AGREEMENT = 0.8
"""Share of a folder's decided votes that has to be for one modality."""
_SAMPLE = 32
_TOLERANCE = 0.1  # mm


@dataclass(frozen=True, slots=True)
class Grid:
    """Size of an image, and where a volume lies.

    Attributes:
        shape: (H, W) of a picture, (X, Y, Z) of a volume.
        affine: (4, 4), voxel to millimetres; None for a picture.
    """

    shape: tuple[int, ...]
    affine: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """What a sample of files looks like.

    Attributes:
        modality: ``ct`` or ``mri`` where at least :data:`AGREEMENT` of the decided files agree and at least half of the
            sample is decided, else None.
        agreeing: files that look like the more frequent modality.
        decided: files that look like one of the two.
        asked: files looked at.
    """

    modality: str | None
    agreeing: int
    decided: int
    asked: int


def grid_of(path: Path) -> Grid | None:
    """Return an image's grid by its header alone; None where it cannot be told (unreadable, or a DICOM series)."""
    kind = kind_of(path) if path.is_file() else None
    try:
        if kind == "picture":
            from PIL import Image

            with Image.open(path) as image:
                return Grid((image.height, image.width))
        if kind == "array":
            return Grid(tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape))
        if kind == "volume":
            return _volume_grid(path)
    except Exception:  # decoders meet broken files with almost any exception; the quality check names them
        return None
    return None


def on_one_grid(a: Grid | None, b: Grid | None) -> bool:
    """Whether two images have one size and, for volumes, one place: corners nowhere more than 0.1 mm apart."""
    if a is None or b is None or a.shape != b.shape or (a.affine is None) != (b.affine is None):
        return False
    if a.affine is None or b.affine is None:
        return True
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in (*a.shape, 1, 1)[:3]], [1])).reshape(4, -1)
    return bool(np.abs((a.affine - b.affine) @ corners).max() <= _TOLERANCE)


def read_plane(path: Path) -> np.ndarray:
    """Return one axial plane (H, W) float32 as stored: a picture in grey, the middle of a volume or DICOM series.

    Raises:
        InputError: when the file cannot be decoded.
    """
    kind = "dicom" if path.is_dir() else kind_of(path)
    if kind not in ("volume", "dicom"):
        pixels = read_pixels(path, slices_only=False).astype(np.float32)
        if kind == "array":
            return pixels if pixels.ndim == 2 else _middle(pixels, int(np.argmin(pixels.shape)))
        return pixels if pixels.ndim == 2 else pixels[..., : 1 if pixels.shape[2] == 2 else 3].mean(axis=2)
    if kind == "dicom" or not suffix_of(path).startswith(".nii"):
        from monai_ctmri.data.reading.volumes import read_volume

        volume = read_volume(path, allow_resample=True)
        return _upright(volume.array, volume.affine)
    from monai_ctmri.data.reading.volume_headers import open_nifti

    if not path.is_file():  # a pipe would be waited for without end
        raise InputError.about(path, "no such file", "check the path")
    try:
        image = open_nifti(path)
        if np.prod(image.shape, dtype=float) > MAX_VOXELS:
            raise InputError.about(path, f"shape {image.shape} exceeds {MAX_VOXELS} voxels", "crop or resample it")
        return _upright(image.dataobj, image.affine)
    except InputError:
        raise
    except Exception as error:  # see grid_of
        raise InputError.about(path, "not a complete NIfTI file", "replace it by an intact copy") from error


def any_pixel(path: Path) -> bool:
    """Whether a mask outlines anything.

    Raises:
        InputError: when the file cannot be decoded.
    """
    if suffix_of(path) in (".mha", ".nrrd"):
        from monai_ctmri.data.reading.volumes import read_volume

        return bool(np.any(read_volume(path, allow_resample=True).array))
    pixels = read_pixels(path, slices_only=False)
    if kind_of(path) == "picture" and pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1]  # the last channel is opacity
    # A lossy picture of a mask has faint specks around; half of the type's range parts them from what is drawn.
    lossy = suffix_of(path) in (".jpg", ".jpeg")
    return bool(np.any(pixels > 127) if lossy else np.any(pixels))


def appearance_of(plane: np.ndarray, windowed: bool) -> str | None:
    """Return what a plane (H, W) looks like: ``ct``, ``mri``, or None where it could be either."""
    from monai_ctmri.data.looking.appearance import look_at

    return look_at(plane, windowed=windowed).modality


def vote(paths: Sequence[str | os.PathLike[str]], seed: int = 0) -> Vote:
    """Let a sample of files, 32 at most, say which modality they show. A file that cannot be read has no voice."""
    order = np.random.default_rng(seed).permutation(len(paths))[:_SAMPLE]
    said: list[str] = []
    for index in sorted(order.tolist()):
        path = Path(paths[index])
        try:
            looks = appearance_of(read_plane(path), kind_of(path) == "picture")
        except InputError:
            continue
        said += [looks] if looks else []
    best = max(sorted(set(said)), key=said.count, default=None)
    agreeing = said.count(best) if best else 0
    decisive = best is not None and agreeing >= AGREEMENT * len(said) and 2 * len(said) >= len(order)
    return Vote(best if decisive else None, agreeing, len(said), len(order))


def _volume_grid(path: Path) -> Grid:
    if suffix_of(path).startswith(".nii"):
        from monai_ctmri.data.reading.volume_headers import open_nifti

        image = open_nifti(path)
        return Grid(tuple(int(length) for length in image.shape), np.asarray(image.affine, dtype=float))
    from monai_ctmri.data.reading.volumes import read_header

    header = read_header(path)
    return Grid(tuple(int(length) for length in header.shape), np.asarray(header.affine, dtype=float))


def _middle(array: Any, axis: int) -> np.ndarray:
    index: list[Any] = [slice(None)] * len(array.shape)
    index[axis] = array.shape[axis] // 2
    for extra in range(3, len(index)):
        index[extra] = 0
    return np.asarray(array[tuple(index)], dtype=np.float32)


def _upright(array: Any, affine: np.ndarray) -> np.ndarray:
    """Return the middle axial plane of a volume: row 0 is anterior, column 0 the patient's right."""
    from nibabel.orientations import io_orientation

    array = np.asarray(array)[..., np.newaxis] if len(array.shape) == 2 else array
    world, signs = io_orientation(affine).T
    axes = world.tolist()
    plane = _middle(array, axes.index(2))
    left_right, front_back = axes.index(0), axes.index(1)
    if left_right < front_back:
        plane = plane.T
    plane = plane[::-1] if signs[front_back] > 0 else plane
    return plane[:, ::-1] if signs[left_right] > 0 else plane
