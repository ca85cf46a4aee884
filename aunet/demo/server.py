"""Answers a browser on this machine, and nobody else.

Other machines cannot connect: only the loopback address is listened on. Pages of other sites, open in the
same browser, are refused: the name in ``Host`` must be this machine's (a foreign name that was pointed at it
is not), what fetches must say that it is this page, and what changes anything needs a token that only this
page knows. Of results, nobody can guess the address.
"""

import hmac
import json
import logging
import re
import secrets
import socketserver
import sys
import urllib.parse
from http import HTTPStatus
from http.client import HTTP_PORT
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jinja2 import Environment

from aunet.demo.jobs import RESULTS, BusyError, Job, Jobs

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".mp4": "video/mp4",
    ".svg": "image/svg+xml",
    ".csv": "text/csv; charset=utf-8",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POLICY_OF_RESULTS = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_CHUNK = 1 << 20
_SECONDS_OF_SILENCE = 30


class DemoServer(ThreadingHTTPServer):
    """Listens on the loopback address.

    Args:
        port: 0 for any that is free.
        jobs: Where uploads go.
        about: Values for the page: ``title``, ``note``.
        most_bytes: Of an upload.

    Raises:
        ValueError: The port is taken, or there is none of that number.
    """

    daemon_threads = True

    def __init__(self, port: int, jobs: Jobs, about: dict[str, str], most_bytes: int) -> None:
        try:
            super().__init__((LOOPBACK, port), Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port}: {error}; choose another by --port") from None
        self.jobs, self.most_bytes = jobs, most_bytes
        self.token = secrets.token_urlsafe(18)
        self.limit = f"{most_bytes / 1e6:.10g} MB"
        # Browsers leave out the port that is usual.
        ports = [f":{self.server_port}", *([""] if self.server_port == HTTP_PORT else [])]
        self.hosts = {f"{name}{port}" for name in (LOOPBACK, "localhost") for port in ports}
        template = Environment(autoescape=True).from_string((HERE / "page.html").read_text("utf-8"))
        self.page = template.render(
            token=self.token, most_bytes=most_bytes, limit=self.limit, **about
        ).encode()

    def server_bind(self) -> None:
        """Binds without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that has gone, as browsers do at any moment."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "aunet", ""
    timeout = _SECONDS_OF_SILENCE
    server: DemoServer

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the terminal is for what needs someone's attention."""

    def do_GET(self) -> None:
        """Page, style, script, states and results."""
        if not self._is_ours():
            return
        path = urllib.parse.urlsplit(self.path).path
        if path == "/":
            self._send(HTTPStatus.OK, self.server.page, TYPES[".html"])
        elif path in ("/style.css", "/script.js"):
            file = HERE / path[1:]
            self._send(HTTPStatus.OK, file.read_bytes(), TYPES[file.suffix])
        elif (found := self._job(path)) is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif not found[1]:
            self._tell(HTTPStatus.OK, found[0].as_json())
        else:
            self._send_file(found[0].folder / found[1])

    def do_POST(self) -> None:
        """An upload: the file is the body, its name is in ``X-File-Name``, percent-encoded."""
        if not self._is_ours(changes=True):
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/jobs":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif not re.fullmatch("[0-9]{1,18}", length):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the length of the file must be told")
        elif int(length) > self.server.most_bytes:
            reason = f"the file is larger than {self.server.limit}"
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        else:
            self._take(int(length))

    def do_DELETE(self) -> None:
        """Ends a job and deletes what belongs to it."""
        if not self._is_ours(changes=True):
            return
        found = self._job(self.path)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        self.server.jobs.remove(found[0])
        self._tell(HTTPStatus.OK, {})

    def _take(self, length: int) -> None:
        """Receives an upload and queues it."""
        try:
            job = self.server.jobs.begin(urllib.parse.unquote(self.headers.get("X-File-Name", "")))
        except BusyError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
            return
        whole = False
        try:
            with job.upload.open("wb") as file:
                left = length
                while left and not job.cancelled and (part := self.rfile.read(min(left, _CHUNK))):
                    file.write(part)
                    left -= len(part)
            whole = not left
        except OSError as error:  # a full disk, or a browser that has gone
            log.warning(f"{job.name}: not received: {error}")
        if whole:
            self.server.jobs.submit(job)
            self._tell(HTTPStatus.ACCEPTED, {"job": job.key})
        else:
            self.server.jobs.remove(job)
            self._refuse(HTTPStatus.BAD_REQUEST, "the file did not arrive whole: try again")

    def _is_ours(self, changes: bool = False) -> bool:
        """Whether this page asks; answers and ends the connection if not."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        good = host in self.server.hosts
        good = good and self.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
        good = good and origin in (None, f"http://{host}")
        if changes:
            token = self.headers.get("X-Aunet-Token", "").encode()
            good = good and hmac.compare_digest(token, self.server.token.encode())
        if not good:
            self._refuse(HTTPStatus.FORBIDDEN, f"only the page at {self.server.url} may ask; reload it")
        return good

    def _job(self, path: str) -> tuple[Job, str] | None:
        """The job, and the name of its file or "", that a path names."""
        match = re.fullmatch(r"/jobs/([\w-]+)(?:/([\w.]+))?", path)
        job = self.server.jobs.get(match[1]) if match else None
        if match is None or job is None or match[2] not in (None, *RESULTS):
            return None
        return job, match[2] or ""

    def _send_file(self, file: Path) -> None:
        """Sends a result, or the part of it that a player asks for."""
        try:
            content = file.open("rb")
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        with content:
            size = content.seek(0, 2)
            first, last = 0, size - 1
            asked = re.fullmatch(r"bytes=(\d{1,18})-(\d{0,18})", self.headers.get("Range", ""))
            headers = {"Accept-Ranges": "bytes", "Content-Security-Policy": _POLICY_OF_RESULTS}
            if asked and int(asked[1]) <= min(last, int(asked[2] or last)):
                first, last = int(asked[1]), min(last, int(asked[2] or last))
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            status = HTTPStatus.PARTIAL_CONTENT if "Content-Range" in headers else HTTPStatus.OK
            self._begin(status, TYPES[file.suffix], max(0, last - first + 1), headers)
            content.seek(first)
            left = last - first + 1
            while left > 0 and (part := content.read(min(left, _CHUNK))):
                self.wfile.write(part)
                left -= len(part)

    def _tell(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Says why not, and ends the connection: what may still come of the request is not read."""
        self.close_connection = True
        self._tell(status, {"error": reason})

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self._begin(status, kind, len(content), {"Content-Security-Policy": _POLICY})
        self.wfile.write(content)

    def _begin(self, status: HTTPStatus, kind: str, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        for name, value in (fixed | headers).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
