"""Meaning of an action's numbers where two actions are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_ros.robots import RobotProfile
from vla_pruner_ros.robots.profile import (
    END_EFFECTOR_ABSOLUTE,
    END_EFFECTOR_DELTA,
    JOINT_KINDS,
    UNITS,
    ActionField,
)


@dataclass(frozen=True)
class ActionSpace:
    """Names and units of an action's numbers, and the columns of each part.

    translation: of displacements, factor to_si leads to metres; empty if the action has none.
    rotation: likewise to radians. joints: of joint commands, or of all numbers if nothing explains
    them. targets: of those, the ones that say where a joint goes rather than how far or how fast.
    grippers: column, the number in the middle between closed and open, and whether greater numbers
    are more open.
    explained: whether a profile or convention defines the numbers.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    to_si: tuple[float, ...]
    translation: tuple[int, ...] = ()
    rotation: tuple[int, ...] = ()
    joints: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    grippers: tuple[tuple[int, float, bool], ...] = ()
    explained: bool = True

    @property
    def width(self) -> int:
        """Numbers of one action."""
        return len(self.names)

    def are_open(self, actions: np.ndarray) -> np.ndarray:
        """Return bool [steps, grippers]: whether a number lies on the open side of the middle."""
        sides = [
            (actions[:, column] > middle) == upwards for column, middle, upwards in self.grippers
        ]
        return np.array(sides, bool).reshape(len(sides), len(actions)).T


END_EFFECTOR = ActionSpace(
    names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "1 is open"),
    to_si=(1.0,) * 7,
    translation=(0, 1, 2),
    rotation=(3, 4, 5),
    grippers=((6, 0.5, True),),
)
"""Meaning of seven numbers in a bag without a profile, as in earlier releases."""


def action_space(profile: RobotProfile | None, width: int) -> ActionSpace:
    """Return the space of actions of a width; a profile of another width explains nothing."""
    if profile is not None and profile.action_dim == width:
        return _of_profile(profile)
    if width == END_EFFECTOR.width:
        return END_EFFECTOR
    names, everything = tuple(f"number {n}" for n in range(width)), tuple(range(width))
    return ActionSpace(
        names, ("",) * width, (1.0,) * width, joints=everything, targets=everything, explained=False
    )


def _of_profile(profile: RobotProfile) -> ActionSpace:
    translation, rotation, joints, targets, grippers, to_si = [], [], [], [], [], []
    for part in profile.action:
        columns = range(len(to_si), len(to_si) + part.width)
        factors = part.scale or (1.0,) * part.width
        to_si += [scale * UNITS.get(part.unit, 1.0) for scale in factors]
        if part.kind == "gripper":
            grippers.append(_gripper(part, columns[0]))
        elif part.kind in JOINT_KINDS:
            joints += columns
            targets += columns if part.kind == "joint_position" else ()
        elif part.kind == END_EFFECTOR_DELTA or part.representation == "position":
            (translation if part.representation == "position" else rotation).extend(columns)
    absolute = any(part.kind == END_EFFECTOR_ABSOLUTE for part in profile.action)
    return ActionSpace(
        profile.action_names,
        profile.action_units,
        tuple(to_si),
        tuple(translation),
        tuple(rotation),
        tuple(joints),
        tuple(translation) if absolute else tuple(targets),
        tuple(grippers),
    )


def _gripper(part: ActionField, column: int) -> tuple[int, float, bool]:
    scale, offset = (part.scale or (1.0,))[0], (part.offset or (0.0,))[0]
    middle = (part.closed + part.open) / 2.0 if part.threshold is None else part.threshold
    return column, (middle - offset) / scale, (part.open > part.closed) == (scale > 0.0)
