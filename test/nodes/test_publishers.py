"""Publishers as they are: latched, of other QoS, of another type, out of step, or not there."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import rclpy
from node_helpers import DOMAIN, ControlledPolicy, bench, moving
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Int32, String

from vla_pruner_ros.msg import EndEffectorAction

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@contextmanager
def another_process():
    """A node of a participant of its own: one participant cannot have two types on a topic."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("other", context=context)
    try:
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()


def problem(b) -> str:
    """Return the present problem as diagnostics name it."""
    return b.node.state()["problem"]


# --- Latched instructions -------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before configure", "before activate", "while active"])
def test_a_latched_instruction_is_heard_whatever_the_order(when):
    with bench(ControlledPolicy(), instruction="") as b:
        latch = lambda: b.client.create_publisher(String, "instruction", LATCHED).publish(
            String(data="open the door")
        )
        if when == "before configure":
            latch()
        if when == "before activate":
            assert b.change_state(1)
            latch()
            assert b.change_state(3)
        else:
            b.activate()
        if when == "while active":
            latch()
        b.until(lambda: b.node.runner.instruction == "open the door", "the latched instruction")


@pytest.mark.parametrize("offered", ["latched", "volatile"])
@pytest.mark.parametrize("when", ["before configure", "before activate", "while active"])
def test_a_robot_description_is_heard_whatever_the_order(when, offered):
    """Only a publisher that latches was heard; `ros2 topic pub` does not."""
    urdf = "<robot name='arm'/>"
    with bench(ControlledPolicy()) as b:
        qos = LATCHED if offered == "latched" else RELIABLE
        publisher = b.client.create_publisher(String, "robot_description", qos)
        steps = {"before configure": lambda: None, "before activate": lambda: b.change_state(1)}
        steps.get(when, b.activate)()
        publisher.publish(String(data=urdf))
        if when == "before configure":
            b.activate()
        elif when == "before activate":
            assert b.change_state(3)

        def heard():
            if offered == "volatile":  # it latches nothing: heard from now on
                publisher.publish(String(data=urdf))
            return b.node.runner.inputs.robot_description == urdf

        b.until(heard, "the description")
        newer = "<robot name='newer'/>"
        publisher.publish(String(data=newer))
        b.until(lambda: b.node.runner.inputs.robot_description == newer, "the newer one")


def test_a_message_that_both_subscriptions_hear_counts_once():
    heard = []
    with bench(ControlledPolicy(), instruction="") as b:
        publisher = b.client.create_publisher(String, "instruction", LATCHED)
        publisher.publish(String(data="one"))
        b.activate()
        take = b.node.runner.take_instruction
        b.node.runner.inputs._latched[0]._callback = lambda m: (heard.append(m.data), take(m.data))
        b.until(lambda: b.node.runner.instruction == "one", "the latched instruction")
        heard.clear()
        for text in ("two", "three", "two", "four"):
            publisher.publish(String(data=text))
            b.until(lambda text=text: b.node.runner.instruction == text, text)
        b.client.create_publisher(String, "instruction", RELIABLE)
        b.until(lambda: len(heard) >= 4, "four instructions")
        assert heard == ["two", "three", "two", "four"]


def test_a_plain_publisher_is_not_warned_of_a_subscription_that_cannot_hear_it():
    """`ros2 topic pub` would print that its QoS is incompatible."""
    with bench(ControlledPolicy(), instruction="") as b:
        b.activate()
        b.instruct("go")
        b.until(lambda: b.node.runner.instruction == "go", "the instruction")
        b.node.reporter.report()
        subscribed = b.client.get_subscriptions_info_by_topic("/instruction")
        assert [s.qos_profile.durability for s in subscribed] == [DurabilityPolicy.VOLATILE]


# --- QoS and transports ---------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [BEST_EFFORT, RELIABLE, LATCHED])
def test_cameras_of_every_reliability_are_heard(offered):
    with bench(ControlledPolicy()) as b:
        actions = b.listen(EndEffectorAction, "/vla_pruner/action")
        b.activate()
        b._publishers["image_raw"] = b.client.create_publisher(Image, "image_raw", offered)
        b.show_until(lambda: moving(actions), "motion")


