"""Which pictures of a data set a gallery shows, and their one plane each; no more pixels are held than are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from monai_ctmri import keys
from monai_ctmri.data.dataset_summary import shown_name
from monai_ctmri.data.exploration import Exploration
from monai_ctmri.data.findings import SEVERITIES
from monai_ctmri.data.formats import kind_of
from monai_ctmri.data.manifest import Case
from monai_ctmri.errors import InputError
from monai_ctmri.report.exploration_gallery import GalleryImage

__all__ = ["choose_flagged", "choose_pairs", "choose_samples", "evenly", "plane_to_show"]

_PAIRS = 6
_SAMPLES = 6
_FLAGGED = 12
_ROWS = {"ct": "CT", "mri": "MRI"}
_GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_AIR_HU = -200.0
_BRAIN_WINDOW_HU = (0.0, 80.0)  # between air and bone the brain would be one even grey

Item = TypeVar("Item")


def evenly(items: Sequence[Item], number: int) -> list[Item]:
    """Return ``number`` items, the first and the last among them, at even distances; all where there are not more."""
    if len(items) <= number:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, number).round().astype(int)]


def choose_pairs(exploration: Exploration) -> list[tuple[GalleryImage, GalleryImage]]:
    """CT and MRI of evenly chosen paired cases; empty unless the data set is paired."""
    if exploration.discovery.pairing != "paired":
        return []
    paired = [case for case in exploration.discovery.cases if len(case.modalities) == len(keys.MODALITIES)]
    return [
        (_image(exploration, case.ct, "ct"), _image(exploration, case.mri, "mri"))
        for case in evenly(paired, _PAIRS)
        if case.ct is not None and case.mri is not None
    ]


def choose_samples(exploration: Exploration) -> dict[str, list[GalleryImage]]:
    """Evenly chosen images of each modality there is, by the name of its row."""
    rows: dict[str, list[GalleryImage]] = {}
    for modality, name in _ROWS.items():
        files = _files(exploration.discovery.cases, modality)
        if files:
            rows[name] = [_image(exploration, file, modality) for file in evenly(files, _SAMPLES)]
    return rows


def choose_flagged(exploration: Exploration) -> list[GalleryImage]:
    """Files with an error or a warning: errors first, and of each kind in turn, so that no kind hides another."""
    kinds: dict[Path, list[str]] = defaultdict(list)
    queues: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for one in exploration.findings:
        if one.severity != SEVERITIES[0]:
            kinds[one.file].append(one.kind)
            queues[(-SEVERITIES.index(one.severity), one.kind)].append(one.file)
    waiting = [evenly(list(dict.fromkeys(queues[key])), _FLAGGED) for key in sorted(queues)]
    chosen: dict[Path, None] = {}
    for turn in range(_FLAGGED):
        for queue in waiting:
            if turn < len(queue) and len(chosen) < _FLAGGED:
                chosen[queue[turn]] = None
    return [
        _image(
            exploration,
            file,
            exploration.modalities.get(file),
            [kind.replace("_", " ") for kind in dict.fromkeys(kinds[file])],
        )
        for file in chosen
    ]


def plane_to_show(path: Path, modality: str | None = None) -> tuple[np.ndarray, float]:
    """Return a picture in grey, or the middle axial slice of a volume, in picture orientation.

    Args:
        path: a picture, an array (its middle slice along the shortest axis), a volume, or a DICOM series.
        modality: ``ct`` or ``mri`` where known.

    Returns:
        (H, W) float; row 0 is anterior and column 0 the patient's right for volumes, as stored otherwise. And the
        height of a pixel in units of its width.

    Raises:
        InputError: when the file cannot be decoded.
    """
    if path.is_dir() or kind_of(path) in ("volume", "dicom"):
        return _middle_slice(path, modality)
    from monai_ctmri.data.verification import read_pixels

    pixels = read_pixels(path, slices_only=False).astype(np.float32)
    if pixels.ndim == 2:
        return pixels, 1.0
    if kind_of(path) == "array":
        axis = int(np.argmin(pixels.shape))
        plane = pixels.take(pixels.shape[axis] // 2, axis=axis)
        while plane.ndim > 2:
            plane = plane[..., 0]
        return plane, 1.0
    # One or two channels are grey, the second opacity.
    return (pixels[..., :3] @ _GREY if pixels.shape[2] > 2 else pixels[..., 0]), 1.0


def _middle_slice(path: Path, modality: str | None) -> tuple[np.ndarray, float]:
    from nibabel.affines import voxel_sizes

    from monai_ctmri.data.reading.volumes import read_volume
    from monai_ctmri.data.slices import axial_order, cut_slices

    # A tilted series is found fault with elsewhere; a look at it needs no even grid.
    volume = read_volume(path, modality, allow_resample=True)
    axial = int(np.flatnonzero(axial_order(volume.affine)[:, 0] == 2)[0])
    middle = next(iter(cut_slices(volume, [volume.array.shape[axial] // 2])))
    width, height, _ = voxel_sizes(middle.affine)
    # RAS runs from left to right and from back to front; a picture the other way round.
    return middle.values[::-1, ::-1, 0].T, float(height / width)


def _image(exploration: Exploration, path: Path, modality: str | None, remarks: Iterable[str] = ()) -> GalleryImage:
    name = shown_name(path, exploration.root)
    try:
        plane, aspect = plane_to_show(path, modality)
    except InputError:
        return GalleryImage(name, None, remarks=tuple(remarks))
    if modality == keys.CT and plane.min() < _AIR_HU:
        plane = np.clip(plane, *_BRAIN_WINDOW_HU)
    return GalleryImage(name, np.nan_to_num(plane), aspect, tuple(remarks))


def _files(cases: Iterable[Case], modality: str) -> list[Path]:
    return list(dict.fromkeys(file for case in cases if (file := getattr(case, modality)) is not None))
