"""The simulated ALOHA follows positions, as its drives and limits allow."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="MuJoCo is not installed")
pytest.importorskip("gym_aloha", reason="gym-aloha is not installed")

from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.robots.urdf import joint_limits
from vla_pruner_ros.sim.aloha import CAMERAS, JOINTS, AlohaArms
from vla_pruner_ros.sim.trajectories import FollowedTrajectory

POSE = {
    "left_waist": 0.4, "left_shoulder": -0.7, "left_elbow": 0.9, "left_forearm_roll": 0.5,
    "left_wrist_angle": 0.2, "left_wrist_rotate": -0.4, "right_waist": -0.3,
    "left_left_finger": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def arms():
    made = AlohaArms((48, 64))
    yield made
    made.close()


def settled(arms: AlohaArms, seconds: float = 1.5) -> dict[str, float]:
    for _ in range(round(seconds / arms.control_period)):
        positions = arms.tick()
    return dict(zip(JOINTS, positions, strict=True))


def test_joints_reach_their_positions_within_a_hundredth(arms):
    arms.reset()
    arms.command(POSE)
    reached = settled(arms)
    for name, position in POSE.items():
        assert reached[name] == pytest.approx(position, abs=0.005), name
    assert reached["left_right_finger"] == pytest.approx(-0.05, abs=0.005)


def test_no_joint_is_led_out_of_its_range(arms):
    arms.reset()
    arms.command(dict.fromkeys(JOINTS, 100.0))
    for name, position in zip(JOINTS, arms.setpoints, strict=True):
        low, high = arms.ranges[name]
        assert low <= position <= high, name


def test_the_profile_s_limits_are_those_of_the_model(arms):
    profile, urdf = load_profile("aloha"), joint_limits(arms.urdf())
    for name in profile.joints:
        limits = profile.limits.joints[name]
        assert (limits.min, limits.max) == pytest.approx(arms.ranges[name], abs=1e-4)
        assert (urdf[name].min, urdf[name].max) == pytest.approx(arms.ranges[name], abs=1e-4)
    assert set(profile.needed_joints) <= set(JOINTS)


def test_every_camera_shows_another_image(arms):
    arms.reset()
    images = [arms.render(name) for name in CAMERAS]
    assert all(image.shape == (48, 64, 3) and image.std() > 1 for image in images)
    assert not np.array_equal(images[0], images[1])


KNOWN = {"a": 0.0, "b": 1.0}


def test_a_trajectory_starts_where_the_joints_are_and_stays_at_its_end():
    followed = FollowedTrajectory.checked(["b", "a"], [0.1, 0.3], [[1, 1], [3, 1]], KNOWN, 5.0)
    assert followed.at(5.05) == pytest.approx({"b": 1.0, "a": 0.5})
    assert followed.at(5.2) == pytest.approx({"b": 2.0, "a": 1.0})
    assert followed.at(9.0) == pytest.approx({"b": 3.0, "a": 1.0})


@pytest.mark.parametrize(
    ("names", "times", "positions", "reason"),
    [
        (["a", "c"], [0.1], [[0, 0]], "not there: c"),
        (["a"], [], [], "do not have one position"),
        (["a"], [0.1], [[0, 1]], "do not have one position"),
        (["a"], [0.1, 0.1], [[0], [1]], "times do not increase"),
        (["a"], [0.0], [[0]], "times do not increase"),
        (["a"], [0.1], [[float("nan")]], "not finite"),
    ],
)
def test_a_trajectory_that_no_controller_takes_is_refused(names, times, positions, reason):
    with pytest.raises(ValueError, match=reason):
        FollowedTrajectory.checked(names, times, positions, KNOWN, 0.0)
