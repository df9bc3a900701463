"""The recorder takes everything that replay and a viewer need, whenever it was published."""

from __future__ import annotations

import shutil
import threading
from collections import namedtuple

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from node_helpers import DOMAIN, ControlledPolicy, bench
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from recorder_helpers import playing, recorder
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String

from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.bringup.parameters import recorder_parameters
from vla_pruner_ros.nodes.messages import to_nanoseconds
from vla_pruner_ros.nodes.recorder import RecorderNode
from vla_pruner_ros.nodes.spin import EndNode
from vla_pruner_ros.replay.live import COMMANDS, is_arm_command, moved_aside

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def ros():
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("other", context=context)
    yield context, node
    node.destroy_node()
    context.try_shutdown()


def until(condition, what, patience=10.0):
    done = threading.Event()
    for _ in range(int(patience / 0.02)):
        if condition():
            return
        done.wait(0.02)
    raise AssertionError(f"not within {patience} s: {what}")


@pytest.mark.parametrize("when", ["before", "while recording"])
def test_latched_topics_are_recorded_whatever_the_order(tmp_path, ros, when):
    context, node = ros
    text = {"instruction": "open the door", "robot_description": "<robot name='arm'/>"}
    latches = {}

    def latch():
        for topic, content in text.items():
            latches[topic] = node.create_publisher(String, topic, LATCHED)
            latches[topic].publish(String(data=content))

    if when == "before":
        latch()
    with recorder(context, tmp_path / "bag") as r:
        if when != "before":
            latch()
        until(lambda: {f"/{t}" for t in text} <= set(r.recording.counts), "two topics")
    with BagReader(tmp_path / "bag") as reader:
        found = {
            record.topic: reader.decode(record).data
            for record in reader.messages({"/instruction", "/robot_description"})
        }
        assert found == {f"/{topic}": content for topic, content in text.items()}
        assert reader.topics["/robot_description"].count == 1
        assert reader.topics["/robot_description"].latched


@pytest.mark.parametrize(("distribution", "has_variance"), [("humble", False), ("jazzy", True),
                                                            ("", True)])  # fmt: skip
def test_types_are_written_as_the_distribution_has_them(
    tmp_path, ros, monkeypatch, distribution, has_variance
):
    """sensor_msgs/Range of Humble would have been read with a field that it has not."""
    context, _ = ros
    monkeypatch.setenv("ROS_DISTRO", distribution)
    with recorder(context, tmp_path / "bag") as r:
        fields = {name for name, _ in r._store.fielddefs["sensor_msgs/msg/Range"][1]}
    assert ("variance" in fields) == has_variance


def test_pose_commands_and_what_is_asked_are_recorded(tmp_path, ros):
    context, node = ros
    published = {
        "end_effector_pose": (PoseStamped, qos_profile_sensor_data),
        "vla_pruner/twist": (TwistStamped, 10),
        "vla_pruner/target_pose": (PoseStamped, 10),
        "vla_pruner/joint_command": (Float64MultiArray, 10),
        "vla_pruner/preview/joint_command": (Float64MultiArray, 10),
        "vla_pruner/preview/action": (TwistStamped, 10),
        "vla_pruner/gripper_command": (Float64MultiArray, 10),
        "vla_pruner/overlay": (Image, 10),
    }
    publishers = {
        topic: (node.create_publisher(kind, topic, qos), kind)
        for topic, (kind, qos) in published.items()
    }
    with recorder(context, tmp_path / "bag", record_overlay=True) as r:

        def all_recorded():
            for publisher, kind in publishers.values():
                publisher.publish(kind())
            return {f"/{topic}" for topic in published} <= set(r.recording.counts)

        until(all_recorded, "all topics")


def test_the_overlay_is_not_asked_for_unless_told(tmp_path, ros):
    context, node = ros
    overlay = node.create_publisher(Image, "vla_pruner/overlay", 10)
    twist = node.create_publisher(TwistStamped, "vla_pruner/twist", 10)
    with recorder(context, tmp_path / "bag"):
        until(twist.get_subscription_count, "the twist's subscription")
        assert overlay.get_subscription_count() == 0


def test_a_disk_that_fills_ends_the_recorder_with_a_sentence(tmp_path, ros, monkeypatch):
    context, _ = ros
    values = {"output": str(tmp_path / "bag"), "min_free_mb": 100}
    made = RecorderNode(
        context=context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()]
    )
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 99 << 20))
    with pytest.raises(EndNode, match="has 99 MB left, less than min_free_mb 100"):
        made._look()
    made.close()
    made.destroy_node()
    with BagReader(tmp_path / "bag") as reader:
        assert reader.damage == []


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("none", ("none", False)), ("png", ("png", False)), ("jpeg", ("jpeg", False)),
        ("zstd", ("none", True)), ("", ("none", False)),
    ],
)  # fmt: skip
def test_compression_comes_from_the_launch_argument(argument, expected):
    found = recorder_parameters({"record": "/tmp/bag", "record_compression": argument})
    assert (found["image_compression"], found["compress"]) == expected
    assert found["output"] == "/tmp/bag"


