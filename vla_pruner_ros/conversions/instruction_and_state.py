"""Instruction and state of an Observation from messages, shared by the node and the replay."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from vla_pruner_ros.robots import Measured, RobotProfile, assemble_state

_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def clean_instruction(text: str) -> str:
    """Strip an instruction and collapse its white space to single blanks.

    Control characters, lone surrogates and bidirectional overrides go: they mean nothing to a
    model, break terminals and tokenizers, and make a log show another text than was used.
    """
    parts = "".join(c for c in str(text) if c.isspace() or not _is_control(c)).split()
    return " ".join(parts)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _BIDIRECTIONAL


def named_positions(message: Any, prefix: str = "") -> dict[str, float]:
    """Return the positions of a sensor_msgs/JointState by name, a prefix before each.

    A message whose names and positions differ in number gives none.
    """
    names = [prefix + str(name) for name in message.name]
    if len(names) != len(message.position):
        return {}
    return dict(zip(names, map(float, message.position), strict=True))


def pose_of(message: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Return position [3] (m) and unit quaternion [4] x y z w of a geometry_msgs/PoseStamped.

    None if it is no pose: values that are not finite, or a quaternion of length zero.
    """
    p, q = message.pose.position, message.pose.orientation
    position, quaternion = np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])
    length = float(np.linalg.norm(quaternion))
    if not np.isfinite([*position, length]).all() or length < 1e-6:
        return None
    return position, quaternion / length


def policy_state(
    profile: RobotProfile | None, joints: Sequence[str], measured: Measured, newest: Any
) -> np.ndarray:
    """Build the state that a policy takes, from the source that defines it.

    Args:
        profile: of the robot; its state fields come first, if it has any.
        joints: parameter `state_joints`; used without such fields.
        measured: the robot, its joints merged over all publishers.
        newest: the newest sensor_msgs/JointState, taken entirely if no names are known.

    Returns:
        float64 [numbers of the state].

    Raises:
        ValueError: joints or the pose are missing or not finite; the names are given.
    """
    if profile and profile.state:
        return assemble_state(profile, measured)
    if joints:
        return measured.positions(tuple(joints))
    if newest is None:
        raise ValueError("no joint state has been received")
    return state_from_joint_state(newest, ())


def state_from_joint_state(message: Any, joints: Sequence[str]) -> np.ndarray:
    """Pick joint positions from a sensor_msgs/JointState in the order the policy was trained with.

    Args:
        message: anything with `name` and `position`.
        joints: names in the policy's order (parameter `state_joints`); empty takes every joint in
            the order of the message.

    Returns:
        float64 [len(joints)], in the units of the message (rad or m).

    Raises:
        ValueError: joints missing, positions missing or not finite; the names are given.
    """
    names = list(message.name)
    positions = np.asarray(message.position, dtype=np.float64)
    if len(positions) != len(names):
        raise ValueError(
            f"the joint state names {len(names)} joints but has {len(positions)} positions"
        )
    index = {name: place for place, name in enumerate(names)}
    missing = [joint for joint in joints if joint not in index]
    if missing:
        present = ", ".join(names) or "empty"
        raise ValueError(f"joints {', '.join(missing)} are not in the joint state ({present})")
    state = positions[[index[joint] for joint in joints]] if joints else positions
    if not np.isfinite(state).all():
        raise ValueError("the joint state holds positions that are not finite")
    return state
