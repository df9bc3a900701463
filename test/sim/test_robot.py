"""The simulated robot: metres honoured, images of the right scene, experts that succeed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

backend = pytest.importorskip(
    "vla_pruner_ros.sim.backend",
    reason="the simulator needs mujoco, metaworld and libosmesa6",
    exc_type=ImportError,
)

from vla_pruner_lab.demonstrations.collect import (
    CollectionSettings,
    Shard,
    collect,
    collect_shard,
    plan,
)
from vla_pruner_lab.demonstrations.dataset import Demonstrations
from vla_pruner_lab.rollout.expert import Expert
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.sim.rendering import DEFAULT_VIEWS
from vla_pruner_ros.sim.robot import SimulatedRobot, axis_angle
from vla_pruner_ros.sim.tasks import INSTRUCTIONS, TASKS_WITH_GOAL, instruction_for

OPEN, CLOSED = 1.0, 0.0


@pytest.fixture(scope="module")
def robot():
    return SimulatedRobot("reach", seed=0, image_size=(64, 64))


def action(dx=0.0, dy=0.0, dz=0.0, gripper=OPEN):
    return np.array([dx, dy, dz, 0.0, 0.0, 0.0, gripper])


def settle(robot, steps=5):
    for _ in range(steps):
        state = robot.step(action())
    return state


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("duration", [0.05, 0.1, 0.33])
def test_displacement_is_carried_out_in_metres_along_the_base_axes(robot, axis, duration):
    robot.reset(0)
    start = settle(robot).end_effector_position
    command = np.zeros(7)
    command[axis], command[6] = 0.02, OPEN
    for _ in range(3):
        robot.step(command, duration)
    moved = settle(robot).end_effector_position - start
    expected = np.zeros(3)
    expected[axis] = 0.06
    # The hand follows its command through a soft constraint and comes 4 % short.
    np.testing.assert_allclose(moved, expected, atol=0.005)


def test_actions_that_overlap_in_time_lose_nothing(robot):
    robot.reset(0)
    start = robot.commanded_position()
    for _ in range(4):
        robot.command(action(dx=0.02), 0.1)
        for _ in range(6):  # the next action comes before the 8 control steps of this one are over
            robot.tick()
    for _ in range(2):
        robot.tick()
    np.testing.assert_allclose(robot.commanded_position() - start, [0.08, 0, 0], atol=1e-6)


def test_halt_drops_what_is_left_of_an_action_and_keeps_the_gripper(robot):
    robot.reset(0)
    robot.command(action(dx=0.08, gripper=CLOSED), 0.2)
    robot.tick()
    robot.halt()
    held = robot.commanded_position()
    for _ in range(40):
        state = robot.tick()
    np.testing.assert_array_equal(robot.commanded_position(), held)
    assert state.gripper_opening < 0.1


def test_motion_is_bounded_by_the_speed_of_the_arm_and_its_workspace(robot):
    robot.reset(0)
    start = robot.commanded_position()
    robot.step(action(dy=1.0), 0.1)
    assert robot.commanded_position()[1] - start[1] <= robot.max_speed * 0.1 + 1e-9
    for _ in range(20):
        state = robot.step(action(dz=-0.08))
    assert 0.0 < state.end_effector_position[2] < 0.1, "the hand stops above the table"
    back = robot.step(action(dz=0.05), 0.1).end_effector_position[2]
    assert back > state.end_effector_position[2] + 0.02, "no motion was stored up on the way down"


@pytest.mark.parametrize("opening", [0.0, 0.5, 1.0])
def test_the_gripper_reaches_the_opening_it_is_told(robot, opening):
    robot.reset(0)
    for _ in range(10):
        state = robot.step(action(gripper=opening))
    assert state.gripper_opening == pytest.approx(opening, abs=0.05)


def test_rotations_are_ignored_and_said_so_once(robot, caplog):
    caplog.set_level("INFO")
    robot.reset(0)
    before = robot.state().end_effector_quaternion
    turned = action()
    turned[3:6] = 0.2
    for _ in range(3):
        state = robot.step(turned)
    assert abs(np.dot(before, state.end_effector_quaternion)) > 0.999
    assert sum("rotations are ignored" in message for message in caplog.messages) == 1


@pytest.mark.parametrize(
    ("bad", "duration", "reason"),
    [
        (np.zeros(4), 0.1, "7 finite numbers"),
        (np.full(7, np.nan), 0.1, "7 finite numbers"),
        (np.zeros(7), 0.0, "duration"),
        (np.zeros(7), float("nan"), "duration"),
    ],
)
def test_bad_actions_are_refused_by_name(robot, bad, duration, reason):
    with pytest.raises(ValueError, match=reason):
        robot.step(bad, duration)


def test_bad_construction_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown task 'fly'"):
        SimulatedRobot("fly")
    with pytest.raises(ValueError, match=r"unknown cameras \['roof'\]"):
        SimulatedRobot("reach", cameras=("roof",))


def test_equal_seeds_give_equal_episodes_and_others_do_not():
    robots = [SimulatedRobot("pick-place", image_size=(64, 64)) for _ in range(2)]
    robots[1].reset(5)
    robots[1].step(action(dx=0.03))  # what came before must not matter
    states = []
    for robot in robots:
        robot.reset(7)
        robot.step(action(dx=0.03, gripper=CLOSED))
        states.append((robot.observation.copy(), robot.render("scene")))
    np.testing.assert_array_equal(states[0][0], states[1][0])
    np.testing.assert_array_equal(states[0][1], states[1][1])
    robots[0].reset(8)
    robots[0].step(action(dx=0.03, gripper=CLOSED))
    assert not np.array_equal(robots[0].observation, states[0][0])
    for robot in robots:
        robot.close()


def test_a_remembered_instant_continues_exactly_as_before(robot):
    robot.reset(3)
    robot.step(action(dx=0.03))
    instant = robot.save()
    first = robot.step(action(dy=0.04, gripper=CLOSED))
    robot.restore(instant)
    again = robot.step(action(dy=0.04, gripper=CLOSED))
    np.testing.assert_array_equal(first.joint_positions, again.joint_positions)


def test_the_state_speaks_liberos_order(robot):
    state = robot.reset(0)
    proprioception = state.proprioception
    assert proprioception.shape == (8,)
    assert proprioception.dtype == np.float32
    np.testing.assert_allclose(proprioception[:3], state.end_effector_position, rtol=1e-6)
    np.testing.assert_allclose(proprioception[3:6], axis_angle(state.end_effector_quaternion))
    assert state.end_effector_position[0] > 0.4, "the hand is in front of the robot: x forward"
    assert len(state.joint_names) == len(state.joint_positions) == 9


def test_images_follow_the_robot_on_every_camera(robot):
    robot.reset(0)
    before = {name: robot.render(name) for name in robot.views}
    for _ in range(5):
        robot.step(action(dx=0.03))
    for name, image in before.items():
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - robot.render(name)).mean() > 1
    assert not np.array_equal(before["scene"], before["gripper"])


def test_robots_of_one_process_never_show_each_others_images():
    """From the second round on, images once went to another robot's framebuffer."""
    tasks = ("drawer-close", "window-open", "reach")
    robots = [SimulatedRobot(task, image_size=(64, 64)) for task in tasks]
    alone = []
    for robot in robots:
        alone.append(robot.render("scene"))
        robot._renderer.close()
        robot._renderer = None
    together = [[robot.render("scene") for robot in robots] for _ in range(4)]
    for images in together:
        np.testing.assert_array_equal(images, alone)
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("task", sorted(TASKS_WITH_GOAL))
def test_the_goal_is_seen_where_only_it_tells_the_place(task):
    robot = SimulatedRobot(task, seed=1, cameras=("scene",))
    image = robot.render("scene").astype(int)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    goal = (green > 120) & (red < 60) & (blue < 60)
    puck = (red > 180) & (green < 40) & (blue < 40)
    assert goal.sum() > 25
    assert puck.sum() > 25
    robot.close()


