"""Unpacking a ZIP archive from a stranger: every member is checked before anything is written."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from monai_ctmri.errors import InputError

__all__ = ["MAX_BYTES", "MAX_FILES", "MAX_RATIO", "ArchiveError", "Unpacked", "unpack"]

MAX_BYTES = 64 * 2**30
"""Default limit of all members together, unpacked (64 GiB)."""
MAX_FILES = 500_000
"""Default limit of members."""
MAX_RATIO = 250.0
"""Default limit of unpacked to packed size of one member; deflate itself reaches 1032."""

_SMALL = 2**20  # Bytes under which the ratio says nothing: a blank page packs well, and fills no disk.
_CHUNK = 2**20
_MAX_NAME, _MAX_PART, _MAX_DEPTH = 1024, 255, 32
# LZMA lets the archive choose how much memory its dictionary takes; Kaggle and common tools write these two.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_REMEDY = "do not use this archive; get it again from its source"


class ArchiveError(InputError):
    """The archive itself is at fault: another try with the same file ends the same way."""


class Unpacked(NamedTuple):
    """One file written: name in the archive (with ``/``), size in bytes, SHA-256 of its content in hex."""

    name: str
    size: int
    sha256: str


def unpack(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
    max_ratio: float = MAX_RATIO,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Unpacked, ...]:
    """Unpack a ZIP archive into a new folder, or leave nothing behind.

    All members are checked first. The files go to a temporary folder beside ``folder`` that takes its name at the end.
    Modes, times and owners of the archive are not taken over.

    Args:
        archive: ZIP file; members stored or deflated.
        folder: folder to make; it may exist when it is empty.
        max_bytes: most bytes of all members together, as declared and as counted while unpacking.
        max_files: most members.
        max_ratio: highest ratio of unpacked to packed size of a member (above 1 MiB).
        progress: called with (files done, files in all).

    Returns:
        What was written, sorted by name.

    Raises:
        ArchiveError: for what is no intact ZIP archive; for a member with an absolute path, ``..``, a drive letter, a
            backslash, a control character, an over-long or repeated name (compared without case), that is a link or
            special file, encrypted or packed too well; for a limit passed.
        InputError: for a folder in use, too little disk space, no permission.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError.about(folder, "exists already", "choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{uuid.uuid4().hex}.tmp.{folder.name}")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(archive, members, max_bytes, max_files, max_ratio)
            _check_space(archive, folder.parent, sum(member.file_size for member in members))
            temporary.mkdir()
            written = _write(archive, opened, members, temporary, progress)
        if folder.exists():
            folder.rmdir()  # Empty, as checked; not every system renames onto a folder.
        os.rename(temporary, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, RuntimeError) as error:
        raise ArchiveError.about(archive, f"no intact ZIP archive ({_printable(str(error))})", _REMEDY) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError.about(error.filename or archive, reason, "free some space or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return written


def _check(archive: Path, members: Sequence[zipfile.ZipInfo], max_bytes: int, max_files: int, max_ratio: float) -> None:
    if not members:
        raise ArchiveError.about(archive, "the archive is empty", _REMEDY)
    if len(members) > max_files:
        raise ArchiveError.about(archive, f"{len(members)} members, more than {max_files}", _REMEDY)
    if (total := sum(member.file_size for member in members)) > max_bytes:
        raise ArchiveError.about(archive, f"would unpack to {total} bytes, more than {max_bytes}", _REMEDY)
    seen: set[str] = set()
    for member in members:
        # The name as the archive has it: `filename` ends at a NUL.
        problem = _bad_name(member.orig_filename) or _bad_kind(member, max_ratio)
        folded = _folded(member.orig_filename)
        if problem is None and folded in seen:
            problem = "has the name of another member"
        if problem:
            raise ArchiveError.about(archive, f"member {_printable(member.orig_filename)} {problem}", _REMEDY)
        seen.add(folded)
    files = {_folded(member.orig_filename) for member in members if not member.is_dir()}
    for name in seen:
        for parent in PurePosixPath(name).parents:
            if str(parent) in files:
                problem = f"member {_printable(name)} lies in a member that is a file"
                raise ArchiveError.about(archive, problem, _REMEDY)


def _bad_name(name: str) -> str | None:
    if not name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "has no name or a control character in it"
    if "\\" in name:
        return "has a backslash in its name"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or (os.name == "nt" and ":" in name):
        return "has an absolute path"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "leads out of the folder"
    if "" in parts or "." in parts:
        return "has an empty part in its path"
    if (
        len(name) > _MAX_NAME
        or len(parts) > _MAX_DEPTH
        or any(len(part.encode(errors="surrogateescape")) > _MAX_PART for part in parts)
    ):
        return "has too long a name"
    return None


def _bad_kind(member: zipfile.ZipInfo, max_ratio: float) -> str | None:
    mode = stat.S_IFMT(member.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if mode == stat.S_IFLNK else "is a special file"
    if (mode == stat.S_IFDIR) != member.is_dir() and mode:
        return "is a folder and a file at once"
    if member.is_dir() and member.file_size:
        return "is a folder with content"
    if member.flag_bits & 0x2041:  # Encrypted; strongly encrypted; with a masked header.
        return "is encrypted"
    if member.compress_type not in _METHODS:
        return "is packed by a method that is not supported"
    if member.file_size > max(_SMALL, max_ratio * member.compress_size):
        return f"unpacks to more than {max_ratio:g} times its size"
    return None


def _folded(name: str) -> str:
    """Name as file systems without case, or with one form of accents, compare it."""
    return unicodedata.normalize("NFC", name.removesuffix("/").casefold())


def _printable(name: str) -> str:
    """Name for a message: escaped, so that it cannot drive a terminal, and shortened."""
    text = ascii(name)
    return text if len(text) <= 80 else f"{text[:76]}...'"


def _check_space(archive: Path, place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        problem = f"unpacks to {needed} bytes and {place} has {free} free"
        raise InputError.about(archive, problem, "free some space or choose another folder")


def _write(
    archive: Path,
    opened: zipfile.ZipFile,
    members: Sequence[zipfile.ZipInfo],
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> tuple[Unpacked, ...]:
    written = []
    files = [member for member in members if not member.is_dir()]
    for member in members:
        if member.is_dir():
            (folder / member.orig_filename).mkdir(parents=True, exist_ok=True)
    for done, member in enumerate(files, 1):
        target = folder / member.orig_filename
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        # Reading to the end compares the CRC-32.
        with opened.open(member) as source, open(target, "xb") as sink:
            while block := source.read(_CHUNK):
                size += len(block)
                if size > member.file_size:
                    break
                digest.update(block)
                sink.write(block)
        if size != member.file_size:
            problem = f"member {_printable(member.orig_filename)} is not as long as it declares"
            raise ArchiveError.about(archive, problem, _REMEDY)
        written.append(Unpacked(member.orig_filename, size, digest.hexdigest()))
        if progress:
            progress(done, len(files))
    return tuple(sorted(written))
