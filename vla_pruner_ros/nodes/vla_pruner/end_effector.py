"""Where the robot says its end effector is, and whether that can be relied on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped

from vla_pruner_ros.control.poses import Pose
from vla_pruner_ros.nodes.messages import to_nanoseconds, to_pose
from vla_pruner_ros.nodes.vla_pruner.not_ready import NotReady


class EndEffector:
    """Keeps the newest end_effector_pose; storing and reading may happen on any thread."""

    def __init__(self, clock: Callable[[], int]) -> None:
        """clock: the node's time (ns)."""
        self._clock = clock
        self._newest: tuple[PoseStamped, float] | None = None
        self.measured_at = float("-inf")

    def store(self, message: PoseStamped) -> None:
        """Keep a pose; one without a stamp counts as measured now.

        measured_at is on time.monotonic() (s): the node's clock may jump.
        """
        arrival, now = time.monotonic(), self._clock()
        age = max(0, now - (to_nanoseconds(message.header.stamp) or now)) * 1e-9
        self._newest = (message, arrival)
        self.measured_at = arrival - age

    def clear(self) -> None:
        self._newest = None

    def pose(self, settings: Any) -> Pose:
        """Return the present pose in action_frame.

        Raises:
            NotReady: none has arrived for max_state_age, it is in another frame, or no pose at all.
        """
        newest = self._newest
        if newest is None or time.monotonic() - newest[1] > settings.max_state_age:
            raise NotReady(
                f"No end_effector_pose has arrived for over {settings.max_state_age:.2f} s: the "
                "parameter workspace needs it; publish it, or empty workspace"
            )
        message = newest[0]
        frame = message.header.frame_id
        if frame != settings.action_frame:
            raise NotReady(
                f"end_effector_pose is given in frame '{frame}', but actions and workspace are in "
                f"'{settings.action_frame}': publish the pose in that frame, or set action_frame"
            )
        try:
            return to_pose(message.pose)
        except ValueError as error:
            raise NotReady(f"end_effector_pose cannot be used: {error}") from None

    def pose_if_known(self, settings: Any) -> Pose | None:
        try:
            return self.pose(settings)
        except NotReady:
            return None
