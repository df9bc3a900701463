"""Client of the node's services: lifecycle, parameters, instruction. Used by programs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from vla_pruner_ros.nodes.process.log_file import without_file_of_rcl
from vla_pruner_ros.nodes.spin import spin_on

LOOK_PERIOD = 0.05
"""Seconds between two looks whether a call was given up."""


class GivenUpError(Exception):
    """A call was not answered because the caller gave up."""


class PolicyClient:
    """Client of a vla_pruner node for plain sequential code; it spins on a thread of its own."""

    def __init__(
        self,
        name: str = "vla_pruner_client",
        target: str = "vla_pruner",
        gives_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start to spin.

        Args:
            name: of the client's own node.
            target: name of the node to talk to.
            gives_up: called while a call waits; if true, the call raises GivenUpError.
        """
        self._gives_up = gives_up
        if not rclpy.ok():
            # The program's own NAME:=VALUE arguments would be taken for remappings.
            rclpy.init(args=without_file_of_rcl([]), signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(name)
        self._target = target
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._instructions = self.node.create_publisher(String, "instruction", 10)
        self._thread = threading.Thread(target=spin_on, args=(self._executor,))
        self._thread.start()

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown()

    def configure(self, timeout: float = 600.0) -> bool:
        """Configure the node; return whether it is inactive within the timeout (s)."""
        return self._change_state(Transition.TRANSITION_CONFIGURE, timeout)

    def activate(self, timeout: float = 10.0) -> bool:
        """Activate the node; return whether it is active within the timeout (s)."""
        return self._change_state(Transition.TRANSITION_ACTIVATE, timeout)

    def deactivate(self, timeout: float = 10.0) -> bool:
        """Deactivate the node; return whether it is inactive within the timeout (s)."""
        return self._change_state(Transition.TRANSITION_DEACTIVATE, timeout)

    def cleanup(self, timeout: float = 10.0) -> bool:
        """Clean the node up; return whether it is unconfigured within the timeout (s)."""
        return self._change_state(Transition.TRANSITION_CLEANUP, timeout)

    def state(self, timeout: float = 10.0) -> str:
        """Return the lifecycle state's label."""
        return self._call(GetState, "get_state", GetState.Request(), timeout).current_state.label

    def set_parameter(self, name: str, value: Any, timeout: float = 10.0) -> None:
        """Set one parameter.

        Raises:
            ValueError: refused; the node's reason.
        """
        message = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[message])
        result = self._call(SetParameters, "set_parameters", request, timeout).results[0]
        if not result.successful:
            raise ValueError(result.reason)

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        self._instructions.publish(String(data=text))

    def wait_until_alone(self, timeout: float = 30.0) -> bool:
        """Wait until one node alone has the target's name: of one that was killed, the graph keeps
        an image for about 20 s, and two would drive one arm."""
        full = self.node.resolve_service_name(self._target)

        def is_alone() -> bool:
            nodes = self.node.get_node_names_and_namespaces()
            return sum(f"{space.rstrip('/')}/{name}" == full for name, space in nodes) <= 1

        return self._wait(is_alone, timeout)

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Return whether a condition came true in time; GivenUpError if the caller gave up."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self._gives_up():
                raise GivenUpError
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_PERIOD)
        return True

    def _change_state(self, transition: int, timeout: float) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self._call(ChangeState, "change_state", request, timeout).success

    def _call(self, service_type: Any, name: str, request: Any, timeout: float) -> Any:
        service = f"{self._target}/{name}"
        client = self.node.create_client(service_type, service)
        try:
            if not self._wait(client.service_is_ready, min(timeout, 30.0)):
                raise TimeoutError(f"The service {service} is not there: is the node running?")
            future = client.call_async(request)
            if not self._wait(future.done, timeout):
                raise TimeoutError(f"The service {service} did not answer within {timeout:.0f} s")
            return future.result()
        finally:
            self.node.destroy_client(client)