def test_no_marker_gives_the_task_away():
    robot = SimulatedRobot("drawer-open", seed=1, cameras=("scene",))
    image = robot.render("scene").astype(int)
    assert not ((image[..., 1] > 150) & (image[..., 0] < 60) & (image[..., 2] < 60)).any()
    robot.close()


@pytest.mark.parametrize(("task", "seeds"), [("drawer-close", 3), ("pick-place", 4)])
def test_experts_succeed_through_metric_actions(task, seeds):
    robot = SimulatedRobot(task)
    expert = Expert(robot)
    succeeded = 0
    for seed in range(seeds):
        state = robot.reset(seed)
        for _ in range(60):
            state = robot.step(expert.action())
            if state.success:
                break
        succeeded += state.success
    assert succeeded >= seeds - 1


def test_asking_the_expert_does_not_move_the_robot(robot):
    robot.reset(2)
    before = robot.state()
    expected = Expert(robot).action()
    after = robot.state()
    np.testing.assert_array_equal(before.joint_positions, after.joint_positions)
    assert np.linalg.norm(expected[:3]) > 0.01
    assert after.time == before.time


def test_every_task_has_an_environment_an_expert_and_a_distinct_instruction():
    assert len(INSTRUCTIONS) >= 10
    phrases = [phrase for task in INSTRUCTIONS for phrase in INSTRUCTIONS[task]]
    assert len(set(phrases)) == len(phrases), "two tasks have the same instruction"
    for task in INSTRUCTIONS:
        assert f"{task}-v3" in backend.ENVIRONMENTS
        assert f"{task}-v3" in backend.EXPERTS
    assert instruction_for("drawer-close-v3") == "close the drawer"