def test_qos_overrides_stay_with_their_subscription():
    """The next node of the process requested the overridden QoS and heard no pose."""
    before = qos_profile_sensor_data.durability
    test_qos_overrides_are_followed()
    assert qos_profile_sensor_data.durability == before
    assert qos_profile_sensor_data.reliability == ReliabilityPolicy.BEST_EFFORT


def test_qos_overrides_are_followed():
    name = "qos_overrides./{}.subscription.{}"
    overrides = {
        name.format("image_raw", "reliability"): "reliable",
        name.format("image_raw", "depth"): 3,
        name.format("joint_states", "reliability"): "reliable",
        name.format("instruction", "depth"): 2,
        name.format("end_effector_pose", "durability"): "transient_local",
    }
    with bench(ControlledPolicy(), **overrides) as b:
        for _ in range(2):  # the second life finds its parameters declared already
            b.activate()
            found = {
                topic: b.client.get_subscriptions_info_by_topic(topic)[0].qos_profile
                for topic in ("/image_raw", "/joint_states", "/end_effector_pose")
            }
            assert found["/image_raw"].reliability == ReliabilityPolicy.RELIABLE
            assert found["/joint_states"].reliability == ReliabilityPolicy.RELIABLE
            assert found["/end_effector_pose"].durability == DurabilityPolicy.TRANSIENT_LOCAL
            assert b.change_state(4)
            assert b.change_state(2)


@pytest.mark.parametrize(
    ("topics", "parameters", "kinds"),
    [
        (["a", "b"], {"image_transports": ["raw", "compressed"]},
         {"a": Image, "b/compressed": CompressedImage}),
        (["a", "b"], {"image_transports": ["mjpeg", "raw"]}, {"a": CompressedImage, "b": Image}),
        (["a/compressed", "b"], {}, {"a/compressed": CompressedImage, "b": Image}),
        (["a", "b"], {"image_transport": "mjpeg"}, {"a": CompressedImage, "b": CompressedImage}),
        (["a/compressed", "b"], {"image_transport": "compressed"},
         {"a/compressed": CompressedImage, "b/compressed": CompressedImage}),
    ],
)  # fmt: skip
def test_raw_and_compressed_per_camera(topics, parameters, kinds):
    with bench(ControlledPolicy(num_cameras=2), image_topics=topics, **parameters) as b:
        b.activate(next(iter(kinds)))
        for topic, kind in kinds.items():
            found = b.client.get_subscriptions_info_by_topic(f"/{topic}")
            assert [s.topic_type for s in found] == [f"sensor_msgs/msg/{kind.__name__}"]


@pytest.mark.parametrize("transports", [["raw"], ["raw", "raw", "raw"], ["raw", "theora"]])
def test_transports_that_do_not_fit_the_cameras_are_refused(transports):
    with bench(ControlledPolicy(num_cameras=2), image_topics=["a", "b"]) as b:
        refused = b.set_parameter("image_transports", transports)
        assert not refused.successful
        assert "image_transports must be empty or name one of raw, compressed, mjpeg" in (
            refused.reason
        )


# --- Present causes, all of them ------------------------------------------------------------------


def test_stamps_that_are_apart_are_named():
    parameters = {"image_topics": ["scene", "wrist"], "max_image_age": 0.5}
    with bench(ControlledPolicy(num_cameras=2), **parameters) as b:
        b.activate("scene")

        def shown():
            b.show(topic="scene")
            b.show(topic="wrist", age=0.15)
            return "apart" in problem(b)

        b.until(shown, "the stamps' distance")
        assert "The stamps of scene and wrist are 0.1" in problem(b)
        assert "more than max_camera_spread 0.10 s" in problem(b)
        assert b.count("inferences") == 0
        assert b.set_parameter("max_camera_spread", 0.3).successful
        b.until(lambda: (shown(), b.count("inferences"))[1], "an inference")
        b.until(lambda: (shown(), not problem(b))[1], "no problem any more")


