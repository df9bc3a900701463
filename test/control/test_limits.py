"""No action exceeds its limits, whatever the policy says."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vla_pruner_ros.control.limits import ActionLimits, NotFiniteError

values = st.floats(allow_nan=False, allow_infinity=False, width=32)
actions = st.lists(values, min_size=7, max_size=7).map(np.array)
openings = st.none() | st.floats(0.0, 1.0)
points = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3).map(np.array)
BOX = ((-0.5, -0.5, 0.0), (0.5, 0.5, 0.8))


def parallel(a: np.ndarray, b: np.ndarray) -> bool:
    """Return True if a and b point the same way (either may be tiny or huge)."""
    size_a, size_b = np.abs(a).max(), np.abs(b).max()
    if size_a < 1e-300 or size_b < 1e-300:
        return True
    return np.allclose(a / size_a, b / size_b, atol=1e-9)


@given(actions, openings, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
@example(np.array([5e15, 7e15, 5e15, 5e15, 7e15, 5e15, 0.0]), None, 5e-324, 5e-324, 0.0)
def test_limits_are_never_exceeded_and_the_direction_stays(action, opening, far, turn, stroke):
    limited, met = ActionLimits(far, turn, stroke).apply(action, opening)
    assert np.isfinite(limited).all()
    # numpy's norm underflows below 1e-160; the smallest numbers of all have no digits to round.
    assert math.hypot(*limited[:3]) <= far * (1 + 1e-9) + sys.float_info.min
    assert math.hypot(*limited[3:6]) <= turn * (1 + 1e-9) + sys.float_info.min
    assert 0.0 <= limited[6] <= 1.0
    if opening is not None:
        assert abs(limited[6] - opening) <= stroke + 1e-12
    assert parallel(limited[:3], action[:3])
    assert parallel(limited[3:6], action[3:6])
    changed = not np.allclose(limited, action, rtol=1e-9, atol=1e-6)
    assert not changed or met


@given(actions, points)
def test_a_box_is_never_left_and_an_arm_outside_comes_back(action, position):
    limited, _ = ActionLimits(0.3, 1.0, 1.0, BOX).apply(action, None, position)
    low, high = np.array(BOX)
    before = np.maximum(low - position, 0.0) + np.maximum(position - high, 0.0)
    reached = position + limited[:3]
    after = np.maximum(low - reached, 0.0) + np.maximum(reached - high, 0.0)
    assert (after <= before + 1e-12).all()


@given(actions, points, st.lists(points, max_size=4), st.data())
def test_motion_under_way_counts_whether_it_has_happened_or_not(action, position, pending, data):
    """A pose lags behind: one action after another left the box before the pose showed it."""
    limited, _ = ActionLimits(0.3, 1.0, 1.0, BOX).apply(action, None, position, pending)
    happened = [p for p in pending if data.draw(st.booleans())]
    there = position + np.sum(happened, axis=0) if happened else position
    low, high = np.array(BOX)
    for axis in range(3):
        if low[axis] <= there[axis] <= high[axis]:
            reached = there[axis] + limited[axis]
            assert low[axis] - 1e-9 <= reached <= high[axis] + 1e-9


@given(actions)
def test_what_is_within_the_limits_passes_unchanged(action):
    action = np.clip(action, -0.01, 0.01)
    action[6] = abs(action[6])
    limited, met = ActionLimits(0.05, 0.05).apply(action)
    assert (limited == action).all()
    assert met == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(7))
def test_what_is_not_finite_is_refused(bad, place):
    action = np.zeros(7)
    action[place] = bad
    with pytest.raises(NotFiniteError):
        ActionLimits(1.0, 1.0).apply(action)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_box_needs_a_finite_position(bad):
    """A NaN position used to turn the whole translation into NaN."""
    with pytest.raises(ValueError, match="position"):
        ActionLimits(1.0, 1.0, 1.0, BOX).apply(np.zeros(7), None, np.array([0.0, bad, 0.0]))


def test_a_box_without_position_is_refused():
    with pytest.raises(ValueError, match="position is not known"):
        ActionLimits(1.0, 1.0, 1.0, BOX).apply(np.zeros(7))


@pytest.mark.parametrize("shape", [(6,), (8,), (1, 7), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="7 values"):
        ActionLimits(1.0, 1.0).apply(np.zeros(shape))


def test_met_limits_are_named():
    action = np.array([9.0, 0, 0, 9.0, 0, 0, 9.0])
    _, met = ActionLimits(0.1, 0.1, 1.0, BOX).apply(action, 0.0, np.array([0.45, 0.0, 0.1]))
    assert met == ["translation", "rotation", "gripper", "workspace"]
