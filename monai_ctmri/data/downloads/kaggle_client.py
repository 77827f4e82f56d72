"""Kaggle's own client, kept in bounds: it prints, waits without limit and ends the process where a library must not."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monai_ctmri.data.downloads.kaggle_credentials import Credentials, settings_folders
from monai_ctmri.data.downloads.kaggle_failures import explain, explain_import
from monai_ctmri.data.downloads.lockfile import sha256_of
from monai_ctmri.errors import InputError

__all__ = ["fetch"]

_TIMEOUT = 60.0  # Seconds without a byte.
_POLL = 0.2  # Seconds between two looks at the size of the archive.
_MEGABYTE = 1_000_000

Progress = Callable[[str, int, int], None]


def fetch(
    owner: str,
    slug: str,
    version: int | None,
    archive: Path,
    credentials: Credentials,
    *,
    retries: int,
    max_bytes: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Download the archive of a data set; one that was begun is continued, if it is still the same on the server.

    Nothing is made on disk before the server has agreed to send.

    Args:
        owner: first part of the data set's name.
        slug: second part.
        version: number of the version, or None for the current one.
        archive: file to write.
        credentials: key to use.
        retries: new tries after a cut connection.
        max_bytes: refuse an archive larger than this.
        progress: called with (stage, megabytes done, megabytes in all), from another thread.

    Returns:
        Where it came from: ``dataset, version, url`` (without its query), ``archive`` (size, sha256, ...), ``client``.

    Raises:
        InputError: one line that says what stopped it.
    """
    dataset = f"{owner}/{slug}"
    try:
        # The client prints while it is imported and at every call.
        with redirect_stdout(io.StringIO()), _time_limit(_TIMEOUT):
            return _fetch(owner, slug, version, archive, credentials, retries, max_bytes, progress)
    except InputError:
        raise
    except ImportError as error:
        raise InputError.about(dataset, *explain_import(error)) from error
    except (Exception, SystemExit) as error:
        raise InputError.about(dataset, *explain(error, archive, credentials)) from error


def _fetch(
    owner: str,
    slug: str,
    version: int | None,
    archive: Path,
    credentials: Credentials,
    retries: int,
    max_bytes: int,
    progress: Progress | None,
) -> dict[str, Any]:
    api_class = _import_client()
    import kaggle
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    # Only where to connect: with "--verbose" the client prints its requests, keys included.
    where = [argument for argument in api_class.args if argument == "--local"]
    token = _token_of_sign_in(api_class, where) if credentials.signed_in else credentials.token
    # The key found is given, not looked up again: the client looks in fewer places, and keeps what it saw when it was
    # imported.
    with api_class.build_kaggle_client_with_params(
        args=where, username=credentials.username, password=credentials.key, api_token=token
    ) as client:
        service = client.datasets.dataset_api_client
        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = owner, slug
        if version is not None:
            request.dataset_version_number = version
        response = service.download_dataset(request)
        size = _check_response(f"{owner}/{slug}", response, archive, max_bytes)
        api = api_class()
        # Complete, but not unpacked: the disk was full, say.
        complete = archive.is_file() and archive.stat().st_size == size and not api.download_needed(response, archive)
        if not complete:
            with _watching(archive, size, progress):
                # Kaggle redirects to its storage. Asking again for what came without a redirect, the client would
                # announce the body of its first request, not send it, and wait.
                again = response.request.method == "GET"
                tries = retries if again else 0
                api.download_file(response, str(archive), client.http_client(), resume=again, max_retries=tries)
        response.close()
        current = version if version is not None else _current_version(service, owner, slug)
    address = urlsplit(response.url)
    return {
        "dataset": f"{owner}/{slug}",
        "version": current,
        # The query of a storage address is a signature that opens it for anyone.
        "url": f"{address.scheme}://{address.hostname}{address.path}",
        "archive": {
            "size": archive.stat().st_size,
            "sha256": sha256_of(archive),
            "etag": response.headers.get("ETag"),
            "last_modified": response.headers.get("Last-Modified"),
        },
        "client": f"kaggle {kaggle.__version__}",
    }


def _import_client() -> Any:
    missing = [folder for folder in settings_folders() if not folder.exists()]
    from kaggle.api.kaggle_api_extended import KaggleApi

    for folder in missing:  # The client makes its settings folder when it is imported.
        with suppress(OSError):
            folder.rmdir()
    return KaggleApi


def _token_of_sign_in(api_class: Any, where: list[str]) -> str | None:
    from kagglesdk import KaggleCredentials

    with api_class.build_kaggle_client_with_params(args=where) as client:
        signed_in = KaggleCredentials.load(client=client)
        return signed_in.get_access_token() if signed_in else None


def _current_version(service: Any, owner: str, slug: str) -> int | None:
    """Number of the version just downloaded; worth knowing, not worth failing for."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest
    from requests.exceptions import RequestException

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, slug
    try:
        return service.get_dataset(request).current_version_number or None
    except (RequestException, ValueError, KeyError, TypeError):
        return None


def _check_response(dataset: str, response: Any, archive: Path, max_bytes: int) -> int | None:
    """Refuse what is no archive, or too large, before its body is read; return its size in bytes if declared."""
    if "text/html" in response.headers.get("Content-Type", ""):
        remedy = "check that this network lets downloads from Kaggle through"
        raise InputError.about(dataset, "a web page came instead of an archive", remedy)
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        return None
    size = int(length)
    if size > max_bytes:
        raise InputError.about(dataset, f"its archive has {size} bytes, more than {max_bytes}", "raise the limit")
    place = next(folder for folder in archive.absolute().parents if folder.exists())
    # Archive and content lie side by side for a while, and the content is hardly ever the smaller.
    needed = 2 * size - (archive.stat().st_size if archive.exists() else 0)
    if needed > (free := shutil.disk_usage(place).free):
        problem = f"needs {needed} bytes and {place} has {free} free"
        raise InputError.about(dataset, problem, "free some space or choose another --out")
    return size


@contextmanager
def _watching(archive: Path, size: int | None, progress: Progress | None) -> Iterator[None]:
    """Report the size of the growing file; the client's own bar would write to the screen."""
    if progress is None:
        yield
        return
    stage, total, over = "Downloading (megabytes)", -(-(size or 0) // _MEGABYTE), threading.Event()

    def look() -> None:
        while not over.wait(_POLL):
            with suppress(OSError):
                if total:
                    progress(stage, min(archive.stat().st_size // _MEGABYTE, total), total)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    got = max(1, -(-archive.stat().st_size // _MEGABYTE))
    progress(stage, got, got)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Limit how long the client waits for a byte: a firewall that drops packets never answers.

    The client waits without limit, or five minutes, has no setting for it and asks the network while it is imported;
    so the limit goes into ``requests`` and, as long as the block lasts, holds for other threads of the process too.
    """
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def limited(self: Any, request: Any, stream: bool = False, timeout: Any = None, *rest: Any, **named: Any) -> Any:
        shorter = min(timeout, seconds) if isinstance(timeout, (int, float)) else timeout or seconds
        return send(self, request, stream, shorter, *rest, **named)

    HTTPAdapter.send = limited  # type: ignore[method-assign]
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]
