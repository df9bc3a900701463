"""Meaning of a policy's numbers on one robot: cameras, state, action, grippers, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from vla_pruner_ros.robots.rotations import WIDTHS

UNITS = {
    "m": 1.0,
    "cm": 0.01,
    "mm": 0.001,
    "rad": 1.0,
    "deg": 0.017453292519943295,
    "rad/s": 1.0,
    "deg/s": 0.017453292519943295,
    "m/s": 1.0,
}
"""Unit of a checkpoint's numbers -> factor to metres, radians and seconds."""
STATE_SOURCES = ("joint_states", "pose", "gripper")
END_EFFECTOR_DELTA, END_EFFECTOR_ABSOLUTE = "end_effector_delta", "end_effector_absolute"
JOINT_KINDS = ("joint_position", "joint_velocity", "joint_delta")
ACTION_KINDS = (END_EFFECTOR_DELTA, END_EFFECTOR_ABSOLUTE, *JOINT_KINDS, "gripper", "unused")
ROTATIONS = (0, 90, 180, 270)
_AXES = {
    "position": ("x", "y", "z"),
    "rpy": ("roll", "pitch", "yaw"),
    "axis_angle": ("rx", "ry", "rz"),
    "quaternion": ("qx", "qy", "qz", "qw"),
    "quaternion_wxyz": ("qw", "qx", "qy", "qz"),
    "rotation_6d": ("r11", "r21", "r31", "r12", "r22", "r32"),
}


@dataclass(frozen=True)
class Camera:
    """One camera, in the order of the policy's training.

    rotation: degrees counter-clockwise by which an image is turned before the model sees it.
    crop: what is kept of the turned image: left, top, right, bottom as shares 0..1 of it.
    """

    name: str
    rotation: int = 0
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Gripper:
    """One gripper of the robot.

    joints: names in joint_states; the first one shows the opening and takes commands.
    closed, open: position of that joint (rad or m) where the gripper is closed and open.
    """

    name: str
    joints: tuple[str, ...] = ()
    closed: float = 0.0
    open: float = 1.0

    def opening(self, position: float) -> float:
        """Convert the joint's position (rad or m) to the opening, 0 closed .. 1 open."""
        return min(max((position - self.closed) / (self.open - self.closed), 0.0), 1.0)

    def position(self, opening: float) -> float:
        """Convert an opening 0..1 to the joint's position (rad or m)."""
        return self.closed + opening * (self.open - self.closed)


@dataclass(frozen=True)
class ArmPart:
    """One of a robot's arms, for controllers of its own.

    joints: of the commanded joints. gripper: its commanded gripper, "" if it has none.
    prefix: what the arm's controllers leave out of the joints' names.
    """

    name: str
    joints: tuple[str, ...]
    gripper: str = ""
    prefix: str = ""

    def controller_name(self, joint: str) -> str:
        """Return a joint's name as the arm's controllers know it."""
        return joint.removeprefix(self.prefix)


@dataclass(frozen=True)
class Field:
    """Base of state and action fields: some numbers of the checkpoint's vector.

    scale and offset (one value a number) lead from the known value to the sought one:
    state number = measured value in the unit * scale + offset;
    commanded value in the unit = action number * scale + offset.
    names: of the numbers, as the checkpoint calls them.
    gripper: name of the gripper; closed, open: the checkpoint's numbers for it. line: of the file.
    """

    names: tuple[str, ...]
    unit: str = ""
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    representation: str = ""
    joints: tuple[str, ...] = ()
    gripper: str = ""
    closed: float = 0.0
    open: float = 1.0
    line: int = 0

    @property
    def width(self) -> int:
        """Numbers of the field."""
        return len(self.names)


@dataclass(frozen=True)
class StateField(Field):
    """Some numbers of the state.

    source: joint_states, pose (of the end effector) or gripper (its opening).
    reference: axis_angle only: of the vectors of one rotation, the one nearest to this is taken.
    """

    source: str = "joint_states"
    reference: tuple[float, ...] = ()


