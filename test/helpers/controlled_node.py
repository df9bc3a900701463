"""The real node as a process, with a policy that drives the arm steadily to one side.

    python controlled_node.py NAME --ros-args -p workspace:=...

After every REVERSE inferences it turns round.
"""

from __future__ import annotations

import sys

import numpy as np
from node_helpers import ControlledPolicy

from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.nodes.vla_pruner.node import VlaPrunerNode

STEP = np.array([0.03, -0.02, 0.01, 0.0, 0.0, 0.0, 1.0])
"""One action: displacement (m), rotation (rad), gripper."""
REVERSE = 20


def make_policy() -> ControlledPolicy:
    policy = ControlledPolicy(chunk_size=8)

    def drive(_: object) -> np.ndarray:
        side = 1.0 if len(policy.observations) // REVERSE % 2 == 0 else -1.0
        return np.tile(STEP * [side, side, side, 1, 1, 1, 1], (policy.chunk_size, 1))

    policy.respond = drive
    return policy


if __name__ == "__main__":
    name = sys.argv[1]
    arguments = [sys.argv[0], *sys.argv[2:]]
    sys.exit(run_node(lambda: VlaPrunerNode(name, load=lambda _: make_policy()), arguments))
