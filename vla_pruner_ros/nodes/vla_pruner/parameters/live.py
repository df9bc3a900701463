"""Parameters of the vla_pruner node: declared from its settings, changed while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from vla_pruner_ros.nodes.parameter_specs import ParameterNode, declare
from vla_pruner_ros.nodes.process.log import Log
from vla_pruner_ros.nodes.vla_pruner.parameters.settings import (
    NodeSettings,
    make_settings,
    parameter_specs,
)
from vla_pruner_ros.pruning.config import RENAMED_FIELDS


class LoggingNode(ParameterNode, Protocol):
    """A node with parameters and a log."""

    log: Log


def _refuse_deletion(parameters: list[Parameter]) -> None:
    for parameter in parameters:
        if parameter.name in parameter_specs() and parameter.type_ == Parameter.Type.NOT_SET:
            raise ValueError(f"{parameter.name} cannot be deleted")


class LiveParameters:
    """Declares the parameters on a node and holds the NodeSettings in force.

    `settings` may be read from any thread: a refused change leaves it as it was, an accepted one
    replaces it before the service answers.
    """

    def __init__(
        self,
        node: LoggingNode,
        on_change: Callable[[dict[str, Any]], None],
        check_fit: Callable[[NodeSettings], None] = lambda _: None,
    ) -> None:
        """Declare everything and check what YAML and the command line gave.

        Args:
            node: on which the parameters are declared.
            on_change: called with the new values after they took effect.
            check_fit: raises ValueError if settings cannot fit the loaded model.

        Raises:
            ValueError: an initial value is not allowed, or has a parameter's old name.
        """
        self._node = node
        self._on_change, self._check_fit = on_change, check_fit
        self._lock = threading.Lock()
        self._frozen = False
        self.settings = make_settings(declare(node, parameter_specs().values(), RENAMED_FIELDS))
        node.add_on_set_parameters_callback(self._on_set)

    def freeze(self) -> NodeSettings:
        """Refuse changes of what is read on configure from now on; return the settings in force."""
        with self._lock:
            self._frozen = True
            return self.settings

    def thaw(self) -> None:
        """Allow them again."""
        with self._lock:
            self._frozen = False

    def _current(self) -> dict[str, Any]:
        return {name: self._node.get_parameter(name).value for name in parameter_specs()}

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in parameter_specs()}
        try:
            _refuse_deletion(parameters)
            with self._lock:
                self._refuse_frozen(changes)
                requested = make_settings({**self._current(), **changes})
                self._check_fit(requested)
                self.settings = requested
        except ValueError as error:
            self._node.log.warning(f"Parameter refused: {error}")
            return SetParametersResult(successful=False, reason=str(error))
        for name, value in changes.items():
            self._node.log.info(f"Parameter {name} is now {value!r}")
        self._on_change(changes)
        return SetParametersResult(successful=True)

    def _refuse_frozen(self, changes: dict[str, Any]) -> None:
        fixed = [name for name in changes if parameter_specs()[name].when == "configure"]
        if self._frozen and fixed:
            raise ValueError(
                f"{fixed[0]} is read on configure: deactivate and clean up the node, set it, then "
                "configure again"
            )
