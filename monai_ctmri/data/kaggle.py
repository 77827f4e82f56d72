"""Downloading a data set from Kaggle with Kaggle's own client, which is imported only when there is a key."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from monai_ctmri.data.downloads.archives import MAX_BYTES, MAX_FILES, MAX_RATIO, ArchiveError, unpack
from monai_ctmri.data.downloads.kaggle_client import fetch
from monai_ctmri.data.downloads.kaggle_credentials import find_credentials
from monai_ctmri.data.downloads.lockfile import find_damage, read_lock, strangers_in, write_lock
from monai_ctmri.errors import InputError

__all__ = ["DATASET", "DownloadError", "download", "find_download", "manual_steps"]

DATASET = "darren2020/ct-to-mri-cgan"
"""CT and MRI slices of the brain, unpaired; see docs/data.md for what is in it."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_DATASET = re.compile(rf"({_NAME})/({_NAME})(?:/([1-9][0-9]{{0,5}}))?", re.ASCII)

Progress = Callable[[str, int, int], None]


class DownloadError(InputError):
    """A download that did not come about.

    Attributes:
        steps: what to do by hand instead, in order; empty where nothing can be done by hand.
    """

    steps: tuple[str, ...] = ()


class _Target(NamedTuple):
    owner: str
    slug: str
    version: str | None
    folder: Path
    lock: Path
    partial: Path

    @property
    def archive(self) -> Path:
        return self.partial / f"{self.slug}.zip"


def manual_steps(dataset: str, out: str | os.PathLike[str]) -> tuple[str, ...]:
    """What a person does to get the same folder in a browser, in order."""
    target = _target(dataset, out)
    version = f"/versions/{target.version}" if target.version else ""
    return (
        f"Open https://www.kaggle.com/datasets/{target.owner}/{target.slug}{version} in a browser and sign in.",
        "Accept the terms of the data set if the page asks for it.",
        "Press Download; the file is called archive.zip.",
        f"Unpack it into {target.folder}",
        f"Run: monai-ctmri prepare {target.folder}",
    )


def find_download(
    dataset: str, out: str | os.PathLike[str], *, verify: bool = False, progress: Progress | None = None
) -> Path | None:
    """Return the folder of a finished, intact download, or None where there is none yet.

    Args:
        dataset: ``owner/name`` or ``owner/name/version``.
        out: folder given to :func:`download`.
        verify: compare every file's SHA-256 too, not sizes only.
        progress: called with (stage, files done, files in all) while hashing.

    Raises:
        InputError: when the place holds something else, or the download is damaged.
    """
    target = _target(dataset, out)
    lock = _lock_of(target)
    if lock is None:
        return None
    if target.version and lock.get("version") not in (None, int(target.version)):
        problem = f"holds version {lock['version']} of the data set"
        raise InputError.about(target.folder, problem, "choose another --out, or give --force to replace it")
    hashed = (lambda done, total: progress("Checking files", done, total)) if verify and progress else None
    damage = find_damage(target.folder, lock, hashes=verify, progress=hashed)
    if damage:
        problem = f"differs from {target.lock.name} in {len(damage)} of {len(lock['files'])} files (first: {damage[0]})"
        raise InputError.about(target.folder, problem, "give --force to download it again")
    return target.folder


