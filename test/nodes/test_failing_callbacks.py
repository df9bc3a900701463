"""An exception in any callback is reported, stops motion, and leaves the node serviceable."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from node_helpers import DOMAIN, ControlledPolicy, bench, moving
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Int32, String
from std_srvs.srv import Trigger

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.spin import EndNode, NodeExecutor, spin_on

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Panic(BaseException):
    """As a library in Rust raises it: no Exception."""


ERRORS = [ValueError("broken"), KeyError("key"), Panic("panicked"), MemoryError()]


def fail_once(b, where: str, error: BaseException) -> None:
    """Let one callback of a kind raise an error, and cause it to run."""
    armed = threading.Event()

    def fail(*_):
        if armed.is_set():
            armed.clear()
            raise error

    if where == "timer":
        b.node.create_timer(0.01, fail)
    elif where == "subscription":
        b.node.create_subscription(Int32, "numbers", fail, 10)
    elif where == "service":
        b.node.runner.release = fail
    else:
        b.node.add_pre_set_parameters_callback(fail)
    armed.set()
    if where == "subscription":
        # One side may match before the other: what is sent until then is lost.
        numbers = b._publisher(Int32, "numbers", 10)
        b.until(lambda: numbers.publish(Int32()) or not armed.is_set(), "a number to arrive")
    if where == "service":
        assert not b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
    if where == "parameter service":
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        change = Parameter("keep_ratio", value=0.4).to_parameter_msg()
        request = SetParameters.Request(parameters=[change])
        b.call(SetParameters, "/vla_pruner/set_parameters", request)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", ["timer", "subscription", "service", "parameter service"])
def test_a_failing_callback_stops_motion_and_nothing_else(where, error):
    with bench(ControlledPolicy()) as b:
        log = b.listen(Log, "/rosout", 200)
        actions = b.listen(EndEffectorAction, "/vla_pruner/action")
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        fail_once(b, where, error)
        b.until(lambda: b.count("callbacks_failed") == 1, "the failure to be counted")
        b.until(lambda: actions[-1].stop, "a stop")
        assert "A callback failed" in b.node.state()["problem"]
        name = type(error).__name__  # the stop goes out first, the log follows

        def logged() -> bool:
            tracebacks = [line.msg for line in log if "Traceback" in line.msg]
            return any(name in traceback.split("Traceback")[-1] for traceback in tracebacks)

        b.until(logged, "the traceback in the log")
        # Serviceable: parameters, services, transitions, and motion again.
        answer = b.call(
            GetParameters, "/vla_pruner/get_parameters", GetParameters.Request(names=["keep_ratio"])
        )
        assert len(answer.values) == 1
        if where != "service":
            assert b.call(Trigger, "/vla_pruner/reset", Trigger.Request()).success
        before = len(moving(actions))
        b.show_until(lambda: len(moving(actions)) > before, "motion again")
        assert b.change_state(4)
        assert b.state() == "inactive"


def executor_of(make_callback):
    """Spin a node whose timer calls back until spinning ends; return what ended it."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("failing", context=context)
    reported = []
    node.on_callback_error = reported.append
    executor = NodeExecutor(2, context=context)
    executor.add_node(node)
    node.create_timer(0.001, make_callback(executor))
    try:
        spin_on(executor)
    except BaseException as error:
        return error, reported
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
    return None, reported


def test_a_node_that_cannot_go_on_ends_with_its_sentence():
    def make(executor):
        def callback():
            raise EndNode("the disk is full")

        return callback

    ended, reported = executor_of(make)
    assert isinstance(ended, EndNode)
    assert str(ended) == "the disk is full"
    assert reported == []


def test_a_callback_that_never_works_ends_the_node_in_the_end():
    def make(executor):
        def callback():
            raise ValueError("again")

        return callback

    ended, reported = executor_of(make)
    assert isinstance(ended, ValueError)
    assert len(reported) > 100


# --- Messages that cannot be read -----------------------------------------------------------------


class Unreadable:
    """A class instead of a message's own: rclpy cannot make an instance, whatever came."""

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError("another version of this type")


