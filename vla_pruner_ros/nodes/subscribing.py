"""Subscriptions that hear what was published before, and follow qos_overrides."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

MEMORY = 5.0
"""Seconds within which both subscriptions hear a message that both can hear."""


def qos_overrides(name: str | None = None) -> QoSOverridingOptions:
    """Return the options with which parameters `qos_overrides.<topic>.subscription.*` are followed.

    name: distinguishes two subscriptions to one topic.
    """
    kinds = (
        QoSPolicyKind.HISTORY,
        QoSPolicyKind.DEPTH,
        QoSPolicyKind.RELIABILITY,
        QoSPolicyKind.DURABILITY,
    )
    return QoSOverridingOptions(policy_kinds=kinds, entity_id=name)


class LatchedSubscription:
    """A subscription that hears what comes and what was latched before; each message once.

    A transient-local subscription hears no volatile publisher, and a volatile one hears nothing of
    the past. So a second one is made as soon as a transient-local publisher is there: look() has to
    be called now and then. What both hear is taken from the first.
    """

    def __init__(
        self,
        node: Any,
        message_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        group: Any = None,
        depth: int = 10,
        raw: bool = False,
        eager: bool = False,
    ) -> None:
        """Subscribe.

        Args:
            group: a mutually exclusive callback group, because the later message must win.
            raw: hand over serialised messages.
            eager: make the second subscription now. A publisher that does not latch then prints
                that its QoS does not fit.
        """
        self._raw = raw
        self._node, self._message_type, self._topic = node, message_type, topic
        self._callback, self._group, self._depth = callback, group, depth
        self._heard = tuple(deque(maxlen=depth) for _ in range(2))
        self._lock = threading.Lock()
        self._latched: Any = None
        self.subscription = self._subscribe(
            0, DurabilityPolicy.VOLATILE, qos_overriding_options=qos_overrides()
        )
        if eager:
            self._latched = self._subscribe(1, DurabilityPolicy.TRANSIENT_LOCAL)
        self.look()

    def look(self) -> None:
        """Listen to what was latched if somebody latches."""
        if self._latched is not None or self.subscription is None:
            return
        publishers = self._node.get_publishers_info_by_topic(self.subscription.topic_name)
        if any(p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in publishers):
            self._latched = self._subscribe(1, DurabilityPolicy.TRANSIENT_LOCAL)

    @property
    def subscriptions(self) -> list[Any]:
        """The one or two subscriptions of rclpy."""
        return [one for one in (self.subscription, self._latched) if one is not None]

    def destroy(self) -> None:
        """End it."""
        for subscription in self.subscriptions:
            self._node.destroy_subscription(subscription)
        self.subscription = self._latched = None

    def _subscribe(self, place: int, durability: DurabilityPolicy, **options: Any) -> Any:
        policy = QoSProfile(
            depth=self._depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability
        )
        return self._node.create_subscription(
            self._message_type,
            self._topic,
            lambda message: self._once(place, message),
            policy,
            callback_group=self._group,
            raw=self._raw,
            **options,
        )

    def _once(self, place: int, message: Any) -> None:
        """Hand a message over unless the other subscription did.

        By content, because callbacks of Humble receive neither sender nor time of a message.
        """
        mark, now = hash(message if self._raw else str(message)), time.monotonic()
        with self._lock:
            others = self._heard[1 - place]
            while others and now - others[0][1] > MEMORY:
                others.popleft()
            known = next((one for one in others if one[0] == mark), None)
            if known:
                others.remove(known)
                return
            self._heard[place].append((mark, now))
        self._callback(message)
