"""The node's subscriptions: cameras, instruction, joint states, pose. Callbacks only store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from vla_pruner_ros.control.frames import CameraFrame, FrameBuffer
from vla_pruner_ros.control.freshness import Received
from vla_pruner_ros.control.joint_states import JointStates
from vla_pruner_ros.nodes.graph import TopicDoctor
from vla_pruner_ros.nodes.messages import to_nanoseconds
from vla_pruner_ros.nodes.subscribing import LatchedSubscription, qos_overrides
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError


RECENT_POSES, RECENT_POSE_GAP = 400, 20_000_000
"""Poses kept to measure the arm's latency, and the time (ns) between two of them at least."""


class NodeInputs:
    """Subscriptions of a configured node and the newest message of each.

    Storing and reading may happen on any thread. joint_state, pose: None before the first.
    joints: positions merged over all topics and publishers. robot_description: text of the URDF,
    None before it came.
    """

    def __init__(
        self,
        node: Host,
        callback_group: Any,
        on_frames: Callable[[], None],
        on_instruction: Callable[[str], None],
    ) -> None:
        """Subscribe to everything.

        Args:
            node: the node to subscribe on.
            callback_group: of all callbacks but those of instructions.
            on_frames: called when a complete set of frames is there.
            on_instruction: called with the text of each instruction, one after the other.
        """
        settings = node.parameters.settings
        self._node, self._health = node, node.health
        self._on_frames = on_frames
        self.frames = FrameBuffer(len(settings.image_topics), settings.max_camera_spread)
        self.joint_state: Received[JointState] | None = None
        self.pose: Received[PoseStamped] | None = None
        self.recent_poses: deque[Received[PoseStamped]] = deque(maxlen=RECENT_POSES)
        self.joints = JointStates()
        self.robot_description: str | None = None

        self._topics = camera_topics(settings)
        self._subscriptions: list[Any] = []
        self._cameras: list[Any] = []
        self._latched: list[LatchedSubscription] = []
        self._by_topic: dict[str, Any] = {}
        self._doctor = TopicDoctor(node)
        try:
            self._subscribe(callback_group, on_instruction)
        except BaseException:  # a name that is no topic: nothing of a failed configure stays
            self.destroy()
            raise

    def _subscribe(self, group: Any, on_instruction: Callable[[str], None]) -> None:
        for camera, (topic, image_type) in enumerate(self._topics):
            self._cameras.append(self._subscribe_camera(image_type, topic, camera, group))
            self._subscriptions.append(self._cameras[-1])
        # One after the other: of two instructions at once the later one must win.
        in_order = MutuallyExclusiveCallbackGroup()
        for topic, on_text in (
            ("instruction", on_instruction),
            ("robot_description", self._on_description),
        ):
            self._latched.append(self._subscribe_latched(topic, on_text, in_order))
            self._by_topic[topic] = self._latched[-1].subscription
        joint_states = [
            (JointState, topic, self._joint_callback(prefix), qos_profile_sensor_data)
            for prefix, topic in joint_topics(self._node.parameters.settings)
        ]
        for message_type, topic, callback, qos in (
            *joint_states,
            (PoseStamped, "end_effector_pose", self._on_pose, qos_profile_sensor_data),
        ):
            self._by_topic[topic] = self._node.create_subscription(
                message_type,
                topic,
                callback,
                copy(qos),  # rclpy writes qos_overrides into the profile that it is given
                callback_group=group,
                qos_overriding_options=qos_overrides(),
            )
            self._subscriptions.append(self._by_topic[topic])

    def why_silent(self, topic: str) -> str:
        """Return what the ROS graph shows about a silent topic, "" if nothing."""
        # A publisher of instructions may be silent for hours, and a probe would wait with it.
        return self._doctor.why_silent(self._by_topic[topic], probe=topic != "instruction")

    def why_camera_silent(self, camera: int) -> str:
        """Return what the ROS graph shows about a silent camera, "" if nothing."""
        return self._doctor.why_silent(self._cameras[camera])

    def clock_is_published(self) -> bool:
        """Return whether anybody publishes /clock."""
        return self._doctor.is_published("/clock")

    def destroy(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._doctor.destroy()
        for latched in self._latched:
            latched.destroy()

    def look(self) -> None:
        """Look for publishers that latch; to be called now and then."""
        for latched in self._latched:
            latched.look()

    def cameras_missing(self) -> list[str]:
        """Return the topics of cameras that inference goes on without."""
        return [self._topics[camera][0] for camera in self.frames.missing()]

    def camera_ages(self) -> list[float | None]:
        """Return the time since each camera last delivered (s), None where it never did."""
        now = time.monotonic()
        return [None if t is None else now - t for t in self.frames.arrivals()]

    def _subscribe_latched(
        self, topic: str, on_text: Callable[[str], None], group: Any
    ) -> LatchedSubscription:
        # Limits of joints come with the description: it must not wait until somebody looks.
        eager = topic == "robot_description"
        return LatchedSubscription(
            self._node, String, topic, lambda m: on_text(m.data), group, eager=eager
        )

    def _subscribe_camera(self, image_type: Any, topic: str, camera: int, group: Any) -> Any:
        """Subscribe, and count the messages that the middleware reports as lost."""

        def subscribe(**events: Any) -> Any:
            callback = self._camera_callback(camera)
            return self._node.create_subscription(
                image_type,
                topic,
                callback,
                QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
                callback_group=group,
                qos_overriding_options=qos_overrides(),
                **events,
            )

        def on_lost(event: Any) -> None:
            self._health.count("frames_lost", event.total_count_change)

        try:
            return subscribe(event_callbacks=SubscriptionEventCallbacks(message_lost=on_lost))
        except UnsupportedEventTypeError:
            return subscribe()

    def _camera_callback(self, camera: int) -> Callable[[Any], None]:
        def on_image(message: Any) -> None:
            self._health.count("frames")
            if not self._node.gate.is_open:
                return
            stamp = to_nanoseconds(message.header.stamp) or self._now_unstamped()
            settings = self._node.parameters.settings
            self.frames.max_spread = settings.max_camera_spread
            if settings.on_camera_loss == "continue":
                self.frames.patience = settings.max_image_age
            if self.frames.put(camera, CameraFrame(message, stamp, time.monotonic())):
                self._on_frames()

        return on_image

    def _now_unstamped(self) -> int:
        # A driver that leaves the stamp zero gives no capture time; arrival is the best guess.
        self._health.count("frames_without_stamp")
        return self._node.get_clock().now().nanoseconds

    def _joint_callback(self, prefix: str) -> Callable[[JointState], None]:
        def on_joint_state(message: JointState) -> None:
            came = self._received(message, self.joint_state)
            names = [prefix + name for name in message.name] if prefix else message.name
            if not self.joints.store(names, message.position, came.arrival * 1e-9, came.stamp):
                self._health.count("joint_states_refused")
            self.joint_state = came

        return on_joint_state

    def _on_description(self, text: str) -> None:
        self.robot_description = text

    def _on_pose(self, message: PoseStamped) -> None:
        self.pose = pose = self._received(message, self.pose)
        last = self.recent_poses[-1].arrival if self.recent_poses else 0
        if pose.arrival - last >= RECENT_POSE_GAP:
            self.recent_poses.append(pose)

    def _received(self, message: Any, last: Received | None) -> Received:
        """Return a message with a header as it came now, after another."""
        stamp = to_nanoseconds(message.header.stamp)
        return Received.now(message, stamp, self._node.motion_clock.read(), last)


def camera_topics(settings: NodeSettings) -> list[tuple[str, Any]]:
    """Return topic and message type of each camera.

    raw is an Image, compressed a CompressedImage on `<topic>/compressed` as image_transport names
    it, mjpeg a CompressedImage on the topic itself, as drivers of MJPEG cameras publish it. A name
    that ends in /compressed is compressed whatever the setting.
    """
    suffix, found = "/compressed", []
    transports = settings.image_transports or [settings.image_transport] * len(
        settings.image_topics
    )
    for topic, transport in zip(settings.image_topics, transports, strict=True):
        if transport == "compressed" and not topic.endswith(suffix):
            topic += suffix
        is_raw = transport == "raw" and not topic.endswith(suffix)
        found.append((topic, Image if is_raw else CompressedImage))
    return found


def joint_topics(settings: NodeSettings) -> list[tuple[str, str]]:
    """Return prefix and topic of each joint state; "left_=/left/joint_states" has both."""
    parts = [entry.rpartition("=") for entry in settings.joint_state_topics]
    return [(prefix, topic) for prefix, _, topic in parts]
