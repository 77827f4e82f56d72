"""A stand-in for Kaggle's server, for the real client: what it answers can be set, what it was asked is kept."""

from __future__ import annotations

import io
import json
import random
import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN, KEY = "KGAT_secretsecrettoken", "0123456789abcdefsecretkey"
FILES = {
    "Dataset/images/trainA/ct1.png": random.Random(1).randbytes(1_700_000),
    "Dataset/images/trainB/mri1.jpg": random.Random(2).randbytes(1_300_000),
    "Dataset/read me.txt": b"two pictures\n",
}


def zip_of(files: dict[Any, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Bytes of a ZIP archive; keys are names or ``ZipInfo``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class KaggleServer(ThreadingHTTPServer):
    """Serves one archive as Kaggle does: a call answered by a redirect to a storage address on another host.

    Attributes:
        archive: bytes served.
        status: of the call; other than 200 an error in JSON.
        direct: answer the call with the archive itself.
        content_type: of the archive.
        cut_after: bytes after which the next transfers are cut, one entry a transfer.
        stall_after: bytes after which a transfer waits for ``go_on``.
        etag: state of the archive.
        requests: (method, path, headers, body) of everything asked.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.archive = zip_of(FILES)
        self.status, self.direct, self.content_type, self.etag = 200, False, "application/zip", '"one"'
        self.cut_after: list[int] = []
        self.stall_after: int | None = None
        self.silent = False
        self.go_on = threading.Event()
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, part: str) -> list[dict[str, str]]:
        """Headers of the requests whose path holds ``part``."""
        return [headers for _, path, headers, _ in self.requests if part in path]

    def bodies(self, part: str) -> list[dict[str, Any]]:
        return [json.loads(body) for _, path, _, body in self.requests if part in path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what several tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: KaggleServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def _note(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))

    def _json(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self._note()
        if self.server.silent:
            self.server.go_on.wait(10)
        if self.path.endswith("OAuthService/IntrospectToken"):
            self._json(200, {"active": True, "username": "tester"})
        elif self.path.endswith("DatasetApiService/GetDataset"):
            self._json(200, {"currentVersionNumber": 7})
        elif not self.path.endswith("DatasetApiService/DownloadDataset"):
            self._json(404, {"code": 404, "message": "no such call"})
        elif self.server.status != 200:
            self._json(self.server.status, {"code": self.server.status, "message": "from the\nserver"})
        elif self.server.direct:
            self._send_archive()
        else:
            self.send_response(302)
            self.send_header(
                "Location",
                f"http://localhost:{self.server.server_port}/storage/archive.zip?Signature=opens-it-for-anyone",
            )
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_GET(self) -> None:
        self._note()
        self._send_archive()

    def _send_archive(self) -> None:
        server, content, first = self.server, self.server.archive, 0
        wanted = self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == server.etag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if first else 200)
        self.send_header("Content-Type", server.content_type)
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", server.etag)
        self.send_header("Last-Modified", "Tue, 05 Jan 2021 10:00:00 GMT")
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            if server.cut_after:
                self.wfile.write(content[first : server.cut_after.pop(0)])
            elif server.stall_after is not None:
                self.wfile.write(content[first : server.stall_after])
                self.wfile.flush()
                server.go_on.wait(10)
            else:
                self.wfile.write(content[first:])
