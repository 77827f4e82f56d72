"""What a run was told, kept beside what it made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import distributed

from monai_ctmri.data.files import write_text

__all__ = ["write_settings"]


def write_settings(path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Write ``settings`` as YAML, atomically; in a distributed run the first process writes.

    Args:
        path: e.g. ``<output_dir>/config.yaml``.
        settings: names and values; what YAML cannot say is written as text.
    """
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank() != 0:
        return
    write_text(path, yaml.safe_dump(_plain(settings), sort_keys=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return os.fspath(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