@pytest.mark.parametrize(
    ("kind", "topic", "offered", "reason"),
    [
        (CompressedImage, "image_raw", RELIABLE,
         "/image_raw carries sensor_msgs/msg/CompressedImage, and sensor_msgs/msg/Image is"),
        (String, "image_raw", RELIABLE, "/image_raw carries std_msgs/msg/String"),
        (Image, "camera/image_raw", RELIABLE, "nobody publishes /image_raw; sensor_msgs/msg/Image "
         "is on /camera/image_raw"),
        (Int32, "other", RELIABLE, "nobody publishes /image_raw, and no topic here carries "
         "sensor_msgs/msg/Image"),
    ],
)  # fmt: skip
def test_why_a_camera_is_silent_is_named(kind, topic, offered, reason):
    with bench(ControlledPolicy(), max_image_age=0.2) as b, another_process() as other:
        other.create_publisher(kind, topic, offered)
        b.activate()
        b.until(lambda: reason in problem(b), reason)


def test_qos_that_does_not_fit_is_named():
    name = "qos_overrides./image_raw.subscription.reliability"
    with bench(ControlledPolicy(), max_image_age=0.2, **{name: "reliable"}) as b:
        b.client.create_publisher(Image, "image_raw", BEST_EFFORT)
        b.activate()
        reason = "the publisher of /image_raw offers best effort, and reliable is asked"
        b.until(lambda: reason in problem(b), reason)


def test_every_present_cause_is_named_and_none_that_is_past():
    parameters = {"instruction": "", "max_image_age": 0.2, "workspace": [-1.0, -1, -1, 1, 1, 1]}
    policy = ControlledPolicy(state_dim=2)
    with bench(policy, **{k: v for k, v in parameters.items() if k != "workspace"},
               workspace=[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]) as b:  # fmt: skip
        b.activate()
        reasons = {
            "instruction": "Waiting for an instruction",
            "camera": "No image on image_raw",
            "state": "no joint state arrived",
            "pose": "No end_effector_pose has arrived",
        }
        b.until(lambda: all(text in problem(b) for text in reasons.values()), "four causes")
        b.instruct("go")
        b.until(lambda: reasons["instruction"] not in problem(b), "the instruction is there")
        assert all(reasons[name] in problem(b) for name in ("camera", "state", "pose"))

        def shown(state: bool) -> bool:
            b.show()
            b.send_pose(0.0)
            if state:
                b.send_joint_state(["a", "b"], [0.1, 0.2])
            return True

        b.until(lambda: shown(False) and "image_raw" not in problem(b), "the camera is there")
        b.until(lambda: shown(False) and "end_effector" not in problem(b), "the pose is there")
        assert reasons["state"] in problem(b)
        b.until(lambda: shown(True) and not problem(b), "nothing is missing")
        b.until(lambda: shown(True) and b.count("inferences"), "an inference")


def test_each_cause_is_logged_once_though_its_numbers_change(capfd):
    parameters = {"image_topics": ["scene", "wrist"]}
    with bench(ControlledPolicy(num_cameras=2), **parameters) as b:
        b.activate("scene")
        ages = iter([0.15 + 0.01 * (n % 9) for n in range(10000)])

        def shown():
            b.show(topic="scene")
            b.show(topic="wrist", age=next(ages))
            return "apart" in problem(b)

        b.until(shown, "the stamps' distance")
        for _ in range(20):
            b.until(shown, "still apart")
    assert capfd.readouterr().err.count("more than max_camera_spread") <= 2  # log and diagnostics


def test_use_sim_time_without_a_clock_is_named():
    with bench(ControlledPolicy(), max_image_age=0.2, use_sim_time=True) as b:
        b.activate()
        b.until(lambda: "nobody publishes /clock" in problem(b), "the missing clock")


def test_instructions_that_never_settle_are_named(monkeypatch):
    """Two publishers that contradict each other: every result is discarded."""
    policy = ControlledPolicy()
    with bench(policy, control_rate=50.0) as b:
        b.activate()
        respond, texts = policy.respond, iter(["left", "right"] * 100000)

        def contradicted(observation):
            b.node.runner.take_instruction(next(texts))
            return respond(observation)

        policy.respond = contradicted
        b.show_until(lambda: "results were discarded" in problem(b), "no progress")
        policy.respond = respond
        b.show_until(lambda: not problem(b), "progress again")
