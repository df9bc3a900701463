"""Reasons of a silent topic, from the ROS graph: no publisher, another type, another QoS."""

from __future__ import annotations

import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

MEMORY = 1.0
"""Seconds for which an answer is kept: the graph is asked from a thread that must not wait."""
LISTED = 4
"""Names listed at most."""


class TopicDoctor:
    """Explains silent topics of one node."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._known: dict[str, tuple[float, str]] = {}
        self._probes: dict[str, MessageProbe] = {}
        self._is_destroyed = False

    def why_silent(self, subscription: Any, probe: bool = True) -> str:
        """Return the graph's reason for a subscription that hears nothing, "" if it has none.

        probe: look at a message as well, if the graph knows no reason.
        """
        topic, now = subscription.topic_name, time.monotonic()
        asked, reason = self._known.get(topic, (float("-inf"), ""))
        if now - asked > MEMORY:
            reason = self._ask(topic, subscription.msg_type, subscription.qos_profile)
            if not reason and probe and self._node.count_publishers(topic):
                reason = self._unreadable(topic, subscription.msg_type)
            self._known[topic] = (now, reason)
        return reason

    def destroy(self) -> None:
        """End what still listens."""
        self._is_destroyed = True
        for probe in self._probes.values():
            probe.destroy()
        self._probes.clear()

    def is_published(self, topic: str) -> bool:
        """Return whether anybody publishes a topic."""
        return self._node.count_publishers(topic) > 0

    def _ask(self, topic: str, message_type: Any, requested: Any) -> str:
        name = type_name(message_type)
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            return f"nobody publishes {topic}{self._similar(name, topic)}"
        fitting = [p for p in publishers if p.topic_type == name]
        if not fitting:
            types = ", ".join(sorted({p.topic_type for p in publishers}))
            return f"{topic} carries {types}, and {name} is expected"
        problems = [qos_problem(p.qos_profile, requested) for p in fitting]
        if all(problems):
            return f"the publisher of {topic} {problems[0]}"
        if self._other_version(topic, fitting):
            return f"the publisher of {topic} has another version of {name}"
        return ""

    def _other_version(self, topic: str, publishers: list[Any]) -> bool:
        """Return whether all publishers have another hash of the type; Humble knows none."""
        own = {
            str(one.topic_type_hash)
            for one in self._node.get_subscriptions_info_by_topic(topic)
            if (one.node_name, one.node_namespace)
            == (self._node.get_name(), self._node.get_namespace())
            and getattr(one, "topic_type_hash", None)
        }
        others = {str(getattr(one, "topic_type_hash", None)) for one in publishers}
        return bool(own) and "None" not in others and not own & others

    def _unreadable(self, topic: str, message_type: Any) -> str:
        """Look at one message as bytes: the middleware drops what it cannot read unsaid."""
        before = self._probes.get(topic)
        if before is None or before.is_done:
            self._probes[topic] = MessageProbe(self._node, topic, message_type)
        if self._is_destroyed:
            self.destroy()
        return before.reason if before else ""

    def _similar(self, name: str, topic: str) -> str:
        """Name topics of the same type, which may be meant."""
        own = f"{self._node.get_fully_qualified_name()}/"
        others = [
            other
            for other, types in self._node.get_topic_names_and_types()
            if name in types and other != topic and not other.startswith(own)
            if self._node.count_publishers(other)
        ]
        if not others:
            return f", and no topic here carries {name}"
        shown = ", ".join(sorted(others)[:LISTED])
        return f"; {name} is on {shown}"


class MessageProbe:
    """A subscription that lasts for one message and reports whether that can be read.

    reason: why not, "" if it can or none came yet.
    """

    def __init__(self, node: Any, topic: str, message_type: Any) -> None:
        self._node, self._topic, self._message_type = node, topic, message_type
        self.reason, self.is_done = "", False
        self._subscription = node.create_subscription(
            message_type,
            topic,
            self._on_bytes,
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            callback_group=MutuallyExclusiveCallbackGroup(),
            raw=True,
        )

    def destroy(self) -> None:
        """End the subscription, if it still lasts."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def _on_bytes(self, data: bytes) -> None:
        if self.is_done:
            return
        try:
            deserialize_message(data, self._message_type)
        except Exception:
            name = type_name(self._message_type)
            self.reason = (
                f"what comes on {self._topic} ({len(data)} bytes) cannot be read as {name}: its "
                "publisher may use another version of that type"
            )
        self.is_done = True
        self.destroy()


def type_name(message_type: Any) -> str:
    """Return the name of a message class, for example std_msgs/msg/String."""
    package, kind = message_type.__module__.split(".")[:2]
    return f"{package}/{kind}/{message_type.__name__}"


def qos_problem(offered: Any, requested: Any) -> str:
    """Return why a publisher's QoS cannot serve a subscription, "" if it can."""
    if (
        requested.reliability == ReliabilityPolicy.RELIABLE
        and offered.reliability == ReliabilityPolicy.BEST_EFFORT
    ):
        return "offers best effort, and reliable is asked: set its reliability, or qos_overrides"
    if (
        requested.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and offered.durability == DurabilityPolicy.VOLATILE
    ):
        return "offers volatile, and transient local is asked: set its durability, or qos_overrides"
    return ""
