"""A websocket connection that cannot be held open half-way, and the messages that come over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from vla_pruner_ros.serving.access import RateLimit
from vla_pruner_ros.serving.settings import ServerSettings

MAX_OPENING = 256
"""TCP connections beyond the clients, in their handshake or asking for a page."""


class GuardedConnection(ServerConnection):
    """A connection that is counted from its first byte, and knows since when a message is begun.

    begun_at: time.monotonic() when the first bytes of a message came that is not complete yet.
    """

    open_connections = 0
    begun_at: float | None = None
    most = MAX_OPENING

    def connection_made(self, transport: Any) -> None:
        """Count the connection, and refuse it if there are too many; called by asyncio."""
        type(self).open_connections += 1
        super().connection_made(transport)
        if self.open_connections > self.most:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection's end; called by asyncio."""
        type(self).open_connections -= 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bound the size of unfinished messages; called by asyncio."""
        super().data_received(data)
        # The second name is of websockets before 17.
        fragments = getattr(self.protocol, "current_size", getattr(self.protocol, "cur_size", None))
        is_partial = bool(self.protocol.reader.buffer) or fragments is not None
        if not is_partial:
            self.begun_at = None
        elif self.begun_at is None:
            self.begun_at = time.monotonic()


def guarded(max_clients: int) -> type[GuardedConnection]:
    """Return a connection class that counts for one server."""
    return type("Connection", (GuardedConnection,), {"most": max_clients + MAX_OPENING})


class ClientSocket:
    """One client's connection as a protocol sees it: messages with timeouts and a rate."""

    def __init__(self, connection: GuardedConnection, settings: ServerSettings) -> None:
        self._connection, self._settings = connection, settings
        rate = settings.messages_per_second
        self._rate = RateLimit(rate, rate)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages until the client leaves or is silent for idle_timeout."""
        while True:
            try:
                data = await asyncio.wait_for(self._connection.recv(), self._settings.idle_timeout)
            except ConnectionClosed:
                return
            except asyncio.TimeoutError:
                await self.close(1000, "no request came for a long time")
                return
            yield data
            while delay := self._rate.take(""):
                await asyncio.sleep(delay)

    async def send(self, data: bytes | str) -> None:
        """Send one message; a client that does not take it within send_timeout is cut off."""
        try:
            await asyncio.wait_for(self._connection.send(data), self._settings.send_timeout)
        except asyncio.TimeoutError:
            self._connection.transport.abort()
            raise

    async def close(self, code: int, reason: str) -> None:
        """Close with a reason, cut to what a close frame holds."""
        await self._connection.close(code, reason.encode()[:120].decode(errors="ignore"))
