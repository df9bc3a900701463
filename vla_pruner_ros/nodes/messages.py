"""From the policy's results to this package's messages."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, PoseStamped, Quaternion, TwistStamped, Vector3
from std_msgs.msg import Header

from vla_pruner_ros.control.action_queue import PlannedAction
from vla_pruner_ros.control.poses import Pose
from vla_pruner_ros.conversions.status_fields import status_fields
from vla_pruner_ros.models.policy import PruningReport
from vla_pruner_ros.msg import EndEffectorAction, PruningStatus

_NANOSECONDS = 1_000_000_000


def message_class(msgtype: str) -> type | None:
    """Return the class of a type like "std_msgs/msg/String", None where it is not installed."""
    package, _, name = msgtype.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        return None


def to_time(nanoseconds: int) -> Time:
    """Return a time message; negative nanoseconds become zero."""
    seconds, rest = divmod(max(0, int(nanoseconds)), _NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def to_nanoseconds(stamp: Any) -> int:
    """Return a time message in nanoseconds."""
    return stamp.sec * _NANOSECONDS + stamp.nanosec


def to_duration(seconds: float) -> Duration:
    """Return a duration message."""
    whole, rest = divmod(round(seconds * _NANOSECONDS), _NANOSECONDS)
    return Duration(sec=int(whole), nanosec=int(rest))


def action_message(
    values: np.ndarray, planned: PlannedAction, now: int, period: float, frame: str
) -> EndEffectorAction:
    """Build an EndEffectorAction from limited values [7] (m, rad, 0..1); now in ns, period in s."""
    return EndEffectorAction(
        header=Header(stamp=to_time(now), frame_id=frame),
        image_stamp=to_time(planned.image_stamp),
        duration=to_duration(period),
        translation=_vector(values[:3]),
        rotation=_vector(values[3:6]),
        gripper=float(values[6]),
        sequence=planned.sequence,
        step=planned.step,
    )


def stop_message(now: int, frame: str, gripper: float | None) -> EndEffectorAction:
    """Build the EndEffectorAction that ends all motion; the gripper keeps its last opening."""
    message = EndEffectorAction(header=Header(stamp=to_time(now), frame_id=frame), stop=True)
    message.gripper = 0.0 if gripper is None else float(gripper)
    return message


def twist_message(values: np.ndarray, period: float, now: int, frame: str) -> TwistStamped:
    """Build the TwistStamped that covers values[:6] (m, rad) in one period (s): m/s and rad/s."""
    message = TwistStamped(header=Header(stamp=to_time(now), frame_id=frame))
    message.twist.linear = _vector(values[:3] / period)
    message.twist.angular = _vector(values[3:6] / period)
    return message


def to_pose(message: Any) -> Pose:
    """Convert a geometry_msgs/Pose; ValueError where it is not one."""
    p, q = message.position, message.orientation
    return Pose.of(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def pose_message(pose: Pose, now: int, frame: str) -> PoseStamped:
    """Build a PoseStamped; now in ns."""
    message = PoseStamped(header=Header(stamp=to_time(now), frame_id=frame))
    message.pose.position = Point(**dict(zip("xyz", pose.position.tolist(), strict=True)))
    message.pose.orientation = Quaternion(
        **dict(zip("xyzw", pose.orientation.tolist(), strict=True))
    )
    return message


def status_message(report: PruningReport, header: Header, sequence: int) -> PruningStatus:
    """Build a PruningStatus from a report; model, budget and queue are filled in by the node."""
    fields = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in status_fields(report).items()
    }
    return PruningStatus(header=header, sequence=sequence, **fields)


def _vector(xyz: np.ndarray) -> Vector3:
    return Vector3(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))
