"""What stopped Kaggle's client, and what to do: one line in place of an exception that may quote keys or addresses."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from monai_ctmri.data.downloads.kaggle_credentials import Credentials

__all__ = ["explain", "explain_import"]


def explain_import(error: ImportError) -> tuple[str, str]:
    """Return problem and remedy of a client that cannot be imported."""
    if sys.version_info < (3, 11):
        return "the kaggle client needs Python 3.11 or newer", "use a newer Python, or download in a browser"
    name = (error.name or "kaggle").split(".")[0]
    if name in ("kaggle", "kagglesdk", "requests"):
        return "the kaggle client is not installed", "pip install kaggle"
    return f"the kaggle client lacks the package {name}", f"pip install {name}"


def explain(error: BaseException, archive: Path, credentials: Credentials) -> tuple[str, str]:
    """Return problem and remedy of a failed download; never the text of the error.

    What the client wrote is removed where it may be something else than the archive.

    Args:
        error: what the client raised.
        archive: file it was to write.
        credentials: key it used; only its source is named.
    """
    from requests import exceptions

    again = "give the same command again: it goes on there if the server allows it"
    if isinstance(error, exceptions.HTTPError):
        return _explain_status(error, credentials)
    if isinstance(error, exceptions.SSLError):
        return (
            "the server's certificate is not trusted",
            "set REQUESTS_CA_BUNDLE to your network's certificates",
        )
    if archive.exists() and archive.stat().st_size and _is_of_network(error):
        return f"the connection was cut after {archive.stat().st_size} bytes", again
    if isinstance(error, exceptions.ProxyError):
        return "the proxy refuses the connection", "check HTTPS_PROXY"
    if isinstance(error, exceptions.Timeout):
        return "Kaggle does not answer", "check the network, its proxy and firewall"
    if _is_of_network(error):
        return "Kaggle cannot be reached", "check the network, its proxy and firewall"
    if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException):
        return f"{error.filename or archive.parent}: {error.strerror or type(error).__name__}", "choose another --out"
    # The client wrote what it got under the archive's name, whatever it was: the next call must not build on it.
    archive.unlink(missing_ok=True)
    return f"the kaggle client failed ({type(error).__name__})", "try again; if it stays, pip install -U kaggle"


def _is_of_network(error: BaseException) -> bool:
    from requests import exceptions
    from urllib3.exceptions import HTTPError

    cut = (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError, HTTPError, ConnectionError)
    return isinstance(error, cut)


def _explain_status(error: Any, credentials: Credentials) -> tuple[str, str]:
    status = getattr(error.response, "status_code", 0)
    if status < 400:  # The client also raises for an answer that says 200 and holds an error.
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            status = int(error.response.json()["code"])
    if status == 401:
        return (
            f"Kaggle does not know the key from {credentials.source}",
            "make a new one at https://www.kaggle.com/settings",
        )
    if status == 403:
        return "Kaggle refuses access (403)", "accept the terms on the page of the data set, or check the key"
    if status == 404:
        return "Kaggle has no such data set (404)", "compare the name with the address of its page"
    if status == 429:
        return "Kaggle asks to wait (429, too many requests)", "try again in some minutes"
    if status >= 500:
        return f"Kaggle has a fault ({status})", "try again later"
    return f"Kaggle refuses the request ({status})", "compare the name with the address of its page"
