"""The images below a folder, and every other file with the reason why it is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monai_ctmri.data.formats import kind_of, stem_of
from monai_ctmri.errors import InputError

__all__ = ["ImageFile", "list_images", "shared_folders"]

Ignored = list[tuple[Path, str]]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that is an image by its name.

    Attributes:
        path: absolute.
        folders: names of the folders between the root and the file; the root itself and what is above it are left out.
        stem: the file's name without suffix.
        kind: ``picture``, ``array``, ``volume`` or ``dicom``.
    """

    path: Path
    folders: tuple[str, ...]
    stem: str
    kind: str


def list_images(
    root: str | os.PathLike[str],
    progress: Callable[[int, int], None] | None = None,
    exclude: Sequence[str | os.PathLike[str]] = (),
) -> tuple[list[ImageFile], Ignored]:
    """List the images below a folder, folder by folder, in the order of their names.

    Hidden files and folders are left out, and so are links: one that leads out of the root could show anything, one
    that leads to a place inside it only repeats what is there. The exception is a link to a hidden file of the root,
    as data managers (git-annex, DVC) make them.

    Args:
        root: the folder.
        progress: called after each folder with the number of folders read and of those known so far.
        exclude: folders that are not entered, such as what an earlier run wrote.

    Returns:
        The images; and what was left out, each as (path, reason).

    Raises:
        InputError: when ``root`` is no folder, or cannot be read.
    """
    top = Path(os.path.abspath(root))
    if not top.is_dir():
        raise InputError.about(root, "no such folder", "give the folder that holds the data")
    real = Path(os.path.realpath(top))
    excluded = {Path(os.path.abspath(path)) for path in exclude}
    images: list[ImageFile] = []
    ignored: Ignored = []
    waiting, read, known = [top], 0, 1
    while waiting:
        folder = waiting.pop()
        inner: list[Path] = []
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if folder == top:
                problem = f"cannot be read ({error.strerror})"
                raise InputError.about(root, problem, "change its permissions") from error
            ignored.append((folder, f"cannot be read ({error.strerror})"))
            entries = []
        for entry in entries:
            path = Path(entry.path)
            reason = _reason(entry, real)
            if reason:
                ignored.append((path, reason))
            elif path in excluded:
                ignored.append((path, "written by an earlier run"))
            elif entry.is_dir():
                inner.append(path)
            elif kind := kind_of(path):
                images.append(ImageFile(path, path.relative_to(top).parts[:-1], stem_of(path), kind))
            else:
                ignored.append((path, "no image"))
        waiting += reversed(inner)
        read, known = read + 1, known + len(inner)
        if progress is not None:
            progress(read, known)
    return images, ignored


def shared_folders(folders: Sequence[tuple[str, ...]]) -> int:
    """Return how many outer folders all files share: the name of such a folder tells no file from another."""
    first, last = min(folders, default=()), max(folders, default=())
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _reason(entry: os.DirEntry[str], root: Path) -> str:
    """Why an entry is left out whatever its kind; empty where it is not."""
    if entry.name.startswith(".") or entry.name == "__MACOSX":
        return "hidden"
    if not entry.is_symlink():
        return "" if entry.is_dir() or entry.is_file() else "neither file nor folder"
    target = Path(os.path.realpath(entry.path))
    if not target.exists():
        return "a link that leads nowhere, or in a circle"
    try:
        inside = target.relative_to(root).parts
    except ValueError:
        return "a link that leads out of the folder"
    if target.is_file() and any(part.startswith(".") for part in inside):
        return ""
    return "a link to what is in the folder anyway"
