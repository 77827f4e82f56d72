"""The lock file beside downloaded data: what was fetched, when, and the size and checksum of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from monai_ctmri.data.downloads.archives import Unpacked
from monai_ctmri.data.files import write_json
from monai_ctmri.errors import InputError

__all__ = ["find_damage", "read_lock", "sha256_of", "strangers_in", "tree_digest", "write_lock"]

FORMAT = 1


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def tree_digest(files: Iterable[Unpacked]) -> str:
    """One SHA-256 for a folder: of the lines ``sha256  name``, sorted by name, as ``sha256sum`` prints them."""
    lines = (f"{file.sha256}  {file.name}\n" for file in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_lock(path: str | os.PathLike[str], files: Iterable[Unpacked], **about: Any) -> None:
    """Write the lock file, atomically.

    Args:
        path: file to write.
        files: every file of the folder.
        **about: where it comes from (``dataset``, ``version``, ``url``, ``archive``, ``client``); no secrets.
    """
    listed = sorted(files)
    content = {
        "format": FORMAT,
        **about,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "n_files": len(listed),
        "n_bytes": sum(file.size for file in listed),
        "tree_sha256": tree_digest(listed),
        "files": {file.name: {"size": file.size, "sha256": file.sha256} for file in listed},
    }
    write_json(path, content)


def read_lock(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a lock file.

    Raises:
        InputError: when it is none of ours.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        good = content["format"] == FORMAT and all(
            isinstance(file["size"], int) and isinstance(file["sha256"], str) for file in content["files"].values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError.about(path, "no lock file of a download", "choose another --out, or remove it and the data")
    return content


def find_damage(
    folder: str | os.PathLike[str],
    lock: dict[str, Any],
    *,
    hashes: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Compare a folder with its lock file; files the lock file does not list are left alone.

    Args:
        folder: the unpacked data.
        lock: content of the lock file.
        hashes: compare SHA-256 too, not sizes only.
        progress: called with (files done, files in all).

    Returns:
        What differs, one line a file; empty when all is as it was.
    """
    damage = []
    for done, (name, expected) in enumerate(lock["files"].items(), 1):
        path = Path(folder) / name
        if path.is_symlink() or not path.is_file():
            damage.append(f"{name} is missing")
        elif path.stat().st_size != expected["size"]:
            damage.append(f"{name} has another size")
        elif hashes and sha256_of(path) != expected["sha256"]:
            damage.append(f"{name} has another content")
        if progress:
            progress(done, len(lock["files"]))
    return damage


def strangers_in(folder: str | os.PathLike[str], lock: dict[str, Any]) -> list[str]:
    """Names of files, links included, that the lock file does not list."""
    found = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(set(found) - set(lock["files"]))
