"""Settings of the server: where it listens, and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from vla_pruner_ros.serving.wire.limits import WireLimits

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServerSettings:
    """Settings of one server.

    host, port: where it listens; port 0 takes a free one. api_key: asked of every client, None
        lets everybody in. allow_anyone: without a key, listen on other addresses than loopback.
    max_clients: connections at the same time. max_waiting: requests in the queue.
    max_gap: a longer pause (s) between two requests of a client clears its history.
    max_wait: a request that waited longer (s) for its turn is refused.
    messages_per_second: of one client; faster ones are slowed down.
    connections_per_second: of one address, with connection_burst at once.
    handshake_timeout, message_timeout, send_timeout, idle_timeout: seconds a client may take to
        open, to complete a message once begun, to take a reply, and between two messages.
    drain_timeout: seconds that running requests get at the end.
    fixed_pruning: clients cannot change pruning settings.
    execute_steps: actions of a chunk played before the next inference where the protocol sends one
        action a reply; 0 plays all.

    Raises:
        ValueError: other addresses than loopback without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    allow_anyone: bool = False
    max_clients: int = 64
    max_waiting: int = 64
    max_gap: float = 2.0
    max_wait: float = 10.0
    messages_per_second: float = 200.0
    connections_per_second: float = 20.0
    connection_burst: int = 128
    handshake_timeout: float = 5.0
    message_timeout: float = 20.0
    send_timeout: float = 10.0
    idle_timeout: float = 3600.0
    drain_timeout: float = 10.0
    fixed_pruning: bool = False
    execute_steps: int = 0
    limits: WireLimits = field(default_factory=WireLimits)

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.api_key and not self.allow_anyone:
            raise ValueError(
                f"host {self.host} is open to the network, but there is no API key: set "
                "VLA_PRUNER_API_KEY or --api-key-file, or pass --allow-anyone"
            )
