"""One declaration of a parameter: its type, range and choices, checked with a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
)
from rclpy.node import Node


@dataclass(frozen=True)
class Spec:
    """One parameter; the type is that of the default.

    when: live, configure (refused while configured) or start (only the command line and a file can
    set it). low, high: both inclusive. choices: the values of a string.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    when: str = "live"

    @property
    def is_list(self) -> bool:
        return isinstance(self.default, tuple)


def check_value(spec: Spec, value: Any) -> Any:
    """Return the value in the parameter's own type (1 becomes 1.0 where a float is meant).

    Raises:
        ValueError: wrong type or out of range.
    """
    if spec.is_list:
        return _check_list(spec, value)
    value = _check_scalar(spec, value)
    if spec.choices and value not in spec.choices:
        raise ValueError(f"{spec.name} must be one of {', '.join(spec.choices)}, got '{value}'")
    if spec.low is not None and not spec.low <= value <= spec.high:
        raise ValueError(f"{spec.name} must be between {spec.low} and {spec.high}, got {value}")
    return value


def _check_scalar(spec: Spec, value: Any) -> Any:
    wanted = type(spec.default)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        names = {float: "a number, such as 0.5", int: "an integer", str: "a string", bool: "a bool"}
        raise ValueError(f"{spec.name} must be {names[wanted]}, got {value!r}")
    if wanted is float and not math.isfinite(value):
        raise ValueError(f"{spec.name} must be finite, got {value}")
    return value


def _check_list(spec: Spec, value: Any) -> tuple:
    # An empty YAML list arrives without a type, as None or an empty list of anything.
    items = () if value is None else value
    if isinstance(items, (str, int, float)):
        raise ValueError(f"{spec.name} must be a list, got {value!r}")
    if spec.name != "workspace":
        if not all(isinstance(item, str) for item in items):
            raise ValueError(f"{spec.name} must be a list of strings, got {value!r}")
        return tuple(items)
    if not all(isinstance(item, (int, float)) and math.isfinite(item) for item in items):
        raise ValueError(f"{spec.name} must be a list of finite numbers, got {value!r}")
    return tuple(float(item) for item in items)


def descriptor(spec: Spec) -> ParameterDescriptor:
    """Describe a parameter to ros2 param and rqt.

    Typing is dynamic because rclpy would refuse `keep_ratio 1` before anyone could take it as 1.0,
    and cannot type an empty list; check_value does the typing, with a reason people understand.
    """
    text = spec.description
    if spec.when == "configure":
        text += " Takes effect on configure; cannot change while configured."
    if spec.when == "start":
        text += " Set at the start of the node; the network cannot change it."
    constraints = "one of: " + ", ".join(spec.choices) if spec.choices else ""
    made = ParameterDescriptor(
        name=spec.name, description=text, additional_constraints=constraints, dynamic_typing=True
    )
    made.read_only = spec.when == "start"
    if isinstance(spec.default, float):
        made.type = ParameterType.PARAMETER_DOUBLE
        if spec.low is not None:
            made.floating_point_range = [
                FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))
            ]
    elif isinstance(spec.default, int) and not isinstance(spec.default, bool):
        made.type = ParameterType.PARAMETER_INTEGER
        made.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high))]
    return made


def declare_read_only(node: Node, defaults: Mapping[str, tuple[Any, str]]) -> None:
    """Declare parameters that only the command line and a file can set.

    defaults: name -> default and description.
    """
    for name, (default, description) in defaults.items():
        described = ParameterDescriptor(description=description, read_only=True)
        node.declare_parameter(name, default, described)