def download(
    dataset: str,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    verify: bool = False,
    retries: int = 5,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    max_ratio: float = MAX_RATIO,
    progress: Progress | None = None,
) -> Path:
    """Download and unpack a data set to ``out/name``, with sizes and checksums in ``out/name.lock.json``.

    The archive goes to ``out/owner.name.partial`` first; a download cut off continues there when called again, if the
    server names the state of its file (ETag or Last-Modified) and serves parts. A finished download is left as it is.

    Args:
        dataset: ``owner/name`` or ``owner/name/version``.
        out: folder to write to.
        force: download again and replace an earlier download; files that were added to it are never deleted.
        verify: of an earlier download, compare every file's SHA-256 too.
        retries: new tries after a cut connection, at growing intervals (2, 4, 8 ... seconds).
        max_bytes: limit of archive and unpacked data, in bytes; with ``max_files`` and ``max_ratio`` see
            :func:`~monai_ctmri.data.downloads.archives.unpack`.
        max_files: limit of files.
        max_ratio: limit of unpacked to packed size of a file.
        progress: called with (stage, done, total).

    Returns:
        The folder of the unpacked data.

    Raises:
        DownloadError: without key, client, network or permission, or for an archive that is not safe to unpack; its
            ``steps`` say how to do it by hand. Nothing is left under a final name.
        InputError: when the place holds something else, or an earlier download is damaged.
    """
    target = _target(dataset, out)
    if force:
        _check_replaceable(target)
    elif (held := find_download(dataset, out, verify=verify, progress=progress)) is not None:
        return held
    made = not target.partial.parent.exists()
    try:
        credentials = find_credentials()
        if credentials is None:
            raise InputError.about(dataset, "no Kaggle key found", "make one at https://www.kaggle.com/settings")
        version = int(target.version) if target.version else None
        about = fetch(
            target.owner,
            target.slug,
            version,
            target.archive,
            credentials,
            retries=retries,
            max_bytes=max_bytes,
            progress=progress,
        )
        return _settle(target, about, force, max_bytes, max_files, max_ratio, progress)
    except InputError as error:
        if isinstance(error, ArchiveError):
            shutil.rmtree(target.partial, ignore_errors=True)
        failure = DownloadError(str(error))
        failure.steps = manual_steps(dataset, out)
        raise failure from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError.about(error.filename or out, reason, "choose another --out") from error
    finally:
        _tidy(target, made)


def _target(dataset: str, out: str | os.PathLike[str]) -> _Target:
    match = _DATASET.fullmatch(dataset)
    if match is None:
        raise InputError.about(ascii(dataset), "no name of a Kaggle data set", "give owner/name or owner/name/version")
    owner, slug, version = match.groups()
    partial = ".".join(part for part in (owner, slug, version, "partial") if part)
    place = Path(out)
    return _Target(owner, slug, version, place / slug, place / f"{slug}.lock.json", place / partial)


def _lock_of(target: _Target) -> dict[str, Any] | None:
    """Lock file of what lies at the final name; None where nothing lies there."""
    folder = target.folder
    if not folder.is_symlink() and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        return None
    if folder.is_symlink() or not folder.is_dir() or not target.lock.exists():
        raise InputError.about(folder, "was not made by a download", "choose another --out, or prepare it as it is")
    lock = read_lock(target.lock)
    if lock.get("dataset") != f"{target.owner}/{target.slug}":
        raise InputError.about(folder, f"holds another data set ({lock.get('dataset')})", "choose another --out")
    return lock


def _check_replaceable(target: _Target) -> None:
    lock = _lock_of(target)
    if lock is not None and (added := strangers_in(target.folder, lock)):
        problem = f"holds {len(added)} files that were not downloaded (first: {added[0]})"
        raise InputError.about(target.folder, problem, "move them, or choose another --out")


def _settle(
    target: _Target,
    about: dict[str, Any],
    force: bool,
    max_bytes: int,
    max_files: int,
    max_ratio: float,
    progress: Progress | None,
) -> Path:
    """Unpack beside the archive, write the lock file, then give the folder its final name."""
    fresh, old = target.partial / "unpacked", target.partial / "replaced"
    for leftover in target.partial.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
    files = unpack(
        target.archive,
        fresh,
        max_bytes=max_bytes,
        max_files=max_files,
        max_ratio=max_ratio,
        progress=(lambda done, total: progress("Unpacking files", done, total)) if progress else None,
    )
    if target.folder.exists():
        if force:
            _check_replaceable(target)
        if any(target.folder.iterdir()) and not force:
            raise InputError.about(target.folder, "was filled during the download", "choose another --out")
        os.rename(target.folder, old)
    write_lock(target.lock, files, **about)
    os.rename(fresh, target.folder)
    shutil.rmtree(target.partial, ignore_errors=True)
    return target.folder


def _tidy(target: _Target, made: bool) -> None:
    """Keep only an archive begun or complete: it saves the next call the work."""
    if not target.archive.exists() or target.archive.stat().st_size == 0:
        shutil.rmtree(target.partial, ignore_errors=True)
    if made:
        with suppress(OSError):
            target.partial.parent.rmdir()
