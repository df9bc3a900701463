"""Helpers of the nodes' tests: a policy they control, a node on loopback, awaiting messages."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the tests of nodes need rclpy")

import rclpy
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from vla_pruner_ros.models.policy import ActionChunk, Observation, PruningReport
from vla_pruner_ros.nodes.spin import NodeExecutor, spin_on
from vla_pruner_ros.nodes.vla_pruner.node import VlaPrunerNode
from vla_pruner_ros.pruning.config import PruningConfig

DOMAIN = int(os.environ["ROS_DOMAIN_ID"])
"""Tests that run at the same time must not hear each other."""
WAIT = 10.0
"""Longest wait for anything (s); reached only where a test fails."""


def moving(actions: list[Any]) -> list[Any]:
    """Return the EndEffectorActions that are no stops."""
    return [a for a in actions if not a.stop]


class ControlledPolicy:
    """A VlaPolicy whose answers, timing and failures the test sets. It sees 16 tokens a camera."""

    family = "controlled"
    trained = True
    can_miss_cameras = True
    robot = str(Path(__file__).parent / "robots" / "end_effector.yaml")

    def __init__(self, num_cameras: int = 1, state_dim: int = 0, chunk_size: int = 1) -> None:
        self.num_cameras = num_cameras
        self.state_dim = state_dim
        self.chunk_size = chunk_size
        self.pruning = PruningConfig()
        self.respond: Callable[[Observation], np.ndarray] = self._follow_brightness
        self.observations: list[Observation] = []
        self.ratios: list[float] = []
        self.resets = 0
        self.proceed = threading.Event()
        self.proceed.set()
        self.started = threading.Event()
        self.expect_configure()

    def expect_configure(self) -> None:
        """The next two calls come from configuring and are answered at once."""
        self._configure_calls = 2

    def act(self, observation: Observation) -> ActionChunk:
        if self._configure_calls:
            self._configure_calls -= 1
            actions = self._follow_brightness(observation)
        else:
            self.observations.append(observation)
            self.ratios.append(self.pruning.keep_ratio)
            self.started.set()
            assert self.proceed.wait(WAIT)
            actions = self.respond(observation)
        kept = max(1, round(16 * self.pruning.keep_ratio))
        report = PruningReport(
            [np.arange(kept, dtype=np.int32)] * self.num_cameras,
            (4, 4),
            16 * self.num_cameras,
            kept * self.num_cameras,
            kept * self.num_cameras,
            self.pruning.method,
            timings={"total": 0.0},
        )
        return ActionChunk(np.asarray(actions, dtype=np.float32), report)

    def reset(self) -> None:
        self.resets += 1

    def preview(self, image: np.ndarray) -> np.ndarray:
        return image

    def _follow_brightness(self, observation: Observation) -> np.ndarray:
        x = 0.001 + 0.0001 * float(observation.images[0].mean())
        return np.tile([x, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], (self.chunk_size, 1))


class Bench:
    """A node under test, a client node next to it, both spinning until the test ends."""

    def __init__(self, context: Context, policy: Any, parameters: dict[str, Any]) -> None:
        self.policy = policy
        self.domain = DOMAIN
        files = parameters.pop("parameter_files", ())
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        load = policy if callable(policy) else lambda settings: policy
        self.node = VlaPrunerNode(
            load=load, parameter_files=files, context=context, parameter_overrides=overrides
        )
        self.client = rclpy.create_node("client", context=context)
        self._received: dict[str, list[Any]] = {}
        self._arrived = threading.Condition()
        self._publishers: dict[str, Any] = {}

    def listen(self, message_type: Any, topic: str, qos: Any = 50) -> list[Any]:
        """Collect a topic's messages; returns the list that grows."""
        received = self._received.setdefault(topic, [])

        def store(message: Any) -> None:
            with self._arrived:
                received.append(message)
                self._arrived.notify_all()

        self.client.create_subscription(message_type, topic, store, qos)
        return received

    def until(self, condition: Callable[[], Any], what: str, patience: float = WAIT) -> None:
        """Wait for a condition that an arriving message, or at most 20 ms, may change."""
        deadline = time.monotonic() + patience
        with self._arrived:
            while not condition():
                assert time.monotonic() < deadline, f"not within {patience} s: {what}"
                self._arrived.wait(0.02)

    def call(self, service_type: Any, name: str, request: Any, patience: float = WAIT) -> Any:
        """Call a service and wait for the answer."""
        client = self.client.create_client(service_type, name)
        assert client.wait_for_service(patience), f"no service {name}"
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(patience), f"no answer from {name}"
        self.client.destroy_client(client)
        return future.result()

    def change_state(
        self, transition: int, node: str = "vla_pruner", patience: float = WAIT
    ) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, f"/{node}/change_state", request, patience).success

    def state(self) -> str:
        return self.call(GetState, "/vla_pruner/get_state", GetState.Request()).current_state.label

    def activate(self, topic: str = "image_raw") -> None:
        """Configure and activate, and wait until the node listens to the camera's topic."""
        assert self.change_state(Transition.TRANSITION_CONFIGURE)
        assert self.change_state(Transition.TRANSITION_ACTIVATE)
        assert self.state() == "active"
        self.until(lambda: self.client.count_subscribers(f"/{topic}"), "camera subscription")

    def set_parameter(self, name: str, value: Any) -> Any:
        """Set one parameter through its service; returns the result."""
        from rcl_interfaces.srv import SetParameters

        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, "/vla_pruner/set_parameters", request).results[0]

    def instruct(self, text: str) -> None:
        self._publisher(String, "instruction", 10).publish(String(data=text))

    def show(self, brightness: int = 100, topic: str = "image_raw", age: float = 0.0) -> Image:
        """Publish one 32 x 24 image, `age` seconds old."""
        image = Image(height=24, width=32, encoding="rgb8", step=96)
        image.data = bytes([brightness]) * (24 * 96)
        return self.send_image(image, topic, age)

    def send_image(self, image: Image, topic: str = "image_raw", age: float = 0.0) -> Image:
        # First the publisher: finding its subscriber can take longer than an image stays fresh.
        publisher = self._publisher(type(image), topic, qos_profile_sensor_data)
        now = self.client.get_clock().now().nanoseconds - round(age * 1e9)
        image.header.stamp.sec, image.header.stamp.nanosec = divmod(now, 10**9)
        publisher.publish(image)
        return image

    def show_until(
        self, condition: Callable[[], Any], what: str, patience: float = WAIT, **image: Any
    ) -> None:
        """Publish images at about 50 Hz until a condition holds."""

        def shown() -> Any:
            self.show(**image)
            return condition()

        self.until(shown, what, patience)

    def send_joint_state(self, names: list[str], positions: list[float]) -> None:
        message = JointState(name=names, position=positions)
        self._publisher(JointState, "joint_states", qos_profile_sensor_data).publish(message)

    def joint_positions(self) -> list[float]:
        """Return the newest joint state that the node holds."""
        held = self.node.runner.inputs.joint_state
        return [] if held is None else list(held.message.position)

    def send_pose(self, x: float, y: float = 0.0, z: float = 0.3, frame: str = "base_link") -> None:
        """Say where the end effector is (m); its orientation is the frame's."""
        message = PoseStamped()
        message.header.frame_id = frame
        message.pose.position.x, message.pose.position.y, message.pose.position.z = x, y, z
        message.pose.orientation.w = 1.0
        self._publisher(PoseStamped, "end_effector_pose", qos_profile_sensor_data).publish(message)

    def count(self, name: str) -> int:
        """Return one of the node's counters."""
        return self.node.health.counts().get(name, 0)

    def _publisher(self, message_type: Any, topic: str, qos: Any) -> Any:
        if topic not in self._publishers:
            publisher = self.client.create_publisher(message_type, topic, qos)
            self._publishers[topic] = publisher
            self.until(publisher.get_subscription_count, f"a subscriber of {topic}")
        return self._publishers[topic]


