"""The parameters a node has when one starts to watch it, as a ParameterEvent message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rosbags.typesys.store import Typestore

from vla_pruner_ros.replay.parameter_events import make_event, plain_values


class ParameterSnapshot:
    """Asks another node for all its parameters, once it can be reached.

    /parameter_events tells changes alone. An event that names every value, handed to the recorder
    before them, lets a bag be replayed under the parameters in force even if the recording began
    long after the node.
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
        self._asked = False
        self.is_taken = False

    def look(self) -> None:
        """Ask if the node is there and has not been asked yet."""
        ready = self._list.service_is_ready() and self._get.service_is_ready()
        if ready and not self._asked:
            self._asked = True
            self._list.call_async(ListParameters.Request()).add_done_callback(self._on_names)

    def _on_names(self, future: Any) -> None:
        names = future.result().result.names
        asked = self._get.call_async(GetParameters.Request(names=names))
        asked.add_done_callback(lambda answer: self._on_answer(names, answer))

    def _on_answer(self, names: list[str], future: Any) -> None:
        values = future.result().values
        now = self._node.get_clock().now().nanoseconds
        event = make_event(self._store, now, self._name, names, values)
        self._on_values(plain_values(names, values), event)
        self.is_taken = True