def test_jittered_views_stay_near_and_differ():
    view = DEFAULT_VIEWS["scene"]
    jittered = [view.jittered(np.random.default_rng(seed)) for seed in range(20)]
    assert len({v.azimuth for v in jittered}) == 20
    assert all(abs(v.azimuth - view.azimuth) <= 3 for v in jittered)
    assert view.jittered(np.random.default_rng(0), amount=0.0) == view


def test_demonstrations_are_collected_resumed_and_read_back(tmp_path):
    settings = CollectionSettings(image_size=64, episodes_per_shard=1)
    records = collect(tmp_path, ("handle-press",), 2, settings, workers=1)
    assert sum(record["episodes"] for record in records) == 2
    assert plan(tmp_path, ("handle-press",), 2, settings) == [], "a second run collects nothing"
    first = tmp_path / "handle-press" / "00000.npz"
    content = first.read_bytes()
    first.unlink()
    collect(tmp_path, ("handle-press",), 2, settings, workers=1)
    assert first.read_bytes() == content, "the same seeds give the same file"
    _check_reading(Demonstrations(tmp_path, cameras=("gripper", "scene")))
    with pytest.raises(ValueError, match="collected with"):
        collect(tmp_path, ("handle-press",), 2, CollectionSettings(image_size=32), workers=1)


def test_triton_loads_beside_the_renderer():
    pytest.importorskip("triton", reason="comes with torch for CUDA")
    order = "import vla_pruner_ros.sim.backend, triton"
    assert subprocess.run([sys.executable, "-c", order], timeout=60).returncode == 0


def test_expert_takes_over_where_a_policy_got(tmp_path):
    shape = {"hidden": 32, "layers": 4, "mlp": 64, "vision_width": 32}
    policy = write_untrained_checkpoint(tmp_path / "policy", "openvla", **shape)
    common = {"image_size": 64, "episodes_per_shard": 2, "noise": 0.0, "jitter": 0.0}
    plain, corrections = tmp_path / "data", tmp_path / "data" / "corrections"
    shard = plain / "handle-press" / "00000.npz"
    collect_shard(Shard(shard, "handle-press", 0, CollectionSettings(**common)))
    alone = Demonstrations(plain)
    settings = CollectionSettings(**common, policy=str(policy), policy_actions=20)
    shard = corrections / "handle-press" / "00000.npz"
    collect_shard(Shard(shard, "handle-press", 0, settings))
    begun = Demonstrations(corrections)
    moved = begun.state_record(0).state[:3] - alone.state_record(0).state[:3]
    assert np.linalg.norm(moved) > 0.01, "not where an episode starts"
    assert len(Demonstrations(plain)) == len(alone) + len(begun), "both are found in one folder"
    assert set(begun.tasks) == {"handle-press"}


def _check_reading(demonstrations):
    last = len(demonstrations) - 1
    frame = demonstrations[last]
    assert [image.shape for image in frame.images] == [(64, 64, 3)] * 2
    assert frame.instruction in INSTRUCTIONS["handle-press"]
    assert frame.state.shape == (8,)
    chunk = demonstrations.action_chunk(last, 8)
    assert chunk.shape == (8, 7)
    np.testing.assert_array_equal(chunk[0], demonstrations.actions[last])
    np.testing.assert_array_equal(chunk[1:, :6], 0.0)
    np.testing.assert_array_equal(chunk[1:, 6], chunk[0, 6])
    # 0.25 m/s for 0.1 s: the action of the expert without the noise that was executed
    assert np.abs(demonstrations.actions[:, :3]).max() <= 0.0251
    with pytest.raises(IndexError):
        demonstrations[last + 1]


def test_reading_where_nothing_was_collected_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"demonstrations\.collect"):
        Demonstrations(tmp_path)
