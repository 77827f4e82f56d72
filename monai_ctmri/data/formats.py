"""Which files can hold images, told by their names and, where a name says nothing, by their first bytes."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "ARRAY_SUFFIXES",
    "DICOM_SUFFIXES",
    "IMAGE_SUFFIXES",
    "PICTURE_SUFFIXES",
    "VOLUME_SUFFIXES",
    "is_dicom",
    "kind_of",
    "stem_of",
    "suffix_of",
]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npy",)
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
"""Headers with the voxels in the same file; ``.mhd`` and ``.nhdr`` may point to any other file and are left out."""
DICOM_SUFFIXES = (".dcm", ".ima")
IMAGE_SUFFIXES = (*PICTURE_SUFFIXES, *ARRAY_SUFFIXES, *VOLUME_SUFFIXES, *DICOM_SUFFIXES)

_KINDS = {"picture": PICTURE_SUFFIXES, "array": ARRAY_SUFFIXES, "volume": VOLUME_SUFFIXES, "dicom": DICOM_SUFFIXES}
_PREAMBLE = 128  # bytes before the magic word of a DICOM file (PS3.10, 7.1)
_NOT_IMAGES = ("DICOMDIR",)


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the suffix in lower case; ``.nii.gz`` counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the name without its :func:`suffix_of`."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(path))]


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return ``picture``, ``array``, ``volume`` or ``dicom``, or None for a file that is no image by its name.

    Archives of scanners often name DICOM files without a suffix, or end them in numbers; such files are opened.
    """
    suffix = suffix_of(path)
    for kind, suffixes in _KINDS.items():
        if suffix in suffixes:
            return kind
    bare = suffix == "" or suffix[1:].isdigit()
    return "dicom" if bare and is_dicom(path) else None


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether the file carries DICOM's magic word; an index (``DICOMDIR``) or an unreadable file does not count."""
    if Path(path).name.upper() in _NOT_IMAGES:
        return False
    try:
        if not Path(path).is_file():
            return False
        with open(path, "rb") as stream:
            return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False
