"""Everything that moves the arm: the action queue played out as actions and twists."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.qos import QoSProfile

from vla_pruner_ros.control.action_queue import ActionQueue, PlannedAction
from vla_pruner_ros.control.gate import MotionGate
from vla_pruner_ros.control.health import Health
from vla_pruner_ros.control.limits import ActionLimits
from vla_pruner_ros.control.poses import Pose
from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.messages import (
    action_message,
    pose_message,
    stop_message,
    twist_message,
)
from vla_pruner_ros.nodes.vla_pruner.end_effector import EndEffector

HALT_TWISTS = 4
"""Zero twists after a motion ends: MoveIt Servo wants a few, as one may be lost."""

EARLY = 0.1
"""A new action may start this share of a period early: camera and control clocks drift."""

TRANSPORT = 0.2
"""Longest time (s) from a published action to the arm that starts it, and from a pose measured
without a stamp to its arrival here."""

NEVER = -(2**62)
"""A time (ns) before any clock's, also one that was set back."""


class Motion:
    """Publishes `~/action` and `~/target_pose` at control_rate and `~/twist` at command_rate.

    A target pose is the pose measured as the action starts, displaced by the action; without a
    fresh end_effector_pose there is none. Starting from the measured pose, a blocked arm's target
    never runs away from it. The gate's lock is held around every look at the queue and every
    publication.
    """

    def __init__(
        self,
        node: Any,
        gate: MotionGate,
        health: Health,
        callback_group: Any,
        silence: Callable[[], str],
        wait_for: Callable[[str], None],
    ) -> None:
        """silence: says which input is missing, asked before every action; wait_for: told then."""
        self._node = node
        self._silence, self._wait_for = silence, wait_for
        self._gate = gate
        self._health = health
        self._queue = ActionQueue()
        self._actions = node.create_lifecycle_publisher(
            EndEffectorAction, "~/action", QoSProfile(depth=10)
        )
        self._twists = node.create_lifecycle_publisher(
            TwistStamped, "~/twist", QoSProfile(depth=10)
        )
        self._targets = node.create_lifecycle_publisher(
            PoseStamped, "~/target_pose", QoSProfile(depth=10)
        )
        self.end_effector = EndEffector(self._now)
        self._group = callback_group
        self._timers: list = []
        self._rates: tuple[float, float] | None = None
        self._forget()

    def _forget(self) -> None:
        self._twist: np.ndarray | None = None
        self._twist_period = 1.0
        self._twist_end = 0
        self._halts_left = 0
        self._last_action = NEVER
        self._moving = False
        self._gripper: float | None = None
        self._commanded: deque[tuple[float, np.ndarray]] = deque(maxlen=20)

    @property
    def queue_length(self) -> int:
        with self._gate.lock:
            return len(self._queue)

    def queue_age(self) -> float:
        """Return the age (s) of the image behind the next action, 0.0 where nothing waits."""
        with self._gate.lock:
            stamp = self._queue.image_stamp
        return 0.0 if stamp is None else (self._now() - stamp) * 1e-9

    @property
    def moving(self) -> bool:
        """Whether an action or twist went out that has not ended in a stop."""
        with self._gate.lock:
            return self._moving

    def start(self) -> None:
        """Start the timers at the rates in force; the first motion comes with the first chunk."""
        with self._gate.lock:
            self._forget()
            self._queue.clear()
        self._restart_timers()

    def submit(self, chunk: list[PlannedAction]) -> None:
        """Take over a chunk; the caller is inside gate.passing."""
        settings = self._settings
        if self._rates != (settings.control_rate, settings.command_rate):
            self._restart_timers()
        period = 1.0 / settings.control_rate
        skipped_before = self._queue.skipped
        self._queue.replace(
            chunk, self._now(), period, settings.latency_compensation, settings.blend_steps
        )
        self._health.count("actions_skipped", self._queue.skipped - skipped_before)
        self._moving = True
        if self._now() - self._last_action >= (1.0 - EARLY) * period * 1e9:
            self._timers[0].reset()
            self._play_next()

    def halt(self) -> bool:
        """Drop what waits and publish one stop; return whether there was motion to stop."""
        with self._gate.lock:
            self._gate.end_epoch()
            self._queue.clear()
            self._twist = None
            self._halts_left = 0
            self._last_action = NEVER
            was_moving, self._moving = self._moving, False
            if was_moving:
                self._publish_stop()
            return was_moving

    def close(self) -> None:
        """Close the gate and send the stop as the last message through it."""
        with self._gate.lock:
            if self._gate.is_open:
                self._queue.clear()
                self._twist = None
                self._moving = False
                self._publish_stop()
            self._gate.close()

    def stop_timers(self) -> None:
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._timers.clear()
        self._rates = None

    def check_pose(self, settings: Any) -> None:
        """Raise NotReady where a workspace is set and no pose is there to hold the arm in it."""
        if settings.workspace:
            self.end_effector.pose(settings)

    @property
    def _settings(self):
        return self._node.parameters.settings

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _restart_timers(self) -> None:
        self.stop_timers()
        settings = self._settings
        self._rates = (settings.control_rate, settings.command_rate)
        make = self._node.create_timer
        self._timers = [
            make(1.0 / settings.control_rate, self._on_control, callback_group=self._group),
            make(1.0 / settings.command_rate, self._on_command, callback_group=self._group),
        ]

    def _on_control(self) -> None:
        with self._gate.lock:
            if self._gate.is_open:
                self._play_next()

    def _play_next(self) -> None:
        planned = self._queue.pop()
        if planned is None or planned.epoch != self._gate.epoch:
            return
        settings = self._settings
        pose = self.end_effector.pose_if_known(settings)
        # Each action anew: a chunk outlasts the inputs it was computed from, and on a machine that
        # stalls the watchdog may be late. After the pose, so that the one used was fresh.
        silent = self._silence()
        if silent:
            self._wait_for(silent)
            return
        try:
            values = self._within_limits(planned, settings, pose)
        except ValueError as reason:
            self._health.set_problem(str(reason))
            self.halt()
            return
        self._publish_action(planned, values, pose, settings)

    def _within_limits(
        self, planned: PlannedAction, settings: Any, pose: Pose | None
    ) -> np.ndarray:
        position = pose.position if pose else None
        values, met = _limits(settings).apply(
            planned.values, self._gripper, position, self._pending()
        )
        self._health.count_clamps(met)
        return values

    def _pending(self) -> list[np.ndarray]:
        """Return the translations that the newest pose may not show: those still on their way to
        the arm or being carried out when it was measured, and those commanded since."""
        seen = self.end_effector.measured_at - 1.0 / self._rates[0] - TRANSPORT
        return [translation for at, translation in self._commanded if at > seen]

    def _publish_action(
        self, planned: PlannedAction, values: np.ndarray, pose: Pose | None, settings: Any
    ) -> None:
        # The timers' rate, not the parameter's: a new rate starts with the next chunk.
        now, period = self._now(), 1.0 / self._rates[0]
        self._last_action = now
        self._commanded.append((time.monotonic(), values[:3]))
        self._gripper = float(values[6])
        self._twist, self._twist_period = values[:6], period
        self._twist_end = now + round(period * 1e9)
        self._halts_left = HALT_TWISTS
        self._actions.publish(action_message(values, planned, now, period, settings.action_frame))
        if pose:
            self._targets.publish(pose_message(pose.displaced(values), now, settings.action_frame))
        self._health.count("actions")
        self._publish_twist(now)

    def _on_command(self) -> None:
        with self._gate.lock:
            if not self._gate.is_open:
                return
            now = self._now()
            if self._twist is not None and now < self._twist_end:
                self._publish_twist(now)
            elif self._halts_left:
                self._halts_left -= 1
                self._twist = None
                self._moving = self._halts_left > 0 or len(self._queue) > 0
                self._publish_zero_twist(now)

    def _publish_twist(self, now: int) -> None:
        frame = self._settings.action_frame
        self._twists.publish(twist_message(self._twist, self._twist_period, now, frame))

    def _publish_zero_twist(self, now: int) -> None:
        self._twists.publish(twist_message(np.zeros(6), 1.0, now, self._settings.action_frame))

    def _publish_stop(self) -> None:
        now, settings = self._now(), self._settings
        self._actions.publish(stop_message(now, settings.action_frame, self._gripper))
        self._publish_zero_twist(now)
        pose = self.end_effector.pose_if_known(settings)
        if pose:  # stay here, rather than go on to the last target
            self._targets.publish(pose_message(pose, now, settings.action_frame))
        self._health.count("stops")


def _limits(settings) -> ActionLimits:
    box = settings.workspace
    return ActionLimits(
        settings.max_translation,
        settings.max_rotation,
        settings.max_gripper_step,
        (box[:3], box[3:]) if box else None,
    )
