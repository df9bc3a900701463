"""Grippers in the three ways in which controllers take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.action import ActionClient

from vla_pruner_ros.control.joints import limit_opening
from vla_pruner_ros.nodes.vla_pruner.commands.outlets import Outlet
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.robots import Gripper, RobotProfile

try:
    from control_msgs import action as control_actions
except ImportError:  # not among the wheels of ROS 2
    control_actions = None

ACTIONS = {
    "gripper_command": "GripperCommand",
    "parallel_gripper_command": "ParallelGripperCommand",
}
"""Value of the parameter gripper_action -> type of control_msgs."""
SMALLEST_CHANGE = 0.01
"""Share of the stroke below which no new goal is sent: a goal starts the motion anew."""


class GripperActionMissing(ValueError):  # noqa: N818 - a ValueError refuses a configuration
    """The parameter gripper_action names an action whose messages are not installed."""


class Grippers:
    """Publishes openings 0..1 as positions of the grippers' joints.

    `~/gripper_command` and `~/gripper_trajectory` get every opening; an action server gets a goal
    whenever its gripper's opening changes. A stop sends nothing: the grippers keep what they hold.
    """

    def __init__(
        self, node: Host, outlets: Sequence[Outlet], profile: RobotProfile, dry_run: bool
    ) -> None:
        """Raises GripperActionMissing."""
        self._node, self._outlets = node, outlets
        self._grippers = profile.commanded_grippers
        self._max_step = profile.limits.max_gripper_step
        self._fingers = _controller_names(profile, node.parameters.settings.separate_arms)
        self._clients = [] if dry_run else self._action_clients()
        self._last: np.ndarray | None = None
        self._sent: dict[str, float] = {}

    def _action_clients(self) -> list[Any]:
        kind = self._node.parameters.settings.gripper_action
        if kind == "none" or not self._grippers:
            return []
        action = getattr(control_actions, ACTIONS[kind], None)
        if action is None:
            raise GripperActionMissing(
                f"gripper_action is {kind}, but control_msgs has no {ACTIONS[kind]} here: install "
                "ros-$ROS_DISTRO-control-msgs, or set gripper_action to none"
            )
        names = ["gripper"] if len(self._grippers) == 1 else [g.name for g in self._grippers]
        return [ActionClient(self._node, action, f"{name}/gripper_cmd") for name in names]

    def destroy(self) -> None:
        """Destroy the action clients."""
        for client in self._clients:
            client.destroy()
        self._clients = []

    def begin(self) -> None:
        """Clear the last openings; called when motion is allowed."""
        self._last, self._sent = None, {}

    def limited(self, openings: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Limit openings [grippers]; also return the names of the limits met.

        Raises:
            NotFiniteError: an opening is NaN or infinite.
        """
        step = self._node.parameters.settings.max_gripper_step
        step = step if self._max_step is None else min(step, self._max_step)
        last = [None] * len(openings) if self._last is None else self._last
        pairs = [limit_opening(new, old, step) for new, old in zip(openings, last, strict=True)]
        met = ["gripper"] if any(hit for _, hit in pairs) else []
        return np.array([opening for opening, _ in pairs]), met

    def command(self, openings: np.ndarray, period: float) -> None:
        """Publish openings [grippers] to reach within a period (s)."""
        if not self._grippers:
            return
        self._last = np.asarray(openings[: len(self._grippers)], dtype=np.float64)
        pairs = list(zip(self._grippers, self._last.tolist(), strict=True))
        positions = np.array([g.position(opening) for g, opening in pairs])
        for outlet in self._outlets:
            outlet.grip(positions, period)
        self._send_goals(positions)

    def _send_goals(self, positions: np.ndarray) -> None:
        """Send a goal to each gripper whose opening changed. Without a server it stays to be sent:
        a gripper's driver may start later than the node."""
        for n, client in enumerate(self._clients):
            gripper, opening = self._grippers[n], float(self._last[n])
            if abs(opening - self._sent.get(gripper.name, np.inf)) < SMALLEST_CHANGE:
                continue
            if not client.server_is_ready():
                self._node.health.count("gripper_goals_lost")
                continue
            self._sent[gripper.name] = opening
            goal = client.send_goal_async(self._goal(gripper, float(positions[n])))
            goal.add_done_callback(self._on_goal_answered)

    def _on_goal_answered(self, goal: Any) -> None:
        if not goal.cancelled() and (goal.exception() or not goal.result().accepted):
            self._node.health.count("gripper_goals_refused")

    def _goal(self, gripper: Gripper, position: float) -> Any:
        settings = self._node.parameters.settings
        goal = getattr(control_actions, ACTIONS[settings.gripper_action]).Goal()
        if settings.gripper_action == "gripper_command":
            goal.command.position = position
            goal.command.max_effort = settings.gripper_max_effort
            return goal
        goal.command.name = [self._fingers[gripper.name]]
        goal.command.position = [position]
        if settings.gripper_max_effort > 0.0:
            goal.command.effort = [settings.gripper_max_effort]
        return goal


def _controller_names(profile: RobotProfile, separate: bool) -> dict[str, str]:
    """Return gripper -> name of its joint at its controller."""
    names = {g.name: g.joints[0] if g.joints else g.name for g in profile.commanded_grippers}
    for arm in profile.arms.values() if separate else ():
        if arm.gripper:
            names[arm.gripper] = arm.controller_name(names[arm.gripper])
    return names
