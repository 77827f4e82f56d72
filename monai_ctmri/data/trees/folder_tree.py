"""What lies in a folder: its folders with their numbers of files by type and their bytes, cut to a readable size."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ctmri.data.formats import suffix_of
from monai_ctmri.errors import InputError

__all__ = ["DEEPEST", "MOST_FOLDERS", "folder_tree", "tree_lines"]

DEEPEST = 6
"""Levels of folders that are shown below the root."""
MOST_FOLDERS = 200
"""Folders that are shown in all; the others count in the folder above them."""


@dataclass
class _Folder:
    name: str
    path: str
    bytes: int = 0
    types: Counter[str] = field(default_factory=Counter)
    inside: list[_Folder] = field(default_factory=list)
    below: int = 0


def folder_tree(root: str | os.PathLike[str], *, depth: int = DEEPEST, most: int = MOST_FOLDERS) -> dict[str, Any]:
    """Count the files of a folder and of every folder below it. Links to folders are not followed.

    Args:
        root: the folder.
        depth: levels of folders shown below the root.
        most: folders shown in all, the root included; those nearest to the root come first.

    Returns:
        The root as ``name``, ``path`` (relative to the root, ``.`` for itself), ``files`` and ``bytes`` (its own and
        all below), ``types`` (suffix in lower case, or ``no suffix``, to number of files, most frequent first; its own
        and all below), ``folders`` (the same for each folder in it, by name) and ``more_folders`` (how many folders
        below it are counted but not shown).

    Raises:
        InputError: when ``root`` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError.about(root, "no such folder", "give the folder of the data")
    top = _read(root)
    shown = _nearest(top, depth, most)
    return _entry(top, shown)


def tree_lines(tree: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return a tree's folders from top to bottom, each with its depth (0 for the root)."""
    lines, waiting = [], [(0, tree)]
    while waiting:
        depth, entry = waiting.pop()
        lines.append((depth, entry))
        waiting += [(depth + 1, inner) for inner in reversed(entry["folders"])]
    return lines


def _read(root: Path) -> _Folder:
    folders: dict[str, _Folder] = {}
    # From the bottom up, so that a folder's total is complete before the folder above it adds it.
    for place, inner, files in os.walk(root, topdown=False):
        relative = Path(os.path.relpath(place, root))
        folder = _Folder(relative.name or root.resolve().name or str(root), relative.as_posix())
        for name in files:
            folder.types[suffix_of(name) or "no suffix"] += 1
            try:
                folder.bytes += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # gone in the meantime
                continue
        for child in (folders.pop(path) for name in sorted(inner) if (path := os.path.join(place, name)) in folders):
            folder.inside.append(child)
            folder.bytes += child.bytes
            folder.types += child.types
            folder.below += 1 + child.below
        folders[place] = folder
    return folders[os.fspath(root)]


def _nearest(top: _Folder, depth: int, most: int) -> set[int]:
    """Identities of the folders shown: level by level while there is room."""
    shown, level = {id(top)}, [top]
    for _ in range(depth):
        level = [child for folder in level if id(folder) in shown for child in folder.inside]
        shown.update(id(folder) for folder in level[: most - len(shown)])
    return shown


def _entry(folder: _Folder, shown: set[int]) -> dict[str, Any]:
    inside = [_entry(child, shown) for child in folder.inside if id(child) in shown]
    return {
        "name": folder.name,
        "path": folder.path,
        "files": folder.types.total(),
        "bytes": folder.bytes,
        "types": dict(_by_count(folder.types.items())),
        "folders": inside,
        "more_folders": sum(1 + child.below for child in folder.inside if id(child) not in shown),
    }


def _by_count(types: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(types, key=lambda pair: (-pair[1], pair[0]))
