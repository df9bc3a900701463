"""The policies that come with the package do their tasks, and still do them with 3/4 pruned."""

from __future__ import annotations

import pytest

pytest.importorskip("metaworld", reason="the policy's tasks are simulated")

from vla_pruner_lab.rollout.episode import CAMERAS, PolicyAgent, StillAgent, run_episode
from vla_pruner_ros.models.checkpoints import is_trained, read_config
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.resources import POLICIES, policy_directory
from vla_pruner_ros.sim.robot import SimulatedRobot

TASKS = ("drawer-open", "drawer-close", "faucet-open")
"""Tasks of one scene: only the instruction differs."""
SEEDS = range(300, 302)
MARGIN = 1
"""Episodes of all six that pruning may lose here; docs/reference/results.md compares."""


@pytest.fixture(scope="module")
def robots(one_thread):
    robots = [SimulatedRobot(task, cameras=CAMERAS) for task in TASKS]
    yield robots
    for robot in robots:
        robot.close()


def successes(robots, agent) -> int:
    return sum(
        run_episode(robot, agent, seed, max_actions=60).success
        for robot in robots
        for seed in SEEDS
    )


@pytest.mark.parametrize(
    ("name", "execute", "history_fill"),
    [("openvla_oft_small", 4, "semantic"), ("openvla_small", 1, "full")],
)  # as in docs/reference/results.md
def test_pruned_policy_is_within_a_margin_of_the_full_one(robots, name, execute, history_fill):
    policy = load_policy(policy_directory(name))
    agent = PolicyAgent(policy, execute)
    counts = {}
    for ratio in (1.0, 0.25):
        policy.pruning = PruningConfig(keep_ratio=ratio, history_fill=history_fill)
        counts[ratio] = successes(robots, agent)
    assert counts[1.0] >= len(TASKS) * len(SEEDS) - MARGIN
    assert counts[0.25] >= counts[1.0] - MARGIN


def test_holding_still_does_none_of_these_tasks(robots):
    assert successes(robots, StillAgent()) == 0


@pytest.mark.parametrize("name", POLICIES)
def test_it_says_that_it_is_trained_and_is_small(name):
    directory = policy_directory(name)
    assert is_trained(read_config(directory))
    assert sum(path.stat().st_size for path in directory.iterdir()) <= 20e6
