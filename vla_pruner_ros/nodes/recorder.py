"""vla_pruner_recorder: everything a replay needs, to an MCAP bag, without rosbag2.

Records the cameras, the instruction, joint states, pose and robot description, the answers and
commands of a vla_pruner node, diagnostics and parameters. Messages are subscribed to as bytes and
written as they came.
"""

from __future__ import annotations

import importlib
import os
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.executors import InvalidHandle  # its own module has moved between distributions
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from vla_pruner_ros.bags import definitions as types
from vla_pruner_ros.bags import writer as bag_writer
from vla_pruner_ros.bags.recording import BagRecording
from vla_pruner_ros.nodes.messages import message_class
from vla_pruner_ros.nodes.parameter_snapshot import ParameterSnapshot
from vla_pruner_ros.nodes.parameter_specs import declare_settings
from vla_pruner_ros.nodes.spin import EndNode, run_node
from vla_pruner_ros.nodes.subscribing import LatchedSubscription
from vla_pruner_ros.nodes.vla_pruner.parameters import NodeSettings
from vla_pruner_ros.replay.live import COMMANDS, is_arm_command
from vla_pruner_ros.settings import check_fields, setting

DEFAULT_CAMERAS = NodeSettings.image_topics

POLL_PERIOD = 0.1
"""Seconds between looks for new publishers and for trouble with the disk."""
TF = "tf2_msgs/msg/TFMessage"
DEPTH = 2000
IMAGE_DEPTH = 100
"""Messages DDS holds per topic while the callbacks are busy; it overwrites older ones unsaid."""


@dataclass(frozen=True)
class RecorderSettings:
    """Settings of the recorder, read once at its start."""

    output: str = setting(
        "", "Directory of the bag; empty: bags/vla_pruner_<date and time>.", when="start"
    )
    node: str = setting(
        "vla_pruner", "Name of the vla_pruner node whose outputs are recorded.", when="start"
    )
    image_topics: tuple[str, ...] = setting(
        (),
        "Image topics to record; empty: those that the vla_pruner node names, and its default "
        "until it has answered.",
        when="start",
    )
    image_compression: str = setting(
        "none",
        "How raw images are written: as they are, as png (exact) or as jpeg (small, not exact).",
        choices=("none", "png", "jpeg"),
        when="start",
    )
    jpeg_quality: int = setting(90, "Quality of jpeg.", low=1, high=100, when="start")
    extra_topics: tuple[str, ...] = setting(
        (), "More topics to record; their types must be ROS 2's own.", when="start"
    )
    compress: bool = setting(False, "Compress the bag with zstd.", when="start")
    record_tf: bool = setting(False, "Record /tf and /tf_static, too.", when="start")
    record_overlay: bool = setting(
        False, "Record the node's overlay, too; computing it costs the node time.", when="start"
    )
    max_file_mb: int = setting(
        0,
        "Size (MB) after which a new file of the bag is begun; 0: one file.",
        low=0,
        high=1 << 20,
        when="start",
    )
    min_free_mb: int = setting(
        500,
        "Free space (MB) of the disk below which recording ends.",
        low=0,
        high=1 << 30,
        when="start",
    )
    queue_mb: int = setting(
        512,
        "Memory (MB) for messages the disk has not taken yet.",
        low=1,
        high=65536,
        when="start",
    )

    def __post_init__(self) -> None:
        check_fields(self)


class RecordedTopic(NamedTuple):
    """A topic to record; type "" is found out from its publishers, reliable None follows them."""

    topic: str
    msgtype: str
    reliable: bool | None
    latched: bool = False


