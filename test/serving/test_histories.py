"""A policy that serves several robots gives each the actions it would get alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from model_helpers import checkpoints, observation, small_policy  # noqa: F401

from vla_pruner_ros.models.pruned_policy import PrunedPolicy


def alone(policy: PrunedPolicy, seeds: range, config) -> list:
    policy.restore_history(None)
    policy.pruning = config
    return [policy.act(observation(policy, seed)) for seed in seeds]


def interleaved(policy: PrunedPolicy, robots: list[tuple[range, object]]) -> list[list]:
    """Step the robots in turns, each with its saved history."""
    histories = [None] * len(robots)
    chunks: list[list] = [[] for _ in robots]
    for step in range(len(robots[0][0])):
        for number, (seeds, config) in enumerate(robots):
            policy.restore_history(histories[number])
            if policy.pruning != config:
                policy.pruning = config
            chunks[number].append(policy.act(observation(policy, seeds[step])))
            histories[number] = policy.save_history()
    return chunks


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("openvla_oft", {}),
        ("openvla_oft", {"keep_ratio": 0.5, "temporal_window": 2}),
        ("openvla_oft", {"budget_mode": "motion"}),
        ("openvla_oft", {"token_recovery": "early_layers"}),
        ("openvla", {"keep_ratio": 0.5}),
        ("pi0", {"keep_ratio": 0.5}),
    ],
)
def test_robots_in_turns_get_what_each_gets_alone(small_policy, family, other):  # noqa: F811
    policy = small_policy(family, keep_ratio=0.25)
    config = policy.pruning
    robots = [(range(5), config), (range(100, 105), replace(config, **other))]
    expected = [alone(policy, seeds, config) for seeds, config in robots]
    for mine, theirs in zip(interleaved(policy, robots), expected, strict=True):
        for chunk, exact in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(chunk.actions, exact.actions)
            assert chunk.pruning.tokens_kept == exact.pruning.tokens_kept
            assert chunk.pruning.history_length == exact.pruning.history_length
            for kept, right in zip(
                chunk.pruning.kept_indices, exact.pruning.kept_indices, strict=True
            ):
                np.testing.assert_array_equal(kept, right)


def test_a_random_method_goes_on_with_its_own_numbers(small_policy):  # noqa: F811
    policy = small_policy("openvla_oft", method="random")
    robots = [(range(5), policy.pruning), (range(5), replace(policy.pruning, seed=3))]
    expected = [alone(policy, seeds, config) for seeds, config in robots]
    for mine, theirs in zip(interleaved(policy, robots), expected, strict=True):
        for chunk, exact in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(
                chunk.pruning.kept_indices[0], exact.pruning.kept_indices[0]
            )
