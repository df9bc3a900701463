"""ROS parameters of settings: the one way in which every node declares and reads its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.parameter import Parameter

from vla_pruner_ros.settings import Spec, specs_of

S = TypeVar("S")


class ParameterNode(Protocol):
    """Methods of an rclpy node that declare and read parameters."""

    def declare_parameter(self, name: str, value: Any, descriptor: ParameterDescriptor) -> Any: ...

    def undeclare_parameter(self, name: str) -> None: ...

    def get_parameter(self, name: str) -> Parameter: ...

    def add_on_set_parameters_callback(self, callback: Any) -> None: ...


def declare(
    node: ParameterNode, specs: Iterable[Spec], renamed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Declare the parameters and return their values, as YAML and the command line gave them.

    Args:
        node: on which they are declared.
        specs: of the settings; those read at the start only cannot be changed afterwards.
        renamed: old name -> name since, for parameters that were renamed.

    Raises:
        ValueError: YAML or the command line gives a parameter by its old name.
    """
    refuse_old_overrides(node, renamed or {})
    return {
        spec.name: node.declare_parameter(spec.name, spec.written_default, descriptor(spec)).value
        for spec in specs
    }


def declare_settings(node: ParameterNode, cls: type[S]) -> S:
    """Declare the parameters of a settings class and return the settings.

    Raises:
        ValueError: a value that is not allowed; the sentence names the parameter.
    """
    return cls(**declare(node, specs_of(cls)))


def descriptor(spec: Spec) -> ParameterDescriptor:
    """Describe a parameter to ros2 param and rqt.

    Typing is dynamic because rclpy would refuse `keep_ratio 1` before anyone could take it as 1.0,
    and cannot type an empty list; check_value does the typing, with a reason people understand.
    """
    text = spec.description
    if spec.when == "configure":
        text += " Takes effect on configure; cannot change while configured."
    elif spec.when == "start":
        text += " Set at the start of the node; the network cannot change it."
    constraints = "one of: " + ", ".join(spec.choices) if spec.choices else ""
    made = ParameterDescriptor(
        name=spec.name, description=text, additional_constraints=constraints, dynamic_typing=True
    )
    made.read_only = spec.when == "start"
    if spec.is_list or spec.is_optional or spec.low is None or spec.high is None:
        return made
    if spec.when == "start":  # nobody can change it, and our own sentence names the parameter
        return made
    if spec.kind is float:
        made.type = ParameterType.PARAMETER_DOUBLE
        made.floating_point_range = [
            FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))
        ]
    elif spec.kind is int:
        made.type = ParameterType.PARAMETER_INTEGER
        made.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high))]
    return made


def refuse_old_overrides(node: ParameterNode, renamed: Mapping[str, str]) -> None:
    """Refuse parameters that YAML or the command line gives by a name of an earlier release.

    rclpy ignores overrides of parameters that are not declared: each old name is declared without
    a value, looked at and undeclared.

    Raises:
        ValueError: the sentence gives the new name.
    """
    anything = ParameterDescriptor(dynamic_typing=True)
    for name in renamed:
        value = node.declare_parameter(name, None, anything).value
        node.undeclare_parameter(name)
        if value is not None:
            raise ValueError(renamed_sentence(name, renamed))


def renamed_sentence(name: str, renamed: Mapping[str, str]) -> str:
    """Return the sentence that refuses an old name."""
    return f"{name} is now called {renamed[name]}: set {renamed[name]} instead"


class RefusesOldNames:
    """A base of nodes: `ros2 param set` of an old name is refused with the new one.

    The parameter services of a node call set_parameters_atomically(). rclpy's own message would be
    that the parameter is not declared.

    Attributes:
        renamed: old name -> name since.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """See rclpy.node.Node."""
        for parameter in parameter_list:
            if parameter.name in self.renamed:
                reason = renamed_sentence(parameter.name, self.renamed)
                return SetParametersResult(successful=False, reason=reason)
        return super().set_parameters_atomically(parameter_list)
