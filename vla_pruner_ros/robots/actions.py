"""From a checkpoint's action numbers to commands in metres, radians and openings, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.robots.profile import (
    END_EFFECTOR_ABSOLUTE,
    END_EFFECTOR_DELTA,
    JOINT_KINDS,
    UNITS,
    ActionField,
    RobotProfile,
)
from vla_pruner_ros.robots.rotations import from_matrix, to_matrix
from vla_pruner_ros.robots.state import Measured


@dataclass(frozen=True)
class Commands:
    """One chunk in SI units; what the profile does not command is None.

    displacements: [steps, 6] of the end effector: x y z (m), roll pitch yaw (rad), base axes.
    poses: [steps, 7] to reach: x y z (m), quaternion x y z w.
    joints: [steps, joints] positions to reach (rad or m), in the order of profile.joints.
    openings: [steps, grippers] to reach, 0 closed .. 1 open, in the order of commanded_grippers;
    a policy's numbers may lead outside of 0..1.
    """

    displacements: np.ndarray | None
    poses: np.ndarray | None
    joints: np.ndarray | None
    openings: np.ndarray


def decode_actions(
    profile: RobotProfile, actions: np.ndarray, start: Measured, period: float
) -> Commands:
    """Decode a chunk, once, against the state that it was computed from.

    Args:
        actions: [steps, profile.action_dim] as the policy gave them.
        start: measured when the chunk's image was taken; needed for joints and poses.
        period: time of one action (s), for velocities.

    Raises:
        StateError: start lacks joints or a pose that the decoding needs.
        ValueError: the width differs, or the numbers describe no rotation.
    """
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or actions.shape[1] != profile.action_dim:
        raise ValueError(
            f"an action has {actions.shape[-1]} numbers, but profile {profile.name} explains "
            f"{profile.action_dim} ({', '.join(profile.action_names)})"
        )
    fields = _split(profile, actions)
    deltas = _of_kind(fields, END_EFFECTOR_DELTA)
    absolutes = _of_kind(fields, END_EFFECTOR_ABSOLUTE)
    return Commands(
        displacements=_displacements(deltas, start) if deltas else None,
        poses=_poses(absolutes, start) if absolutes else None,
        joints=_joint_targets(profile, fields, start, period) if profile.commands_joints else None,
        openings=_openings(fields, len(actions)),
    )


_Fields = list[tuple[ActionField, np.ndarray]]


def _split(profile: RobotProfile, actions: np.ndarray) -> _Fields:
    """Return each field with its numbers [steps, width], scaled and in SI units."""
    found, place = [], 0
    for part in profile.action:
        numbers = actions[:, place : place + part.width]
        place += part.width
        if part.kind != "unused":
            scaled = numbers * np.array(part.scale) + np.array(part.offset)
            found.append((part, scaled * UNITS.get(part.unit, 1.0)))
    return found


def _of_kind(fields: _Fields, kind: str) -> _Fields:
    return [(part, numbers) for part, numbers in fields if part.kind == kind]


def _displacements(fields: _Fields, start: Measured) -> np.ndarray:
    steps = len(fields[0][1])
    moves, turns = np.zeros((steps, 3)), np.tile(np.eye(3), (steps, 1, 1))
    in_tool = {"position": False, "turn": False}
    for part, numbers in fields:
        if part.representation == "position":
            moves, in_tool["position"] = numbers, part.frame == "tool"
        else:
            turns = np.array([to_matrix(row, part.representation) for row in numbers])
            in_tool["turn"] = part.frame == "tool"
    if any(in_tool.values()):
        moves, turns = _from_tool(moves, turns, in_tool, start)
    angles = np.array([from_matrix(turn, "rpy") for turn in turns])
    return np.concatenate([moves, angles], axis=1)


def _from_tool(
    moves: np.ndarray, turns: np.ndarray, in_tool: dict[str, bool], start: Measured
) -> tuple[np.ndarray, np.ndarray]:
    """Turn what is given in the hand's axes into the base's, following the hand as it turns."""
    hand = to_matrix(start.pose()[1], "quaternion")
    moves, turns = moves.copy(), turns.copy()
    for step in range(len(moves)):
        if in_tool["position"]:
            moves[step] = hand @ moves[step]
        if in_tool["turn"]:
            turns[step] = hand @ turns[step] @ hand.T
        hand = turns[step] @ hand
    return moves, turns


def _poses(fields: _Fields, start: Measured) -> np.ndarray:
    """Without a field that turns it, the hand keeps its orientation."""
    position, orientation = start.pose()
    steps = len(fields[0][1])
    poses = np.tile(np.concatenate([position, orientation]), (steps, 1))
    for part, numbers in fields:
        if part.representation == "position":
            poses[:, :3] = numbers
        else:
            matrices = [to_matrix(row, part.representation) for row in numbers]
            poses[:, 3:] = [from_matrix(matrix, "quaternion") for matrix in matrices]
    return poses


def _joint_targets(
    profile: RobotProfile, fields: _Fields, start: Measured, period: float
) -> np.ndarray:
    columns = []
    for part, numbers in fields:
        if part.kind not in JOINT_KINDS:
            continue
        measured = start.positions(part.joints)
        if part.kind == "joint_position":
            columns.append(numbers + measured if part.relative_to_state else numbers)
        else:
            step = period if part.kind == "joint_velocity" else 1.0
            columns.append(measured + np.cumsum(numbers * step, axis=0))
    return np.concatenate(columns, axis=1)


def _openings(fields: _Fields, steps: int) -> np.ndarray:
    columns = [_opening(part, numbers[:, 0]) for part, numbers in fields if part.kind == "gripper"]
    return np.stack(columns, axis=1) if columns else np.zeros((steps, 0))


def _opening(part: ActionField, numbers: np.ndarray) -> np.ndarray:
    if part.threshold is None:
        return (numbers - part.closed) / (part.open - part.closed)  # the limits cut it, and count
    beyond = numbers > part.threshold if part.open > part.closed else numbers < part.threshold
    # A number that is not finite must not become a command to close.
    return np.where(np.isfinite(numbers), beyond.astype(np.float64), np.nan)


def encode_actions(
    profile: RobotProfile, commands: Commands, start: Measured, period: float
) -> np.ndarray:
    """Write commands as the numbers a policy would give: the inverse of decode_actions.

    Programs that know what to do (scripted experts, tests) speak through a profile with it.

    Returns:
        float64 [steps, profile.action_dim]; numbers that the profile leaves unused are 0.

    Raises:
        StateError: start lacks joints or a pose. ValueError: the profile needs other commands.
    """
    columns, grippers = [], 0
    for part in profile.action:
        if part.kind == "unused":
            columns.append(np.zeros((len(commands.openings), part.width)))
            continue
        if part.kind == "gripper":
            opening = commands.openings[:, grippers : grippers + 1]
            values = part.closed + opening * (part.open - part.closed)
            grippers += 1
        elif part.kind in JOINT_KINDS:
            values = _encoded_joints(profile, part, _given(commands.joints), start, period)
        else:
            values = _encoded_end_effector(part, commands, start)
        si = values / UNITS.get(part.unit, 1.0)
        columns.append((si - np.array(part.offset)) / np.array(part.scale))
    return np.concatenate(columns, axis=1)


def _given(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        raise ValueError("the commands lack what the profile's action commands")
    return values


def _encoded_joints(
    profile: RobotProfile, part: ActionField, targets: np.ndarray, start: Measured, period: float
) -> np.ndarray:
    places = [profile.joints.index(name) for name in part.joints]
    targets, measured = targets[:, places], start.positions(part.joints)
    if part.kind == "joint_position":
        return targets - measured if part.relative_to_state else targets
    changes = np.diff(np.concatenate([measured[None], targets]), axis=0)
    return changes / period if part.kind == "joint_velocity" else changes


def _encoded_end_effector(part: ActionField, commands: Commands, start: Measured) -> np.ndarray:
    if part.kind == END_EFFECTOR_ABSOLUTE:
        poses = _given(commands.poses)
        if part.representation == "position":
            return poses[:, :3]
        turns = [to_matrix(pose[3:], "quaternion") for pose in poses]
        return np.array([from_matrix(turn, part.representation) for turn in turns])
    given = _given(commands.displacements)
    turns = np.array([to_matrix(row[3:], "rpy") for row in given])
    moves = given[:, :3]
    if part.frame == "tool":
        moves, turns = _to_tool(moves, turns, start)
    if part.representation == "position":
        return moves
    return np.array([from_matrix(turn, part.representation) for turn in turns])


def _to_tool(
    moves: np.ndarray, turns: np.ndarray, start: Measured
) -> tuple[np.ndarray, np.ndarray]:
    hand = to_matrix(start.pose()[1], "quaternion")
    moves, in_tool = moves.copy(), turns.copy()
    for step in range(len(moves)):
        moves[step] = hand.T @ moves[step]
        in_tool[step] = hand.T @ turns[step] @ hand
        hand = turns[step] @ hand
    return moves, in_tool
