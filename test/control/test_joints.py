"""Joint limits hold for every target, whatever a policy answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_pruner_ros.control.joints import (
    ImplausibleError,
    JointBounds,
    JumpError,
    limit_opening,
)
from vla_pruner_ros.control.limits import NotFiniteError
from vla_pruner_ros.robots.profile import JointLimits

NAMES = ("shoulder", "elbow")
PROFILE = {
    "shoulder": JointLimits(-1.0, 1.0, 2.0, None),
    "elbow": JointLimits(-0.5, 2.0, None, 0.02),
}


def bounds(*sources, max_velocity: float = 1.0, jump: float = 0.3, period: float = 0.1):
    return JointBounds.combined(NAMES, sources or (PROFILE,), max_velocity, jump, period)


any_target = hnp.arrays(float, 2, elements=st.floats(-1e6, 1e6))
chunks = hnp.arrays(float, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(-10, 10))
inside = hnp.arrays(float, 2, elements=st.floats(-0.5, 1.0))
anywhere = hnp.arrays(float, 2, elements=st.floats(-4.0, 4.0))


def test_the_narrowest_limit_holds():
    urdf = {"shoulder": JointLimits(-0.8, 3.0, 0.5), "elbow": JointLimits(-2.0, 2.0, 9.0)}
    made = bounds(PROFILE, urdf)
    assert made.low.tolist() == [-0.8, -0.5]
    assert made.high.tolist() == [1.0, 2.0]
    assert made.step == pytest.approx([0.05, 0.02])
    assert bounds(max_velocity=0.1).step == pytest.approx([0.01, 0.01])


def test_a_joint_without_limits_is_named():
    with pytest.raises(ValueError, match=r"no limits for joints elbow: .*robot_description"):
        bounds({"shoulder": JointLimits(-1.0, 1.0)})


def test_limits_that_exclude_each_other_are_named():
    with pytest.raises(ValueError, match="no range for joints elbow"):
        bounds(PROFILE, {"elbow": JointLimits(-3.0, -1.0)})


@pytest.mark.parametrize("place", [[40.0, 0.0], [0.0, -0.81], [1e308, 1e308]])
def test_a_joint_that_is_measured_far_outside_its_limits_is_named(place):
    """A command may lead back from there by steps, so that it would lie out there itself."""
    worst = "elbow" if place[1] < 0 else "shoulder"
    with pytest.raises(ImplausibleError, match=rf"Joint {worst} is measured at .* max_jump 0\.300"):
        bounds().check_measured(np.array(place))


@given(place=hnp.arrays(float, 2, elements=st.floats(-0.79, 1.29)))  # 1.3 - 1 rounds to above 0.3
def test_an_arm_may_rest_a_little_outside_of_its_limits(place):
    bounds().check_measured(place)


@given(targets=chunks, before=inside)
def test_no_command_leaves_the_range_or_exceeds_a_step(targets, before):
    made = bounds()
    commands, _ = made.apply_all(targets, before)
    changes = np.diff(np.concatenate([before[None], commands]), axis=0)
    assert (commands >= made.low).all()
    assert (commands <= made.high).all()
    assert (np.abs(changes) <= made.step + 1e-12).all()


@given(target=any_target, before=anywhere)
def test_a_joint_outside_its_range_never_moves_further_out(target, before):
    made = bounds()
    command, _ = made.apply(target, before)
    excess = lambda q: np.maximum(made.low - q, 0) + np.maximum(q - made.high, 0)
    assert (excess(command) <= excess(before) + 1e-12).all()


@given(target=inside)
def test_a_target_within_all_limits_is_not_touched(target):
    command, met = bounds().apply(target, target)
    assert command.tolist() == target.tolist()
    assert met == []


def test_limits_that_were_met_are_named():
    assert bounds().apply(np.array([5.0, 0.0]), np.array([0.99, 0.0]))[1] == ["joint_position"]
    assert bounds().apply(np.array([0.5, 0.0]), np.zeros(2))[1] == ["joint_step"]


@given(first=anywhere, measured=anywhere)
def test_a_chunk_starts_near_the_measured_joints_or_not_at_all(first, measured):
    made = bounds()
    if np.abs(first - measured).max() > made.jump:
        with pytest.raises(JumpError, match=r"max_jump 0\.300"):
            made.check_jump(first, measured)
    else:
        made.check_jump(first, measured)


def test_the_joint_that_would_jump_furthest_is_named():
    with pytest.raises(JumpError, match=r"joint elbow is 1\.500 away"):
        bounds().check_jump(np.array([0.4, 1.5]), np.zeros(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_not_finite_is_no_command(value):
    target = np.array([0.0, value])
    with pytest.raises(NotFiniteError, match="joints elbow"):
        bounds().apply(target, np.zeros(2))
    with pytest.raises(NotFiniteError, match="joints elbow"):
        bounds().check_jump(target, np.zeros(2))
    with pytest.raises(NotFiniteError):
        limit_opening(value, 0.5, 1.0)


@given(target=st.floats(-1e6, 1e6), last=st.floats(0, 1), step=st.floats(0, 1))
def test_a_gripper_stays_between_closed_and_open_and_within_its_step(target, last, step):
    opening, met = limit_opening(target, last, step)
    assert 0.0 <= opening <= 1.0
    assert abs(opening - last) <= step + 1e-12
    assert met == (abs(opening - target) > 1e-6)
