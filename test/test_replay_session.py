"""Which frames a replay asks about, when it forgets, and whether it repeats what was recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from replay_bags import PERIOD, SECOND, START, BagMaker, MemoryPolicy, picture, record_episode

from vla_pruner_ros.image_conversion import to_rgb
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay import alignment
from vla_pruner_ros.replay.bag_reader import BagError, BagReader
from vla_pruner_ros.replay.parity import check_parity, gap_remarks
from vla_pruner_ros.replay.replayer import RECORDED, Replayer, Run, Setting
from vla_pruner_ros.replay.session import Choice, Session
from vla_pruner_ros.replay.topics import Wanted


def replay(path, policy=None, setting=None, joints=(), **choice):
    """Return (session remarks, run, parity or None) of one pass."""
    policy = policy or MemoryPolicy()
    with BagReader(path) as reader:
        session = Session(reader, policy.num_cameras, Choice(**choice))
        run = Run(setting or Setting(RECORDED, None))
        for _ in Replayer(policy, joints or session.joints).run(session.moments(), run):
            pass
        parity = check_parity(run, session.inferences) if session.exact else None
        return [*session.skipped, *session.remarks, *gap_remarks(run)], run, parity


def moments(path, **choice) -> list:
    with BagReader(path) as reader:
        return list(Session(reader, 1, Choice(**choice)).moments())


FULL = Setting("full", PruningConfig(keep_ratio=1.0))


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


@pytest.mark.parametrize("mistake", ["reset", "frame", "words", "ratio"])
def test_parity_notices_what_differs(tmp_path, mistake):
    """A parity check that cannot fail would prove nothing."""
    with BagMaker(tmp_path / "bag") as bag:
        record_episode(bag, 24)
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice())
        changed = []
        for moment in session.moments():
            change = {
                "reset": {"reset": "" if moment.index == 12 else moment.reset},
                "frame": {"images": moment.images if moment.index != 3 else changed[0].images},
                "words": {"instruction": moment.instruction + "!"},
                "ratio": {},
            }[mistake]
            changed.append(type(moment)(**{**vars(moment), **change}))
        setting = FULL if mistake == "ratio" else Setting(RECORDED, None)
        run = Run(setting)
        for _ in Replayer(MemoryPolicy()).run(changed, run):
            pass
        assert not check_parity(run, session.inferences).holds


def test_recording_that_began_late_is_told_and_not_counted(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(5):  # before the recording
            policy.act(Observation([picture(number)], "go"))
        bag.sequence = 5
        for number in range(5, 15):
            if number == 10:
                policy.reset()
            bag.image(picture(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([picture(number)], "go"))
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
                bag.image(picture(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([picture(number)], "go"))
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
                bag.image(picture(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([picture(number)], "go"))
    _, _, parity = replay(tmp_path / "bag")
    # Unpruned inferences depend on their image alone, the pruned ones on the window before.
    assert parity.comparable == (11 if covered else 3)
    assert parity.holds


def test_a_pruner_that_counts_its_steps_stays_apart_after_a_gap(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, temporal_window=1, keep_ratio=1.0, pruner="random")
        policy.pruning = PruningConfig(keep_ratio=1.0, temporal_window=1, pruner="random")
        for number in range(6):
            if number == 4:
                bag.parameters(number * PERIOD - 1, keep_ratio=0.5)
                policy.pruning = replace(policy.pruning, keep_ratio=0.5)
            if number > 0:
                bag.image(picture(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([picture(number)], "go"))
    assert replay(tmp_path / "bag")[2].comparable == 3


def test_lost_answer_is_noticed_by_its_sequence(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(8):
            bag.image(picture(number), number * PERIOD)
            if number == 4:
                policy.act(Observation([picture(number)], "go"))
                bag.sequence += 1
                continue
            bag.answer(policy, [number * PERIOD], Observation([picture(number)], "go"))
    _, _, parity = replay(tmp_path / "bag")
    assert parity.recorded == 7
    assert parity.comparable == 4
    assert parity.holds


def test_image_that_lies_behind_its_answer_in_the_bag(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(6):
            stamp = number * PERIOD
            bag.answer(policy, [stamp], Observation([picture(number)], "go"), received=stamp + 5)
            bag.image(picture(number), stamp, received=stamp + 20_000_000)
    assert replay(tmp_path / "bag")[2].equal == 6


def test_frames_between_inferences_do_not_matter_and_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "HELD_BYTES", 40 * 24 * 32 * 3)
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(300):
            bag.image(picture(number), number * PERIOD // 10)
            if number % 10 == 0:
                stamp = number * PERIOD // 10
                bag.answer(policy, [stamp], Observation([picture(number)], "go"))
    assert replay(tmp_path / "bag")[2].equal == 30


def test_two_cameras_and_a_state_are_found_by_their_stamps(tmp_path):
    policy = MemoryPolicy(num_cameras=2, state_dim=2)
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(0, image_topics=["wrist/image_raw", "front/image_raw"])
        bag.parameters(1, state_joints=["elbow", "shoulder"])
        for number in range(10):
            stamp, late = number * PERIOD, number * PERIOD + 7_000_000
            joints = np.array([number * 0.1, number * 0.01])
            bag.image(picture(number), stamp, "/wrist/image_raw")
            bag.image(picture(number + 50), late, "/front/image_raw")
            bag.joints(["shoulder", "elbow"], [joints[1], joints[0]], late)
            bag.joints(["shoulder", "elbow"], [9.0, 9.0], late + 5_000_000)  # newer than the used
            seen = Observation([picture(number), picture(number + 50)], "go", joints)
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
            bag.image(picture(number), stamp, "/wrist/image_raw")
            bag.image(picture(number + 50), late, "/front/image_raw")
            seen = Observation([picture(number), picture(number + 50)], "go")
            bag.answer(policy, [stamp, late], seen)
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 2, Choice())
    said = "which camera is which" in " ".join(session.remarks)
    if apart:
        assert session.topics.images == ("/wrist/image_raw", "/front/image_raw")
        assert not said
        assert replay(tmp_path / "bag", MemoryPolicy(num_cameras=2))[2].holds
    else:
        assert session.topics.images == ("/front/image_raw", "/wrist/image_raw")
        assert said


def test_budget_that_followed_the_clock_is_replayed_as_it_was(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, budget_mode="deadline", keep_ratio=0.9)
        for number, ratio in enumerate([0.25, 0.5, 0.125, 0.5]):
            policy.pruning = PruningConfig(keep_ratio=ratio, budget_mode="deadline")
            bag.image(picture(number), number * PERIOD)
            bag.answer(policy, [number * PERIOD], Observation([picture(number)], "go"))
    with BagReader(tmp_path / "bag") as reader:
        session = Session(reader, 1, Choice())
        found = [(one.pruning.budget_mode, one.pruning.keep_ratio) for one in session.inferences]
    assert found == [("fixed", 0.25), ("fixed", 0.5), ("fixed", 0.125), ("fixed", 0.5)]
    assert replay(tmp_path / "bag")[2].holds


def test_answers_without_status_cannot_be_repeated_but_swept(tmp_path):
    policy = MemoryPolicy()
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(5):
            bag.image(picture(number), number * PERIOD)
            seen = Observation([picture(number)], "go")
            bag.answer(policy, [number * PERIOD], seen, status=False)
    _, run, _ = replay(tmp_path / "bag")
    assert len(run.problems) == 5
    assert "no PruningStatus" in run.problems[0].problem
    assert len(replay(tmp_path / "bag", setting=FULL)[1].done) == 5


def test_several_recorded_nodes_need_a_choice(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.image(picture(0), 0)
        for node in ("/left/vla_pruner", "/right/vla_pruner"):
            bag.answer(MemoryPolicy(), [0], Observation([picture(0)], "go"), node=node)
    with pytest.raises(BagError, match=r"several nodes.*choose one with --node"):
        moments(tmp_path / "bag")
    wanted = Wanted(node="/left/vla_pruner")
    assert len(moments(tmp_path / "bag", wanted=wanted)) == 1
    with pytest.raises(BagError, match="no node /up was recorded"):
        moments(tmp_path / "bag", wanted=Wanted(node="/up"))


# --- Every n-th frame ---------------------------------------------------------------------------


def plain_bag(path, frames=10, **options):
    with BagMaker(path, **options) as bag:
        bag.instruction("go", -PERIOD)
        for number in range(frames):
            bag.image(picture(number), number * PERIOD)
    return path


@pytest.mark.parametrize(("every", "limit", "expected"), [
    (1, 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (3, 0, [0, 3, 6, 9]), (3, 2, [0, 3]), (20, 0, [0])
])  # fmt: skip
def test_every_nth_frame(tmp_path, every, limit, expected):
    found = moments(plain_bag(tmp_path / "bag"), every=every, limit=limit)
    assert [m.stamp for m in found] == [START + number * PERIOD for number in expected]
    for moment, number in zip(found, expected, strict=True):
        np.testing.assert_array_equal(to_rgb(moment.images[0]), picture(number))


def test_bag_without_answers_is_sampled_even_when_nothing_is_said(tmp_path):
    assert len(moments(plain_bag(tmp_path / "bag"))) == 10


def test_frames_before_the_first_instruction_are_skipped_and_told(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(8):
            if number == 3:
                bag.instruction("  close   the drawer ", number * PERIOD)
            bag.image(picture(number), number * PERIOD)
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert "3 frames came before the first instruction" in remarks[0]
    assert [step.instruction for step in run.steps] == ["close the drawer"] * 5
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL, instruction="look around")
    assert remarks == []
    assert [s.instruction for s in run.steps] == ["look around"] * 3 + ["close the drawer"] * 5
    assert [step.reset for step in run.steps if step.reset] == ["first", "instruction"]


def test_repeated_instruction_does_not_reset(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        for number in range(6):
            bag.instruction("go", number * PERIOD)
            bag.image(picture(number), number * PERIOD)
    assert [m.reset for m in moments(tmp_path / "bag", every=1)] == ["first", *[""] * 5]


def test_late_frames_are_put_in_order_or_left_out(tmp_path):
    order = [0, 2, 1, 3, 5, 4, 6, 7, 8, 9, 10, 11, 3, 12]
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for received, number in enumerate(order):
            bag.image(picture(number), number * PERIOD, received=received * PERIOD)
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert [(s.stamp - START) // PERIOD for s in run.steps] == list(range(13))
    assert remarks == ["1 frames came after newer ones and were skipped"]
    assert [step.reset for step in run.steps if step.reset] == ["first"]


def test_clock_that_jumps_back_resets(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for received in range(60):
            bag.image(picture(received), received % 30 * PERIOD, received=received * PERIOD)
    remarks, run, _ = replay(tmp_path / "bag", setting=FULL)
    assert len(run.done) == 60
    assert [(s.index, s.reset) for s in run.steps if s.reset] == [(0, "first"), (30, "clock")]
    assert remarks == []


def test_gap_resets(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.image(picture(number), number * PERIOD + (5 * SECOND if number > 1 else 0))
    assert [m.reset for m in moments(tmp_path / "bag", every=1)] == ["first", "", "gap", ""]


def test_camera_that_leaves_the_stamp_zero(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.image(picture(number), -START, received=number * PERIOD)
    found = moments(tmp_path / "bag", every=1)
    assert [m.stamp for m in found] == [START + number * PERIOD for number in range(4)]


def test_two_cameras_are_paired_as_in_the_node(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(6):
            bag.image(picture(number), number * PERIOD, "/a/image_raw")
            if number != 2:
                bag.image(picture(number + 50), number * PERIOD + 1000, "/b/image_raw")
    with BagReader(tmp_path / "bag") as reader:
        found = list(Session(reader, 2, Choice(every=1)).moments())
    assert [(m.stamp - START) // PERIOD for m in found] == [0, 1, 3, 4, 5]
    for moment in found:
        left, right = (to_rgb(message) for message in moment.images)
        assert (int(right[0, 0, 0]) - int(left[0, 0, 0])) % 256 == 50 * 37 % 256


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_compressed_images(tmp_path, kind):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(4):
            bag.compressed(picture(number), number * PERIOD, kind)
    found = moments(tmp_path / "bag", every=1)
    difference = to_rgb(found[2].images[0]).astype(int) - picture(2)
    assert np.abs(difference).mean() < (0.01 if kind == "PNG" else 10)


# --- Finding topics -----------------------------------------------------------------------------


def cameras_bag(path):
    with BagMaker(path) as bag:
        bag.instruction("go", -PERIOD)
        for topic in ("/a/image_raw", "/b/image_raw", "/a/depth/image_raw", "/vla_pruner/overlay"):
            bag.image(picture(0), 0, topic)
        bag.compressed(picture(0), 0, topic="/a/image_raw/compressed")
    return path


def test_cameras_are_found_by_type_without_depth_overlay_and_doubles(tmp_path):
    with BagReader(cameras_bag(tmp_path / "bag")) as reader:
        assert Session(reader, 2, Choice()).topics.images == ("/a/image_raw", "/b/image_raw")


def test_unclear_cameras_are_listed(tmp_path):
    with BagReader(cameras_bag(tmp_path / "bag")) as reader:
        with pytest.raises(BagError, match=r"1 camera.*offers /a/image_raw, /b/image_raw; choose"):
            Session(reader, 1, Choice())
        chosen = Choice(Wanted(images=("/b/image_raw",)))
        assert Session(reader, 1, chosen).topics.images == ("/b/image_raw",)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(images=("/c",)), "topic /c is not in the bag; it has: /"),
        (Wanted(images=("/instruction",)), "is std_msgs/msg/String, not an image"),
        (Wanted(instruction="/words"), "no std_msgs/msg/String on /words"),
        (Wanted(state="/joints"), "no sensor_msgs/msg/JointState on /joints"),
    ],
)
def test_topics_that_are_not_there_are_named(tmp_path, wanted, words):
    with BagReader(plain_bag(tmp_path / "bag")) as reader, pytest.raises(BagError, match=words):
        Session(reader, 1, Choice(wanted))


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
            bag.image(picture(number), number * PERIOD, **changes.get(number, {}))
        bag.instruction("fail", 6 * PERIOD)
        bag.image(picture(6), 6 * PERIOD + 1)
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
        bag.image(picture(0), 0)
        bag.joints(["a"], [1.0], PERIOD // 2)
        bag.image(picture(1), PERIOD)
    _, run, _ = replay(tmp_path / "bag", policy, FULL)
    assert [step.problem for step in run.steps] == [
        "no joint state was received before this image",
        "",
    ]
    _, run, _ = replay(tmp_path / "bag", policy, FULL, joints=["b"])
    assert "joints b are not in the joint state (a)" in run.problems[-1].problem
