"""The folder a command writes to."""

from __future__ import annotations

import os
from pathlib import Path

from monai_ctmri.errors import InputError

__all__ = ["check_destination"]


def check_destination(out: Path) -> Path:
    """Refuse, before any work, a folder that cannot be made or written to.

    Args:
        out: folder that need not exist yet.

    Raises:
        InputError: when it, or the nearest folder above it that exists, is a file or may not be written to.
    """
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError.about(nearest, "a file, not a folder", "choose another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError.about(nearest, "no permission to write in this folder", "choose another --out")
    return out
