"""Parameters of the recorded node from a YAML file: `ros2 param dump`, or what it was started with.

ros2 bag record notes changes of parameters alone, not what they were when it began.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vla_pruner_ros.bags.rcl_yaml import RclLoader
from vla_pruner_ros.pruning.config import current_names


def read_parameter_file(path: Path, node: str) -> dict[str, Any]:
    """Return the values by name that a file has for a node, for example "/vla_pruner".

    Raises:
        ValueError: it cannot be read, or has nothing for this node.
    """
    node = node or "/vla_pruner"
    name = node.rpartition("/")[2]
    values = parameters_of_file(path, name)
    if not values:
        raise ValueError(
            f"{path} has no parameters of {name}; make it with: "
            f"ros2 param dump {node} > {path.name}"
        )
    return values


def parameters_of_file(path: Path, name: str) -> dict[str, Any]:
    """Return the values by parameter that a file has for nodes of this name in any namespace.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), RclLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"the parameters in {path} cannot be read: {error}") from None
    values: dict[str, Any] = {}
    for key, section in content.items() if isinstance(content, dict) else ():
        parameters = section.get("ros__parameters") if isinstance(section, dict) else None
        if isinstance(parameters, dict) and str(key).rpartition("/")[2] in (name, "**"):
            values.update(current_names(parameters))
    return values
