"""Sampled replay of a bag whose joint states come from several topics at rates of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from replay_bags import PERIOD, START, BagMaker, MemoryPolicy, sample_image

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.replay.replayer import Replayer, ReplaySetting, Run
from vla_pruner_ros.replay.session import Choice, Session
from vla_pruner_ros.robots import load_profile

PROFILE = """\
format: 1
source: a test
control_rate: 10.0
grippers:
  hand: {joints: [finger], closed: 0.0, open: 0.04}
state:
  - {source: joint_states, joints: [left_a, right_a], unit: rad}
  - {source: gripper, closed: 0.0, open: 1.0}
  - {source: joint_states, joints: [left_b], unit: deg}
action:
  - {kind: end_effector_delta, representation: position, unit: m}
  - {kind: end_effector_delta, representation: rpy, unit: rad}
  - {kind: gripper, closed: 0.0, open: 1.0}
"""
TOPICS = ["left_=/left/joint_states", "right_=/right/joint_states", "/hand/joint_states"]
MILLISECOND = PERIOD // 100


def recorded_chunk(bag: BagMaker) -> None:
    """A chunk tells which node's parameters count."""
    bag.answer(MemoryPolicy(), [0], Observation([sample_image(0)], "go"))


def joint_state(bag: BagMaker, topic: str, time: int, **positions: float) -> None:
    message = bag.make(
        types.JOINT_STATE,
        header=bag.header(time),
        name=list(positions),
        position=np.array(list(positions.values())),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )
    bag.add(topic, types.JOINT_STATE, time, message)


def record(path: Path, frames: int = 5) -> None:
    """Record the left arm between all frames, the right one between every second, the hand once."""
    with BagMaker(path) as bag:
        bag.parameters(-PERIOD, joint_state_topics=TOPICS, image_topics=["image_raw"])
        bag.instruction("go", -PERIOD)
        joint_state(bag, "/hand/joint_states", -50 * MILLISECOND, finger=0.01)
        joint_state(bag, "/somebody/joint_states", -50 * MILLISECOND, finger=0.04, left_a=9.0)
        for number in range(frames):
            time = number * PERIOD
            joint_state(bag, "/left/joint_states", time - 30 * MILLISECOND, a=0.1 * number, b=1.0)
            if number % 2 == 0:
                joint_state(bag, "/right/joint_states", time - 20 * MILLISECOND, a=-0.1 * number)
            bag.image(sample_image(number), time)
            # Measured before the frame, but received after it: the node did not know it either.
            joint_state(bag, "/left/joint_states", time + 40 * MILLISECOND, a=5.0)
        recorded_chunk(bag)


class Seeing(MemoryPolicy):
    """Keeps the states that it saw."""

    def __init__(self) -> None:
        super().__init__(state_dim=4)
        self.states: list[np.ndarray] = []

    def act(self, observation):
        self.states.append(np.asarray(observation.state))
        return super().act(observation)


@pytest.mark.parametrize("every", [1, 2])
def test_the_state_is_the_newest_of_each_joint_at_the_sampled_frame(every, tmp_path):
    record(tmp_path / "bag")
    (tmp_path / "arms.yaml").write_text(PROFILE)
    profile, policy = load_profile(str(tmp_path / "arms.yaml")), Seeing()
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice(every=every))
        assert session.topics.states == (
            ("left_", "/left/joint_states"),
            ("right_", "/right/joint_states"),
            ("", "/hand/joint_states"),
        )
        inputs = list(session.inputs())
        run = Run(ReplaySetting("full", policy.pruning))
        list(Replayer(policy, (), profile).run(inputs, run))
    assert not run.problems
    frames = range(0, 5, every)
    assert [one.stamp for one in inputs] == [START + n * PERIOD for n in frames]
    expected = [[0.1 * n, -0.1 * (n - n % 2), 0.25, np.rad2deg(1.0)] for n in frames]
    assert np.array(policy.states[1:]) == pytest.approx(np.array(expected), abs=1e-6)


def test_without_the_recorded_parameter_all_joint_states_are_merged(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        joint_state(bag, "/arm/joint_states", -3 * MILLISECOND, left_a=0.5, left_b=0.0)
        joint_state(bag, "/other/joint_states", -2 * MILLISECOND, right_a=0.75, finger=0.04)
        bag.image(sample_image(0), 0)
    with BagReader(tmp_path / "bag") as reader:
        (only,) = Session(reader, 1, Choice(every=1)).inputs()
    assert only.measured.joints == {"left_a": 0.5, "left_b": 0.0, "right_a": 0.75, "finger": 0.04}


def test_a_topic_of_the_recorded_nodes_namespace_is_not_mixed_with_others(tmp_path):
    """/gripper/joint_states ends in joint_states, too, but the node never heard it."""
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, joint_state_topics=["joint_states"], image_topics=["image_raw"])
        bag.instruction("go", -PERIOD)
        joint_state(bag, "/joint_states", -3 * MILLISECOND, left_a=0.5)
        joint_state(bag, "/gripper/joint_states", -2 * MILLISECOND, left_a=7.0)
        bag.image(sample_image(0), 0)
        recorded_chunk(bag)
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice(every=1))
        assert session.topics.states == (("", "/joint_states"),)
        (only,) = session.inputs()
    assert only.measured.joints == {"left_a": 0.5}
