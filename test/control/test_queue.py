"""The action queue: what is skipped, replaced and blended."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_pruner_ros.control.action_queue import ActionQueue, PlannedAction, blend

SECOND = 10**9


def chunk(values, sequence=0, stamp=0, gripper=1.0):
    """A chunk whose action i moves values[i] along x."""
    return [
        PlannedAction(
            np.array([x, 0, 0, 0, 0, 0, gripper], dtype=np.float32), i, sequence, stamp, 1, stamp
        )
        for i, x in enumerate(values)
    ]


def played(queue: ActionQueue) -> list[tuple[int, int]]:
    """(sequence, step) of everything that comes out."""
    return [(a.sequence, a.step) for a in iter(queue.pop, None)]


def test_actions_come_out_in_order_and_then_nothing():
    queue = ActionQueue()
    queue.replace(chunk([1, 2, 3]), now=0, period=0.1)
    assert queue.next.image_stamp == 0
    assert played(queue) == [(0, 0), (0, 1), (0, 2)]
    assert queue.pop() is None
    assert queue.next is None


def test_new_chunk_replaces_what_is_left():
    queue = ActionQueue()
    queue.replace(chunk([1, 2, 3, 4]), now=0, period=0.1)
    queue.pop()
    queue.replace(chunk([5, 6], sequence=1), now=0, period=0.1)
    assert played(queue) == [(1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("age", "first"), [(-1.0, 0), (0.0, 0), (0.09, 0), (0.1, 1), (0.25, 2), (0.39, 3), (99.0, 3)]
)
def test_actions_whose_time_has_passed_are_skipped_but_never_all(age, first):
    queue = ActionQueue()
    stamp = 50 * SECOND
    queue.replace(chunk([0] * 4, stamp=stamp), now=stamp + round(age * SECOND), period=0.1)
    assert played(queue) == [(0, step) for step in range(first, 4)]
    assert queue.skipped == first


def test_without_compensation_nothing_is_skipped():
    queue = ActionQueue()
    queue.replace(chunk([0] * 4), now=SECOND, period=0.1, compensate=False)
    assert len(queue) == 4
    assert queue.skipped == 0


@given(
    steps=st.integers(0, 20),
    age=st.floats(-2.0, 5.0),
    period=st.floats(0.005, 1.0),
    left=st.integers(0, 10),
    blend_steps=st.integers(0, 12),
)
def test_what_plays_is_always_the_tail_of_the_newest_chunk(steps, age, period, left, blend_steps):
    queue = ActionQueue()
    queue.replace(chunk([9] * left), now=0, period=1.0)
    now = round(age * SECOND)
    queue.replace(chunk([0] * steps, sequence=1), now, period, blend_steps=blend_steps)
    out = played(queue)
    assert out == [(1, step) for step in range(steps - len(out), steps)]
    assert bool(out) == bool(steps)


@given(
    old=st.lists(st.floats(-1, 1, width=32), max_size=8),
    new=st.lists(st.floats(-1, 1, width=32), max_size=8),
    steps=st.integers(0, 10),
)
def test_blend_lies_between_and_ends_in_the_new_chunk(old, new, steps):
    blended = blend(chunk(old, gripper=0.0), chunk(new, sequence=1), steps)
    assert [(a.sequence, a.step) for a in blended] == [(1, i) for i in range(len(new))]
    assert all(a.values[6] == 1.0 for a in blended)
    mixed = min(steps, len(old), len(new))
    for i, action in enumerate(blended):
        low, high = sorted((new[i], old[i] if i < mixed else new[i]))
        assert low - 1e-6 <= action.values[0] <= high + 1e-6


def test_blend_share_of_the_new_chunk_grows():
    blended = blend(chunk([0, 0, 0]), chunk([1, 1, 1, 1]), steps=3)
    assert [float(a.values[0]) for a in blended] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_blend_leaves_its_inputs_alone():
    old, new = chunk([0.0]), chunk([1.0])
    blend(old, new, 1)
    assert (old[0].values[0], new[0].values[0]) == (0.0, 1.0)
