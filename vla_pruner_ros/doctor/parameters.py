"""Parameter files of the node, read without ROS, and checks of their limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from vla_pruner_ros.doctor.finding import Finding, examine, green, yellow

AREA = "limits"
DEFAULTS = {"max_translation": 0.05, "max_rotation": 0.25}
"""Values of the node (m and rad per action) if the file names none; a test compares them."""
FIRST_DAY = {"max_translation": 0.02, "max_rotation": 0.1}
"""Values above which a first day with an arm is called fast."""


def read_parameters(path: Path, node: str = "vla_pruner") -> dict[str, Any]:
    """Return the parameters of a node in a ROS parameter file; later sections win.

    Raises:
        ValueError: it is no parameter file, or it has no section for the node.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no parameters: it needs a section of the node")
    found: dict[str, Any] = {}
    sections = [name for name in content if name.split("/")[-1] in (node, "**", "*")]
    for name in sections:
        section = content[name]
        values = section.get("ros__parameters") if isinstance(section, dict) else None
        if not isinstance(values, dict):
            raise ValueError(f"{path}: section {name} has no ros__parameters")
        found.update(values)
    if not sections:
        raise ValueError(f"{path} has sections for {', '.join(content)} and none for {node}")
    return found


def limit_findings(parameters: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether motion is bounded."""
    yield from examine(AREA, [partial(_steps, parameters), partial(_workspace, parameters)])


def _steps(parameters: Mapping[str, Any]) -> Iterator[Finding]:
    for name, unit in (("max_translation", "m"), ("max_rotation", "rad")):
        value = float(parameters.get(name, DEFAULTS[name]))
        text = f"{name} is {value:g} {unit} per action"
        if value > FIRST_DAY[name]:
            yield yellow(AREA, text, f"begin with at most {FIRST_DAY[name]:g} on a new arm")
        else:
            yield green(AREA, text)


def _workspace(parameters: Mapping[str, Any]) -> Iterator[Finding]:
    if parameters.get("dry_run"):
        yield yellow(AREA, "dry_run is set: nothing moves", "set it to false to drive the arm")
    if parameters.get("workspace"):
        yield green(AREA, f"workspace is {list(parameters['workspace'])} (m)")
    else:
        yield yellow(
            AREA, "no workspace: nothing bounds where the arm goes", "set workspace (x y z x y z)"
        )
