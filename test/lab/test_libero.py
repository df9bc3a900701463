"""LIBERO through the profile franka_libero. Where LIBERO is missing, only the expert's geometry."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from vla_pruner_lab.libero.__main__ import run_episode
from vla_pruner_lab.libero.arm import LiberoArm
from vla_pruner_lab.libero.expert import clear_place, narrow_direction
from vla_pruner_ros.robots import load_profile

needs_libero = pytest.mark.skipif(
    find_spec("libero") is None, reason="LIBERO is not installed: see docs/how-to/franka.md"
)
MOST_STEPS = 280


def box(width: float, length: float, turned: float = 0.0) -> np.ndarray:
    """Corners [4, 3] of a flat box, its width along x before it is turned."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, length / 2]
    cos, sin = np.cos(turned), np.sin(turned)
    flat = corners @ np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([flat, np.zeros(4)])


@pytest.mark.parametrize("turned", [0.0, 0.4, 1.2, -0.7])
def test_fingers_close_along_the_narrow_side(turned):
    found = narrow_direction(box(0.04, 0.09, turned))
    apart = (found - turned + np.pi / 2) % np.pi - np.pi / 2
    assert abs(apart) < 0.1


def test_the_hand_keeps_away_from_a_can_next_to_the_object():
    points = box(0.09, 0.04)
    free = clear_place(points, np.pi / 2, [])
    assert free == pytest.approx([0.0, 0.0])
    shifted = clear_place(points, np.pi / 2, [np.array([0.05, -0.1, 0.04])])
    assert -0.045 < shifted[0] < -0.01


@needs_libero
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("robot", ["franka_libero", "franka_libero_pi0"])
def test_an_expert_that_speaks_through_the_profile_puts_things_into_the_basket(robot):
    """Units, frames, the gripper's sign and the state's layout are right at once, or it misses."""
    records = []
    for task in range(0, 10, 3):
        arm = LiberoArm(load_profile(robot), "libero_object", task)
        records.append(run_episode(arm, 0, MOST_STEPS))
        arm.close()
    assert all(record["success"] for record in records), records
    assert max(record["state_difference"] for record in records) < 1e-9


@needs_libero
@pytest.mark.timeout(600)
def test_images_are_upright_with_left_and_right_exchanged():
    arm = LiberoArm(load_profile("franka_libero"), "libero_object", 0)
    arm.reset(0)
    for name in ("milk_1", "tomato_sauce_1", "salad_dressing_1"):
        column, row = arm.projected(0, arm.position_of(name))
        assert arm.seen_at(0, name) == pytest.approx([255.0 - column, row], abs=8.0), name
    assert arm.image(0).std() > 10
    arm.close()
