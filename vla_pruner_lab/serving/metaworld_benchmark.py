"""The simulated robot's tasks (MetaWorld) as a benchmark of vla-eval; needs no download.

In a configuration of vla-eval: `vla_pruner_lab.serving.metaworld_benchmark:MetaWorldBenchmark`,
against `vla_pruner_server --checkpoint openvla_oft_small --robot metaworld --protocol vla_eval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.specs import IMAGE_RGB, LANGUAGE, STATE_JOINT, DimSpec

from vla_pruner_ros.sim.robot import SimState, SimulatedRobot
from vla_pruner_ros.sim.tasks import instruction_for

CAMERAS = ("scene", "gripper")
MAX_STEPS = 70
HOLD = np.zeros(7, dtype=np.float32)


class MetaWorldBenchmark(StepBenchmark):
    """Tasks of the simulated robot, at 10 actions a second.

    tasks: names such as drawer-close. seed: of the first episode; the next ones count on.
    """

    def __init__(self, tasks: Sequence[str] = ("drawer-close",), seed: int = 0) -> None:
        super().__init__()
        self._tasks, self._seed = tuple(tasks), seed
        self._robot: SimulatedRobot | None = None
        self._gripper = 1.0

    def get_tasks(self) -> list[dict[str, Any]]:
        """Return the tasks, as vla-eval lists them."""
        return [{"name": task, "suite": "metaworld"} for task in self._tasks]

    def reset(self, task: dict[str, Any]) -> SimState:
        """Begin an episode of a task; return the simulator's state."""
        if self._robot is None or self._robot.task != task["name"]:
            self.cleanup()
            self._robot = SimulatedRobot(task["name"])
        self._number = self._seed + task["episode_idx"]
        self._gripper = 1.0
        return self._robot.reset(self._number)

    def step(self, action: dict[str, Any]) -> StepResult:
        """Carry out one action, seven numbers."""
        numbers = np.asarray(action["actions"], dtype=np.float64)
        self._gripper = float(numbers[-1])
        state = self._robot.step(numbers)
        return StepResult(state, 0.0, bool(state.success), {})

    def make_obs(self, raw_obs: SimState, task: dict[str, Any]) -> dict[str, Any]:
        """Return what the policy sees: images, state and instruction."""
        return {
            "images": {name: self._robot.render(name) for name in CAMERAS},
            "task_description": instruction_for(task["name"], variant=self._number),
            "states": np.asarray(raw_obs.joint_positions, dtype=np.float64),
        }

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        """Return whether the task is done."""
        return {"success": bool(step_result.obs.success)}

    def get_hold_action(self, last_action: dict[str, Any] | None) -> dict[str, Any]:
        """Stand still, with the gripper where it was sent last: actions are displacements."""
        return {"actions": np.append(HOLD[:6], np.float32(self._gripper))}

    def get_metadata(self) -> dict[str, Any]:
        """Return the number of steps after which an episode ends."""
        return {"max_steps": MAX_STEPS}

    def get_action_spec(self) -> dict[str, DimSpec]:
        """Return no requirements on the action."""
        return {}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """Return the kinds of the observation's parts."""
        cameras = dict.fromkeys(CAMERAS, IMAGE_RGB)
        return {**cameras, "language": LANGUAGE, "state": STATE_JOINT}

    def cleanup(self) -> None:
        """Close the simulator."""
        if self._robot is not None:
            self._robot.close()
            self._robot = None
