"""An end effector moved by displacements: `~/action`, `~/target_pose` and `~/twist`."""

from __future__ import annotations

import numpy as np

from vla_pruner_ros.control.action_queue import PlannedAction
from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.control.limits import ActionLimits
from vla_pruner_ros.control.poses import Pose
from vla_pruner_ros.control.workspace.arm_latency import ArmLatency
from vla_pruner_ros.control.workspace.pending import PendingMotions
from vla_pruner_ros.nodes.messages import action_message, pose_message, stop_message, twist_message
from vla_pruner_ros.nodes.vla_pruner.commands.arm import Play
from vla_pruner_ros.nodes.vla_pruner.commands.grippers import Grippers
from vla_pruner_ros.nodes.vla_pruner.commands.repeats import STOPS
from vla_pruner_ros.nodes.vla_pruner.commands.topics import CommandTopics
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.nodes.vla_pruner.readiness import Readiness


class EndEffectorArm:
    """Publishes actions and target poses as they are played, and twists at command_rate.

    A target pose is the pose measured as the action starts, displaced by the action; without a
    fresh end_effector_pose there is none. Starting from the measured pose, a blocked arm's target
    never runs away from it.
    latency_measured: seconds, see measure_latency(); None while the motion does not show it.
    """

    def __init__(
        self, node: Host, topics: CommandTopics, readiness: Readiness, grippers: Grippers
    ) -> None:
        self._node, self._topics, self._readiness = node, topics, readiness
        self._grippers = grippers
        self._limits = readiness.profile.limits if readiness.profile else None
        self._latency = ArmLatency()
        self.latency_measured: float | None = None
        self.begin()

    def begin(self) -> None:
        """See Arm."""
        self._twist: np.ndarray | None = None
        self._twist_period = 1.0
        self._twist_end = 0
        self._halts_left = 0
        self._period = 1.0 / self._settings.control_rate
        self._gripper: float | None = None
        self._held: Pose | None = None
        self._pending = PendingMotions()

    @property
    def _settings(self) -> NodeSettings:
        return self._node.parameters.settings

    def play(self, play: Play) -> None:
        """See Arm."""
        settings, pose = self._settings, self._readiness.pose_if_known()
        self._period = play.period
        position = pose.position if pose else None
        values, met = self._action_limits(settings).apply(
            _displacement(play.planned, pose), self._gripper, position, self._unseen(settings)
        )
        self._node.health.count_clamps(met)
        self._publish(play, values, pose)

    def _publish(self, play: Play, values: np.ndarray, pose: Pose | None) -> None:
        now, frame = play.now, self._settings.action_frame
        self._pending.add(now.playback, values[:3])
        self._latency.command(now.playback * 1e-9, play.period, values[:3])
        self._gripper = float(values[6])
        self._twist, self._twist_period = values[:6], play.period
        self._twist_end = now.playback + round(play.period * 1e9)
        self._halts_left = STOPS
        self._topics.action.publish(
            action_message(values, play.planned, now.stamp, play.period, frame)
        )
        if pose:
            self._topics.target_pose.publish(pose_message(pose.displaced(values), now.stamp, frame))
        self._grippers.command(values[6:], play.period)
        self._publish_twist(now)

    def command(self, now: Instant) -> bool:
        """See Arm."""
        if self._twist is not None and now.playback < self._twist_end:
            self._publish_twist(now)
        elif self._halts_left:
            self._halts_left -= 1
            self._twist = None
            self._publish_zero_twist(now)
        return self._twist is not None or self._halts_left > 0

    def drop(self) -> None:
        """See Arm."""
        self._twist = None
        self._halts_left = 0
        self._latency.stop(self._node.motion_clock.read().playback * 1e-9)

    def measure_latency(self) -> None:
        """Compare what was commanded with the poses that came; takes milliseconds."""
        self.latency_measured = self._latency.estimate(self._readiness.recent_poses())

    def hold(self, now: Instant) -> bool:
        """See Arm."""
        self._held = self._readiness.pose_if_known()
        self.repeat_hold(now)
        return True

    def repeat_hold(self, now: Instant) -> None:
        """See Arm."""
        frame = self._settings.action_frame
        self._topics.action.publish(stop_message(now.stamp, frame, self._gripper))
        self._publish_zero_twist(now)
        if self._held:  # stay here, rather than go on to the last target
            self._topics.target_pose.publish(pose_message(self._held, now.stamp, frame))

    def _unseen(self, settings: NodeSettings) -> np.ndarray:
        """Return the translations that the newest pose may not show: those still on their way to
        the arm or being carried out when it was measured, and those commanded since."""
        span = self._period + max(settings.arm_latency, self.latency_measured or 0.0)
        now = self._node.motion_clock.read().playback
        oldest = now - round(settings.max_state_age * 1e9)
        measured = self._readiness.pose_measured()
        self._pending.drop_before(min(oldest, measured) - round(span * 1e9))
        return self._pending.since(measured - round(span * 1e9))

    def _action_limits(self, settings: NodeSettings) -> ActionLimits:
        """Combine parameters and profile; the smaller one of each limit holds."""
        box, limits = settings.workspace, self._limits
        names = ("max_translation", "max_rotation", "max_gripper_step")
        known = [(getattr(settings, n), getattr(limits, n, None)) for n in names]
        smaller = [own if other is None else min(own, other) for own, other in known]
        return ActionLimits(*smaller, (box[:3], box[3:]) if box else None)

    def _publish_twist(self, now: Instant) -> None:
        frame = self._settings.action_frame
        self._topics.twist.publish(twist_message(self._twist, self._twist_period, now.stamp, frame))

    def _publish_zero_twist(self, now: Instant) -> None:
        frame = self._settings.action_frame
        self._topics.twist.publish(twist_message(np.zeros(6), 1.0, now.stamp, frame))


def _displacement(planned: PlannedAction, pose: Pose | None) -> np.ndarray:
    """Return values [7] (m, rad, opening); a target pose is reached from where the arm is now."""
    if planned.pose is None:
        return planned.values
    if pose is None:
        raise ValueError("The robot's profile commands poses, and no end_effector_pose is known")
    target = Pose.of(planned.pose[:3], planned.pose[3:])
    return np.append(pose.displacement_to(target), planned.values[6])
