"""Parameters that are given once, as a node starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node


def declare_read_only(node: Node, defaults: Mapping[str, tuple[Any, str]]) -> None:
    """Declare parameters that only the command line and a file can set.

    defaults: name -> default and description.
    """
    for name, (default, description) in defaults.items():
        described = ParameterDescriptor(description=description, read_only=True)
        node.declare_parameter(name, default, described)
