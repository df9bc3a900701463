"""An arm, or several, moved by joint positions: `~/joint_trajectory` and `~/joint_command`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_pruner_ros.control.clock import Instant
from vla_pruner_ros.control.joints import ImplausibleError, JointBounds
from vla_pruner_ros.nodes.vla_pruner.commands.arm import Play
from vla_pruner_ros.nodes.vla_pruner.commands.grippers import Grippers
from vla_pruner_ros.nodes.vla_pruner.commands.outlets import Outlet
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.readiness import Readiness
from vla_pruner_ros.robots import StateError

HOLD_TIME = 0.1
"""Seconds in which a trajectory leads to where the joints are held."""


class JointArm:
    """Publishes a chunk's rest as a trajectory, and one vector of positions an action.

    Every target is within the position limits and at most a step away from the one before, the
    first of all from the measured joints. A chunk whose first target is too far from the measured
    joints is not played. All arms are commanded and held at once, in one message or in one after
    the other, so that two arms stop together.
    """

    def __init__(
        self, node: Host, outlets: Sequence[Outlet], readiness: Readiness, grippers: Grippers
    ) -> None:
        self._node, self._outlets, self._readiness = node, outlets, readiness
        self._names, self._grippers = readiness.profile.joints, grippers
        self.begin()

    def begin(self) -> None:
        """See Arm."""
        self._commanded: np.ndarray | None = None
        self._held: np.ndarray | None = None
        self._limits: JointBounds | None = None
        self._end = 0

    def play(self, play: Play) -> None:
        """See Arm."""
        count = len(self._names)
        planned = (play.planned, *play.rest) if play.starts_chunk else (play.planned,)
        targets = np.array([action.values for action in planned], dtype=np.float64)
        limits, measured = self._readiness.joint_bounds(play.period), self._measured()
        limits.check_measured(measured)
        if play.starts_chunk:
            limits.check_jump(targets[0, :count], measured)
        before = self._before(measured, limits.jump, play)
        limited, met = limits.apply_all(targets[:, :count], before)
        self._limits = limits
        openings, gripper_met = self._grippers.limited(targets[0, count:])
        self._node.health.count_clamps([*dict.fromkeys([*met, *gripper_met])])
        self._publish(limited, openings, play)

    def _before(self, measured: np.ndarray, jump: float, play: Play) -> np.ndarray:
        """Return where the joints come from: the last command while they follow it, else where they
        are. They may have been blocked, or moved by someone else after the last chunk."""
        last, age = self._commanded, (play.now.playback - self._end) * 1e-9
        if last is None or age > play.period or np.abs(last - measured).max() > jump:
            return measured
        return last

    def _publish(self, limited: np.ndarray, openings: np.ndarray, play: Play) -> None:
        self._commanded = limited[0]
        self._end = play.now.playback + round(play.period * 1e9)
        self._send(limited, play.period, play.starts_chunk)
        self._grippers.command(openings, play.period)

    def _send(self, positions: np.ndarray, period: float, with_trajectory: bool) -> None:
        """Publish positions [steps, joints], the first one now and all of them as a trajectory."""
        choice = self._node.parameters.settings.joint_commands
        for outlet in self._outlets:
            if with_trajectory and choice != "positions":
                outlet.lead(positions, period)
            if choice != "trajectory":
                outlet.set(positions[0])

    def command(self, now: Instant) -> bool:
        """See Arm."""
        return now.playback < self._end

    def drop(self) -> None:
        """See Arm."""
        self._end = 0

    def hold(self, now: Instant) -> bool:
        """See Arm. If the joints are silent or their positions make no sense, hold the last
        command: their place is not known."""
        last, self._commanded = self._commanded, None
        if last is None:  # nothing was commanded, and another program may be moving the arm
            return False
        measured = self._measured_if_plausible()
        self._held = last if measured is None else measured
        self.repeat_hold(now)
        return True

    def repeat_hold(self, now: Instant) -> None:
        """See Arm."""
        self._send(self._held[None], HOLD_TIME, with_trajectory=True)

    def _measured_if_plausible(self) -> np.ndarray | None:
        """Return where the joints are, None if nobody knows: a stop must not become a motion."""
        if self._readiness.joints_are_silent():
            return None
        try:
            measured = self._measured()
            self._limits.check_measured(measured)
        except (StateError, ImplausibleError):
            return None
        return measured

    def _measured(self) -> np.ndarray:
        return self._readiness.measured().positions(self._names)
