"""Comparison of actions of any width: joints, scaled units, several grippers, no explanation."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.inputs.recorded import Recorded
from vla_pruner_ros.replay.replayer import ReplaySetting, Run, Step
from vla_pruner_ros.replay.results.action_space import END_EFFECTOR, action_space
from vla_pruner_ros.replay.results.comparison import compare_actions
from vla_pruner_ros.replay.results.files import write_csv, write_json
from vla_pruner_ros.replay.results.html_report import make_report
from vla_pruner_ros.replay.results.parity import check_parity, recorded_reference
from vla_pruner_ros.replay.results.result import ReplayResult, Source, sweep
from vla_pruner_ros.replay.results.summary_table import headers, terminal_text
from vla_pruner_ros.robots import load_profile

ALOHA = action_space(load_profile("aloha"), 14)
LEFT_WAIST, LEFT_GRIPPER, RIGHT_GRIPPER = 0, 6, 13


def chunk(steps: int = 4) -> np.ndarray:
    """Both arms turn their waists; the grippers are open."""
    actions = np.zeros((steps, 14), np.float32)
    actions[:, [0, 7]] = 0.1 * np.arange(steps)[:, None]
    actions[:, [LEFT_GRIPPER, RIGHT_GRIPPER]] = 1.0
    return actions


def test_fourteen_joint_numbers_are_compared_as_joints_and_two_grippers():
    ours, theirs = chunk(), chunk()
    ours[:, LEFT_WAIST] += 0.12
    ours[:2, RIGHT_GRIPPER] = 0.3
    found = compare_actions(ours, theirs, ALOHA)
    assert found.joints == pytest.approx(0.12 / 12, rel=1e-5)
    assert found.gripper == pytest.approx(2 / 8), "two of four steps, one of two grippers"
    assert found.largest == pytest.approx(0.7, rel=1e-5)
    assert math.isnan(found.translation)
    assert math.isnan(found.rotation)
    assert found.absolute[[LEFT_WAIST, RIGHT_GRIPPER]] == pytest.approx([0.12, 0.35], rel=1e-5)


def test_the_motion_of_joint_targets_is_the_way_between_them():
    """Two chunks of the same direction at other places have a cosine of 1, opposite ones -1."""
    ours, back = chunk() + 0.5, chunk()
    back[:, [0, 7]] *= -1.0
    assert compare_actions(ours, chunk(), ALOHA).cosine == pytest.approx(1.0, rel=1e-5)
    assert compare_actions(back, chunk(), ALOHA).cosine == pytest.approx(-1.0, rel=1e-5)
    assert math.isnan(compare_actions(chunk(1), chunk(1), ALOHA).cosine), "one target has no way"


def test_libero_numbers_are_compared_in_metres_and_radians():
    """1.0 leads 0.05 m ahead: as metres the error was twenty times too large."""
    ours, theirs = np.zeros((2, 7), np.float32), np.zeros((2, 7), np.float32)
    ours[:, 0], ours[:, 3] = 1.0, 0.2
    space = action_space(load_profile("franka_libero"), 7)
    found = compare_actions(ours, theirs, space)
    assert (found.translation, found.rotation) == pytest.approx((0.05, 0.1), rel=1e-5)
    assert found.absolute[0] == pytest.approx(1.0), "absolute keeps the policy's own numbers"


@pytest.mark.parametrize(
    ("robot", "open_number", "closed_number"),
    [("franka_libero", 0.9, 0.1), ("franka_libero_pi0", -0.4, 0.4), ("franka_droid", 0.2, 0.8),
     ("so101", 80.0, 20.0), ("ur5", 0.1, 0.9)],
)  # fmt: skip
def test_open_and_closed_follow_the_profile(robot, open_number, closed_number):
    profile = load_profile(robot)
    space = action_space(profile, profile.action_dim)
    opened, closed = np.zeros((2, 1, profile.action_dim), np.float32)
    opened[:, -1], closed[:, -1] = open_number, closed_number
    assert space.are_open(opened).tolist() == [[True]]
    assert space.are_open(closed).tolist() == [[False]]


def test_degrees_are_compared_in_radians():
    space = action_space(load_profile("so101"), 6)
    ours = np.zeros((1, 6), np.float32)
    ours[0, 1] = 90.0
    found = compare_actions(ours, np.zeros((1, 6), np.float32), space)
    assert found.joints == pytest.approx(math.pi / 2 / 5, rel=1e-5)


def test_numbers_that_nothing_explains_are_compared_as_numbers():
    space = action_space(None, 14)
    assert not space.explained
    found = compare_actions(chunk() + 0.01, chunk(), space)
    assert found.joints == pytest.approx(0.01, rel=1e-4)
    assert math.isnan(found.gripper)
    assert action_space(None, 7) is END_EFFECTOR
    assert action_space(load_profile("aloha"), 7) is END_EFFECTOR, "another width explains nothing"
    assert headers(space)[3].startswith("error (0.001)")


def a_run(name: str, ratio: float, offset: float) -> Run:
    steps = [
        Step(n, n * 10**8, "go", "", chunk() + np.float32(offset), seconds=0.1, tokens=(4, 16))
        for n in range(3)
    ]
    return Run(ReplaySetting(name, PruningConfig(keep_ratio=ratio)), steps)


def recorded(actions: np.ndarray, number: int) -> Recorded:
    return Recorded(
        sequence=number, image_stamps=(number * 10**8 + 1,), state_stamp=0,
        received=number * 10**8, started=number * 10**8, seconds=0.1, instruction="go",
        actions=actions,
    )  # fmt: skip


def test_a_recording_of_fourteen_numbers_has_parity():
    """Only recordings of seven numbers could be compared; those of an ALOHA counted as none."""
    inferences = [recorded(chunk(), n) for n in range(3)]
    same = check_parity(a_run("recorded settings", 1.0, 0.0), inferences, space=ALOHA)
    assert (same.comparable, same.equal, same.holds) == (3, 3, True)
    other = check_parity(a_run("recorded settings", 1.0, 0.01), inferences, space=ALOHA)
    assert (other.comparable, other.equal) == (3, 0)
    assert other.largest == pytest.approx(0.01, rel=1e-3)
    narrow = [recorded(chunk()[:, :7], n) for n in range(3)]
    assert check_parity(a_run("recorded settings", 1.0, 0.0), narrow, space=ALOHA).comparable == 0


def test_all_results_are_written_for_fourteen_numbers(tmp_path):
    runs = [a_run("full", 1.0, 0.0), a_run("vla_pruner 50 %", 0.5, 0.012)]
    inferences = [recorded(chunk(), n) for n in range(3)]
    outcome = ReplayResult(Source("bag", "checkpoint", "pi0", True, "cpu"), ALOHA)
    outcome.swept = sweep(runs, recorded_reference(inferences), ALOHA)
    overall = outcome.swept[1].overall
    assert overall.joints == pytest.approx(0.012, rel=1e-3)
    assert overall.joints_max == pytest.approx(0.012, rel=1e-3)
    text = terminal_text(outcome)
    assert "joints (mrad)" in text
    assert "error (mm)" not in text
    row = next(line for line in text.splitlines() if line.startswith("vla_pruner 50 %"))
    assert "12" in row.split()
    write_json(tmp_path / "summary.json", outcome)
    written = json.loads((tmp_path / "summary.json").read_text())["settings"][1]["overall"]
    assert list(written["absolute"]) == list(load_profile("aloha").action_names)
    assert written["translation"] is None
    write_csv(tmp_path / "inferences.csv", outcome)
    with (tmp_path / "inferences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["error_right_waist"]) == pytest.approx(0.012, rel=1e-3)
    assert rows[-1]["translation_error"] == ""
    page = make_report(outcome, inferences, {})
    assert "left_waist (rad)" in page
    assert "joints (mrad)" in page
