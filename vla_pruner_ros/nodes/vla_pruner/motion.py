"""Everything that moves the arm: the action queue played out as commands."""

from __future__ import annotations

import time
from typing import Any

from rclpy.clock import Clock, ClockType

from vla_pruner_ros.control.action_queue import ActionQueue, PlannedAction
from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.nodes.vla_pruner.commands.arm import Arm, Play
from vla_pruner_ros.nodes.vla_pruner.commands.end_effector import EndEffectorArm
from vla_pruner_ros.nodes.vla_pruner.commands.grippers import Grippers
from vla_pruner_ros.nodes.vla_pruner.commands.joints import JointArm
from vla_pruner_ros.nodes.vla_pruner.commands.outlets import Outlet, arm_outlets, shared_outlet
from vla_pruner_ros.nodes.vla_pruner.commands.repeats import STOP_PERIOD, StopRepeats
from vla_pruner_ros.nodes.vla_pruner.commands.topics import (
    LIVE,
    PREVIEW,
    ArmTopics,
    CommandTopics,
)
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.nodes.vla_pruner.readiness import Readiness, Reason

EARLY = 0.1
"""A new action may start this share of a period early: camera and control clocks drift."""

NEVER = -(2**62)
"""A time (ns) before any clock's, also one that was set back."""