class RecorderNode(Node):
    """Records from its construction until close()."""

    def __init__(self, name: str = "vla_pruner_recorder", **options: Any) -> None:
        super().__init__(name, **options)
        self.settings = declare_settings(self, RecorderSettings)
        # Types differ: sensor_msgs/Range of Humble has no variance.
        distribution = types.named_distribution(os.environ.get("ROS_DISTRO"))
        self._store = types.standard_store(distribution)
        self._lost: Counter[str] = Counter()
        self._reported: set[str] = set()
        self.recording = self._open()
        self._awaited = {recorded.topic: recorded for recorded in self._topics_to_record()}
        self._recorded: dict[str, Any] = {}
        self._latched: list[LatchedSubscription] = []
        self.snapshot = ParameterSnapshot(
            self, self.settings.node, self._store, self._on_parameters
        )
        self._look()
        self.create_timer(POLL_PERIOD, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.get_logger().info(f"Recording to {self.recording.path}")

    def close(self) -> None:
        """Write everything received so far and finish the bag."""
        latched = [one for pair in self._latched for one in pair.subscriptions]
        for subscription in (*self._recorded.values(), *latched):
            self._drain(subscription)
        counts = self.recording.close(lost=dict(self._lost), node=self.settings.node)
        written = ", ".join(f"{topic} {count}" for topic, count in sorted(counts.items()))
        self.get_logger().info(f"Recorded {self.recording.path}: {written or 'nothing'}")
        if self.recording.failure is not None:
            self.get_logger().error(f"The bag is incomplete: {self.recording.failure}")
        for text, found in (("dropped", self.recording.dropped), ("lost", self._lost)):
            if found:
                self.get_logger().error(f"Messages {text}: {dict(found)}")

    def on_callback_error(self, error: BaseException) -> None:
        """Go on recording after a callback failed; the executor calls this."""
        self.get_logger().error(
            f"A callback failed: {error!r}\n{''.join(traceback.format_exception(error))}"
        )

    def _drain(self, subscription: Any) -> None:
        """Take what DDS holds already but no callback has been given."""
        for _ in range(DEPTH):
            try:
                with subscription.handle:
                    taken = subscription.handle.take_message(subscription.msg_type, True)
            except InvalidHandle:
                return
            if taken is None:
                return
            subscription.callback(taken[0])

    def _open(self) -> BagRecording:
        now = datetime.now().strftime("%Y_%m_%d-%H_%M_%S")
        return BagRecording(
            Path(self.settings.output or f"bags/vla_pruner_{now}").expanduser(),
            self._store,
            max_queued_bytes=self.settings.queue_mb << 20,
            image_compression=self.settings.image_compression,
            jpeg_quality=self.settings.jpeg_quality,
            compress=self.settings.compress,
            max_file_bytes=self.settings.max_file_mb << 20,
        )

    def _topics_to_record(self) -> list[RecordedTopic]:
        node = self.settings.node
        named = [
            RecordedTopic("instruction", types.STRING, True, latched=True),
            RecordedTopic("robot_description", types.STRING, True, latched=True),
            RecordedTopic(f"{node}/action", types.END_EFFECTOR_ACTION, True),
            RecordedTopic(f"{node}/action_chunk", types.ACTION_CHUNK, True),
            RecordedTopic(f"{node}/pruning", types.PRUNING_STATUS, True),
            RecordedTopic("/diagnostics", types.DIAGNOSTICS, True),
            RecordedTopic("/parameter_events", types.PARAMETER_EVENT, True),
            RecordedTopic("joint_states", types.JOINT_STATE, None),
            RecordedTopic("end_effector_pose", "", None),
            *(RecordedTopic(f"{node}/{name}", "", None) for name in COMMANDS[1:]),
            *(RecordedTopic(f"{node}/preview/{name}", "", None) for name in COMMANDS),
        ]
        if self.settings.record_tf:
            named += [
                RecordedTopic("/tf", "", None),
                RecordedTopic("/tf_static", TF, True, latched=True),
            ]
        if self.settings.record_overlay:
            named.append(RecordedTopic(f"{node}/overlay", "", None))
        # The node answers no question while it loads its model, and may act right afterwards: for
        # its first images not to be missed, its default camera is awaited from the beginning.
        images = [topic for topic in self.settings.image_topics if topic] or DEFAULT_CAMERAS
        more = [*images, *self.settings.extra_topics]
        named += [RecordedTopic(topic, "", None) for topic in more if topic]
        if self.get_parameter("use_sim_time").value:
            named.append(RecordedTopic("/clock", types.CLOCK, False))
        return [
            recorded._replace(topic=self.resolve_topic_name(recorded.topic)) for recorded in named
        ]

    def _look(self) -> None:
        """Subscribe to awaited topics that can be; stop where the disk does not take any more."""
        if self.recording.failure is not None:
            raise EndNode(f"the bag cannot be written: {self.recording.failure}")
        self._check_disk()
        for latched in self._latched:
            latched.look()
        self.snapshot.look()
        published = dict(self.get_topic_names_and_types()) if self._awaited else {}
        self._await_arms(published)
        for topic, recorded in list(self._awaited.items()):
            msgtype = recorded.msgtype or next(iter(published.get(topic, [])), "")
            publishers = self.get_publishers_info_by_topic(topic)
            if recorded.latched:
                self._subscribe_latched(topic, msgtype)
                del self._awaited[topic]
            elif msgtype and (publishers or recorded.reliable is not None):
                self._subscribe(topic, msgtype, self._reliability(recorded, publishers))
                del self._awaited[topic]

    def _await_arms(self, published: Iterable[str]) -> None:
        """Record the commands of arms with topics of their own, too; a profile names them."""
        node = self.resolve_topic_name(self.settings.node)
        for topic in published:
            if is_arm_command(topic, node) and topic not in self._recorded:
                self._awaited.setdefault(topic, RecordedTopic(topic, "", None))

    def _check_disk(self) -> None:
        """End before the disk is full: other programs of the robot need it, too."""
        free = shutil.disk_usage(self.recording.path).free
        if free < self.settings.min_free_mb << 20:
            raise EndNode(
                f"the disk of {self.recording.path} has {free >> 20} MB left, less than "
                f"min_free_mb {self.settings.min_free_mb}"
            )

    def _subscribe_latched(self, topic: str, msgtype: str) -> None:
        """Record a topic with what was published on it before."""
        known_class = message_class(msgtype)
        if known_class is None or msgtype not in self._store.fielddefs:
            self.get_logger().warning(
                f"{topic} is not recorded: its type {msgtype} is not installed here"
            )
            return

        def on_message(data: bytes) -> None:
            self._on_message(topic, msgtype, data)

        self._latched.append(
            LatchedSubscription(self, known_class, topic, on_message, depth=DEPTH, raw=True)
        )

    @staticmethod
    def _reliability(recorded: RecordedTopic, publishers: list[Any]) -> bool:
        if recorded.reliable is not None:
            return recorded.reliable
        return all(p.qos_profile.reliability == ReliabilityPolicy.RELIABLE for p in publishers)

    def _subscribe(self, topic: str, msgtype: str, reliable: bool) -> None:
        known_class = message_class(msgtype)
        if known_class is None or msgtype not in self._store.fielddefs:
            self.get_logger().error(
                f"{topic} is not recorded: its type {msgtype} is not known here"
            )
            return
        policy = QoSProfile(
            depth=IMAGE_DEPTH if msgtype in types.IMAGES else DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )

        def create(**events: Any) -> Any:
            def on_message(data: bytes) -> None:
                self._on_message(topic, msgtype, data)

            return self.create_subscription(
                known_class, topic, on_message, policy, raw=True, **events
            )

        self._recorded[topic] = _with_loss_events(create, lambda event: self._on_loss(topic, event))

    def _on_message(self, topic: str, msgtype: str, data: bytes) -> None:
        now = time.time_ns()
        if not self.recording.knows(topic):
            self.recording.add_topic(topic, msgtype, self._offered(topic))
        self.recording.put(topic, now, data)
        if self.recording.dropped[topic] and topic not in self._reported:
            self._reported.add(topic)
            self.get_logger().error(f"Messages on {topic} are dropped: the disk does not keep up")

    def _offered(self, topic: str) -> Any:
        """Return the first publisher's QoS, as ros2 bag play is to offer it again."""
        for publisher in self.get_publishers_info_by_topic(topic):
            offered = publisher.qos_profile
            return bag_writer.qos(
                reliable=offered.reliability == ReliabilityPolicy.RELIABLE,
                transient_local=offered.durability == DurabilityPolicy.TRANSIENT_LOCAL,
            )
        return None

    def _on_loss(self, topic: str, event: Any) -> None:
        self._lost[topic] = event.total_count

    def _on_parameters(self, values: dict[str, Any], event: bytes) -> None:
        """Note the parameters in force, and record the cameras they name."""
        self._on_message("/parameter_events", types.PARAMETER_EVENT, event)
        for entry in values.get("joint_state_topics") or []:
            name = self.resolve_topic_name(entry.rpartition("=")[2])  # without its prefix
            if name not in self._recorded:
                self._awaited[name] = RecordedTopic(name, types.JOINT_STATE, None)
        if any(self.settings.image_topics):
            return
        compressed = values.get("image_transport") == "compressed"
        suffix = "/compressed" if compressed else ""
        topics = values.get("image_topics") or []
        named = {self.resolve_topic_name(t.removesuffix(suffix) + suffix) for t in topics}
        guessed = {self.resolve_topic_name(topic) for topic in DEFAULT_CAMERAS}
        for name in guessed - named:
            self._stop_recording(name)
        for name in named - self._recorded.keys():
            self._awaited[name] = RecordedTopic(name, "", None)

    def _stop_recording(self, topic: str) -> None:
        self._awaited.pop(topic, None)
        subscription = self._recorded.pop(topic, None)
        if subscription is not None:
            self.destroy_subscription(subscription)


def _with_loss_events(create: Callable[..., Any], on_loss: Callable[[Any], None]) -> Any:
    """Create a subscription that reports lost messages, where this distribution and DDS can."""
    for module_name in ("rclpy.event_handler", "rclpy.qos_event"):  # Iron and later, Humble
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue
        try:
            return create(event_callbacks=module.SubscriptionEventCallbacks(message_lost=on_loss))
        except module.UnsupportedEventTypeError:
            break
    return create()


def main(args: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM."""
    return run_node(RecorderNode, args)
