"""LIBERO through the profile franka_libero. Where LIBERO is missing, only the expert's geometry."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from vla_pruner_lab.libero.__main__ import run_episode
from vla_pruner_lab.libero.arm import IMAGE, SETTLING, SETTLING_STEPS, LiberoArm
from vla_pruner_lab.libero.expert import clear_place, narrow_direction
from vla_pruner_ros.robots import RobotProfile, load_profile

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


OBJECTS = ("milk_1", "tomato_sauce_1", "salad_dressing_1")


def turned(rotation: int) -> RobotProfile:
    """The profile with another rotation of its cameras."""
    profile = load_profile("franka_libero")
    cameras = tuple(replace(camera, rotation=rotation) for camera in profile.cameras)
    return replace(profile, cameras=cameras)


def misplaced(profile: RobotProfile, mirrored: bool = False) -> float:
    """Largest distance (pixels) of an object from where the data sets show it, by the profile.

    They show a physical camera's image with left and right exchanged.
    """
    arm = LiberoArm(profile, "libero_object", 0)
    arm.reset(0)
    worst = 0.0
    for name in OBJECTS:
        column, row = arm.projected(0, arm.position_of(name))
        seen = arm.seen_at(0, name)
        assert np.isfinite(seen).all(), f"{name} is hidden"
        seen = np.array([255.0 - seen[0], seen[1]]) if mirrored else seen
        worst = max(worst, float(np.abs(seen - [255.0 - column, row]).max()))
    assert arm.image(0).std() > 10
    arm.close()
    return worst


@needs_libero
@pytest.mark.timeout(600)
def test_images_are_upright_with_left_and_right_exchanged():
    assert misplaced(load_profile("franka_libero")) < 8.0


@needs_libero
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rotation", [0, 90, 270])
def test_a_wrong_rotation_in_the_profile_is_noticed(rotation):
    """0 is how the simulator gives its images: upside down."""
    assert misplaced(turned(rotation)) > 30.0


@needs_libero
@pytest.mark.timeout(600)
def test_a_mirrored_image_is_noticed():
    assert misplaced(load_profile("franka_libero"), mirrored=True) > 30.0


@needs_libero
@pytest.mark.timeout(900)
@pytest.mark.parametrize("robot", ["franka_libero", "franka_libero_pi0"])
def test_images_are_those_of_the_evaluations_of_openvla_and_openpi(robot):
    """Both hand obs[...][::-1, ::-1] to the policy."""
    arm = LiberoArm(load_profile(robot), "libero_object", 0)
    arm.reset(0)
    ours = [arm.image(camera) for camera in (0, 1)]
    arm.close()  # two renderers in one process return each other's images
    for image, name in zip(ours, ("agentview_image", "robot0_eye_in_hand_image"), strict=True):
        theirs = observed_after_settling(name)[::-1, ::-1].astype(np.int16)
        assert np.abs(image - theirs).mean() < 0.5, name
        for wrong in (image[::-1], image[:, ::-1], image[::-1, ::-1]):
            assert np.abs(wrong - theirs).mean() > 5.0, name


def observed_after_settling(name: str) -> np.ndarray:
    """An image of LIBERO's own environment, as its evaluation begins."""
    from libero.libero import benchmark, get_libero_path
    from libero.libero.envs import OffScreenRenderEnv

    suite = benchmark.get_benchmark_dict()["libero_object"]()
    task = suite.get_task(0)
    scene = Path(get_libero_path("bddl_files")) / task.problem_folder / task.bddl_file
    env = OffScreenRenderEnv(bddl_file_name=str(scene), camera_heights=IMAGE, camera_widths=IMAGE)
    env.seed(0)
    env.reset()
    env.set_init_state(suite.get_task_init_states(0)[0])
    for _ in range(SETTLING_STEPS):
        seen, _, _, _ = env.step(SETTLING)
    env.close()
    return seen[name]
