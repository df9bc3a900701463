"""A real node seen from outside: what it sends, with the time of receipt, and what it is shown."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_pruner_ros.msg import EndEffectorAction
from vla_pruner_ros.nodes.messages import to_time
from vla_pruner_ros.nodes.spin import spin_on

WAIT = 30.0
"""Longest wait for anything (s)."""

BEAT = 0.02
"""Period (s) at which the observer looks whether it runs itself."""

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE

_NUMBERS = itertools.count()


class Seen(NamedTuple):
    """A message of the node: steady time of its receipt (s), its kind, whether it moves the arm."""

    at: float
    kind: str
    moves: bool
    message: Any


class Outside:
    """Observes a node from outside, shows it images and asks its services.

    seen: every action and twist in the order of receipt. clock_offset: seconds by which the
    stamps of what is sent are ahead of this computer's clock. image_age: seconds by which those of
    images lie back. frame_id: of images. encoding: of images. name: of the node, with namespace.
    """

    def __init__(
        self, name: str = "", cameras: Sequence[str] = ("image_raw",), namespace: str = ""
    ) -> None:
        self.name = name or f"subject_{os.getpid()}_{next(_NUMBERS)}"
        self.domain = int(os.environ["ROS_DOMAIN_ID"])
        self.seen: list[Seen] = []
        self.sentences: list[str] = []
        self.values: dict[str, str] = {}
        self.clock_offset = self.image_age = 0.0
        self.frame_id, self.encoding = "", "rgb8"
        self.on_action: Callable[[EndEffectorAction], None] = lambda message: None
        self._context = Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node(
            f"outside_{next(_NUMBERS)}", context=self._context, namespace=namespace
        )
        deep = QoSProfile(depth=1000)
        for kind, message_type, callback in (
            ("action", EndEffectorAction, self._on_action),
            ("twist", TwistStamped, self._on_twist),
        ):
            self.node.create_subscription(message_type, f"/{self.name}/{kind}", callback, deep)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, deep)
        create = self.node.create_publisher
        self._images = [create(Image, topic, qos_profile_sensor_data) for topic in cameras]
        self._joints = create(JointState, "joint_states", qos_profile_sensor_data)
        self._poses = create(PoseStamped, "end_effector_pose", qos_profile_sensor_data)
        self._instructions = create(String, "instruction", 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._spinner = threading.Thread(target=spin_on, args=(self._executor,))
        self._spinner.start()
        self._gaps: deque[tuple[float, float]] = deque(maxlen=10_000)
        self._closed = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()
        self._camera_stop = threading.Event()
        self._camera: threading.Thread | None = None

    def close(self) -> None:
        """Stop the camera, the executor and the node of the observer."""
        self._closed.set()
        self.stop_camera()
        self._executor.shutdown()
        self._spinner.join()
        self.node.destroy_node()
        self._context.try_shutdown()

    # --- What is sent ---------------------------------------------------------------------------

    def start_camera(self, rate: float = 20.0, also: Callable[[], None] = lambda: None) -> None:
        """Show images on a thread of its own; also: called next to each image."""
        self._camera_stop.clear()

        def run() -> None:
            while not self._camera_stop.wait(1.0 / rate):
                self.show()
                also()

        self._camera = threading.Thread(target=run, daemon=True)
        self._camera.start()

    def stop_camera(self) -> None:
        """Stop publishing images."""
        self._camera_stop.set()
        if self._camera:
            self._camera.join()
            self._camera = None

    def show(self) -> None:
        """Publish one image on each topic."""
        image = Image(height=24, width=32, encoding=self.encoding, step=96, data=bytes(24 * 96))
        image.header.stamp, image.header.frame_id = self.stamp(self.image_age), self.frame_id
        for publisher in self._images:
            publisher.publish(image)

    def send_joint_state(
        self, names: Sequence[str], age: float = 0.0, position: float = 0.1
    ) -> None:
        """Publish a joint state. age: of its stamp (s); position: of every joint (rad)."""
        message = JointState(name=list(names), position=[position] * len(names))
        message.header.stamp = self.stamp(age)
        self._joints.publish(message)

    def stamp(self, age: float = 0.0) -> Any:
        """Return the time age seconds ago, as a message."""
        return to_time(time.time_ns() + round((self.clock_offset - age) * 1e9))

    def send_pose(self, position: Any, age: float = 0.0, stamp: Any = None) -> None:
        """Publish a pose. position: x, y, z (m); age: of its stamp (s)."""
        message = PoseStamped()
        message.header.frame_id, message.header.stamp = "base_link", stamp or self.stamp(age)
        point = message.pose.position
        point.x, point.y, point.z = (float(value) for value in position)
        message.pose.orientation.w = 1.0
        self._poses.publish(message)

    def say(self, text: str) -> None:
        """Publish an instruction as soon as somebody subscribes."""
        self.until(self._instructions.get_subscription_count, "a subscriber of instructions")
        self._instructions.publish(String(data=text))

    # --- What is asked ---------------------------------------------------------------------------

    def call(self, service_type: Any, service: str, request: Any, patience: float = WAIT) -> Any:
        """Call a service of the node; return the answer, None if none came in time."""
        client = self.node.create_client(service_type, f"/{self.name}/{service}")
        try:
            assert client.wait_for_service(patience), f"no service {service}"
            answered = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _: answered.set())
            return future.result() if answered.wait(patience) else None
        finally:
            self.node.destroy_client(client)

    def change_state(self, transition: int, patience: float = 2 * WAIT) -> bool:
        """Request a transition; return whether it succeeded. patience: longest wait (s)."""
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self.call(ChangeState, "change_state", request, patience)
        assert answer is not None, "the transition was not answered"
        return answer.success

    def state(self) -> str:
        """Return the label of the node's lifecycle state."""
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def reset(self) -> bool:
        """Call ~/reset; return whether it succeeded."""
        return self.call(Trigger, "reset", Trigger.Request()).success

    def set_parameter(self, name: str, value: Any) -> Any:
        """Set a parameter of the node; return the result message."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, "set_parameters", request).results[0]

    # --- What is judged --------------------------------------------------------------------------

    def until(self, condition: Callable[[], Any], what: str, patience: float = WAIT) -> None:
        """Wait until the condition holds, at most patience seconds."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, f"not within {patience} s: {what}"
            time.sleep(0.01)

    def motions(self, since: float = 0.0) -> list[Seen]:
        """Return the actions that are no stops."""
        return [s for s in list(self.seen) if s.at > since and s.kind == "action" and s.moves]

    def stops(self, since: float = 0.0) -> list[Seen]:
        """Return the stops received after this moment (s)."""
        return [s for s in list(self.seen) if s.at > since and s.kind == "action" and not s.moves]

    def moving_twist_stands(self) -> float:
        """Return for how long (s) the newest twist has stood, 0.0 if it is zero."""
        twists = [s for s in list(self.seen) if s.kind == "twist"]
        return time.monotonic() - twists[-1].at if twists and twists[-1].moves else 0.0

    def until_moving(self, patience: float = WAIT) -> None:
        """Wait for an action from now on."""
        since = time.monotonic()
        self.until(lambda: self.motions(since), "motion", patience)

    def late(self, begin: float, end: float) -> float:
        """Return for how long (s) this observer itself did not run, at most, between two moments:
        on a busy machine, what it received then came earlier than it noticed."""
        return max((gap for at, gap in list(self._gaps) if begin < at <= end + gap), default=0.0)

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._closed.wait(BEAT):
            now = time.monotonic()
            if now - last > 2 * BEAT:
                self._gaps.append((now, now - last))
            last = now

    def _on_action(self, message: EndEffectorAction) -> None:
        self.seen.append(Seen(time.monotonic(), "action", not message.stop, message))
        self.on_action(message)

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        moves = any((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))
        self.seen.append(Seen(time.monotonic(), "twist", moves, message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f"{self.name}:"):
                self.sentences.append(status.message)
                self.values = {value.key: value.value for value in status.values}
