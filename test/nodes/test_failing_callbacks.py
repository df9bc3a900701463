"""An exception in any callback is reported, stops motion, and leaves the node serviceable."""

from __future__ import annotations

import threading

import pytest
import rclpy
from node_helpers import DOMAIN, ControlledPolicy, bench, moving
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.spin import EndNode, NodeExecutor, spin_on


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
