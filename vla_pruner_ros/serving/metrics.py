"""Counters and histograms of one server, as Prometheus text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vla_pruner_ros.serving.session import Session

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Metrics of one server; a registry of its own, so that several servers can live in a process.

    clients: open connections. waiting: requests in the queue and in the policy.
    requests: by outcome (ok, refused, failed, busy, replaced). turned_away: connections by reason.
    wait, inference, overhead: seconds of a request in the queue, in the policy, and elsewhere.
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        prefix = "vla_pruner_server_"

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(prefix + name, text, registry=registry, buckets=_SECONDS)

        self.clients = Gauge(prefix + "clients", "Open connections.", registry=registry)
        self.waiting = Gauge(
            prefix + "waiting_requests", "Requests in the queue and running.", registry=registry
        )
        self.requests = Counter(
            prefix + "requests", "Requests by outcome.", ["outcome"], registry=registry
        )
        self.turned_away = Counter(
            prefix + "turned_away", "Connections refused, by reason.", ["reason"], registry=registry
        )
        self.wait = histogram("wait_seconds", "Time a request waited for its turn.")
        self.inference = histogram("inference_seconds", "Time in the policy.")
        self.overhead = histogram(
            "overhead_seconds", "Time from receipt to reply, less waiting and the policy."
        )
        labels = ["client"]
        self._client_requests = Gauge(
            prefix + "client_requests",
            "Requests answered, open connections.",
            labels,
            registry=registry,
        )
        self._client_total = Gauge(
            prefix + "client_last_total_seconds",
            "Time from receipt to reply of the last request, open connections.",
            labels,
            registry=registry,
        )

    def record(self, session: Session, wait: float, inference: float, total: float) -> None:
        """Take in one answered request; times in seconds."""
        self.requests.labels("ok").inc()
        self.wait.observe(wait)
        self.inference.observe(inference)
        self.overhead.observe(max(0.0, total - wait - inference))
        client = str(session.number)
        self._client_requests.labels(client).set(session.requests)
        self._client_total.labels(client).set(total)

    def drop_client(self, session: Session) -> None:
        """End the series of a client that left."""
        for metric in (self._client_requests, self._client_total):
            if session.requests:
                metric.remove(str(session.number))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
