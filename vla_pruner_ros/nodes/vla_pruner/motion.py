"""Everything that moves the arm: the action queue played out as actions and twists."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile

from vla_pruner_ros.control.action_queue import ActionQueue, PlannedAction
from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.control.limits import ActionLimits
from vla_pruner_ros.control.poses import Pose
from vla_pruner_ros.control.workspace.arm_latency import ArmLatency
from vla_pruner_ros.control.workspace.pending import PendingMotions
from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.messages import (
    action_message,
    pose_message,
    stop_message,
    twist_message,
)
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.nodes.vla_pruner.readiness import Readiness, Reason

HALT_TWISTS = 4
"""Zero twists after a motion ends: MoveIt Servo wants a few, as one may be lost."""

EARLY = 0.1
"""A new action may start this share of a period early: camera and control clocks drift."""

NEVER = -(2**62)
"""A time (ns) before any clock's, also one that was set back."""


class Motion:
    """Publishes `~/action` and `~/target_pose` at control_rate and `~/twist` at command_rate.

    A target pose is the pose measured as the action starts, displaced by the action; without a
    fresh end_effector_pose there is none. Starting from the measured pose, a blocked arm's target
    never runs away from it. The gate's lock is held around every look at the queue and every
    publication. Everything is timed by playback time; message stamps alone are the node's clock.
    arm_latency_measured: seconds, see measure_arm(); None while the motion does not tell.
    """

    def __init__(self, node: Host, callback_group: Any) -> None:
        """Create the publishers; nothing moves before start()."""
        self._node = node
        self._gate, self._health, self._clock = node.gate, node.health, node.motion_clock
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
        self._group = callback_group
        self._readiness: Readiness | None = None
        self._arm_latency = ArmLatency()
        self.arm_latency_measured: float | None = None
        self._timers: list = []
        self._timed: tuple[float, float, bool] | None = None
        self._clear()

    def _clear(self) -> None:
        self._twist: np.ndarray | None = None
        self._twist_period = 1.0
        self._twist_end = 0
        self._halts_left = 0
        self._last_action = NEVER
        self._moving = False
        self._gripper: float | None = None
        self._pending = PendingMotions()

    @property
    def queue_length(self) -> int:
        with self._gate.lock:
            return len(self._queue)

    def queue_age(self) -> float:
        """Return the age (s) of the image behind the next action, 0.0 where nothing waits."""
        with self._gate.lock:
            planned = self._queue.next
        return 0.0 if planned is None else (self._clock.read().playback - planned.captured) * 1e-9

    @property
    def moving(self) -> bool:
        """True if an action or twist went out that has not ended in a stop."""
        with self._gate.lock:
            return self._moving

    def start(self, readiness: Readiness) -> None:
        """Start the timers at the rates in force; the first motion comes with the first chunk.

        Args:
            readiness: asked before every action.
        """
        with self._gate.lock:
            self._readiness = readiness
            self._clear()
            self._queue.clear()
        self._restart_timers()

    def submit(self, chunk: list[PlannedAction]) -> Reason | None:
        """Take over a chunk; the caller is inside gate.passing.

        Returns:
            Why none of it can be played, None if it can.
        """
        settings = self._settings
        if self._timed != self._timing():
            self._restart_timers()
        now, period = self._clock.read(), 1.0 / settings.control_rate
        skipped_before = self._queue.skipped
        self._queue.replace(
            chunk, now.playback, period, settings.latency_compensation, settings.blend_steps
        )
        self._health.count("actions_skipped", self._queue.skipped - skipped_before)
        late = self._lateness(self._queue.next, now, settings)
        if late:
            self._queue.clear()
            return late
        self._moving = True
        if now.playback - self._last_action >= (1.0 - EARLY) * period * 1e9:
            self._timers[0].reset()
            self._play_next()
        return None

    def halt(self) -> bool:
        """Drop what waits and publish one stop; return whether there was motion to stop."""
        with self._gate.lock:
            self._gate.end_epoch()
            self._queue.clear()
            self._twist = None
            self._halts_left = 0
            self._last_action = NEVER
            self._arm_latency.stop(self._clock.read().playback * 1e-9)
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

    def measure_arm(self) -> None:
        """Compare what was commanded with the poses that came; takes milliseconds."""
        if self._readiness:
            self.arm_latency_measured = self._arm_latency.estimate(self._readiness.recent_poses())

    def stop_timers(self) -> None:
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._timers.clear()
        self._timed = None

    @property
    def _settings(self) -> NodeSettings:
        return self._node.parameters.settings

    def _timing(self) -> tuple[float, float, bool]:
        settings = self._settings
        return settings.control_rate, settings.command_rate, self._clock.is_simulated

    def _restart_timers(self) -> None:
        self.stop_timers()
        self._timed = self._timing()
        control_rate, command_rate, simulated = self._timed
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        playback = self._node.get_clock() if simulated else steady
        jobs = [
            (control_rate, self._on_control, playback),
            (command_rate, self._on_command, playback),
        ]
        if simulated:
            jobs.append((command_rate, self._on_steady_command, steady))
        self._timers = [
            self._node.create_timer(1.0 / rate, job, callback_group=self._group, clock=clock)
            for rate, job, clock in jobs
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
        pose = self._readiness.pose_if_known()
        # Each action anew: a chunk outlasts the inputs it was computed from, and on a machine that
        # stalls the watchdog may be late. After the pose, so that the one used was fresh.
        reason = self._readiness.first() or self._lateness(planned, self._clock.read(), settings)
        if reason:
            self.halt()
            self._health.wait_for(reason.cause, reason.sentence)
            return
        try:
            values = self._within_limits(planned, settings, pose)
        except ValueError as error:
            self.halt()
            self._health.set_problem(str(error))
            return
        self._publish_action(planned, values, pose, settings)

    def _lateness(
        self, planned: PlannedAction | None, now: Instant, settings: NodeSettings
    ) -> Reason | None:
        """Return a reason if an action is played longer than max_image_age after its moment."""
        late = planned.lateness(now.playback, 1.0 / settings.control_rate) if planned else 0.0
        if late <= settings.max_image_age:
            return None
        return Reason(
            "late",
            f"Actions come {late:.2f} s after the moment they were computed for, more than "
            f"max_image_age {settings.max_image_age:.2f} s: lower keep_ratio, or raise "
            "max_image_age if the arm may act on older images",
        )

    def _within_limits(
        self, planned: PlannedAction, settings: NodeSettings, pose: Pose | None
    ) -> np.ndarray:
        position = pose.position if pose else None
        values, met = _limits(settings).apply(
            planned.values, self._gripper, position, self._unseen(settings)
        )
        self._health.count_clamps(met)
        return values

    def _unseen(self, settings: NodeSettings) -> np.ndarray:
        """Return the translations that the newest pose may not show: those still on their way to
        the arm or being carried out when it was measured, and those commanded since."""
        latency = max(settings.arm_latency, self.arm_latency_measured or 0.0)
        span = 1.0 / self._timed[0] + latency
        usable = self._clock.read().playback - round((settings.max_state_age + span) * 1e9)
        self._pending.drop_before(usable)
        return self._pending.since(self._readiness.pose_measured() - round(span * 1e9))

    def _publish_action(
        self, planned: PlannedAction, values: np.ndarray, pose: Pose | None, settings: NodeSettings
    ) -> None:
        # The timers' rate, not the parameter's: a new rate starts with the next chunk.
        now, period, frame = self._clock.read(), 1.0 / self._timed[0], settings.action_frame
        self._last_action = now.playback
        self._pending.add(now.playback, values[:3])
        self._arm_latency.command(now.playback * 1e-9, period, values[:3])
        self._gripper = float(values[6])
        self._twist, self._twist_period = values[:6], period
        self._twist_end = now.playback + round(period * 1e9)
        self._halts_left = HALT_TWISTS
        self._actions.publish(action_message(values, planned, now.stamp, period, frame))
        if pose:
            self._targets.publish(pose_message(pose.displaced(values), now.stamp, frame))
        self._health.count("actions")
        self._publish_twist(now)

    def _on_steady_command(self) -> None:
        """Take over from the timers of a simulated clock while it stands still."""
        if self._clock.stood_still() > 1.0 / self._settings.command_rate:
            self._on_command()

    def _on_command(self) -> None:
        with self._gate.lock:
            if not self._gate.is_open:
                return
            now = self._clock.read()
            if self._twist is not None and now.playback < self._twist_end:
                self._publish_twist(now)
            elif self._halts_left:
                self._halts_left -= 1
                self._twist = None
                self._moving = self._halts_left > 0 or len(self._queue) > 0
                self._publish_zero_twist(now)

    def _publish_twist(self, now: Instant) -> None:
        frame = self._settings.action_frame
        self._twists.publish(twist_message(self._twist, self._twist_period, now.stamp, frame))

    def _publish_zero_twist(self, now: Instant) -> None:
        frame = self._settings.action_frame
        self._twists.publish(twist_message(np.zeros(6), 1.0, now.stamp, frame))

    def _publish_stop(self) -> None:
        now, settings = self._clock.read(), self._settings
        self._actions.publish(stop_message(now.stamp, settings.action_frame, self._gripper))
        self._publish_zero_twist(now)
        pose = self._readiness.pose_if_known() if self._readiness else None
        if pose:  # stay here, rather than go on to the last target
            self._targets.publish(pose_message(pose, now.stamp, settings.action_frame))
        self._health.count("stops")


def _limits(settings: NodeSettings) -> ActionLimits:
    box = settings.workspace
    return ActionLimits(
        settings.max_translation,
        settings.max_rotation,
        settings.max_gripper_step,
        (box[:3], box[3:]) if box else None,
    )
