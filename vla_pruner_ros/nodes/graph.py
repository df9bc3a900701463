"""Reasons of a silent topic, from the ROS graph: no publisher, another type, another QoS."""

from __future__ import annotations

import time
from typing import Any

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

MEMORY = 1.0
"""Seconds for which an answer is kept: the graph is asked from a thread that must not wait."""
LISTED = 4
"""Names listed at most."""


class TopicDoctor:
    """Explains silent topics of one node."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._known: dict[str, tuple[float, str]] = {}

    def why_silent(self, subscription: Any) -> str:
        """Return the graph's reason for a subscription that hears nothing, "" if it has none."""
        topic, now = subscription.topic_name, time.monotonic()
        asked, reason = self._known.get(topic, (float("-inf"), ""))
        if now - asked > MEMORY:
            reason = self._ask(topic, subscription.msg_type, subscription.qos_profile)
            self._known[topic] = (now, reason)
        return reason

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
        return ""

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