@dataclass(frozen=True)
class ActionField(Field):
    """Some numbers of an action.

    kind: one of ACTION_KINDS. frame: axes of an end effector's motion, base or tool.
    relative_to_state: the state at the chunk's start is added to the numbers (joint_position).
    threshold: a gripper number beyond it, towards open, opens fully and any other closes fully;
        None: the opening follows the number.
    """

    kind: str = "unused"
    frame: str = "base"
    relative_to_state: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class JointLimits:
    """Limits of one joint in rad or m, None where the profile has none.

    max_velocity (rad/s or m/s); max_step: largest change from one action to the next.
    """

    min: float | None = None
    max: float | None = None
    max_velocity: float | None = None
    max_step: float | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of the robot, each next to the node's parameters: the smaller one holds.

    max_translation (m), max_rotation (rad) and max_gripper_step (share) of one action.
    max_jump: largest distance (rad or m) of a chunk's first target from the measured joints.
    joints: name -> limits.
    """

    max_translation: float | None = None
    max_rotation: float | None = None
    max_gripper_step: float | None = None
    max_jump: float = 0.3
    joints: Mapping[str, JointLimits] = field(default_factory=dict)


@dataclass(frozen=True)
class RobotProfile:
    """Meaning of a checkpoint's numbers on a robot; config/robots/ holds the bundled ones.

    source: where the conventions are written down. control_rate: actions a second (Hz).
    actions_per_chunk: how many of a chunk are carried out, 0 for all. arms: by name, together all
    commanded joints and grippers; empty if the profile names no arms.
    file: that it was read from. urdf: text of the robot's URDF if the profile names one.
    """

    name: str
    source: str
    control_rate: float
    action: tuple[ActionField, ...]
    state: tuple[StateField, ...] = ()
    cameras: tuple[Camera, ...] = ()
    grippers: Mapping[str, Gripper] = field(default_factory=dict)
    limits: Limits = Limits()
    arms: Mapping[str, ArmPart] = field(default_factory=dict)
    description: str = ""
    actions_per_chunk: int = 0
    file: str = ""
    urdf: str = ""

    @property
    def action_dim(self) -> int:
        """Numbers of one action."""
        return sum(part.width for part in self.action)

    @property
    def state_dim(self) -> int:
        """Numbers of the state."""
        return sum(part.width for part in self.state)

    @cached_property
    def action_names(self) -> tuple[str, ...]:
        """Name of each number of an action."""
        return tuple(chain.from_iterable(part.names for part in self.action))

    @cached_property
    def action_units(self) -> tuple[str, ...]:
        """Unit of each number of an action, empty for plain numbers."""
        return tuple(chain.from_iterable([_shown(part)] * part.width for part in self.action))

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """Name of each number of the state."""
        return tuple(chain.from_iterable(part.names for part in self.state))

    @cached_property
    def joints(self) -> tuple[str, ...]:
        """Commanded joints of the arms, in the order of the action."""
        return tuple(chain.from_iterable(p.joints for p in self.action if p.kind in JOINT_KINDS))

    @cached_property
    def commanded_grippers(self) -> tuple[Gripper, ...]:
        """Grippers of the action, in its order."""
        return tuple(self.grippers[p.gripper] for p in self.action if p.kind == "gripper")

    @cached_property
    def needed_joints(self) -> tuple[str, ...]:
        """Joints whose state must arrive: those that the policy sees and those that it moves."""
        seen = (
            (self.grippers[p.gripper].joints[:1] if p.source == "gripper" else p.joints)
            for p in self.state
        )
        return tuple(dict.fromkeys(chain(chain.from_iterable(seen), self.joints)))

    @cached_property
    def needs_pose(self) -> bool:
        """True if state or action cannot be computed without end_effector_pose."""
        return self.needs_pose_to_decode or any(p.source == "pose" for p in self.state)

    @cached_property
    def needs_pose_to_decode(self) -> bool:
        """True if actions are poses, or given in the hand's axes."""
        return any(
            p.kind == END_EFFECTOR_ABSOLUTE or (p.kind == END_EFFECTOR_DELTA and p.frame == "tool")
            for p in self.action
        )

    def where(self, joint: str) -> str:
        """Return file:line of the field that names a joint, the file alone if none does."""
        for part in (*self.action, *self.state):
            fingers = self.grippers[part.gripper].joints if part.gripper else ()
            if joint in part.joints or joint in fingers:
                return f"{self.file}:{part.line}"
        return self.file

    @property
    def commands_joints(self) -> bool:
        """True if actions command joints."""
        return bool(self.joints)


def default_names(representation: str, prefix: str = "") -> tuple[str, ...]:
    """Return names for the numbers of a representation, such as dx dy dz with prefix d."""
    return tuple(prefix + name for name in _AXES[representation])


def width_of(representation: str) -> int:
    """Return how many numbers a representation has."""
    return WIDTHS[representation]


def _shown(part: Field) -> str:
    """A scaled number is not in its unit: 1.0 of a LIBERO policy is 0.05 m."""
    factors = {abs(scale) for scale in part.scale}
    if not part.unit or len(factors) != 1 or factors == {1.0}:
        return part.unit
    return f"{factors.pop():g} {part.unit}"
