"""The part of the node that the objects it is made of rely on."""

from __future__ import annotations

from typing import Any, Protocol

from vla_pruner_ros.control.clock import MotionClock
from vla_pruner_ros.control.gate import MotionGate
from vla_pruner_ros.control.health import Health
from vla_pruner_ros.nodes.process.log import Log
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings


class HasSettings(Protocol):
    """Holder of the settings in force."""

    settings: NodeSettings


class Host(Protocol):
    """A lifecycle node with parameters, health, gate and clock; VlaPrunerNode is one."""

    parameters: HasSettings
    health: Health
    gate: MotionGate
    motion_clock: MotionClock
    log: Log

    def get_name(self) -> str: ...

    def get_clock(self) -> Any: ...

    def create_publisher(self, *args: Any, **kwargs: Any) -> Any: ...

    def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> Any: ...

    def destroy_publisher(self, publisher: Any) -> bool: ...

    def create_subscription(self, *args: Any, **kwargs: Any) -> Any: ...

    def destroy_subscription(self, subscription: Any) -> bool: ...

    def create_timer(self, *args: Any, **kwargs: Any) -> Any: ...

    def destroy_timer(self, timer: Any) -> bool: ...
