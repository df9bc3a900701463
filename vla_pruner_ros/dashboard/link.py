"""The running node as the page sees it: newest messages, and commands through its own interface."""

from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from vla_pruner_ros.bringup.client import PolicyClient
from vla_pruner_ros.msg import ActionChunk, PruningStatus

PATIENCE = 5.0
"""Longest wait for a service (s)."""


class NodeLink:
    """A Robot of the page on top of a PolicyClient."""

    def __init__(self, client: PolicyClient, target: str = "vla_pruner") -> None:
        """Subscribe to the node's outputs; target: its name."""
        self._client, self._lock = client, threading.Lock()
        self._state: dict[str, Any] = {}
        self._jpeg = b""
        node = client.node
        node.create_subscription(PruningStatus, f"{target}/pruning", self._on_status, 10)
        node.create_subscription(ActionChunk, f"{target}/action_chunk", self._on_chunk, 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        node.create_subscription(
            CompressedImage, f"{target}/overlay/compressed", self._on_overlay, 1
        )
        self._target = target
        self._reset = node.create_client(Trigger, f"{target}/reset")

    def state(self) -> dict[str, Any]:
        """Return the newest values that the page shows, by name; empty before the first message."""
        with self._lock:
            return dict(self._state)

    def overlay(self) -> bytes:
        """Return the newest overlay as JPEG; empty before the first."""
        with self._lock:
            return self._jpeg

    def set_keep_ratio(self, value: float) -> None:
        """Set the node's token budget.

        Raises:
            ValueError: the node refuses the value or does not answer.
        """
        try:
            self._client.set_parameter("keep_ratio", value, PATIENCE)
        except TimeoutError as error:
            raise ValueError(str(error)) from None

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        self._client.instruct(text)

    def hold(self) -> None:
        """Publish an empty instruction, which holds the arm."""
        self._client.instruct("")

    def reset(self) -> None:
        """Call the node's ~/reset.

        Raises:
            ValueError: the node does not answer.
        """
        answered = threading.Event()
        if self._reset.wait_for_service(PATIENCE):
            future = self._reset.call_async(Trigger.Request())
            future.add_done_callback(lambda _: answered.set())
        if not answered.wait(PATIENCE):
            raise ValueError(f"{self._target}/reset is not answered: is the node running?")

    def _on_status(self, message: PruningStatus) -> None:
        with self._lock:
            self._state["tokens"] = f"{message.tokens_kept} of {message.tokens_total}"
            self._state["keep_ratio"] = round(float(message.keep_ratio), 4)
            self._state["method"] = message.method

    def _on_chunk(self, message: ActionChunk) -> None:
        taken = message.inference_time
        with self._lock:
            self._state["instruction"] = message.instruction
            self._state["latency"] = f"{1e3 * taken.sec + 1e-6 * taken.nanosec:.0f}"

    def _on_overlay(self, message: CompressedImage) -> None:
        with self._lock:
            self._jpeg = bytes(message.data)
            stamp = message.header.stamp
            self._state["sequence"] = f"{stamp.sec}.{stamp.nanosec:09d}"

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        name = self._target.rpartition("/")[2]
        own = [one for one in message.status if one.name == f"{name}: policy"]
        if own:
            with self._lock:
                self._state["health"] = own[0].message
