"""From a message's bytes to the policy's answer: what both protocols need of the server."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from vla_pruner_ros.models.policy import Observation, PolicyError, PruningReport
from vla_pruner_ros.serving.layout import ObservationLayout
from vla_pruner_ros.serving.metrics import Metrics
from vla_pruner_ros.serving.policy_thread import (
    Answer,
    BusyError,
    PolicyThread,
    RefusedError,
    ServablePolicy,
    Turn,
)
from vla_pruner_ros.serving.session import Session
from vla_pruner_ros.serving.settings import ServerSettings
from vla_pruner_ros.serving.wire import arrays
from vla_pruner_ros.serving.wire.structure import WireError, unpack

log = logging.getLogger(__name__)

SHORT = 2**20
"""Bytes of a message whose plain arrays are decoded at once."""


class RequestHandler:
    """Decodes, queues and measures requests; one for all connections of a server."""

    def __init__(
        self, policy: ServablePolicy, layout: ObservationLayout, settings: ServerSettings
    ) -> None:
        """Raises ValueError: the layout has fewer cameras than the policy takes."""
        if len(layout.cameras) < policy.num_cameras:
            raise ValueError(
                f"the policy sees {policy.num_cameras} cameras, {layout.name} has "
                f"{len(layout.cameras)}"
            )
        self.policy, self.layout, self.settings = policy, layout, settings
        self.metrics = Metrics()
        self.thread = PolicyThread(
            policy, settings.max_waiting, settings.max_gap, settings.max_wait
        )
        self._first_pruning = policy.pruning
        self._decoders = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._sessions = 0

    def new_session(self, address: str) -> Session:
        """Return a session with a history of its own."""
        self._sessions += 1
        return Session(self._sessions, address, self._first_pruning)

    def info(self) -> dict[str, Any]:
        """Return what a client may know of the policy."""
        policy, layout = self.policy, self.layout
        return {
            "family": policy.family,
            "trained": policy.trained,
            "num_cameras": policy.num_cameras,
            "state_dim": policy.state_dim,
            "chunk_size": policy.chunk_size,
            "layout": layout.name,
            "camera_keys": list(layout.cameras[: policy.num_cameras]),
            "state_keys": list(layout.state),
            "state_sizes": list(layout.sizes(policy.state_dim)),
            "prompt_key": layout.prompt,
            "gripper": "as trained" if layout.gripper is None else "-1 open, +1 closed",
            "pruning": asdict(self._first_pruning),
        }

    async def receive(
        self, data: bytes, check: Callable[[dict[str, Any]], None]
    ) -> tuple[dict[str, Any], Observation]:
        """Turn a message into its decoded fields and an Observation.

        check: called with the fields before the observation is read.

        Raises:
            WireError: the message is refused.
        """

        def work() -> tuple[dict[str, Any], Observation]:
            fields = unpack(data, self.settings.limits)
            if not isinstance(fields, dict):
                raise WireError("the message is no map of an observation's parts")
            return self._read(fields, check)

        return await self._on_or_off_loop(work, data)

    async def receive_fields(
        self, fields: dict[str, Any], data: bytes
    ) -> tuple[dict[str, Any], Observation]:
        """As receive, of fields that are unpacked; data: the message they came in."""
        return await self._on_or_off_loop(lambda: self._read(fields, lambda _: None), data)

    def set_pruning(self, session: Session, changes: Any) -> None:
        """Change a client's settings. Raises WireError: they are fixed, or not allowed."""
        if self.settings.fixed_pruning:
            raise WireError("this server's pruning settings are fixed")
        if not isinstance(changes, dict):
            raise WireError("pruning must be a map of settings")
        session.set_pruning(changes)

    async def act(self, session: Session, observation: Observation, reset: bool = False) -> Answer:
        """Wait for the client's turn and for the policy.

        Raises:
            BusyError, RefusedError, PolicyError: no answer; the message gives the reason.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def deliver(outcome: Answer | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, outcome)

        self.thread.submit(Turn(session, observation, reset, deliver))
        try:
            return await future
        finally:
            self.thread.withdraw(session)

    def actions(self, answer: Answer, as_trained: bool = False) -> np.ndarray:
        """Return a chunk's actions, float32 [steps, n]: as the client expects them, or as_trained,
        in the checkpoint's own numbers."""
        if as_trained:
            return np.asarray(answer.chunk.actions, dtype=np.float32)
        return self.layout.actions(answer.chunk.actions)

    def finish(self, session: Session, answer: Answer, received: float) -> None:
        """Record a request that has been answered; received: time.monotonic() of its receipt."""
        total = time.monotonic() - received
        session.last_total_ms = 1e3 * total
        self.metrics.record(session, answer.waited, answer.inference, total)

    def refusal(self, error: Exception) -> str:
        """Count a request that failed and return the sentence for the client."""
        if isinstance(error, BusyError):
            outcome = "busy"
        elif isinstance(error, WireError):
            outcome = "refused"
        else:
            outcome = "failed"
        self.metrics.requests.labels(outcome).inc()
        if isinstance(error, (RefusedError, WireError, PolicyError, ValueError)):
            return _sentence(error)
        log.error("A request failed", exc_info=error)
        return f"the request failed ({type(error).__name__}); the server's log has the details"

    def close(self, timeout: float) -> bool:
        """End the threads; return whether the policy's ended within timeout (s)."""
        ended = self.thread.stop(timeout)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        return ended

    def _read(
        self, fields: dict[str, Any], check: Callable[[dict[str, Any]], None]
    ) -> tuple[dict[str, Any], Observation]:
        policy, limits = self.policy, self.settings.limits
        decoded = arrays.decode(fields, limits)
        if not isinstance(decoded, dict):
            raise WireError("the message is one array: a map of an observation's parts is expected")
        check(decoded)
        return decoded, self.layout.read(decoded, policy.num_cameras, policy.state_dim, limits)

    async def _on_or_off_loop(self, work: Callable[[], Any], data: bytes) -> Any:
        """Do what takes long on another thread, so that other clients are served meanwhile.

        Plain pixels of the usual size take less time than the way to a thread and back.
        """
        if isinstance(data, str) or (len(data) <= SHORT and b"__image__" not in data):
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)


def report_fields(report: PruningReport, with_indices: bool) -> dict[str, Any]:
    """Return a report as plain values that travel; NaN becomes None.

    with_indices: also the kept patches of each camera, as int32 arrays.
    """
    fields = asdict(report)
    kept = fields.pop("kept_indices")
    fields["grid"] = list(report.grid)
    plain = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in fields.items()
    }
    return {**plain, "kept_indices": kept} if with_indices else plain


def _settle(future: asyncio.Future, outcome: Answer | Exception) -> None:
    if future.done():  # the client left
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
