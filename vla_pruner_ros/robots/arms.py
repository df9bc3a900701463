"""The arms of a profile: which joints and grippers have controllers of their own."""

from __future__ import annotations

import re

from vla_pruner_ros.robots.profile import JOINT_KINDS, ActionField, ArmPart, Gripper
from vla_pruner_ros.robots.yaml_reader import Value

TOPIC_WORD = re.compile(r"[a-z][a-z0-9_]*")
"""Form of an arm's name, which becomes part of topic names."""
PREVIEW = "preview"
"""Part of the topic names of a dry run."""


def read_arms(
    value: Value, action: tuple[ActionField, ...], grippers: dict[str, Gripper]
) -> dict[str, ArmPart]:
    """Read the arms.

    Raises:
        ProfileError: an arm names what the action does not command or what another arm has, or
            the arms leave something out.
    """
    left = {
        "joint": [name for part in action if part.kind in JOINT_KINDS for name in part.joints],
        "gripper": [part.gripper for part in action if part.kind == "gripper"],
    }
    arms = {}
    for name, entry in value.mapping().each():
        arms[name] = arm = _read_arm(name, entry)
        _take(entry, name, "joint", arm.joints, left["joint"])
        _take(entry, name, "gripper", (arm.gripper,) if arm.gripper else (), left["gripper"])
        _check_prefix(entry, arm, grippers)
    for what, names in left.items():
        if names:
            value.fail(f"no arm has {what} {', '.join(names)}, which action commands")
    return arms


def _read_arm(name: str, entry: Value) -> ArmPart:
    if not TOPIC_WORD.fullmatch(name) or name == PREVIEW:
        entry.fail(
            f"arm {name!r} becomes part of topic names: use small letters, digits and underscores, "
            f"a letter first, and not {PREVIEW}"
        )
    fields = entry.mapping()
    arm = ArmPart(
        name,
        fields.take("joints", Value.texts),
        fields.take("gripper", Value.text, ""),
        fields.take("prefix", Value.text, ""),
    )
    fields.end()
    if not arm.joints:
        entry.fail(f"arm {name!r} must name at least one joint")
    return arm


def _take(entry: Value, arm: str, what: str, names: tuple[str, ...], left: list[str]) -> None:
    for name in names:
        if name not in left:
            entry.fail(
                f"arm {arm!r} names {what} {name!r}, which action does not command or another arm "
                f"has; left are {', '.join(left) or 'none'}"
            )
        left.remove(name)


def _check_prefix(entry: Value, arm: ArmPart, grippers: dict[str, Gripper]) -> None:
    fingers = grippers[arm.gripper].joints[:1] if arm.gripper else ()
    for joint in (*arm.joints, *fingers):
        if joint == arm.prefix or not joint.startswith(arm.prefix):
            entry.fail(f"joint {joint!r} of arm {arm.name!r} has no name after {arm.prefix!r}")
