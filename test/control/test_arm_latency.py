"""The arm's latency is found where its motion shows it, and left open where it does not."""

from __future__ import annotations

import numpy as np
import pytest

from vla_pruner_ros.control.workspace.arm_latency import ArmLatency

PERIOD = 0.1


def poses_after(latency: float, noise: float = 0.0, steady: bool = False, gain: float = 1.0):
    """An estimator that saw random actions, and poses of an arm that follows `latency` later."""
    rng, estimator, actions = np.random.default_rng(0), ArmLatency(), []
    for number in range(60):
        translation = np.array([0.01, 0.0, 0.0]) if steady else rng.normal(0.0, 0.02, 3)
        actions.append((number * PERIOD, translation))
        estimator.command(number * PERIOD, PERIOD, translation)

    def position(at: float) -> np.ndarray:
        shares = [np.clip((at - latency - start) / PERIOD, 0.0, 1.0) for start, _ in actions]
        return gain * sum(s * t for s, (_, t) in zip(shares, actions, strict=True))

    times = np.arange(1.0, 5.5, 0.05)
    return estimator, [(at, position(at) + rng.normal(0.0, noise, 3)) for at in times]


@pytest.mark.parametrize("latency", [0.0, 0.06, 0.2, 0.4, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.001])
@pytest.mark.parametrize("gain", [1.0, 0.7])
def test_latency_is_found(latency, noise, gain):
    estimator, poses = poses_after(latency, noise, gain=gain)
    assert estimator.estimate(poses) == pytest.approx(latency, abs=0.021)


def test_a_steady_motion_does_not_tell():
    estimator, poses = poses_after(0.3, steady=True)
    assert estimator.estimate(poses) is None


def test_an_arm_that_stands_or_moves_by_itself_does_not_tell():
    estimator, poses = poses_after(0.3)
    assert estimator.estimate([(at, np.zeros(3)) for at, _ in poses]) is None
    rng = np.random.default_rng(1)
    assert estimator.estimate([(at, rng.normal(0.0, 0.05, 3)) for at, _ in poses]) is None


def test_without_poses_or_actions_there_is_no_latency():
    estimator, poses = poses_after(0.3)
    assert estimator.estimate([]) is None
    assert ArmLatency().estimate(poses) is None


def test_a_stop_cuts_the_action_under_way():
    estimator = ArmLatency()
    estimator.command(0.0, 1.0, np.array([1.0, 0.0, 0.0]))
    estimator.stop(0.5)
    knots, path = estimator._path()
    assert knots.tolist() == [0.0, 0.5]
    assert path[-1] == pytest.approx([0.5, 0.0, 0.0])
