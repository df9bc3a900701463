"""The processes of `make demo`, for a few seconds: separate programs that talk over DDS."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the demonstration needs rclpy")
pytest.importorskip("metaworld", reason="MetaWorld is not installed: there is no robot to simulate")

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.resources import SIMULATION_POLICY


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demonstration once; returns (finished process, output directory)."""
    out = tmp_path_factory.mktemp("demo")
    command = [
        sys.executable,
        "-m",
        "vla_pruner_lab.demo",
        "--out",
        str(out),
        "--inferences",
        "12",
        "--rounds",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    return done, out


def test_every_budget_was_obeyed(demo):
    done, _ = demo
    assert done.returncode == 0, done.stdout + done.stderr
    for ratio, tokens in ((1, 512), (0.5, 256), (0.25, 128)):
        lines = [line.split() for line in done.stdout.splitlines()]
        row = next(line for line in lines if line[:1] == [f"{ratio:g}"])
        assert row[3] == str(tokens)
        assert int(row[2]) > 0


def test_the_last_line_names_the_report_and_episodes_belong_to_budgets(demo):
    done, out = demo
    lines = done.stdout.strip().splitlines()
    assert lines[-1] == f"Report: {out / 'report.html'}"
    assert any(line.startswith("Next: ") and "vla_pruner_replay" in line for line in lines)
    assert "budgets in turns, load " in done.stdout
    report = (out / "report.html").read_text()
    assert "close the drawer" in report
    assert report.index("keep_ratio 0.25: 128") < report.index("keep_ratio 1: 512")
    assert "What to do next" in report


def test_turns_alternate_and_every_budget_has_as_many():
    from vla_pruner_lab.demo.cli import turns_of

    assert turns_of((1.0, 0.5, 0.25), 3) == [1.0, 0.5, 0.25, 0.25, 0.5, 1.0, 1.0, 0.5, 0.25]


def test_report_is_one_file_of_a_trained_policy(demo):
    _, out = demo
    report = (out / "report.html").read_text()
    assert SIMULATION_POLICY in report
    assert "untrained" not in report
    assert "data:image/" in report
    assert 'src="http' not in report


def test_bag_holds_what_replay_needs(demo):
    _, out = demo
    with BagReader(out / "bag") as bag:
        topics = set(bag.topics)
    assert {
        "/image_raw",
        "/gripper/image_raw",
        "/joint_states",
        "/instruction",
        "/vla_pruner/action",
        "/vla_pruner/action_chunk",
        "/vla_pruner/pruning",
    } <= topics


def test_weights_were_called_trained_and_the_task_was_the_robots(demo):
    _, out = demo
    assert "UNTRAINED" not in (out / "logs" / "vla_pruner_node.log").read_text()
    assert "Task: close the drawer" in (out / "logs" / "sim_robot_node.log").read_text()
    assert "close the drawer" in demo[0].stdout
