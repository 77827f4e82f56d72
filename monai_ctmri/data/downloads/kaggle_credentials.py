"""Where a Kaggle key may lie, found without the client: importing it asks the network."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_ctmri.errors import InputError

__all__ = ["Credentials", "find_credentials", "settings_folders"]

_logger = logging.getLogger(__name__)
_NEW_KEY = "make a new one at https://www.kaggle.com/settings"


@dataclass(frozen=True)
class Credentials:
    """A key and where it came from; the secret parts are left out of ``repr``.

    Attributes:
        source: name of the variable or path of the file; may be shown.
        token: API token.
        username: of the legacy key.
        key: legacy key.
        signed_in: the file of ``kaggle auth login``; the client turns it into a token.
    """

    source: str
    token: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    signed_in: bool = False


def settings_folders() -> tuple[Path, ...]:
    """Folders that may hold ``kaggle.json``, the first choice first.

    ``KAGGLE_CONFIG_DIR`` alone where it is set; else ``~/.kaggle``, then ``$XDG_CONFIG_HOME/kaggle`` or
    ``~/.config/kaggle``.
    """
    if given := os.environ.get("KAGGLE_CONFIG_DIR"):
        return (Path(given),)
    settings = os.environ.get("XDG_CONFIG_HOME") or _home(".config")
    return (_home(".kaggle"), Path(settings) / "kaggle")


def find_credentials() -> Credentials | None:
    """Find a key in the order of the client: token, legacy key (variables over ``kaggle.json``), ``kaggle auth login``.

    A file that others may read is warned of, through ``logging``, with its path.

    Returns:
        The key, or None where there is none.

    Raises:
        InputError: when a file cannot be read or holds no key; when a key has characters no key has.
    """
    found = _token() or _legacy_key() or _signed_in()
    if found is None:
        return None
    for secret in (found.token, found.username, found.key):
        # Refused here: the message of a failed request would show it.
        if secret is not None and not (secret.isascii() and secret.isprintable() and " " not in secret):
            raise InputError.about(found.source, "no Kaggle key: it has a blank or a special character", _NEW_KEY)
    return found


def _home(name: str) -> Path:
    return Path(os.path.expanduser("~")) / name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A token taken for a path may be too long for one.
        return False


def _token() -> Credentials | None:
    given = os.environ.get("KAGGLE_API_TOKEN", "").strip()
    if given and not _is_file(Path(given)):
        return Credentials("KAGGLE_API_TOKEN", token=given)
    places = [Path(given)] if given else []
    for path in (*places, _home(".kaggle") / "access_token", _home(".kaggle") / "access_token.txt"):
        if _is_file(path) and (token := _read(path).strip()):
            return Credentials(str(path), token=token)
    return None


def _legacy_key() -> Credentials | None:
    username, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if username and key:
        return Credentials("KAGGLE_USERNAME and KAGGLE_KEY", username=username, key=key)
    for folder in settings_folders():
        path = folder / "kaggle.json"
        if _is_file(path):
            content = _json(path)
            username, key = username or content.get("username"), key or content.get("key")
            if not (isinstance(username, str) and isinstance(key, str) and username and key):
                raise InputError.about(path, "no username and key in it", _NEW_KEY)
            return Credentials(str(path), username=username, key=key)
    return None


def _signed_in() -> Credentials | None:
    path = _home(".kaggle") / "credentials.json"
    if not _is_file(path):
        return None
    if not _json(path).get("refresh_token"):
        raise InputError.about(path, "no sign-in of Kaggle", "run: kaggle auth login")
    return Credentials(str(path), signed_in=True)


def _json(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        # `from None`: what the parser says quotes the file.
        raise InputError.about(path, "no Kaggle key file (not valid JSON)", _NEW_KEY) from None
    return content


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except UnicodeDecodeError:
        raise InputError.about(path, "no Kaggle key file (not text)", _NEW_KEY) from None
    except OSError as error:
        raise InputError.about(
            path, error.strerror or "cannot be read", f"make it readable: chmod 600 {path}"
        ) from None
    if os.name != "nt" and mode & 0o077:
        _logger.warning("Other users of this computer can read your Kaggle key in %s; run: chmod 600 %s", path, path)
    return text
