"""The parameters a node has when one starts to watch it, as a ParameterEvent message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rosbags.typesys.store import Typestore

from vla_pruner_ros.bags.parameter_events import make_event, plain_values

ANSWER_PATIENCE = 1.0
"""Seconds without an answer after which the node is asked again. An answer can be lost: a service
can be ready before the way back from it is, and a node may end during the call."""


class ParameterSnapshot:
    """Request of all parameters of another node, repeated until it answers.

    /parameter_events carries changes only. So the recorder gets an event that names every value
    before them. A bag can then be replayed under the parameters in force, even if the recording
    began long after the node.
    """

    def __init__(
        self,
        node: Any,
        name: str,
        store: Typestore,
        on_values: Callable[[dict[str, Any], bytes], None],
    ) -> None:
        """name: of the other node, relative to this namespace; on_values: gets
        the values by name and the event's CDR bytes."""
        self._node, self._store, self._on_values = node, store, on_values
        self._name = node.resolve_topic_name(name)
        self._list = node.create_client(ListParameters, f"{self._name}/list_parameters")
        self._get = node.create_client(GetParameters, f"{self._name}/get_parameters")
        self._ask_at = time.monotonic()
        self.is_asked = self.is_taken = False

    def look(self) -> None:
        """Ask if the node is there and has not answered."""
        if self.is_taken or time.monotonic() < self._ask_at:
            return
        if self._list.service_is_ready() and self._get.service_is_ready():
            self._ask_at = time.monotonic() + ANSWER_PATIENCE
            self.is_asked = True
            self._list.call_async(ListParameters.Request()).add_done_callback(self._on_names)

    def _on_names(self, future: Any) -> None:
        names = future.result().result.names
        asked = self._get.call_async(GetParameters.Request(names=names))
        asked.add_done_callback(lambda answer: self._on_answer(names, answer))

    def _on_answer(self, names: list[str], future: Any) -> None:
        if self.is_taken:  # a slow node answers every question
            return
        values = future.result().values
        now = self._node.get_clock().now().nanoseconds
        event = make_event(self._store, now, self._name, names, values)
        self._on_values(plain_values(names, values), event)
        self.is_taken = True