@pytest.mark.parametrize("kind", ["instruction", "image_raw", "joint_states"])
def test_a_message_that_rclpy_cannot_take_is_named_and_the_next_one_is_taken(kind, monkeypatch):
    """The topic was left out of every later wait, and its callback group stayed occupied."""
    module = {"instruction": "std_msgs.msg._string", "image_raw": "sensor_msgs.msg._image",
              "joint_states": "sensor_msgs.msg._joint_state"}[kind]  # fmt: skip
    message = {"instruction": String, "image_raw": Image, "joint_states": JointState}[kind]
    with bench(ControlledPolicy(), max_image_age=5.0) as b:
        actions = b.listen(EndEffectorAction, "/vla_pruner/action")
        log = b.listen(Log, "/rosout", 200)
        b.activate()
        b.show_until(lambda: moving(actions), "motion")
        publisher = b._publisher(message, kind, 10 if kind == "instruction" else BEST_EFFORT)
        data = serialize_message(message())
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.{message.__name__}", Unreadable)

            def sent():
                publisher.publish(data)
                return b.count("callbacks_failed")

            b.until(sent, "the failure to be counted")
            for _ in range(300):  # in a burst: neither the log nor the node may drown
                publisher.publish(data)
            b.until(lambda: any(f"a message on /{kind} cannot be read" in m.msg for m in log),
                    "the log to name the topic")  # fmt: skip
        assert b.count("callbacks_failed") == 1
        b.until(lambda: any(a.stop for a in actions), "a stop")
        before = len(moving(actions))
        b.instruct("go on")
        b.send_joint_state(["a"], [0.25])
        b.until(lambda: b.node.runner.instruction == "go on", "an instruction")
        b.until(lambda: b.joint_positions() == [0.25], "a joint state")
        b.show_until(lambda: len(moving(actions)) > before, "motion again")


CUT = {
    "few bytes": lambda data: data[:12],
    "no bytes": lambda data: data[:4],
    "noise": lambda data: data[:4] + b"\xff" * 60,
    "another type": lambda _: bytes(serialize_message(Int32(data=7))),
}


@pytest.mark.parametrize("how", CUT)
@pytest.mark.parametrize("kind", ["image_raw", "joint_states", "end_effector_pose"])
def test_bytes_of_another_version_of_a_type_are_named(kind, how):
    """Fast DDS drops what it cannot read: the topic only seemed silent."""
    message = {"image_raw": Image, "joint_states": JointState, "end_effector_pose": PoseStamped}
    good = message[kind]()
    box = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
    with bench(ControlledPolicy(state_dim=1), max_image_age=0.2, workspace=box) as b:
        b.activate()
        data = CUT[how](bytes(serialize_message(good)))
        publisher = b._publisher(message[kind], kind, BEST_EFFORT)

        def sent():
            publisher.publish(data)
            problem = b.node.state()["problem"]
            return f"what comes on /{kind} ({len(data)} bytes) cannot be read as" in problem

        b.until(sent, "the reason")
        b.show()
        b.send_joint_state(["a"], [0.25])
        b.send_pose(0.0)

        def well():
            b.show()
            b.send_joint_state(["a"], [0.25])
            b.send_pose(0.0)
            return not b.node.state()["problem"] and b.count("inferences")

        b.until(well, "inferences after good messages")


def test_a_publisher_with_another_hash_of_the_type_is_named():
    """Distributions may have different versions of one type; Humble knows no hashes."""
    with bench(ControlledPolicy(), max_image_age=0.2) as b:
        b.client.create_publisher(Image, "image_raw", BEST_EFFORT)
        b.activate()
        node = b.node
        inputs = node.runner.inputs
        b.until(lambda: node.get_publishers_info_by_topic("/image_raw"), "the publisher")
        doctor = inputs._doctor
        publishers = node.get_publishers_info_by_topic("/image_raw")
        assert not doctor._other_version("/image_raw", publishers)
        for value, expected in (("RIHS01_0", True), (None, False)):
            other = SimpleNamespace(topic_type_hash=value)
            assert doctor._other_version("/image_raw", [other]) == expected
            assert not doctor._other_version("/image_raw", [other, *publishers])
        assert not doctor._other_version("/image_raw", [SimpleNamespace()])