class Motion:
    """Plays actions at control_rate, and lets the arm speak at command_rate between them.

    The gate's lock is held around every look at the queue and every publication. Everything is
    timed by playback time; message stamps alone are the node's clock.
    """

    def __init__(self, node: Host, callback_group: Any) -> None:
        """Create the publishers; nothing moves before start()."""
        self._node = node
        self._gate, self._health, self._clock = node.gate, node.health, node.motion_clock
        self._queue = ActionQueue()
        self._repeats = StopRepeats()
        self._topics = {prefix: CommandTopics(node, prefix) for prefix in (LIVE, PREVIEW)}
        self._group = callback_group
        self._readiness: Readiness | None = None
        self._arm: Arm | None = None
        self._grippers: Grippers | None = None
        self._outlets: list[Outlet] = []
        self._timers: list = []
        self._timed: tuple[float, float, bool] | None = None
        self._clear()

    def _clear(self) -> None:
        self._last_action = NEVER
        self._moving = False
        self._played = -1
        self._refused: Reason | None = None
        self._repeats.cancel()

    @property
    def queue_length(self) -> int:
        """Actions that wait."""
        with self._gate.lock:
            return len(self._queue)

    def queue_age(self) -> float:
        """Return the age (s) of the image behind the next action, 0.0 where nothing waits."""
        with self._gate.lock:
            planned = self._queue.next
        return 0.0 if planned is None else (self._clock.read().playback - planned.captured) * 1e-9

    @property
    def moving(self) -> bool:
        """True if a command went out that has not ended in a stop."""
        with self._gate.lock:
            return self._moving

    def build(self, readiness: Readiness, dry_run: bool) -> None:
        """Take the arm that the robot's profile commands; without a profile there is none.

        Args:
            readiness: asked before every action; has the profile.
            dry_run: publish under ~/preview/ alone.

        Raises:
            ValueError: the gripper's action is not installed, or there are no arms to separate.
        """
        self._readiness, profile = readiness, readiness.profile
        if profile is None:
            self._arm = None
            return
        topics = self._topics[PREVIEW if dry_run else LIVE]
        if self._settings.separate_arms:
            self._outlets = arm_outlets(self._node, profile, topics)
        else:
            self._outlets = [shared_outlet(profile, topics)]
        self._grippers = Grippers(self._node, self._outlets, profile, dry_run)
        self._arm = (
            JointArm(self._node, self._outlets, readiness, self._grippers)
            if profile.commands_joints
            else EndEffectorArm(self._node, topics, readiness, self._grippers)
        )

    def dismantle(self) -> None:
        """Let go of the arm."""
        with self._gate.lock:
            self._repeats.cancel()
        if self._grippers:
            self._grippers.destroy()
        for outlet in self._outlets:
            if isinstance(outlet.topics, ArmTopics):
                outlet.topics.destroy(self._node)
        self._outlets = []
        self._arm = self._grippers = self._readiness = None

    def start(self) -> None:
        """Start the timers at the rates in force; the first motion comes with the first chunk."""
        with self._gate.lock:
            self._clear()
            self._queue.clear()
            if self._arm:
                self._grippers.begin()
                self._arm.begin()
        self._restart_timers()

    def submit(self, chunk: list[PlannedAction]) -> Reason | None:
        """Take over a chunk; the caller is inside gate.passing.

        Returns:
            Why none of it can be played, None if it can.
        """
        if self._arm is None or not chunk:
            return None
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
        self._moving, self._refused = True, None
        if now.playback - self._last_action >= (1.0 - EARLY) * period * 1e9:
            self._timers[0].reset()
            self._play_next()
        return self._refused

    def halt(self) -> bool:
        """Drop what waits and begin a stop; return whether there was motion to stop."""
        with self._gate.lock:
            self._gate.end_epoch()
            self._queue.clear()
            self._last_action = NEVER
            was_moving, self._moving = self._moving, False
            if self._arm:
                self._arm.drop()
            if was_moving:
                self._publish_stop()
            return was_moving

    def close(self) -> None:
        """Close the gate and begin the stop; nothing but its repetition follows."""
        with self._gate.lock:
            if self._gate.is_open:
                self._queue.clear()
                self._moving = False
                if self._arm:
                    self._arm.drop()
                self._publish_stop()
            self._gate.close()

    def repeat_stop(self) -> None:
        """Send the stop again that was begun, if that is due; any thread may ask."""
        with self._gate.lock:
            now = self._clock.read()
            if self._repeats.take(now):
                self._arm.repeat_hold(now)
                self._health.count("stops_repeated")

    def finish_stop(self) -> None:
        """Send what is left of a stop; the caller does not hold the gate's lock."""
        while self._repeats.pending:
            time.sleep(STOP_PERIOD)
            self.repeat_stop()

    def measure_arm(self) -> None:
        """Compare what was commanded with the poses that came; takes milliseconds."""
        arm = self._arm
        if isinstance(arm, EndEffectorArm):
            arm.measure_latency()

    @property
    def arm_latency_measured(self) -> float | None:
        """Seconds from a command to its motion, None while the motion does not show it."""
        return getattr(self._arm, "latency_measured", None)

    def stop_timers(self) -> None:
        """Destroy the timers that play actions."""
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
        if planned is None or planned.epoch != self._gate.epoch or self._arm is None:
            return
        now = self._clock.read()
        # Each action anew: a chunk outlasts the inputs it was computed from, and on a machine that
        # stalls the watchdog may be late.
        reason = self._readiness.first() or self._lateness(planned, now, self._settings)
        if reason:
            self.halt()
            self._health.wait_for(reason.cause, reason.sentence)
            return
        # The timers' rate, not the parameter's: a new rate starts with the next chunk.
        starts = planned.sequence != self._played
        play = Play(planned, self._queue.waiting, 1.0 / self._timed[0], starts, now)
        try:
            self._arm.play(play)
        except ValueError as error:
            self._health.count("actions_refused")
            self.halt()
            self._refused = Reason("limits", str(error))
            self._health.wait_for(self._refused.cause, self._refused.sentence)
            return
        self._repeats.cancel()  # not before: an action that is refused ends no stop
        self._played = planned.sequence
        self._last_action = now.playback
        self._health.count("actions")

    def _lateness(
        self, planned: PlannedAction | None, now: Instant, settings: NodeSettings
    ) -> Reason | None:
        """Return a reason if an action is played longer than max_image_age after its time."""
        late = planned.lateness(now.playback, 1.0 / settings.control_rate) if planned else 0.0
        if late <= settings.max_image_age:
            return None
        return Reason(
            "late",
            f"Actions come {late:.2f} s after the time they were computed for, more than "
            f"max_image_age {settings.max_image_age:.2f} s: lower keep_ratio, or raise "
            "max_image_age if the arm may act on older images",
        )

    def _on_steady_command(self) -> None:
        """Take over from the timers of a simulated clock while it stands still."""
        if self._clock.stood_still() > 1.0 / self._settings.command_rate:
            self._on_command()

    def _on_command(self) -> None:
        with self._gate.lock:
            self.repeat_stop()
            if not self._gate.is_open or self._arm is None or not self._moving:
                return
            if not self._arm.command(self._clock.read()):
                self._moving = len(self._queue) > 0

    def _publish_stop(self) -> None:
        now = self._clock.read()
        if self._arm and self._arm.hold(now):
            self._repeats.begin(now)
            self._health.count("stops")