PARTICIPANT = 5
"""Sockets of one DDS participant at least."""


def open_sockets() -> int:
    """Return how many sockets this process holds (0 where /proc does not show it)."""
    count = 0
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # closed meanwhile
            count += os.readlink(link).startswith("socket:")
    return count


@contextmanager
def bench(policy: Any, **parameters: Any):
    """Run a node under test on a context of its own; everything is joined before it goes."""
    # The garbage of the tests before would be walked through in the middle of this one, half a
    # second at a time, and stop a node that watches the age of its images.
    gc.collect()
    gc.freeze()
    sockets = open_sockets()
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    made = Bench(context, policy, {"instruction": "push the button", **parameters})
    executor = NodeExecutor(4, context=context)
    executor.add_node(made.node)
    executor.add_node(made.client)
    spinner = threading.Thread(target=spin_on, args=(executor,))
    spinner.start()
    try:
        yield made
    finally:
        if hasattr(policy, "proceed"):
            policy.proceed.set()
        made.node.close()
        executor.shutdown()
        spinner.join()
        made.node.destroy_node()
        made.client.destroy_node()
        context.try_shutdown()
    # Other tests would find this test's nodes in the graph.
    assert open_sockets() - sockets < PARTICIPANT, "a node is still there after its end"


STATES = State
