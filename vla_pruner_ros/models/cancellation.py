"""A way to end a load early: it takes minutes for large checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from vla_pruner_ros.models.policy import CheckpointError

_EVENT: ContextVar[threading.Event | None] = ContextVar("cancellation", default=None)


class LoadCancelledError(CheckpointError):
    """Loading ended early on request."""


@contextmanager
def cancellable(event: threading.Event) -> Iterator[None]:
    """Let an event end the loads that run inside, at their next check."""
    token = _EVENT.set(event)
    try:
        yield
    finally:
        _EVENT.reset(token)


def check_cancelled() -> None:
    """Raise LoadCancelledError if the load around was cancelled; call it between two steps."""
    event = _EVENT.get()
    if event is not None and event.is_set():
        raise LoadCancelledError("Loading was cancelled")
