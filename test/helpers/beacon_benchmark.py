"""A benchmark of vla-eval that needs no simulator: keep a cart under a beacon that drifts.

The image's brightness shows how far the cart is from the beacon; an action's first number moves
the cart. The beacon drifts at every step, so that an action that comes late misses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.specs import IMAGE_RGB, LANGUAGE, DimSpec

MIDDLE = 128
SCALE = 100.0
"""Grey levels a unit of distance."""
TOLERANCE = 0.1
GAIN = 0.4
"""Share of the distance that one action covers; with 1 an action that is late overshoots."""


class BeaconBenchmark(StepBenchmark):
    """num_tasks tasks whose beacons drift by `drift` a step; success: the cart is under the beacon
    in most of the steps after the tenth."""

    def __init__(self, num_tasks: int = 2, drift: float = 0.01) -> None:
        super().__init__()
        self._num_tasks, self._drift = num_tasks, drift

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": f"follow beacon {n}", "task_id": n} for n in range(self._num_tasks)]

    def reset(self, task: dict[str, Any]) -> Any:
        self._cart, self._steps, self._hits = 0.0, 0, 0
        self._beacon = 0.5 + 0.1 * task["task_id"]
        return None

    def step(self, action: dict[str, Any]) -> StepResult:
        move = float(np.asarray(action["actions"])[0])
        self._cart += move
        self._beacon += self._drift
        self._steps += 1
        self._hits += self._steps > 10 and abs(self._beacon - self._cart) < TOLERANCE
        return StepResult(None, 0.0, self._steps >= 40, {})

    def make_obs(self, raw_obs: Any, task: dict[str, Any]) -> dict[str, Any]:
        level = np.clip(MIDDLE + SCALE * (self._beacon - self._cart), 0, 255)
        image = np.full((32, 32, 3), round(level), dtype=np.uint8)
        return {
            "images": {"agentview": image, "wrist": image},
            "task_description": task["name"],
            "states": np.zeros(8),
        }

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": self._hits > 15, "hits": self._hits}

    def get_hold_action(self, last_action: Any) -> dict[str, Any]:
        return {"actions": np.zeros(7, dtype=np.float32)}

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": 40}

    def get_action_spec(self) -> dict[str, DimSpec]:
        return {}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        return {"agentview": IMAGE_RGB, "wrist": IMAGE_RGB, "language": LANGUAGE}


def follow(policy: Any) -> Any:
    """Return what turns a SteppedPolicy's actions into moves towards the beacon it saw."""

    def moves(actions: np.ndarray) -> np.ndarray:
        distance = (policy.observations[0].images[0].mean() - MIDDLE) / SCALE
        actions = np.zeros_like(actions)
        actions[0, 0] = GAIN * distance
        return actions

    return moves
