"""Hostile connections to the server, each with its stated outcome."""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vla_pruner_lab.serving.attack import (
    DROPPED,
    PATIENCE,
    SERVED,
    Attack,
    ask,
    close_code,
    masked,
    observation,
    pack,
    raw,
    upgraded,
)

KEY = "open sesame"
TIMEOUTS = {"handshake_timeout": 1.0, "message_timeout": 1.0}
"""Settings of the servers under attack, so that the slow cases end soon."""
FAST = {**TIMEOUTS, "connections_per_second": 1000.0}
"""Settings of servers that no flood attacks: each case is a connection of its own."""
BINARY = 0x82
NO_ANSWER = r"HTTP 4\d\d|dropped"
"""Send bytes that are no websocket: they are answered with a client's error, or not at all."""


def cases() -> Iterator[Attack]:
    """Yield connections that break the protocol, flood the server or lack the key."""
    yield from _other_protocols()
    yield from _frames()
    yield from _disconnects()
    yield from _keys()
    yield from _floods()


def _other_protocols() -> Iterator[Attack]:
    make = partial(Attack, "other protocols")
    hello = bytes.fromhex("16030100c8010000c40303") + os.urandom(190)
    yield make("TLS hello", partial(raw, data=hello), NO_ANSWER)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield make("HTTP/2", partial(raw, data=preface), NO_ANSWER)
    yield make("SSH", partial(raw, data=b"SSH-2.0-OpenSSH_9.6\r\n"), NO_ANSWER)
    yield make("random bytes", partial(raw, data=os.urandom(4096)), NO_ANSWER)
    yield make("zeros", partial(raw, data=bytes(100000)), NO_ANSWER)
    yield make("a pickle by gRPC", partial(raw, data=b"\x80\x04\x95" + bytes(50)), NO_ANSWER)
    yield make("a page", partial(raw, data=_get("/nothing")), "HTTP 426|HTTP 400")
    yield make("a page by POST", partial(raw, data=b"POST / HTTP/1.1\r\n\r\nx"), NO_ANSWER)
    yield make("health", partial(raw, data=_get("/healthz")), "HTTP 200")
    yield make("metrics", partial(raw, data=_get("/metrics")), "HTTP 200")
    yield make(
        "a path of 100,000 characters", partial(raw, data=_get("/" + "a" * 10**5)), NO_ANSWER
    )
    many = b"".join(b"X-%d: y\r\n" % n for n in range(5000))
    yield make("5000 headers", partial(raw, data=_get("/", many)), NO_ANSWER)
    long = b"X: " + b"y" * 10**6 + b"\r\n"
    yield make("a header of a megabyte", partial(raw, data=_get("/", long)), NO_ANSWER)
    old = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
    yield make("an old websocket version", partial(raw, data=_get("/", old)), "HTTP 4\\d\\d")
    yield make("half a handshake, then silence", partial(raw, data=b"GET / HT"), NO_ANSWER)
    yield make("silence from the start", partial(raw, data=b""), NO_ANSWER)
    yield make("a handshake byte by byte", _dribbled_handshake, NO_ANSWER)


def _get(path: str, headers: bytes = b"") -> bytes:
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"


