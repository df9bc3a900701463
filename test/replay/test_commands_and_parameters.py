"""Bags with commands and no answers, and an instruction that a parameter changes."""

from __future__ import annotations

import numpy as np
import pytest
from replay_bags import PERIOD, BagMaker, MemoryPolicy, sample_image
from replay_helpers import inputs_of

from vla_pruner_ros.bags.reader import BagError, BagReader
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.replay.inputs.topics import TopicSelection
from vla_pruner_ros.replay.live import parameters_as_recorded
from vla_pruner_ros.replay.session import Choice, Session

NO_CHUNK = "but no ActionChunk: what the policy returned for which images is not known"


def add_command(bag: BagMaker, kind: str, topic: str, time: int) -> None:
    """Record one message of a controller's input."""
    vector = bag.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    twist = bag.make("geometry_msgs/msg/Twist", linear=vector, angular=vector)
    layout = bag.make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
    made = {
        "geometry_msgs/msg/TwistStamped": {"header": bag.header(time), "twist": twist},
        "std_msgs/msg/Float64MultiArray": {"layout": layout, "data": np.zeros(2)},
        "trajectory_msgs/msg/JointTrajectory": {
            "header": bag.header(time), "joint_names": ["a"], "points": [],
        },
    }  # fmt: skip
    message = twist if kind == "geometry_msgs/msg/Twist" else bag.make(kind, **made[kind])
    bag.add(topic, kind, time, message)


COMMANDS = [
    ("geometry_msgs/msg/TwistStamped", "/vla_pruner/twist"),
    ("geometry_msgs/msg/TwistStamped", "/servo_node/delta_twist_cmds"),
    ("geometry_msgs/msg/Twist", "/cmd_vel"),
    ("std_msgs/msg/Float64MultiArray", "/vla_pruner/joint_command"),
    ("std_msgs/msg/Float64MultiArray", "/vla_pruner/preview/gripper_command"),
    ("trajectory_msgs/msg/JointTrajectory", "/arm_controller/joint_trajectory"),
]


@pytest.mark.parametrize(("kind", "topic"), COMMANDS)
def test_a_bag_with_commands_alone_is_replayed_and_said_to_be_one(tmp_path, run, kind, topic):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        for number in range(6):
            bag.image(sample_image(number), number * PERIOD)
            add_command(bag, kind, topic, number * PERIOD)
    status, said, summary = run("--keep-ratio", "1", "0.5")
    assert status == 0
    assert f"the bag has commands ({topic}) {NO_CHUNK}" in said.out
    assert summary["parity"] is None
    assert {one["overall"]["count"] for one in summary["settings"]} == {6}


def test_a_bag_without_commands_is_not_said_to_have_some(tmp_path, run):
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("go", -PERIOD)
        layout = bag.make("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
        bag.image(sample_image(0), 0)
        tactile = bag.make("std_msgs/msg/Float64MultiArray", layout=layout, data=np.zeros(2))
        bag.add("/tactile", "std_msgs/msg/Float64MultiArray", 0, tactile)
    assert NO_CHUNK not in run()[1].out


@pytest.mark.parametrize("every", [1, 2])
def test_nothing_is_said_where_every_nth_frame_is_asked_for(tmp_path, every):
    with BagMaker(tmp_path / "bag") as bag:
        bag.image(sample_image(0), 0)
        add_command(bag, *COMMANDS[0], 0)
    with BagReader(tmp_path / "bag") as reader:
        assert not Session(reader, 1, Choice(every=every, instruction="go")).remarks


def test_parameters_of_a_node_without_chunks_are_used(tmp_path):
    """Its cameras were taken by name, and its instruction was not known."""
    policy = MemoryPolicy(num_cameras=2)
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, image_topics=["wrist", "front"], instruction="open it", seed=3)
        for topic in ("/front", "/wrist", "/overhead"):
            bag.image(sample_image(0), 0, topic=topic)
        seen = Observation([sample_image(0), sample_image(0)], "open it")
        bag.answer(policy, [0, 0], seen)
        del bag.connections["/vla_pruner/action_chunk"]
    # The chunk's topic is left out as by a recorder that was not asked for it.
    with BagReader(tmp_path / "bag") as reader:
        topics = {n: t for n, t in reader.topics.items() if not n.endswith("action_chunk")}
        reader.topics = topics
        session = Session(reader, 2, Choice())
        assert session.topics.node == "/vla_pruner"
        assert session.topics.images == ("/wrist", "/front")
        assert [one.instruction for one in session.inputs()] == ["open it"]
        assert session.pruning.seed == 3
        with pytest.raises(BagError, match="no node /up was recorded"):
            Session(reader, 2, Choice(selection=TopicSelection(node="/up")))


