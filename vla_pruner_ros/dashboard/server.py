"""HTTP server of the page: state and overlay out, commands in. No ROS, the standard library alone.

A page of another site must not move the arm. So a command needs a token that only this page knows.
On loopback, the request also has to name the loopback host.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

LONGEST = 4096
"""Bytes of a command."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PAGE = Path(__file__).with_name("page.html")
TOKEN = "X-Dashboard-Token"


class Robot(Protocol):
    """Source of what the page shows, and receiver of its commands; called from any thread."""

    def state(self) -> dict[str, Any]:
        """Return tokens, latency, instruction and diagnostics, as JSON can hold them."""
        ...

    def overlay(self) -> bytes:
        """Return the newest overlay as JPEG, b"" before the first."""
        ...

    def set_keep_ratio(self, value: float) -> None:
        """Set the budget. Raises ValueError: refused, with the reason."""
        ...

    def instruct(self, text: str) -> None: ...

    def hold(self) -> None:
        """Stop motion until the next instruction."""
        ...

    def reset(self) -> None:
        """Clear the history and release a hold. Raises ValueError: not answered."""
        ...


class Dashboard:
    """The server; start() returns at once. Use as a context manager."""

    def __init__(self, robot: Robot, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen.

        Args:
            robot: shown and commanded. host: to listen on. port: 0 takes a free one.

        Raises:
            OSError: the address cannot be had.
        """
        self.token = secrets.token_urlsafe(24)
        commands: dict[str, Callable[[Any], None]] = {
            "keep_ratio": lambda value: robot.set_keep_ratio(_share(value)),
            "instruction": lambda value: robot.instruct(_text(value)),
            "hold": lambda _: robot.hold(),
            "reset": lambda _: robot.reset(),
        }
        page = PAGE.read_text("utf-8").replace("@TOKEN@", self.token).encode()
        hosts = set(LOOPBACK) if host in LOOPBACK else None

        class Handler(_Handler):
            pass

        Handler.robot, Handler.commands, Handler.page = robot, commands, page
        Handler.token, Handler.hosts = self.token, hosts
        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="dashboard")
        self.host, self.port = host, self._server.server_address[1]

    @property
    def address(self) -> str:
        """The page's address for a browser."""
        return f"http://{self.host}:{self.port}/"

    def __enter__(self) -> Dashboard:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    robot: Robot
    commands: dict[str, Callable[[Any], None]]
    page: bytes
    token: str
    hosts: set[str] | None

    def do_GET(self) -> None:
        if not self._names_this_host():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.page)
        elif self.path == "/state":
            self._send_json(HTTPStatus.OK, self.robot.state())
        elif self.path.partition("?")[0] == "/overlay.jpg":
            image = self.robot.overlay()
            status = HTTPStatus.OK if image else HTTPStatus.NO_CONTENT
            self._send(status, "image/jpeg", image)
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})

    def do_POST(self) -> None:
        if not self._names_this_host():
            return
        if not secrets.compare_digest(self.headers.get(TOKEN, ""), self.token):
            self._send_json(HTTPStatus.FORBIDDEN, {"error": "the token is missing: load the page"})
            return
        command = self.commands.get(self.path.lstrip("/"))
        if command is None:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is no such command"})
            return
        try:
            command(self._body())
        except ValueError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        else:
            self._send_json(HTTPStatus.OK, {})

    def _names_this_host(self) -> bool:
        """Refuse a name that another site's DNS points here."""
        name = self.headers.get("Host", "").rpartition(":")[0].strip("[]")
        if self.hosts is None or name in self.hosts:
            return True
        self._send_json(HTTPStatus.FORBIDDEN, {"error": "this host is not served here"})
        return False

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > LONGEST:
            raise ValueError(f"a command has at most {LONGEST} bytes")
        return json.loads(self.rfile.read(int(length)) or b"null")

    def _send_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing: a page asks several times a second."""


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value <= 1.0:
        raise ValueError(f"keep_ratio must be above 0 and at most 1, got {value!r}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 1000:
        raise ValueError("an instruction has 1 to 1000 characters")
    return value.strip()
