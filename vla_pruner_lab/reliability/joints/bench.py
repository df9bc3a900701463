"""Test bench of two arms moved by joints: their drivers, their controllers and the judge."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, ClassVar

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from vla_pruner_lab.reliability.bench import SLACK, TICK, TestBench
from vla_pruner_lab.reliability.joints.policy import PROFILE, START, JointSoakPolicy
from vla_pruner_ros.nodes.messages import to_time

LIMITS = {"max_joint_velocity": 0.5, "max_gripper_step": 0.25}
SIDES = ("left", "right")
FINGERS = [gripper.joints[0] for gripper in PROFILE.commanded_grippers]
LOW = np.array([PROFILE.limits.joints[name].min for name in PROFILE.joints])
HIGH = np.array([PROFILE.limits.joints[name].max for name in PROFILE.joints])
CLOSED = np.array([gripper.closed for gripper in PROFILE.commanded_grippers])
OPEN = np.array([gripper.open for gripper in PROFILE.commanded_grippers])
RECENT = 400
"""Places that a new chunk may start from: what the node knows is about a second old at most."""
SLOWEST = 10.0
"""Lowest control_rate of the soak (Hz), which allows the longest step."""
STATE_LAG = 4 * TICK
"""Age of a joint state when it is sent, in simulated time (s)."""


class JointBench(TestBench):
    """Test bench whose robot has two arms. Each driver publishes the same names on its own topic.

    silent: names, with their side, that no driver publishes now.
    """

    state_joints = ("left_waist", "right_elbow")
    limits: ClassVar[dict[str, Any]] = {
        "joint_state_topics": [f"{side}_=/follower_{side}/joint_states" for side in SIDES],
        **LIMITS,
    }

    def __init__(self, domain: int) -> None:
        self.silent: set[str] = set()
        self._lock = threading.Lock()
        self._arms, self._fingers = START.copy(), OPEN.copy()
        self._reported = dict(zip(PROFILE.joints, START.tolist(), strict=True))
        self._recent: deque[np.ndarray] = deque([START.copy()], maxlen=RECENT)
        super().__init__(domain, JointSoakPolicy())

    def _connect_arm(self) -> None:
        create, latched = self.robot.create_publisher, DurabilityPolicy.TRANSIENT_LOCAL
        self._drivers = {
            side: create(JointState, f"/follower_{side}/joint_states", qos_profile_sensor_data)
            for side in SIDES
        }
        self._description = create(
            String, "robot_description", QoSProfile(depth=1, durability=latched)
        )
        listen, deep = self.robot.create_subscription, QoSProfile(depth=1000)
        for kind, name, callback in (
            (Float64MultiArray, "joint_command", self._on_command),
            (JointTrajectory, "joint_trajectory", self._on_trajectory),
            (Float64MultiArray, "gripper_command", self._on_gripper),
        ):
            listen(kind, f"/vla_pruner/{name}", callback, deep)
        self.describe(urdf())

    # --- Drivers ------------------------------------------------------------------------------

    def describe(self, text: str) -> None:
        """Publish a robot description."""
        self._description.publish(String(data=text))

    def push(self, offset: np.ndarray) -> None:
        """Move the arms by hand, by an offset [12] (rad)."""
        with self._lock:
            self._arms = np.clip(self._arms + offset, LOW, HIGH)

    def place(self) -> np.ndarray:
        """Return where the arms are [12] (rad)."""
        with self._lock:
            return self._arms.copy()

    def _send_state(self) -> None:
        with self._lock:
            arms = dict(zip(PROFILE.joints, self._arms.tolist(), strict=True))
            arms |= dict(zip(FINGERS, self._fingers.tolist(), strict=True))
        if self.joints_on:
            names = [name for name in arms if name not in self.silent]
            self.send_joints(names, [arms[name] for name in names])

    def send_joints(self, names: list[str], positions: list[float]) -> None:
        """Publish each side's joints on its driver's topic; a name without a side goes left.

        The node cannot know that a driver lies: commands may start from the places it was told.
        """
        self._note(dict(zip(names, positions, strict=False)))
        count = max(len(names), len(positions))
        padded = [*names, *[""] * (count - len(names))]
        for side in SIDES:
            own = [
                n
                for n, name in enumerate(padded)
                if name.startswith(f"{side}_") or (side == "left" and not _has_side(name))
            ]
            message = JointState(
                name=[names[n].removeprefix(f"{side}_") for n in own if n < len(names)],
                position=[positions[n] for n in own if n < len(positions)],
            )
            message.header.stamp = to_time(self.now - round(STATE_LAG * 1e9))
            if own:
                self._drivers[side].publish(message)

    def _note(self, reported: dict[str, float]) -> None:
        known = {name: value for name, value in reported.items() if name in self._reported}
        with self._lock:
            self._reported.update(known)
            place = np.array([self._reported[name] for name in PROFILE.joints])
            if np.isfinite(place).all():
                self._recent.append(place)

    # --- Controllers and judge ----------------------------------------------------------------

    def _on_command(self, message: Float64MultiArray) -> None:
        self.received += 1
        self.motions += 1
        if self.received > self._last_allowed:
            self.violations.append("a joint command came while the node was not active")
        targets = np.array(message.data)
        with self._lock:
            if self._judge_joints("joint command", targets[None], len(targets)):
                self._arms = targets
                self._recent.append(targets)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        points = np.array([point.positions for point in message.points])
        times = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
        if tuple(message.joint_names) != PROFILE.joints:
            self.violations.append(f"a trajectory of joints {list(message.joint_names)}")
        if not times or times[0] <= 0.0 or (np.diff(times) <= 0.0).any():
            self.violations.append("a trajectory whose times do not increase")
        if len(points) == 1:  # a stop, which is a joint command too: no chunk is that short
            self.stops += 1
            self.motions -= 1
        with self._lock:
            self._judge_joints("trajectory", points, points.shape[-1])

    def _judge_joints(self, what: str, targets: np.ndarray, width: int) -> bool:
        """Judge targets [steps, 12]; the caller holds the lock. Return whether they can be taken
        up."""
        if width != len(START) or not np.isfinite(targets).all():
            self.violations.append(f"a {what} of {width} numbers, or one that is not finite")
            return False
        outside = float(np.maximum(LOW - targets, targets - HIGH).max())
        if outside > SLACK:
            self.violations.append(f"a {what} out of its joint's limits by {outside:.4f} rad")
        step = LIMITS["max_joint_velocity"] / SLOWEST + SLACK
        first = min(float(np.abs(targets[0] - place).max()) for place in self._recent)
        largest = max(first, float(np.abs(np.diff(targets, axis=0)).max(initial=0.0)))
        if largest > step:
            self.violations.append(f"a {what} with a step of {largest:.3f} rad")
        return True

    def _on_gripper(self, message: Float64MultiArray) -> None:
        positions = np.array(message.data)
        if len(positions) != len(FINGERS) or not np.isfinite(positions).all():
            self.violations.append(f"a gripper command of {list(message.data)}")
            return
        opening = (positions - CLOSED) / (OPEN - CLOSED)
        if opening.min() < -SLACK or opening.max() > 1.0 + SLACK:
            self.violations.append(f"a gripper opening of {opening.tolist()}")
        with self._lock:
            self._fingers = positions


def _has_side(name: str) -> bool:
    return name.startswith(tuple(f"{side}_" for side in SIDES))


def urdf() -> str:
    """Return a URDF with the profile's limits."""
    joints = "".join(
        f'<joint name="{name}" type="revolute"><limit lower="{low}" upper="{high}" '
        'velocity="3.14" effort="1"/></joint>'
        for name, low, high in zip(PROFILE.joints, LOW, HIGH, strict=True)
    )
    return f'<robot name="aloha">{joints}</robot>'