def test_unknown_compression_is_refused():
    with pytest.raises(ValueError, match="record_compression must be one of none, png, jpeg, zstd"):
        recorder_parameters({"record": "true", "record_compression": "lz4"})


# --- The player -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_a_simulators_bag_is_played_on_its_recorded_clock(tmp_path, rate):
    """Stamps are simulated time, and the node that follows /clock finds the images fresh."""
    from replay_bags import PERIOD, START, BagMaker, sample_image

    with BagMaker(tmp_path / "bag") as bag:
        for number in range(30):
            simulated = 5 * 10**9 + number * PERIOD
            clock = bag.make("rosgraph_msgs/msg/Clock", clock=bag.time(simulated))
            bag.add("/clock", "rosgraph_msgs/msg/Clock", number * PERIOD, clock)
            bag.image(sample_image(number), simulated - START, received=number * PERIOD + 1_000_000)
    policy = ControlledPolicy()
    with bench(policy, use_sim_time=True, max_image_age=0.5) as b:
        clocks = b.listen(Clock, "/clock")
        b.activate()
        with playing(b.client.context, tmp_path / "bag", rate=rate):
            b.until(lambda: b.count("inferences") > 3, "inferences on simulated time")
        assert all(to_nanoseconds(c.clock) < 10**10 for c in clocks)
        assert all(
            a <= b for a, b in zip(
                (to_nanoseconds(c.clock) for c in clocks),
                (to_nanoseconds(c.clock) for c in clocks[1:]), strict=False,
            )
        )  # fmt: skip


def test_joint_states_with_a_prefix_and_each_arms_commands_are_recorded(tmp_path):
    """The prefix was taken for a part of the topic's name, and ended the recorder."""
    policy = ControlledPolicy(state_dim=14)
    policy.robot = "aloha"
    policy._follow_brightness = lambda seen: np.full((1, 14), 1e-6 * seen.images[0].mean())
    entries = [f"{side}_=/{side}/joint_states" for side in ("left", "right")]
    settings = {"separate_arms": True, "dry_run": True, "joint_state_topics": entries}
    with bench(policy, **settings) as b, recorder(b.client.context, tmp_path / "bag") as r:
        topics = {f"/{side}/joint_states" for side in ("left", "right")}
        sensors = [b.client.create_publisher(JointState, topic, 10) for topic in sorted(topics)]
        assert b.change_state(Transition.TRANSITION_CONFIGURE)
        command = "/vla_pruner/preview/left/joint_command"

        def all_recorded() -> bool:
            for sensor in sensors:
                sensor.publish(JointState(name=["waist"], position=[0.0]))
            return topics <= set(r.recording.counts) and bool(b.client.count_subscribers(command))

        b.until(all_recorded, "both drivers and the arms' commands")


@pytest.mark.parametrize(
    ("topic", "is_one"),
    [
        ("/vla_pruner/left/joint_trajectory", True),
        ("/vla_pruner/preview/left/gripper_command", True),
        ("/vla_pruner/joint_trajectory", False),
        ("/vla_pruner/left/joint_states", False),
        ("/other/left/joint_trajectory", False),
        ("/vla_pruner/replay/full/action_chunk", False),
    ],
)
def test_recorded_commands_of_one_arm_are_never_played_to_its_controller(topic, is_one):
    assert is_arm_command(topic, "/vla_pruner") == is_one
    shared = topic == "/vla_pruner/joint_trajectory"
    assert (topic in moved_aside("/vla_pruner", [topic])) == (is_one or shared)


@pytest.mark.parametrize("name", [*COMMANDS, *(f"preview/{name}" for name in COMMANDS), "overlay"])
def test_recorded_commands_are_never_played_to_a_controller(name):
    assert f"/vla_pruner/{name}" in moved_aside("/vla_pruner")


def test_what_was_latched_is_latched_again(tmp_path, ros):
    from replay_bags import PERIOD, BagMaker, sample_image

    context, node = ros
    with BagMaker(tmp_path / "bag") as bag:
        bag.instruction("<robot/>", 0, topic="/robot_description")
        for number in range(50):
            bag.image(sample_image(number), number * PERIOD)
    heard = []
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    with playing(context, tmp_path / "bag", delay=0.0):
        until(lambda: node.count_publishers("/robot_description"), "the publisher")
        threading.Event().wait(0.5)  # it was published before anybody listened
        node.create_subscription(String, "/robot_description", heard.append, LATCHED)
        for _ in range(200):
            executor.spin_once(timeout_sec=0.05)
            if heard:
                break
    assert [m.data for m in heard] == ["<robot/>"]
