"""Settings that no node reads: misspelt, nested, or for a node of another name."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vla_pruner_ros.bags.rcl_yaml import RclLoader

OWN_PREFIXES = ("qos_overrides.", "diagnostic_updater.")
OWN_NAMES = ("use_sim_time", "start_type_description_service")
SAFETY = (
    "max_translation", "max_rotation", "max_gripper_step", "workspace", "max_image_age",
    "max_state_age", "max_camera_spread", "on_camera_loss", "arm_latency", "inference_timeout",
    "max_consecutive_failures", "control_rate", "action_frame", "dry_run", "robot",
    "max_joint_step", "max_joint_velocity", "state_joints", "joint_commands", "gripper_action",
    "gripper_max_effort", "joint_state_topics",
)  # fmt: skip
"""Settings whose loss could move the arm farther, faster or elsewhere than configured."""
ALIKE = 0.75
"""Share of equal letters above which one name is taken for a misspelling of another."""


@dataclass
class Unread:
    """Settings that no node reads. warnings: sentences. refusals: those that prevent configure."""

    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def unread_settings(node: Any, files: Sequence[Path] = ()) -> Unread:
    """Find what was set for a node and is not declared there.

    Args:
        node: after it declared its parameters.
        files: parameter files of its command line.
    """
    unread = Unread()
    for name in _undeclared(node):
        if not (name in OWN_NAMES or name.startswith(OWN_PREFIXES)):
            _add(unread, name, _known(node))
    for path in files:
        _check_file(unread, path, node)
    return unread


def unread_qos(node: Any) -> list[str]:
    """Return sentences about qos_overrides that fit none of a node's topics."""
    names = [name for name in _undeclared(node) if name.startswith("qos_overrides.")]
    return [f"{name} fits no subscription of this node: it is not used" for name in names]


def _undeclared(node: Any) -> list[str]:
    # rclpy has no public way to the overrides: the attribute is there from Humble to rolling.
    given = getattr(node, "_parameter_overrides", {})
    return [name for name in sorted(given) if not node.has_parameter(name)]


def _known(node: Any) -> list[str]:
    declared = node.get_parameters_by_prefix("")
    return [name for name in declared if not name.startswith(OWN_PREFIXES)]


def _add(unread: Unread, name: str, known: Iterable[str]) -> None:
    meant = _meant(name, known)
    hint = f": did you mean {meant}?" if meant else ""
    sentence = f"The parameter {name} was set, but this node has none of that name{hint}"
    (unread.refusals if meant in SAFETY else unread.warnings).append(sentence)


def _meant(name: str, known: Iterable[str]) -> str:
    """Return the declared name that a wrong one is most like, "" if it is like none."""
    last = name.replace("-", "_").rpartition(".")[2].lower()
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(last, by_lower, 1, ALIKE)
    return by_lower[close[0]] if close else ""


def _check_file(unread: Unread, path: Path, node: Any) -> None:
    """Report a file that has settings for other nodes only."""
    sections = sections_of(path)
    if not sections:
        reason = _why_unparsable(path)
        unread.refusals.append(f"Nothing of the parameter file {path} is used: {reason}")
    if not sections or any(_matches(name, node) for name in sections):
        return
    names = {name for section in sections.values() for name in section}
    own = sorted(names & set(_known(node)))
    sentence = (
        f"{path} has settings for {', '.join(sorted(sections))} and none for "
        f"{node.get_fully_qualified_name()}: nothing of it is used"
    )
    if own:
        sentence += f", not even {', '.join(own[:5])}; rename the section"
    (unread.refusals if names & set(SAFETY) else unread.warnings).append(sentence)


def sections_of(path: Path) -> dict[str, dict[str, Any]]:
    """Return the parameters by node name of a parameter file; {} if it cannot be read."""
    try:
        content = yaml.load(path.read_text("utf-8"), RclLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    found: dict[str, dict[str, Any]] = {}
    _collect(content, "", found)
    return found


def _collect(content: Any, prefix: str, found: dict[str, dict[str, Any]]) -> None:
    """Gather sections: namespaces may be nested above the node's name."""
    for key, value in content.items() if isinstance(content, dict) else ():
        name = f"{prefix}/{str(key).strip('/')}"
        if key == "ros__parameters":
            found[prefix] = value if isinstance(value, dict) else {}
        else:
            _collect(value, name, found)


def _matches(section: str, node: Any) -> bool:
    """Return whether rcl gives a section to a node: * is one token of a name, ** any number."""
    pattern = section.replace("/**", "\0").replace("*", "[!/]*").replace("\0", "*")
    names = (node.get_fully_qualified_name(), f"/{node.get_name()}")
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def parameter_files(arguments: Sequence[str] | None = None) -> list[Path]:
    """Return the files after --params-file on a command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    pairs = itertools.pairwise(given)
    return [Path(after) for option, after in pairs if option == "--params-file"]


def explain_unparsable(error: BaseException, files: Iterable[Path]) -> str:
    """Return one sentence about parameters that rcl could not parse."""
    for path in files:
        reason = _why_unparsable(path)
        if reason:
            return f"The parameter file {path} cannot be used: {reason}"
    text = " ".join(str(error).split())
    for noise in ("Failed to parse global arguments", ", at /project", ", at ./src", ", at "):
        head, found, tail = text.partition(noise)
        text = head if found and head else tail if found else text
    return f"The arguments cannot be used: {text.strip(' :.') or error!r}"


def _why_unparsable(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return str(error)
    for number, line in enumerate(text.splitlines(), 1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return f"line {number} begins with a tab; YAML is indented with blanks"
    try:
        content = yaml.load(text, RclLoader)
    except yaml.YAMLError as error:
        return " ".join(str(error).split())
    if not isinstance(content, dict):
        return "it has no section with the name of a node"
    if not sections_of(path):
        return "it has no ros__parameters below the name of the node"
    return _mixed_list(content, "")


def _mixed_list(content: Any, name: str) -> str:
    """Return a sentence about the first list whose items are not all of one type."""
    if isinstance(content, dict):
        return next(filter(None, (_mixed_list(v, str(k)) for k, v in content.items())), "")
    if not isinstance(content, list):
        return ""
    kinds = {type(item) for item in content}
    if kinds == {int, float}:
        return f"{name} mixes integers and decimals, which ROS refuses: write 0 as 0.0"
    if len(kinds) > 1:
        return f"{name} mixes {', '.join(sorted(kind.__name__ for kind in kinds))}"
    if kinds & {dict, list, type(None)}:
        return f"{name} is a list of something else than numbers, texts or booleans"
    return ""
