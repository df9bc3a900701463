"""vla_pruner_player: plays a bag and its clock, without rosbag2.

The recorded node's outputs are played on /recorded/..., next to those of a running one. Where its
parameter `instruction` was changed, the new text is played on its topic.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_pruner_ros.bags.reader import BagError, BagMessage, BagReader, Topic, plain_data
from vla_pruner_ros.nodes.messages import message_class, to_time
from vla_pruner_ros.nodes.parameter_specs import declare_settings
from vla_pruner_ros.nodes.spin import init_rclpy
from vla_pruner_ros.replay.inputs.sampling import InstructionParameter
from vla_pruner_ros.replay.inputs.topics import find_node
from vla_pruner_ros.replay.live import moved_aside
from vla_pruner_ros.settings import check_fields, setting

CLOCK_PERIOD = 0.01
"""Seconds of this computer's time between two messages on /clock."""
DEPTH = 100
PARAMETER_EVENTS = "/parameter_events"
LATCHED = ("/robot_description", "/tf_static")
"""Endings of topics that are latched by convention, for bags that do not note the QoS."""


@dataclass(frozen=True)
class PlayerSettings:
    """Settings of the player, read once at its start."""

    bag: str = setting("", "rosbag2 directory or file to play.", when="start")
    rate: float = setting(
        1.0, "Speed of playback; 1 is that of the recording.", low=1e-3, high=1e3, when="start"
    )
    loop: bool = setting(
        False, "Play again and again; the clock jumps back each time.", when="start"
    )
    delay: float = setting(
        1.0,
        "Seconds before the first message, for subscribers to be found.",
        low=0.0,
        high=3600.0,
        when="start",
    )
    recorded_node: str = setting(
        "", "Full name of the recorded node; empty if there is one.", when="start"
    )

    def __post_init__(self) -> None:
        check_fields(self)


class PlayerNode(Node):
    """Publishes the messages of a bag as they were received, on the bag's time."""

    def __init__(self, name: str = "vla_pruner_player", **options: Any) -> None:
        super().__init__(name, **options)
        self.settings = declare_settings(self, PlayerSettings)
        self._reader = BagReader(self.settings.bag)
        self._recorded_node = find_node(self._reader.topics, self.settings.recorded_node)
        self._parameter = InstructionParameter(self._recorded_node)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10)
        self._publishers_by_topic = self._make_publishers()
        if not self._publishers_by_topic:
            raise ValueError(f"{self.settings.bag} has no message that can be played")
        self._instruction_publisher = self._make_instruction_publisher()

    def play(self, wait: Callable[[float], bool]) -> int:
        """Play the bag, once or until stopped; return how many messages were played.

        wait: waits for so many seconds and returns whether to stop.
        """
        played, again = 0, not wait(self.settings.delay)
        while again:
            count = self._play_once(wait)
            again = self.settings.loop and count > 0 and not wait(0.0)
            played += count
        for damage in self._reader.damage:
            self.get_logger().error(f"The bag is damaged: {damage}")
        return played

    def _play_once(self, wait: Callable[[float], bool]) -> int:
        count, first, started = 0, None, time.monotonic()
        for record in self._reader.messages(self._publishers_by_topic):
            first = record.time if first is None else first
            due = started + (record.time - first) * 1e-9 / self.settings.rate
            while (left := due - time.monotonic()) > 0.0:
                self._tell_time(record.time - int(left * self.settings.rate * 1e9))
                if wait(min(left, CLOCK_PERIOD)):
                    return count
            self._tell_time(record.time)
            self._publishers_by_topic[record.topic].publish(bytes(plain_data(record)))
            if record.topic == PARAMETER_EVENTS:
                self._follow_parameter(record)
            count += 1
        return count

    def _tell_time(self, now: int) -> None:
        # The clock of a simulation was recorded, and the stamps follow it.
        if "/clock" not in self._publishers_by_topic:
            self._clock_publisher.publish(Clock(clock=to_time(now)))

    def _follow_parameter(self, record: BagMessage) -> None:
        try:
            text = self._parameter.changed_to(self._reader.decode(record), "")
        except BagError:
            return
        if text and self._instruction_publisher is not None:
            self._instruction_publisher.publish(String(data=text))

    def _make_instruction_publisher(self) -> Any:
        if not self._recorded_node or PARAMETER_EVENTS not in self._publishers_by_topic:
            return None
        topic = self._recorded_node.rpartition("/")[0] + "/instruction"
        played = self._publishers_by_topic.get(topic)
        return played or self.create_publisher(String, topic, _latched())

    def _make_publishers(self) -> dict[str, Any]:
        node = self._recorded_node
        aside = moved_aside(node, self._reader.topics) if node else []
        made = {}
        for topic in self._reader.topics.values():
            known_class = message_class(topic.msgtype)
            if known_class is None:
                self.get_logger().warning(
                    f"{topic.name} is not played: its type {topic.msgtype} is not known here"
                )
            elif topic.name == "/clock":
                if topic.count:
                    made[topic.name] = self._clock_publisher
            else:
                name = f"/recorded{topic.name}" if topic.name in aside else topic.name
                made[topic.name] = self.create_publisher(known_class, name, _profile(topic))
        return made if set(made) - {"/clock"} else {}


def _profile(topic: Topic) -> QoSProfile:
    """Return the QoS to play a topic with: what was latched is latched again."""
    is_latched = topic.latched or topic.name.endswith(LATCHED)
    return _latched() if is_latched else QoSProfile(depth=DEPTH)


def _latched() -> QoSProfile:
    return QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def main(args: list[str] | None = None) -> int:
    """Play until the end of the bag, SIGINT or SIGTERM."""
    told_to_stop = init_rclpy(args)
    try:
        player = PlayerNode()
        player.get_logger().info(f"Played {player.play(told_to_stop.wait)} messages")
    except Exception as error:  # a refused parameter, no bag: a sentence, not a traceback
        print(f"The bag cannot be played: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    return 0
