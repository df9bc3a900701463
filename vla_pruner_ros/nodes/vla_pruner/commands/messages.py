"""Joint and gripper commands as messages of ros2_control's controllers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_pruner_ros.nodes.messages import to_duration


def trajectory_message(
    names: Sequence[str], positions: np.ndarray, period: float
) -> JointTrajectory:
    """Build a trajectory of positions [steps, joints] (rad or m), one a period (s) from now on.

    Its stamp is zero, which means now: no clock of another computer comes into it.
    """
    return JointTrajectory(
        joint_names=list(names),
        points=[
            JointTrajectoryPoint(
                positions=row.tolist(), time_from_start=to_duration((step + 1) * period)
            )
            for step, row in enumerate(np.asarray(positions, dtype=np.float64))
        ],
    )


def positions_message(positions: np.ndarray) -> Float64MultiArray:
    """Build the command of a forward_command_controller from positions [joints] (rad or m)."""
    return Float64MultiArray(data=np.asarray(positions, dtype=np.float64).tolist())
