"""Writing files so that a run cut off never leaves a half file under a final name."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["relative_path", "write_atomically", "write_float_picture", "write_json", "write_text"]


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it takes the final name, on an error it is removed.

    The temporary name keeps the suffixes (``.nii.gz``), since writers choose the format by them.

    Args:
        path: final name; missing parent folders are made.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{uuid.uuid4().hex}.tmp.{final.name}")
    try:
        yield temporary
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically. NaN is refused: it is no JSON.

    Raises:
        ValueError: when ``content`` holds NaN or infinity.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_float_picture(path: str | os.PathLike[str], values: Any) -> None:
    """Write an array (H, W) as 32-bit floating-point TIFF, atomically."""
    import numpy as np
    from PIL import Image

    plane = np.ascontiguousarray(values, dtype=np.float32)
    with write_atomically(path) as temporary:
        Image.fromarray(plane).save(temporary, format="TIFF")


def relative_path(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return how a table that lies in ``folder`` names a file: relative to the folder where that leads to it, with
    forward slashes, else absolute."""
    folder = Path(os.path.abspath(folder))
    absolute = os.path.abspath(path)
    try:
        relative = os.path.relpath(absolute, folder)
    except ValueError:  # another drive
        return Path(absolute).as_posix()
    # The system follows symbolic links before it applies "..", so behind a link such a path would lead elsewhere.
    if relative.split(os.sep)[0] == os.pardir and os.path.realpath(folder) != os.fspath(folder):
        return Path(absolute).as_posix()
    return Path(relative).as_posix()