def _dribbled_handshake(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as link:
        start = time.monotonic()
        while time.monotonic() - start < PATIENCE:
            try:
                link.sendall(b"G")
                link.settimeout(0.1)
                if not link.recv(100):
                    return DROPPED
                return "HTTP 400"
            except TimeoutError:
                continue
            except OSError:
                return DROPPED
    return "still open"


def _frames() -> Iterator[Attack]:
    def sends(data: bytes):
        def run(port: int) -> str:
            link = upgraded(port)
            with suppress(OSError):
                link.sendall(data)
            return close_code(link)

        return run

    make = partial(Attack, "websocket frames")
    ended = "closed 1002|dropped"
    yield make("not masked", sends(b"\x82\x03abc"), ended)
    yield make("reserved opcode", sends(masked(0x83, b"x")), ended)
    yield make("reserved bits", sends(masked(0xF2, b"x")), ended)
    yield make("a long ping", sends(masked(0x89, bytes(200))), ended)
    yield make("a continuation of nothing", sends(masked(0x80, b"x")), ended)
    yield make("a frame of 2^62 bytes", sends(b"\x82\xff" + (2**62).to_bytes(8, "big") + bytes(4)),
               "closed 1009|closed 1002|dropped")  # fmt: skip
    yield make("text that is not UTF-8", sends(masked(0x81, b"\xff\xfe")), "closed 100[27]|dropped")
    yield make("half a frame, then silence", sends(masked(BINARY, bytes(1000))[:500]), DROPPED)
    yield make("a message begun and never ended", sends(masked(0x02, b"x")), DROPPED)
    yield make("a message byte by byte", _dribbled_message, DROPPED)
    yield make("a bad close code", sends(masked(0x88, struct.pack("!H", 999))), ended)
    yield make("a thousand pings before a request", _pinged, SERVED)


def _dribbled_message(port: int) -> str:
    link = upgraded(port)
    data, start = masked(BINARY, bytes(10000)), time.monotonic()
    for byte in data:
        try:
            link.sendall(bytes([byte]))
        except OSError:
            return DROPPED
        if time.monotonic() - start > PATIENCE:
            return "still open"
        time.sleep(0.01)
    return "was read"


def _pinged(port: int) -> str:
    with connect(f"ws://127.0.0.1:{port}", compression=None) as connection:
        connection.recv(timeout=PATIENCE)
        for _ in range(1000):
            connection.ping()
        connection.send(pack(observation()))
        return SERVED if isinstance(connection.recv(timeout=PATIENCE), bytes) else "refused"


def _disconnects() -> Iterator[Attack]:
    make = partial(Attack, "disconnects")
    yield make("before the handshake", partial(_leave, data=None), "left")
    yield make("in the handshake", partial(_leave, data=b"GET / HTTP/1.1\r\nHos"), "left")
    request = masked(BINARY, pack(observation()))
    for name, count in (("in a header", 3), ("in a message", 3000), ("after a request", 10**6)):
        yield make(name, partial(_leave_upgraded, data=request[:count]), "left")
        yield make(f"{name}, with a reset", partial(_leave_upgraded, data=request[:count],
                                                    reset=True), "left")  # fmt: skip
    yield make("after the greeting", partial(_leave_upgraded, data=b""), "left")
    yield make("in the closing handshake", partial(_leave_upgraded, data=b"\x88\x80"), "left")
    yield make("a client that never reads, 300 requests", _never_reads, "left|dropped")


def _leave(port: int, data: bytes | None) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as link:
        if data:
            link.sendall(data)
    return "left"


def _leave_upgraded(port: int, data: bytes, reset: bool = False) -> str:
    link = upgraded(port)
    link.sendall(data)
    if reset:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()
    return "left"


def _never_reads(port: int) -> str:
    link = upgraded(port)
    link.settimeout(0.5)
    request = masked(BINARY, pack(observation()))
    try:
        for _ in range(300):
            link.sendall(request)
    except TimeoutError:
        pass  # the server stopped reading, as it should
    except OSError:
        return DROPPED
    finally:
        link.close()
    return "left"


def _keys() -> Iterator[Attack]:
    def make(name: str, authorization: Any, expected: str) -> Attack:
        headers = None if authorization is None else {"Authorization": authorization}
        run = partial(ask, data=pack(observation()), headers=headers)
        return Attack("API key", name, run, expected, "guarded")

    basic = base64.b64encode(f"robot:{KEY}".encode()).decode()
    yield make("right", f"Api-Key {KEY}", SERVED)
    yield make("right, as a bearer", f"Bearer {KEY}", SERVED)
    yield make("right, as a password", f"Basic {basic}", SERVED)
    yield make("none", None, "HTTP 401")
    yield make("empty", "Api-Key ", "HTTP 401")
    yield make("unknown scheme", f"Digest {KEY}", "HTTP 401")
    yield make("too long by a letter", f"Api-Key {KEY}x", "HTTP 401")
    yield make("a prefix", f"Api-Key {KEY[:-1]}", "HTTP 401")
    yield make("broken base64", "Basic !!!", "HTTP 401")
    yield make("a megabyte", "Api-Key " + "x" * 2**20, "HTTP 4\\d\\d|dropped.*")
    yield Attack("API key", "two headers", partial(raw, data=_two_keys()), "HTTP 401", "guarded")
    page = Attack("API key", "metrics without one", partial(raw, data=_get("/metrics")),
                  "HTTP 401", "guarded")  # fmt: skip
    yield page
    yield Attack("API key", "guessed wrong a thousand times", _guess, "locked out", "guarded")


def _two_keys() -> bytes:
    header = f"Authorization: Api-Key {KEY}\r\n".encode()
    return _get("/metrics", header + header)


def _guess(port: int) -> str:
    statuses = []
    for number in range(1000):
        headers = b"Authorization: Api-Key guess%d\r\n" % number
        statuses.append(raw(port, _get("/metrics", headers)))
    right = ask(port, b"", headers={"Authorization": f"Api-Key {KEY}"})
    few = statuses.count("HTTP 401") <= 12
    rest = set(statuses) <= {"HTTP 401", "HTTP 429"}
    return "locked out" if few and rest and right == "HTTP 429" else f"{set(statuses)}, {right}"


def _floods() -> Iterator[Attack]:
    make = partial(Attack, "floods", server="flooded")
    yield make("600 silent connections", _mute_connections, "survived")
    yield make("400 clients at once", _many_clients, "some served, the others turned away")
    yield make("300 pages in a row", _many_pages, "some served, the others turned away")


def _mute_connections(port: int) -> str:
    with ExitStack() as stack:
        for _ in range(600):
            with suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
    return "survived"


def _many_clients(port: int) -> str:
    outcomes = set()
    with ExitStack() as stack:
        for _ in range(400):
            try:
                client = connect(f"ws://127.0.0.1:{port}", compression=None, close_timeout=0.1)
                stack.enter_context(client)
                outcomes.add("in")
            except InvalidStatus as error:
                outcomes.add(error.response.status_code)
            except (OSError, ConnectionClosed):
                outcomes.add(DROPPED)
    return _mixed(outcomes, {"in", 429, 503, DROPPED})


def _many_pages(port: int) -> str:
    outcomes = {raw(port, _get("/metrics")) for _ in range(300)}
    return _mixed({"in" if o == "HTTP 200" else o for o in outcomes}, {"in", "HTTP 429"})


def _mixed(outcomes: set, allowed: set) -> str:
    if outcomes <= allowed and len(outcomes) > 1:
        return "some served, the others turned away"
    return str(outcomes)
