"""One hostile exchange with a server, and its result in a sentence."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from vla_pruner_ros.serving.wire import arrays

PATIENCE = 10.0
SERVED, SILENT, DROPPED = "served", "silent", "dropped"


@dataclass(frozen=True)
class Attack:
    """One case.

    server: which of the servers it goes to (openpi, vla_eval, guarded). run: given the port;
    returns what came of it. expected: a pattern that this must match in full.
    """

    area: str
    name: str
    run: Callable[[int], str]
    expected: str
    server: str = "openpi"

    def failure(self, port: int) -> str:
        """Carry it out; return "" if the outcome is the stated one."""
        try:
            found = self.run(port)
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        return "" if re.fullmatch(self.expected, found, re.DOTALL) else found


def pack(value: Any) -> bytes:
    """Pack a value as openpi's clients do."""
    return msgpack.packb(value, default=arrays.encode_openpi)


def observation(**changes: Any) -> dict[str, Any]:
    """Return a good LIBERO observation; underscores in names stand for slashes of the keys.

    A value of ... leaves the part out.
    """
    image = np.full((32, 32, 3), 100, dtype=np.uint8)
    parts: dict[str, Any] = {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(8, dtype=np.float32),
        "prompt": "pick up the bowl",
        **{_KEYS.get(name, name): value for name, value in changes.items()},
    }
    return {name: value for name, value in parts.items() if value is not ...}


_KEYS = {
    "image": "observation/image",
    "wrist": "observation/wrist_image",
    "state": "observation/state",
}


def frame(kind: str = "observation", **changes: Any) -> dict[str, Any]:
    """Return a good frame of vla-eval; a value of ... leaves a field out."""
    image = np.full((32, 32, 3), 100, dtype=np.uint8)
    payload = {
        "images": {"agentview": image, "wrist": image},
        "task_description": "pick up the bowl",
        "states": np.zeros(8),
    }
    fields = {"type": kind, "payload": payload, "seq": 1, "timestamp": 0.0, **changes}
    return {name: value for name, value in fields.items() if value is not ...}


def pack_frame(fields: dict[str, Any]) -> bytes:
    """Pack a frame as vla-eval's clients do."""
    return msgpack.packb(fields, default=arrays.encode_vla_eval)


def ask(
    port: int, data: bytes | str | list, path: str = "/", headers: dict[str, str] | None = None
) -> str:
    """Open a websocket, send data (a list: as fragments) and return the reaction."""
    try:
        with connect(
            f"ws://127.0.0.1:{port}{path}",
            compression=None,
            max_size=None,
            additional_headers=headers,
            open_timeout=PATIENCE,
            close_timeout=1.0,
        ) as connection:
            first = connection.recv(timeout=PATIENCE)
            if isinstance(first, str):
                return _after(connection, first)
            with suppress(ConnectionClosed):
                connection.send(data)
            return reaction(connection)
    except InvalidStatus as error:
        return f"HTTP {error.response.status_code}"
    except ConnectionClosed as error:
        return closed(error)
    except (InvalidHandshake, InvalidMessage, OSError) as error:
        return f"{DROPPED} ({type(error).__name__})"


def ask_vla_eval(port: int, data: bytes | str, wait: float = PATIENCE) -> str:
    """As ask(), in vla-eval's protocol; the connection must go on after an error."""
    with connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None) as connection:
        connection.send(data)
        try:
            reply = msgpack.unpackb(connection.recv(timeout=wait))
        except TimeoutError:
            reply = None
        except ConnectionClosed as error:
            return closed(error)
        connection.send(pack_frame(frame(seq=7)))
        after = msgpack.unpackb(connection.recv(timeout=PATIENCE))
        if (after["type"], after["seq"]) != ("action", 7):
            return f"the connection is spoilt: {after}"
    if reply is None:
        return SILENT
    if reply["type"] == "error":
        return f"refused: {reply['payload']['error']}"
    return SERVED if reply["type"] == "action" else reply["type"]


def reaction(connection: ClientConnection) -> str:
    """Wait for the answer to what was sent."""
    try:
        reply = connection.recv(timeout=PATIENCE)
    except ConnectionClosed as error:
        return closed(error)
    except TimeoutError:
        return SILENT
    return SERVED if isinstance(reply, bytes) else _after(connection, reply)


def _after(connection: ClientConnection, sentence: str) -> str:
    try:
        connection.recv(timeout=PATIENCE)
    except ConnectionClosed as error:
        return f"refused: {sentence}; {closed(error)}"
    return f"refused: {sentence}; open"


def closed(error: ConnectionClosed) -> str:
    """Return the outcome of a connection that the server closed."""
    return f"closed {error.rcvd.code}" if error.rcvd else DROPPED


def raw(port: int, data: bytes, wait: float = PATIENCE) -> str:
    """Send bytes over TCP and return what came back: HTTP STATUS, dropped, or silent."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as link:
        link.settimeout(wait)
        with suppress(OSError):
            link.sendall(data)
        return answer_of(link)


def answer_of(link: socket.socket) -> str:
    """Return the outcome that raw bytes on a socket had."""
    received = b""
    try:
        while chunk := link.recv(65536):
            received += chunk
    except TimeoutError:
        if not received:
            return SILENT
    except OSError:
        pass
    found = re.match(rb"HTTP/1\.1 (\d+)", received)
    return f"HTTP {found[1].decode()}" if found else DROPPED


def upgraded(port: int) -> socket.socket:
    """Open a websocket by hand; return the socket after handshake and greeting."""
    link = socket.create_connection(("127.0.0.1", port), PATIENCE)
    link.settimeout(PATIENCE)
    link.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    received = b""
    while b"vla_pruner" not in received:
        received += link.recv(65536)
    time.sleep(0.05)  # the rest of the greeting
    return link


def close_code(link: socket.socket, wait: float = PATIENCE) -> str:
    """Read until the end; return `closed CODE` of a close frame, or dropped."""
    link.settimeout(wait)
    received = b""
    try:
        while chunk := link.recv(65536):
            received += chunk
    except TimeoutError:
        return SILENT
    except OSError:
        pass
    finally:
        link.close()
    place = received.rfind(b"\x88")
    if place < 0 or len(received) < place + 4:
        return DROPPED
    return f"closed {int.from_bytes(received[place + 2 : place + 4], 'big')}"


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame with mask 0. first: the byte with FIN, RSV and opcode."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + bytes(4) + payload
