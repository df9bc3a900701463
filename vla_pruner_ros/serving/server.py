"""The server: one port for websocket clients, health and metrics; it drains before it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.serving.access import Door, RateLimit
from vla_pruner_ros.serving.connection import ClientSocket, GuardedConnection, guarded
from vla_pruner_ros.serving.handler import RequestHandler
from vla_pruner_ros.serving.layout import ObservationLayout
from vla_pruner_ros.serving.policy_thread import ServablePolicy
from vla_pruner_ros.serving.session import Session
from vla_pruner_ros.serving.settings import ServerSettings
from vla_pruner_ros.serving.wire.structure import WireError

log = logging.getLogger(__name__)

GUARD_PERIOD = 0.25
PING_INTERVAL, PING_TIMEOUT = 20.0, 120.0
"""Seconds. A simulator may block its client's event loop for a minute while a scene is built."""
GOING_AWAY = 1001


class Conversation(Protocol):
    """A protocol: how to serve one connection."""

    name: str

    async def converse(self, socket: Any, session: Session, handler: RequestHandler) -> None: ...


class PolicyServer:
    """Serves one policy to many clients over one protocol.

    port: the one in use once serving.
    """

    def __init__(
        self,
        policy: ServablePolicy,
        protocol: Conversation,
        layout: ObservationLayout,
        settings: ServerSettings | None = None,
    ) -> None:
        """Raises ValueError: the policy and the layout do not fit."""
        self.settings = settings or ServerSettings()
        self.handler = RequestHandler(policy, layout, self.settings)
        self.protocol = protocol
        self.port = self.settings.port
        self.draining = False
        self._sessions: dict[GuardedConnection, Session] = {}
        self._door = Door(self.settings.api_key)
        self._arrivals = RateLimit(
            self.settings.connections_per_second, self.settings.connection_burst
        )
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """Begin to drain; call it on the event loop's thread."""
        self.draining = True
        self._stop.set()

    async def run(self, ready: asyncio.Event | None = None) -> bool:
        """Serve until request_stop(), then drain.

        Returns whether everything ended within drain_timeout. Raises OSError: the port is taken.
        """
        settings = self.settings
        async with serve(
            self._converse,
            settings.host,
            settings.port,
            create_connection=guarded(settings.max_clients),
            process_request=self._process_request,
            open_timeout=settings.handshake_timeout,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            close_timeout=2.0,
            compression=None,
            max_size=settings.limits.message_bytes,
            max_queue=(4, 2),
            server_header=None,
            logger=_quiet_logger(),
        ) as server:
            self.port = server.sockets[0].getsockname()[1]
            guard = asyncio.create_task(self._guard(server))
            if ready is not None:
                ready.set()
            await self._stop.wait()
            ended = await self._drain()
            guard.cancel()
            server.close(code=GOING_AWAY, reason="the server is shutting down")
        return ended

    async def _drain(self) -> bool:
        """Let requests that were taken in be answered; new connections are refused meanwhile."""
        deadline = time.monotonic() + self.settings.drain_timeout
        self.handler.thread.refuse_new()
        while self.handler.thread.waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # the last replies are on their way out
        left = max(0.0, deadline - time.monotonic())
        return await asyncio.to_thread(self.handler.close, left)

    async def _converse(self, connection: GuardedConnection) -> None:
        if len(self._sessions) >= self.settings.max_clients:  # several came in at the same time
            await connection.close(1013, "all places are taken: try again later")
            return
        address = _address(connection)
        session = self.handler.new_session(address)
        self._sessions[connection] = session
        self.handler.metrics.clients.set(len(self._sessions))
        log.info("Client %d connected from %s", session.number, address)
        socket = ClientSocket(connection, self.settings)
        try:
            self._take_query(session, connection.request.path)
            await self.protocol.converse(socket, session, self.handler)
        except WireError as error:
            with suppress(ConnectionClosed):
                await socket.send(self.handler.refusal(error))
                await socket.close(1011, str(error))
        except (ConnectionClosed, asyncio.TimeoutError):
            pass
        except Exception:
            log.exception("Client %d: its connection failed", session.number)
            await socket.close(1011, "the server failed; its log has the details")
        finally:
            self._sessions.pop(connection, None)
            self.handler.thread.withdraw(session)
            self.handler.metrics.clients.set(len(self._sessions))
            self.handler.metrics.drop_client(session)
            log.info("Client %d left after %d answers", session.number, session.requests)

    def _take_query(self, session: Session, path: str) -> None:
        """Pruning settings in the address: ws://host:8000/?keep_ratio=0.5."""
        try:
            query = parse_qs(urlsplit(path).query, max_num_fields=32)
        except ValueError:
            raise WireError("the address holds more than 32 settings") from None
        if query:
            self.handler.set_pruning(session, {k: _plain(k, v[-1]) for k, v in query.items()})

    async def _guard(self, server: Server) -> None:
        """Cut off clients that began a message and do not finish it."""
        while True:
            await asyncio.sleep(GUARD_PERIOD)
            limit = time.monotonic() - self.settings.message_timeout
            for connection in list(server.connections):
                begun = getattr(connection, "begun_at", None)
                if begun is not None and begun < limit:
                    self.handler.metrics.turned_away.labels("slow message").inc()
                    connection.transport.abort()

    # --- Before the websocket: pages and the door -----------------------------------------------

    def _process_request(self, connection: GuardedConnection, request: Request) -> Response | None:
        """Answer a page, refuse, or let the websocket's handshake go on (None)."""
        path = urlsplit(request.path).path
        if path in ("/health", "/healthz"):
            return self._health(path)
        refused = self._refusal(connection, request)
        if refused is not None:
            reason, status, sentence = refused
            self.handler.metrics.turned_away.labels(reason).inc()
            return _page(status, sentence)
        if path == "/metrics":
            self.handler.metrics.waiting.set(self.handler.thread.waiting)
            body = self.handler.metrics.text()
            return _page(HTTPStatus.OK, body, "text/plain; version=0.0.4; charset=utf-8")
        if path == "/config":
            return self._config()
        if len(self._sessions) >= self.settings.max_clients:
            self.handler.metrics.turned_away.labels("full").inc()
            sentence = f"All {self.settings.max_clients} places are taken: try again later.\n"
            return _page(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
        return None

    def _refusal(
        self, connection: GuardedConnection, request: Request
    ) -> tuple[str, HTTPStatus, str] | None:
        address = _address(connection)
        if self.draining:
            return "draining", HTTPStatus.SERVICE_UNAVAILABLE, "The server is shutting down.\n"
        if self._arrivals.take(address):
            sentence = "Too many connections came from this address: wait a second.\n"
            return "rate", HTTPStatus.TOO_MANY_REQUESTS, sentence
        refused = self._door.refusal(address, _single(request.headers, "Authorization"))
        if refused is not None:
            return "key", *refused
        return None

    def _health(self, path: str) -> Response:
        if self.draining:
            return _page(HTTPStatus.SERVICE_UNAVAILABLE, "The server is shutting down.\n")
        if path == "/healthz":
            return _page(HTTPStatus.OK, "OK\n")
        return _page(HTTPStatus.OK, json.dumps({"status": "ok"}) + "\n", "application/json")

    def _config(self) -> Response:
        settings = asdict(self.settings)
        del settings["api_key"]
        body = {"protocol": self.protocol.name, "policy": self.handler.info(), "server": settings}
        text = json.dumps({"applied": {}, "config": body}, indent=1) + "\n"
        return _page(HTTPStatus.OK, text, "application/json")


def _page(
    status: HTTPStatus, body: str | bytes, kind: str = "text/plain; charset=utf-8"
) -> Response:
    data = body.encode() if isinstance(body, str) else body
    headers = Headers([("Content-Type", kind), ("Content-Length", str(len(data)))])
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, data)


def _single(headers: Headers, name: str) -> str | None:
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else None


def _address(connection: GuardedConnection) -> str:
    peer = connection.remote_address
    return str(peer[0]) if peer else "unknown"


def _plain(name: str, text: str) -> Any:
    """Turn a query's text into the type of the setting it names."""
    requested = type(getattr(PruningConfig(), name, ""))
    try:
        return requested(text)
    except ValueError:
        raise WireError(f"{name[:40]} must be a number, got {text[:40]!r}") from None


def _quiet_logger() -> logging.Logger:
    """Strangers' broken handshakes are no errors of ours."""
    logger = logging.getLogger(__name__ + ".websockets")
    logger.setLevel(logging.CRITICAL)
    return logger
