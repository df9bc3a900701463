"""The frames that a replay infers from when it samples a bag, and when it clears the history."""

from __future__ import annotations

import numpy as np
import pytest
from replay_bags import PERIOD, SECOND, START, BagMaker, MemoryPolicy, sample_image
from replay_helpers import FULL, inputs_of, replay

from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.replay.inputs.topics import TopicSelection
from vla_pruner_ros.replay.session import Choice, Session

# --- Every n-th frame ---------------------------------------------------------------------------


def plain_bag(path, frames=10, **options):
    with BagMaker(path, **options) as bag:
        bag.instruction("go", -PERIOD)
        for number in range(frames):
            bag.image(sample_image(number), number * PERIOD)
    return path


@pytest.mark.parametrize(("every", "limit", "expected"), [
    (1, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (3, 0, [0, 3, 6, 9]), (3, 2, [0, 3]), (20, 0, [0])
])  # fmt: skip
def test_every_nth_frame(tmp_path, every, limit, expected):
    found = inputs_of(plain_bag(tmp_path / "bag"), every=every, limit=limit)
    assert [m.stamp for m in found] == [START + number * PERIOD for number in expected]
    for replay_input, number in zip(found, expected, strict=True):
        np.testing.assert_array_equal(to_rgb(replay_input.images[0]), sample_image(number))


def test_bag_without_answers_is_sampled_even_when_nothing_is_said(tmp_path):
    assert len(inputs_of(plain_bag(tmp_path / "bag"))) == 10


def test_frames_before_the_first_instruction_are_skipped_and_told(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(8):
            if number == 3:
                bag.instruction("  close   the drawer ", number * PERIOD)
            bag.image(sample_image(number), number * PERIOD)
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert "3 frames came before the first instruction" in remarks[0]
    assert [step.instruction for step in run.steps] == ["close the drawer"] * 5
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL, instruction="look around")
    assert remarks == []
    assert [s.instruction for s in run.steps] == ["look around"] * 8
    assert [step.reset for step in run.steps if step.reset] == ["first"]


def test_repeated_instruction_does_not_reset(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(6):
            bag.instruction("go", number * PERIOD)
            bag.image(sample_image(number), number * PERIOD)
    assert [m.reset for m in inputs_of(tmp_path / "bag", every=1)] == ["first", *[""] * 5]


def test_late_frames_are_put_in_order_or_left_out(tmp_path):
    order = [0, 2, 1, 3, 5, 4, 6, 7, 8, 9, 10, 11, 3, 12]
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for received, number in enumerate(order):
            bag.image(sample_image(number), number * PERIOD, received=received * PERIOD)
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert [(s.stamp - START) // PERIOD for s in run.steps] == list(range(13))
    assert remarks == ["1 frames came after newer ones and were skipped"]
    assert [step.reset for step in run.steps if step.reset] == ["first"]


def test_clock_that_jumps_back_resets(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for received in range(60):
            bag.image(sample_image(received), received % 30 * PERIOD, received=received * PERIOD)
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert len(run.done) == 60
    assert [(s.index, s.reset) for s in run.steps if s.reset] == [(0, "first"), (30, "clock")]
    assert remarks == []


def test_gap_resets(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.image(sample_image(number), number * PERIOD + (5 * SECOND if number > 1 else 0))
    assert [m.reset for m in inputs_of(tmp_path / "bag", every=1)] == ["first", "", "gap", ""]


def test_camera_that_leaves_the_stamp_zero(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.image(sample_image(number), -START, received=number * PERIOD)
    found = inputs_of(tmp_path / "bag", every=1)
    assert [m.stamp for m in found] == [START + number * PERIOD for number in range(4)]


def test_two_cameras_are_paired_as_in_the_node(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(6):
            bag.image(sample_image(number), number * PERIOD, "/a/image_raw")
            if number != 2:
                bag.image(sample_image(number + 50), number * PERIOD + 1000, "/b/image_raw")
    with BagReader(tmp_path / "bag") as reader:
        found = list(Session(reader, 2, Choice(every=1)).inputs())
    assert [(m.stamp - START) // PERIOD for m in found] == [0, 1, 3, 4, 5]
    for replay_input in found:
        left, right = (to_rgb(message) for message in replay_input.images)
        assert (int(right[0, 0, 0]) - int(left[0, 0, 0])) % 256 == 50 * 37 % 256


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_compressed_images(tmp_path, kind):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.compressed(sample_image(number), number * PERIOD, kind)
    found = inputs_of(tmp_path / "bag", every=1)
    difference = to_rgb(found[2].images[0]).astype(int) - sample_image(2)
    assert np.abs(difference).mean() < (0.01 if kind == "PNG" else 10)


# --- Finding topics -----------------------------------------------------------------------------


def cameras_bag(path):
    with BagMaker(path) as bag:
        bag.instruction("go", -PERIOD)
        for topic in ("/a/image_raw", "/b/image_raw", "/a/depth/image_raw", "/vla_pruner/overlay"):
            bag.image(sample_image(0), 0, topic)
        bag.compressed(sample_image(0), 0, topic="/a/image_raw/compressed")
    return path


def test_cameras_are_found_by_type_without_depth_overlay_and_doubles(tmp_path):
    with BagReader(cameras_bag(tmp_path / "bag")) as reader:
        assert Session(reader, 2, Choice()).topics.images == ("/a/image_raw", "/b/image_raw")


def test_unclear_cameras_are_listed(tmp_path):
    with BagReader(cameras_bag(tmp_path / "bag")) as reader:
        with pytest.raises(BagError, match=r"1 camera.*offers /a/image_raw, /b/image_raw; choose"):
            Session(reader, 1, Choice())
        chosen = Choice(TopicSelection(images=("/b/image_raw",)))
        assert Session(reader, 1, chosen).topics.images == ("/b/image_raw",)


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (TopicSelection(images=("/c",)), "topic /c is not in the bag; it has: /"),
        (TopicSelection(images=("/instruction",)), "is std_msgs/msg/String, not an image"),
        (TopicSelection(instruction="/texts"), "no std_msgs/msg/String on /texts"),
        (TopicSelection(state="/joints"), "no sensor_msgs/msg/JointState on /joints"),
    ],
)
def test_topics_that_are_not_there_are_named(tmp_path, selection, reason):
    with BagReader(plain_bag(tmp_path / "bag")) as reader, pytest.raises(BagError, match=reason):
        Session(reader, 1, Choice(selection))


def test_bag_without_images(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", 0)
    with BagReader(tmp_path / "bag") as reader, pytest.raises(BagError, match="no image topic"):
        Session(reader, 1, Choice())


def test_failures_of_single_frames_are_kept_beside_the_rest(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(6):
            changes = {2: {"encoding": "32FC1"}, 3: {"data": np.zeros(5, np.uint8)}}
            bag.image(sample_image(number), number * PERIOD, **changes.get(number, {}))
        bag.instruction("fail", 6 * PERIOD)
        bag.image(sample_image(6), 6 * PERIOD + 1)
    _, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert len(run.done) == 4
    assert [step.index for step in run.problems] == [2, 3, 6]
    assert "holds depth" in run.problems[0].problem
    assert "truncated" in run.problems[1].problem
    assert "refused" in run.problems[2].problem


def test_missing_state_is_a_problem_of_the_frame(tmp_path):
    policy = MemoryPolicy(state_dim=1)
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        bag.image(sample_image(0), 0)
        bag.joints(["a"], [1.0], PERIOD // 2)
        bag.image(sample_image(1), PERIOD)
    _, run, _ = replay(tmp_path / "bag", policy, FULL)
    assert [step.problem for step in run.steps] == [
        "no joint state was received before this image",
        "",
    ]
    _, run, _ = replay(tmp_path / "bag", policy, FULL, joints=["b"])
    assert "joints b are not in the joint states (there: a)" in run.problems[-1].problem
