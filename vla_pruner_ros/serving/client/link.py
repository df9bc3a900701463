"""A websocket to a policy server: one question at a time, answered in time or not at all."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import connect

from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.serving.client.address import RemoteOptions
from vla_pruner_ros.serving.wire import arrays
from vla_pruner_ros.serving.wire.limits import WireLimits
from vla_pruner_ros.serving.wire.structure import WireError, unpack

LIMITS = WireLimits(message_bytes=16 * 2**20)
"""Limits of a reply: a server is not trusted either."""
WINDOW = 200
"""Answers over which latencies are reported."""


class Link:
    """A connection that is opened when needed and never trusted.

    Answers carry the number of their question. One that comes after its time is dropped when the
    next is awaited; a server that repeats no numbers loses its connection instead.

    reconnects, timeouts, late_answers: counts since the start.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self.url, self._options = url, options
        self.reconnects = self.timeouts = self.late_answers = 0
        self._stack = ExitStack()
        self._socket: Any = None
        self._number = 0
        self._connections = 0
        self._echoes = False
        self._lock = threading.Lock()
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._network: deque[float] = deque(maxlen=WINDOW)

    @property
    def is_open(self) -> bool:
        """True if the link is connected."""
        return self._socket is not None

    def open(self) -> dict[str, Any]:
        """Connect and return the server's metadata.

        Raises:
            PolicyError: it cannot be reached, requires a key, or speaks another protocol.
        """
        self.close()
        key = self._options.api_key
        try:
            self._socket = self._stack.enter_context(
                connect(
                    self.url,
                    open_timeout=self._options.timeout,
                    close_timeout=0.2,
                    compression=None,
                    max_size=LIMITS.message_bytes,
                    additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
                )
            )
            self._limit_sending()
            metadata = self._read(time.monotonic() + self._options.timeout)
        except InvalidStatus as error:
            raise self._lost(_refusal(error)) from None
        except (OSError, InvalidHandshake, InvalidURI, WebSocketException) as error:
            reason = "it does not answer" if isinstance(error, TimeoutError) else str(error)
            raise self._lost(f"cannot be reached: {reason}") from None
        self.reconnects += self._connections > 0
        self._connections += 1
        self._echoes = "vla_pruner" in metadata
        return metadata

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            PolicyError: no answer in time, a refusal, a broken answer or connection.
        """
        self._number += 1
        start = time.monotonic()
        if self._echoes:
            request = {**request, "request": self._number}
        data = msgpack.packb(request, default=arrays.encode_openpi)
        try:
            self._socket.send(data)
            reply = self._await_answer(start + self._options.timeout)
        except TimeoutError:
            raise self._too_late() from None
        except (OSError, WebSocketException) as error:
            raise self._lost(f"closed the connection: {error}") from None
        self._note(time.monotonic() - start, reply)
        return reply

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._socket = None
        with suppress(OSError, WebSocketException):
            self._stack.close()
        self._stack = ExitStack()

    def state(self) -> dict[str, float | int]:
        """Return what diagnostics show: times in seconds, counts since the start."""
        with self._lock:
            latencies, network = list(self._latencies), list(self._network)
        shown: dict[str, float | int] = {
            "remote_reconnects": self.reconnects,
            "remote_timeouts": self.timeouts,
            "remote_late_answers": self.late_answers,
        }
        if latencies:
            shown["remote_latency_p50"] = float(np.percentile(latencies, 50))
            shown["remote_latency_p95"] = float(np.percentile(latencies, 95))
            shown["remote_jitter"] = float(np.std(latencies))
        if network:
            shown["remote_network_p50"] = float(np.percentile(network, 50))
        return shown

    def _await_answer(self, deadline: float) -> dict[str, Any]:
        while True:
            reply = self._read(deadline)
            if not self._echoes or reply.get("request") == self._number:
                return reply
            self.late_answers += 1

    def _read(self, deadline: float) -> dict[str, Any]:
        data = self._socket.recv(timeout=max(0.0, deadline - time.monotonic()))
        if isinstance(data, str):
            raise self._lost(f"answers: {' '.join(data.split())[:300]}")
        try:
            reply = arrays.decode(unpack(data, LIMITS), LIMITS)
        except WireError as error:
            raise self._lost(f"sent an answer that cannot be read: {error}") from None
        if not isinstance(reply, dict):
            raise self._lost("sent an answer that is no map")
        return reply

    def _too_late(self) -> PolicyError:
        self.timeouts += 1
        sentence = f"gave no answer within {self._options.timeout:.2f} s"
        if self._echoes:
            return PolicyError(f"The policy server {self.url} {sentence}")
        return self._lost(sentence)

    def _lost(self, reason: str) -> PolicyError:
        self.close()
        return PolicyError(f"The policy server {self.url} {reason}")

    def _note(self, latency: float, reply: dict[str, Any]) -> None:
        timing = reply.get("server_timing")
        timing = timing if isinstance(timing, dict) else {}
        parts = [timing.get(name, 0.0) for name in ("infer_ms", "queue_ms")]
        with self._lock:
            self._latencies.append(latency)
            if all(isinstance(part, (int, float)) for part in parts):
                self._network.append(max(0.0, latency - 1e-3 * sum(parts)))

    def _limit_sending(self) -> None:
        """A server that does not read must not hold the sender for ever."""
        seconds = self._options.timeout
        limit = struct.pack("ll", int(seconds), int(seconds % 1.0 * 1e6))
        with suppress(OSError, AttributeError):
            self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _refusal(error: InvalidStatus) -> str:
    status = error.response.status_code
    body = (error.response.body or b"").decode("utf-8", "replace")
    return f"refuses the connection ({status}): {' '.join(body.split())[:300]}"
