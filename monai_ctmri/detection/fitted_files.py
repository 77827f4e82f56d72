"""A JSON file and what belongs to it: written so that a run cut off leaves no half, read only if nothing was changed.

The JSON holds a schema version, the versions of the libraries and the SHA-256 of every further file. Reading takes the
bytes of these files and compares their hashes before anything opens them. A hash tells that a file is not the one
that was written; it does not tell who wrote both, so what opens them must not run code of theirs either.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from monai_ctmri import __version__
from monai_ctmri.data.files import write_atomically, write_json
from monai_ctmri.errors import InputError

__all__ = ["SCHEMA_VERSION", "pack_fitted", "read_fitted", "unpack_fitted", "write_fitted"]

SCHEMA_VERSION = 1
_FORMAT = "monai_ctmri fitted"
_SUFFIXES = (".pt", ".skops")
_JSON = "json"
_LIBRARIES = ("numpy", "pyod", "scikit-learn", "skops", "torch")
_AGAIN = "fit and save it again"
logger = logging.getLogger(__name__)


def write_fitted(
    folder: str | os.PathLike[str], name: str, content: Mapping[str, Any], files: Mapping[str, bytes]
) -> Path:
    """Write ``<name><suffix>`` for each file, and ``<name>.json`` last.

    A run cut off while it replaces older files leaves hashes that do not fit, so that reading refuses them.

    Args:
        folder: made where it is missing.
        name: letters, digits, ``_`` and ``-``.
        content: what the JSON says beside its own keys (``format``, ``schema_version``, ``versions``, ``files``).
        files: bytes by suffix, ``.pt`` or ``.skops``.

    Returns:
        The JSON file.

    Raises:
        InputError: another kind of name; content that JSON cannot hold.
    """
    path = _json_path(folder, name)
    described = _described(path, name, content, files)
    for suffix, data in files.items():
        with write_atomically(path.with_name(name + suffix)) as temporary:
            temporary.write_bytes(data)
    write_json(path, described)
    for suffix in set(_SUFFIXES) - set(files):
        path.with_name(name + suffix).unlink(missing_ok=True)
    return path


def read_fitted(folder: str | os.PathLike[str], name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read what :func:`write_fitted` wrote: the JSON's content and the bytes of the other files by suffix.

    Another major version of a library is a warning that names both.

    Raises:
        InputError: a file is missing, cut off, changed, not of this package or of a newer version of it.
    """
    path = _json_path(folder, name)
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError.about(path, problem, "give the folder something fitted was saved in") from error
    content, digests = _content_of(data, path, name)
    return content, {suffix: _read_unchanged(path.with_name(name + suffix), digests[suffix]) for suffix in digests}


def pack_fitted(name: str, content: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """What :func:`write_fitted` would write, as one dictionary of a text and of bytes in tensors.

    It can be part of a file that ``torch.load(weights_only=True)`` opens, and what is in it is still opened by what
    opens the files.

    Args:
        name: what messages call it.
        content: see :func:`write_fitted`.
        files: see :func:`write_fitted`.

    Returns:
        ``json`` (text), and a uint8 tensor for each suffix.

    Raises:
        InputError: content that JSON cannot hold.
    """
    import torch

    described = json.dumps(_described(Path(name), name, content, files), sort_keys=True)
    return {
        _JSON: described,
        **{suffix: torch.frombuffer(bytearray(data), dtype=torch.uint8) for suffix, data in files.items()},
    }


def unpack_fitted(name: str, packed: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Take apart what :func:`pack_fitted` put together; the name is part of it.

    Raises:
        InputError: what :func:`read_fitted` refuses of files.
    """
    path = Path(name)
    try:
        data = packed[_JSON].encode()
        parts = {suffix: packed[suffix].numpy().tobytes() for suffix in packed if suffix != _JSON}
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise InputError.about(path, "holds nothing fitted", _AGAIN) from error
    content, digests = _content_of(data, path, name)
    files = {suffix: parts.get(suffix, b"") for suffix in digests}
    for suffix, part in files.items():
        _demand_unchanged(path.with_name(name + suffix), part, digests[suffix])
    return content, files


def _described(path: Path, name: str, content: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The content with its head: schema, versions and hashes."""
    entries = {f"{name}{suffix}": hashlib.sha256(data).hexdigest() for suffix, data in files.items()}
    head = {"format": _FORMAT, "schema_version": SCHEMA_VERSION, "versions": _versions(), "files": entries}
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError.about(
            path, f"cannot be saved: {error}", "give parameters that are finite numbers, texts, lists or dictionaries"
        ) from error
    return {**head, **content}


def _content_of(data: bytes, path: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON's content, and the hash it gives for each suffix."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError.about(path, "is no JSON, or was cut off", _AGAIN) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError.about(path, "was not written by monai_ctmri", "give the folder something fitted was saved in")
    schema = content.get("schema_version")
    if not isinstance(schema, int) or schema < 1:
        raise InputError.about(path, f"schema version {schema!r:.40} is none", _AGAIN)
    if schema > SCHEMA_VERSION:
        problem = f"schema version {schema} is newer than {SCHEMA_VERSION}, the newest known here"
        raise InputError.about(path, problem, "update monai_ctmri")
    entries = content.get("files")
    if not isinstance(entries, dict):
        raise InputError.about(path, "does not list its files", _AGAIN)
    digests = {}
    for entry, digest in entries.items():
        suffix = next((known for known in _SUFFIXES if entry == name + known), None)
        # Names are compared with those there may be and never joined to a path.
        if suffix is None:
            raise InputError.about(path, f"names a file {entry[:100]!r} that is not its own", _AGAIN)
        digests[suffix] = digest
    _warn_of_versions(path, content.get("versions"))
    return content, digests


def _json_path(folder: str | os.PathLike[str], name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError.about(repr(name[:100]), "is no name for saved files", "use letters, digits, _ and -")
    return Path(folder) / f"{name}.json"


def _read_unchanged(path: Path, digest: Any) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError.about(path, f"cannot be read ({error.strerror})", f"put it back, or {_AGAIN}") from error
    _demand_unchanged(path, data, digest)
    return data


def _demand_unchanged(path: Path, data: bytes, digest: Any) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError.about(path, "is not the file that was saved: its SHA-256 differs", f"do not use it; {_AGAIN}")


def _versions() -> dict[str, str]:
    found = {"monai_ctmri": __version__}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # installed without its metadata
            found[library] = "unknown"
    return found


def _warn_of_versions(path: Path, written: Any) -> None:
    for library, here in _versions().items():
        there = written.get(library) if isinstance(written, dict) else None
        if not isinstance(there, str) or _major(there) != _major(here):
            logger.warning(
                "%s was saved with %s %.40r and is read with %s: scores may differ; %s",
                path,
                library,
                there,
                here,
                _AGAIN,
            )


def _major(text: str) -> str:
    """What must be equal for two versions to be compatible: the first number, below 1.0 the first two."""
    parts = text.split(".")
    return ".".join(parts[:2] if parts[0] == "0" else parts[:1])
