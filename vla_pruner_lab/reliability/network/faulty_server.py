"""A server of openpi's protocol that is lost, slow or lies on command."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from vla_pruner_ros.models.policy import PruningReport
from vla_pruner_ros.serving.handler import report_fields
from vla_pruner_ros.serving.wire import arrays

TIMEOUT = 1.0
"""remote_timeout of the node (s), its default."""


def greeting(chunk: int) -> bytes:
    """Return what the server says of a policy with so many actions an inference."""
    described = {
        "family": "openvla",
        "trained": True,
        "num_cameras": 1,
        "state_dim": 0,
        "chunk_size": chunk,
        "camera_keys": ["observation/image"],
        "state_keys": [],
        "state_sizes": [],
        "prompt_key": "prompt",
    }
    return _pack({"vla_pruner": described})


def answer(asked: dict[str, Any], chunk: int, **changes: Any) -> bytes:
    """Return an honest answer with some of its parts changed."""
    actions = np.tile(np.float32([0.005, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), (chunk, 1))
    kept = [np.arange(4, dtype=np.int32)]
    report = PruningReport(kept, (4, 4), 16, 4, 4, "vla_pruner", timings={"total": 0.001})
    honest = {"actions": actions, "pruning": report_fields(report, with_indices=True)}
    return _pack({**honest, "request": asked.get("request", 0), **changes})


def _pack(value: Any) -> bytes:
    return msgpack.packb(value, default=arrays.encode_openpi)


class FaultyServer:
    """A server of openpi's protocol whose answers the fault in force decides.

    fault: None, or request -> what to send; None as a result closes the connection.
    chunk: actions of an answer.
    """

    def __init__(self, chunk: int) -> None:
        self.fault: Callable[[dict[str, Any]], bytes | str | None] | None = None
        self.chunk, self.greeting = chunk, greeting(chunk)
        self.over = threading.Event()
        self.port = 0
        self._connections: set[ServerConnection] = set()
        self.listen()

    def listen(self) -> None:
        """Serve on the same port as before."""
        self._server = serve(self._converse, "127.0.0.1", self.port, compression=None)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def vanish(self) -> None:
        """End as a killed process does: connections are cut, nobody listens."""
        self._server.shutdown()
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        for connection in list(self._connections):
            with suppress(OSError):
                connection.socket.shutdown(2)

    def honest(self, asked: dict[str, Any], **changes: Any) -> bytes:
        """Return the right answer to a request, with these fields changed."""
        return answer(asked, self.chunk, **changes)

    def _converse(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        with suppress(ConnectionClosed):
            connection.send(self.greeting)
            for data in connection:
                request = msgpack.unpackb(data)
                made = self.honest(request) if self.fault is None else self.fault(request)
                if made is None:
                    break
                connection.send(made)
        self._connections.discard(connection)


@dataclass(frozen=True)
class Fault:
    """A fault by name: how it begins and how it ends, with a FaultyServer."""

    name: str
    begin: Callable[[FaultyServer], None]
    end: Callable[[FaultyServer], None] = lambda server: None


Made = Callable[[FaultyServer, dict[str, Any]], "bytes | str | None"]


def answering(name: str, made: Made) -> Fault:
    """Return a fault that consists in what is answered."""

    def begin(server: FaultyServer) -> None:
        server.fault = partial(made, server)

    return Fault(name, begin)


def _hang(server: FaultyServer, asked: dict[str, Any]) -> None:
    server.over.wait(60.0)


def _slow(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    server.over.wait(2.0 * TIMEOUT)
    return server.honest(asked)


def _another_policy(server: FaultyServer) -> None:
    server.greeting = greeting(server.chunk + 1)
    server.cut()


def _the_same_policy(server: FaultyServer) -> None:
    server.greeting = greeting(server.chunk)
    server.cut()


def _not_a_number(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    return server.honest(asked, actions=np.full((server.chunk, 7), np.nan, np.float32))


def _narrow(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    return server.honest(asked, actions=np.zeros((server.chunk, 5)))


def _of_before(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    return server.honest(asked, request=asked["request"] - 1)


FAULTS = (
    Fault("lost: the server's process is killed", FaultyServer.vanish, FaultyServer.listen),
    answering("lost: every question closes the connection", lambda server, asked: None),
    answering("lost: no answer, the connection stays open", _hang),
    answering("slow: every answer takes twice remote_timeout", _slow),
    Fault("another policy after a restart", _another_policy, _the_same_policy),
    answering("lies: NaN", _not_a_number),
    answering("lies: five numbers instead of seven", _narrow),
    answering("lies: text instead of actions", lambda s, asked: s.honest(asked, actions="go")),
    answering("lies: the number of the question before", _of_before),
    answering("lies: no msgpack", lambda server, asked: b"\xc1\xc1"),
    answering("lies: an answer cut off", lambda server, asked: server.honest(asked)[:-9]),
    answering("lies: 20 MB", lambda server, asked: bytes(20 * 2**20)),
    answering("refuses with a sentence", lambda server, asked: "out of memory"),
)
