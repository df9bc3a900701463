"""A bag into a running node without rosbag2: what the node receives, and the player itself."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the player needs rclpy")

from node_helpers import bench
from recorder_helpers import playing
from replay_bags import NODE, PERIOD, START, BagMaker, MemoryPolicy, record_episode, sample_image
from rosgraph_msgs.msg import Clock

from vla_pruner_ros.bringup import cli as bringup
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.msg import ActionChunk
from vla_pruner_ros.nodes.messages import to_nanoseconds
from vla_pruner_ros.replay.live import parameters_as_recorded

RECORDED = 1000
"""First sequence of the recorded answers, which distinguishes them from the running node's."""


class LivePolicy(MemoryPolicy):
    """The replay's policy in a node; counts how often it was reset."""

    resets = 0

    def reset(self) -> None:
        super().reset()
        self.resets += 1

    def preview(self, image: np.ndarray) -> np.ndarray:
        return image


@pytest.fixture
def no_overrides(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**/vla_pruner: {ros__parameters: {use_sim_time: true}}")
    return file


def test_node_answers_a_bag_played_in_a_loop_beside_what_was_recorded(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.sequence = RECORDED
        record_episode(bag, 8)
    policy = LivePolicy()
    with bench(policy, use_sim_time=True, max_image_age=5.0) as b:
        answers = b.listen(ActionChunk, f"{NODE}/action_chunk")
        recorded = b.listen(ActionChunk, f"/recorded{NODE}/action_chunk")
        clock = b.listen(Clock, "/clock")
        b.activate()
        before = policy.resets
        with playing(b.client.context, tmp_path / "bag", loop=True, rate=2.0):
            b.until(lambda: passes(answers) >= 3, "answers to three passes")
            b.until(lambda: len(recorded) > 8, "recorded answers of two passes")
    known = {START + number * PERIOD for number in range(8)}
    assert {to_nanoseconds(one.image_stamps[0]) for one in answers} <= known
    assert all(one.sequence < RECORDED for one in answers)
    assert all(one.sequence >= RECORDED for one in recorded)
    assert policy.resets >= before + 2
    times = np.array([to_nanoseconds(one.clock) for one in clock])
    assert (times >= START - 3 * PERIOD).all()
    assert (np.diff(times) < 0).sum() >= 2  # once a loop


def test_an_instruction_that_was_a_parameter_is_played(tmp_path):
    """The running node went on with the first one."""
    with BagMaker(tmp_path / "bag") as bag:
        bag.sequence = RECORDED
        bag.parameters(-PERIOD, instruction="open it", keep_ratio=0.5)
        policy = MemoryPolicy()
        for number in range(12):
            if number == 4:
                bag.parameters(number * PERIOD - 1, node="/another", instruction="dance")
            if number == 6:
                bag.parameters(number * PERIOD - 1, instruction="shut it")
            bag.image(sample_image(number), number * PERIOD)
            text = "open it" if number < 6 else "shut it"
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], text))
    parameters = {"use_sim_time": True, "max_image_age": 5.0, "instruction": "open it"}
    with bench(LivePolicy(), **parameters) as b:
        answers = b.listen(ActionChunk, f"{NODE}/action_chunk")
        b.activate()
        with playing(b.client.context, tmp_path / "bag", loop=True, rate=2.0):
            b.until(lambda: passes(answers) >= 3, "answers to three passes")
    heard = [one.instruction for one in answers]
    changes = [text for before, text in pairwise(["", *heard]) if text != before]
    assert changes[:4] == ["open it", "shut it", "open it", "shut it"]


def passes(answers) -> int:
    """Count how often the stamps begin anew."""
    stamps = [to_nanoseconds(one.image_stamps[0]) for one in answers]
    return int((np.diff(stamps) < 0).sum()) + bool(stamps)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "bag:=/nowhere"], "/nowhere does not exist"),
        (["-p", "bag:=BAG", "-p", "rate:=0.0"], "rate must be at least 0.001, got 0.0"),
    ],
)
def test_player_that_cannot_play_says_why(tmp_path, arguments, reason):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", 0)
    start = "import sys; from vla_pruner_ros.nodes.player import main; sys.exit(main())"
    arguments = [one.replace("BAG", str(tmp_path / "bag")) for one in arguments]
    done = subprocess.run(
        [sys.executable, "-c", start, "--ros-args", *arguments],
        env=os.environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_node_receives_cameras_instruction_and_pruning_of_the_bag(tmp_path, no_overrides):
    """Without them it waited for an instruction that had been a parameter."""
    policy = MemoryPolicy(num_cameras=2)
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(
            -PERIOD, prune_layer=2, keep_ratio=0.5, state_joints=[], checkpoint="/on/the/robot",
            image_topics=["wrist/image_raw", "front/image_raw"], unnorm_key="",
        )  # fmt: skip
        for topic in ("/front/image_raw/compressed", "/wrist/image_raw/compressed"):
            bag.compressed(sample_image(0), 0, topic=topic)
        bag.answer(policy, [0, 0], Observation([sample_image(0), sample_image(0)], "open it"))
    reported = parameters_as_recorded(tmp_path / "bag", "", no_overrides)
    assert reported == {
        "prune_layer": 2,
        "keep_ratio": 0.5,
        "image_topics": ["/wrist/image_raw", "/front/image_raw"],
        "image_transport": "compressed",
        "instruction": "open it",
    }
    no_overrides.write_text("/**: {ros__parameters: {keep_ratio: 0.125, instruction: shut it}}")
    left = parameters_as_recorded(tmp_path / "bag", "", no_overrides)
    assert left.keys() == reported.keys() - {"keep_ratio", "instruction"}


def test_bag_of_another_software_tells_nothing(tmp_path, no_overrides):
    with BagMaker(tmp_path / "bag") as bag:
        bag.image(sample_image(0), 0)
    assert parameters_as_recorded(tmp_path / "bag", "", no_overrides) == {}


def test_bringup_with_a_bag_is_on_its_time_and_yields_to_what_is_named(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        record_episode(bag, 4)
    given = bringup.parse_arguments([f"bag:={tmp_path / 'bag'}", "keep_ratio:=0.125", "loop:=true"])
    assert given["use_sim_time"] == "true"
    arguments = bringup.policy_arguments(given)
    assert arguments[1].endswith("replay.yaml")
    values = dict(one.split(":=", 1) for one in arguments if ":=" in one)
    assert yaml.safe_load(values["keep_ratio"]) == 0.125
    assert yaml.safe_load(values["temporal_window"]) == 4
    assert values["instruction"] == "pick up the cup"
    assert "loop:=true" in bringup.player_arguments(given)
