"""Parity: a replay repeats the recording to the bit, or reports why it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_bags import PERIOD, BagMaker, MemoryPolicy, record_episode, sample_image
from replay_helpers import FULL, inputs_of, replay

from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.inputs import exact as alignment
from vla_pruner_ros.replay.inputs.topics import TopicSelection
from vla_pruner_ros.replay.replayer import RECORDED, Replayer, ReplaySetting, Run
from vla_pruner_ros.replay.results.parity import check_parity
from vla_pruner_ros.replay.session import Choice, Session


def test_recorded_inferences_are_repeated_exactly(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        chunks = record_episode(bag, 24)
    remarks, run, parity = replay(tmp_path / "bag")
    assert remarks == []
    assert parity.holds
    assert parity.comparable == parity.equal == parity.kept_equal == 24
    assert parity.largest == 0.0
    np.testing.assert_array_equal(run.steps[-1].actions, chunks[-1].actions)
    assert [s.index for s in run.steps if s.reset] == [0, 12, 18]  # the last left no message


@pytest.mark.parametrize("mistake", ["reset", "frame", "instruction", "ratio"])
def test_parity_notices_what_differs(tmp_path, mistake):
    """A parity check that cannot fail would prove nothing."""
    with BagMaker(tmp_path / "bag") as bag:
        record_episode(bag, 24)
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice())
        changed = []
        for replay_input in session.inputs():
            change = {
                "reset": {"reset": "" if replay_input.index == 12 else replay_input.reset},
                "frame": {
                    "images": replay_input.images if replay_input.index != 3 else changed[0].images
                },
                "instruction": {"instruction": replay_input.instruction + "!"},
                "ratio": {},
            }[mistake]
            changed.append(type(replay_input)(**{**vars(replay_input), **change}))
        setting = FULL if mistake == "ratio" else ReplaySetting(RECORDED, None)
        run = Run(setting)
        for _ in Replayer(MemoryPolicy()).run(changed, run):
            pass
        assert not check_parity(run, session.inferences).holds


def test_recording_that_began_late_is_told_and_not_counted(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(5):  # before the recording
            policy.act(Observation([sample_image(number)], "go"))
        bag.sequence = 5
        for number in range(5, 15):
            if number == 10:
                policy.reset()
            bag.image(sample_image(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    remarks, _, parity = replay(tmp_path / "bag")
    assert parity.recorded == 10
    assert parity.comparable == 5
    assert parity.holds
    assert "5 recorded inferences remember frames that are not in the bag" in " ".join(remarks)


def test_lost_image_is_told_and_what_follows_is_not_counted(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(12):
            if number == 8:
                policy.reset()
            if number != 3:
                bag.image(sample_image(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    _, run, parity = replay(tmp_path / "bag")
    assert [step.problem for step in run.problems] == ["the image on /image_raw is not in the bag"]
    assert run.problems[0].index == 3
    assert parity.comparable == 3 + 4
    assert parity.holds


@pytest.mark.parametrize(("window", "covered"), [(1, True), (3, True), (4, False)])
def test_a_window_of_unpruned_steps_makes_up_for_a_lost_one(tmp_path, window, covered):
    """The demonstration's bag: the first image came before the recorder knew the camera."""
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, temporal_window=window, keep_ratio=1.0)
        for number in range(12):
            if number == 4:
                bag.parameters(number * PERIOD - 1, keep_ratio=0.5)
            ratio = 1.0 if number < 4 else 0.5
            policy.pruning = PruningConfig(keep_ratio=ratio, temporal_window=window)
            if number > 0:
                bag.image(sample_image(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    _, _, parity = replay(tmp_path / "bag")
    # Unpruned inferences depend on their image alone, the pruned ones on the window before.
    assert parity.comparable == (11 if covered else 3)
    assert parity.holds


def test_a_pruner_that_counts_its_steps_stays_apart_after_a_gap(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, temporal_window=1, keep_ratio=1.0, method="random")
        policy.pruning = PruningConfig(keep_ratio=1.0, temporal_window=1, method="random")
        for number in range(6):
            if number == 4:
                bag.parameters(number * PERIOD - 1, keep_ratio=0.5)
                policy.pruning = replace(policy.pruning, keep_ratio=0.5)
            if number > 0:
                bag.image(sample_image(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    assert replay(tmp_path / "bag")[2].comparable == 3


def test_lost_answer_is_noticed_by_its_sequence(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(8):
            bag.image(sample_image(number), number * PERIOD)
            if number == 4:
                policy.act(Observation([sample_image(number)], "go"))
                bag.sequence += 1
                continue
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    _, _, parity = replay(tmp_path / "bag")
    assert parity.recorded == 7
    assert parity.comparable == 4
    assert parity.holds


def test_image_that_lies_behind_its_answer_in_the_bag(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(6):
            stamp = number * PERIOD
            bag.answer(
                policy, [stamp], Observation([sample_image(number)], "go"), received=stamp + 5
            )
            bag.image(sample_image(number), stamp, received=stamp + 20_000_000)
    assert replay(tmp_path / "bag")[2].equal == 6


def test_frames_between_inferences_do_not_matter_and_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "HELD_BYTES", 40 * 24 * 32 * 3)
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(300):
            bag.image(sample_image(number), number * PERIOD // 10)
            if number % 10 == 0:
                stamp = number * PERIOD // 10
                bag.answer(policy, [stamp], Observation([sample_image(number)], "go"))
    assert replay(tmp_path / "bag")[2].equal == 30


def test_two_cameras_and_a_state_are_found_by_their_stamps(tmp_path):
    policy = MemoryPolicy(num_cameras=2, state_dim=2)
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(0, image_topics=["wrist/image_raw", "front/image_raw"])
        bag.parameters(1, state_joints=["elbow", "shoulder"])
        for number in range(10):
            stamp, late = number * PERIOD, number * PERIOD + 7_000_000
            joints = np.array([number * 0.1, number * 0.01])
            bag.image(sample_image(number), stamp, "/wrist/image_raw")
            bag.image(sample_image(number + 50), late, "/front/image_raw")
            bag.joints(["shoulder", "elbow"], [joints[1], joints[0]], late)
            bag.joints(["shoulder", "elbow"], [9.0, 9.0], late + 5_000_000)  # newer than the used
            seen = Observation([sample_image(number), sample_image(number + 50)], "go", joints)
            bag.answer(policy, [stamp, late], seen, state_stamp=late, received=stamp + 30_000_000)
    _, _, parity = replay(tmp_path / "bag", MemoryPolicy(num_cameras=2, state_dim=2))
    assert parity.comparable == 10
    assert parity.holds


@pytest.mark.parametrize("apart", [7_000_000, 0])
def test_cameras_are_told_apart_by_the_stamps_of_the_answers(tmp_path, apart):
    """ros2 bag record notes no parameters: cameras were taken by name and no image was found."""
    policy = MemoryPolicy(num_cameras=2)
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(10):
            stamp, late = number * PERIOD, number * PERIOD + apart
            bag.image(sample_image(number), stamp, "/wrist/image_raw")
            bag.image(sample_image(number + 50), late, "/front/image_raw")
            seen = Observation([sample_image(number), sample_image(number + 50)], "go")
            bag.answer(policy, [stamp, late], seen)
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 2, Choice())
    printed = "does not name the cameras' order" in " ".join(session.remarks)
    if apart:
        assert session.topics.images == ("/wrist/image_raw", "/front/image_raw")
        assert not printed
        assert replay(tmp_path / "bag", MemoryPolicy(num_cameras=2))[2].holds
    else:
        assert session.topics.images == ("/front/image_raw", "/wrist/image_raw")
        assert printed


def test_budget_that_followed_the_clock_is_replayed_as_it_was(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, budget_mode="deadline", keep_ratio=0.9)
        for number, ratio in enumerate([0.25, 0.5, 0.125, 0.5]):
            policy.pruning = PruningConfig(keep_ratio=ratio, budget_mode="deadline")
            bag.image(sample_image(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([sample_image(number)], "go"))
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice())
        found = [(one.pruning.budget_mode, one.pruning.keep_ratio) for one in session.inferences]
    assert found == [("fixed", 0.25), ("fixed", 0.5), ("fixed", 0.125), ("fixed", 0.5)]
    assert replay(tmp_path / "bag")[2].holds


def test_answers_without_status_cannot_be_repeated_but_swept(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(5):
            bag.image(sample_image(number), number * PERIOD)
            seen = Observation([sample_image(number)], "go")
            bag.answer(policy, [number * PERIOD], seen, status=False)
    _, run, _ = replay(tmp_path / "bag")
    assert len(run.problems) == 5
    assert "no PruningStatus" in run.problems[0].problem
    assert len(replay(tmp_path / "bag", setting=FULL)[1].done) == 5


def test_several_recorded_nodes_need_a_choice(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.image(sample_image(0), 0)
        for node in ("/left/vla_pruner", "/right/vla_pruner"):
            bag.answer(MemoryPolicy(), [0], Observation([sample_image(0)], "go"), node=node)
    with pytest.raises(BagError, match=r"several nodes.*choose one with --node"):
        inputs_of(tmp_path / "bag")
    selection = TopicSelection(node="/left/vla_pruner")
    assert len(inputs_of(tmp_path / "bag", selection=selection)) == 1
    with pytest.raises(BagError, match="no node /up was recorded"):
        inputs_of(tmp_path / "bag", selection=TopicSelection(node="/up"))
