"""Why a file could not be read: cut off, too large, not finite, or broken in another way."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from dataclasses import replace
from pathlib import Path

from monai_ctmri.data.findings import Finding
from monai_ctmri.data.formats import kind_of, suffix_of
from monai_ctmri.errors import InputError

__all__ = ["failure_of", "failures_of"]

_TOO_LARGE = re.compile(r"too large|exceeds .*voxels", re.IGNORECASE)
_NOT_FINITE = re.compile(r"not finite|NaN|infinit")
# Words of Pillow, NumPy, nibabel, gzip and pydicom.
_TRUNCATED = re.compile(
    r"truncated|cut off|ended before|end-of-stream|\bEOF\b|end of file|premature|not enough data"
    r"|greater than file size|Expected \d+ bytes, got|could the file be damaged|fewer bytes",
    re.IGNORECASE,
)
_PNG, _JPEG, _TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", (b"II*\0", b"MM\0*")
_NIFTI_HEADER, _TIFF_HEADER, _NPY_HEADER = 352, 8, 10
_LONGEST = 160
_LONGEST_STREAM = 2048  # MiB


def failure_of(path: str | os.PathLike[str], error: BaseException) -> Finding:
    """Name what went wrong when a file was read.

    A decoder's own words come first; where they say nothing (a header that is cut off looks like no header at all),
    the end of the file is looked at.

    Args:
        path: the file.
        error: what its reader raised, with its causes.

    Returns:
        A finding of kind ``truncated``, ``too_large``, ``not_finite`` or ``unreadable``.
    """
    path = Path(path)
    chain = _chain(error)
    words = " ".join(f"{type(one).__name__} {_without_path(path, one)}" for one in chain)
    if any(isinstance(one, MemoryError) for one in chain) or "DecompressionBomb" in words or _TOO_LARGE.search(words):
        kind = "too_large"
    elif _NOT_FINITE.search(words):
        kind = "not_finite"
    elif any(isinstance(one, EOFError) for one in chain) or _TRUNCATED.search(words) or _ends_early(path):
        kind = "truncated"
    else:
        kind = "unreadable"
    # A cause says more than "not a complete file"; a refusal of our own has none.
    text = _without_path(path, error if isinstance(error, InputError) and len(chain) == 1 else chain[-1])
    if isinstance(error, InputError) and len(chain) == 1:
        text = text.partition("; ")[0]
    text = " ".join(text.split()) or type(chain[-1]).__name__
    return Finding(path, kind, text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def failures_of(path: str | os.PathLike[str], error: BaseException) -> list[Finding]:
    """As :func:`failure_of`; for a DICOM series that forms no even volume, each reason (tilt, distances, gaps)."""
    path = Path(path)
    if path.is_dir() or kind_of(path) == "dicom":
        from monai_ctmri.data.reading.dicom import series_at

        try:
            problems = [replace(problem, file=path) for problem in series_at(path).problems]
        except Exception:  # headers may break in any way; the error at hand is the one to name
            problems = []
        if problems:
            return problems
    return [failure_of(path, error)]


def _chain(error: BaseException) -> list[BaseException]:
    """The error, its cause, the cause's cause and so on."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _without_path(path: Path, error: BaseException) -> str:
    """What an error says, without the file's name, which the finding holds and which could be taken for its words."""
    text = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
    text = text.removeprefix(f"{path}: ")
    for folder in (path, path.parent):  # another file of the same series may be at fault
        text = text.replace(f"{folder}{os.sep}", "")
    return text.replace(str(path), "the file").replace(path.name, "the file") if path.name else text


def _ends_early(path: Path) -> bool:
    """Whether a file that could not be decoded begins well and lacks its end."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            return False
        if size == 0:
            return True
        with open(path, "rb") as stream:
            head = stream.read(16)
            stream.seek(max(0, size - 64))
            tail = stream.read()
        return _lacks_end(path, head, tail, size)
    except OSError:
        return False


def _lacks_end(path: Path, head: bytes, tail: bytes, size: int) -> bool:
    suffix = suffix_of(path)
    if suffix == ".png":
        return _PNG.startswith(head[: len(_PNG)]) and b"IEND" not in tail
    if suffix in (".jpg", ".jpeg"):
        return head.startswith(_JPEG) and b"\xff\xd9" not in tail
    if suffix in (".tif", ".tiff"):
        directory = int.from_bytes(head[4:8], "little" if head.startswith(b"I") else "big")
        return head.startswith(_TIFF) and (size < _TIFF_HEADER or directory + 2 > size)
    if suffix == ".npy":
        return b"\x93NUMPY".startswith(head[:6]) and size < _NPY_HEADER
    if suffix == ".nii":
        return size < _NIFTI_HEADER
    if suffix == ".nii.gz":
        return _stream_is_cut(path)
    return False


def _stream_is_cut(path: Path) -> bool:
    try:
        with gzip.open(path) as stream:
            for _ in range(_LONGEST_STREAM):  # a small file can unpack to almost any size
                if not stream.read(1 << 20):
                    break
    except EOFError:
        return True
    except (OSError, zlib.error):
        return False
    return False