# --- The instruction as a parameter ---------------------------------------------------------------


def frames(bag: BagMaker, first: int, last: int) -> None:
    for number in range(first, last):
        bag.image(sample_image(number), number * PERIOD)


def with_status(bag: BagMaker) -> None:
    """Make the node known by a last answer."""
    bag.answer(MemoryPolicy(), [0], Observation([sample_image(0)], "x"), received=9 * PERIOD)


def texts(path, **choice) -> list[str]:
    return [one.instruction for one in inputs_of(path, every=1, **choice)]


def test_an_instruction_that_a_parameter_changes_is_followed(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, instruction="one", keep_ratio=0.5)
        frames(bag, 0, 2)
        bag.parameters(2 * PERIOD - 1, instruction="two")
        frames(bag, 2, 4)
        bag.parameters(4 * PERIOD - 1, keep_ratio=0.25)
        bag.parameters(4 * PERIOD - 1, node="/other", instruction="of another node")
        frames(bag, 4, 5)
        bag.parameters(5 * PERIOD - 1, instruction="")
        frames(bag, 5, 6)
        bag.parameters(6 * PERIOD - 1, instruction="three")
        frames(bag, 6, 8)
        with_status(bag)
    path = tmp_path / "bag"
    assert texts(path) == ["one"] * 2 + ["two"] * 3 + ["three"] * 2
    assert texts(path, instruction="go") == ["go"] * 8


def test_topic_and_parameter_follow_each_other(tmp_path):
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, instruction="one")
        frames(bag, 0, 1)
        bag.instruction("by topic", PERIOD - 1)
        frames(bag, 1, 2)
        bag.parameters(2 * PERIOD - 1, instruction="one", keep_ratio=0.5)  # a snapshot: no change
        frames(bag, 2, 3)
        bag.parameters(3 * PERIOD - 1, instruction="one")  # set once more, alone
        frames(bag, 3, 4)
        bag.instruction("by topic again", 4 * PERIOD - 1)
        frames(bag, 4, 5)
        bag.parameters(5 * PERIOD - 1, instruction="two", keep_ratio=0.5)  # set together
        frames(bag, 5, 6)
        with_status(bag)
    expected = ["one", "by topic", "by topic", "one", "by topic again", "two"]
    assert texts(tmp_path / "bag") == expected


def test_a_recorder_that_comes_later_does_not_take_the_topics_instruction_away(tmp_path):
    """Its snapshot names the parameter as it is: empty, although the topic gave one."""
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("latched before", -PERIOD)
        bag.parameters(-1, instruction="", keep_ratio=0.5)
        frames(bag, 0, 3)
        with_status(bag)
    assert texts(tmp_path / "bag") == ["latched before"] * 3


def test_a_bag_played_into_a_node_begins_with_the_first_instruction(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**/vla_pruner: {ros__parameters: {use_sim_time: true}}")
    with BagMaker(tmp_path / "bag") as bag:
        bag.parameters(-PERIOD, instruction="one", image_topics=["image_raw"])
        frames(bag, 0, 2)
        bag.answer(MemoryPolicy(), [0], Observation([sample_image(0)], "one"))
        bag.parameters(2 * PERIOD, instruction="two")
    assert parameters_as_recorded(tmp_path / "bag", "", file)["instruction"] == "one"
