"""Watches the node from outside: statuses, actions and pictures, by budget."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from vla_pruner_ros.bringup.client import PolicyClient
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.msg import EndEffectorAction, PruningStatus
from vla_pruner_ros.nodes.messages import to_nanoseconds

PICTURES_KEPT = 64
"""Newest pictures held until the status that belongs to them arrives."""


@dataclass(frozen=True)
class InferenceSample:
    """One inference as seen from outside: its status and the picture behind it."""

    status: PruningStatus
    picture: np.ndarray | None

    @property
    def stages(self) -> dict[str, float]:
        """Seconds per stage."""
        return dict(zip(self.status.stage_names, self.status.stage_times, strict=True))


@dataclass
class Seen:
    """What was seen while one keep ratio was in force."""

    frames: int = 0
    actions: int = 0
    moments: list[InferenceSample] = field(default_factory=list)

    @property
    def settled(self) -> list[InferenceSample]:
        """Moments whose budget was free to act: no warm-up, no refresh."""
        return [m for m in self.moments if not (m.status.history_incomplete or m.status.refresh)]


class Observer:
    """Collects everything by keep ratio; statuses are sorted by the ratio they carry."""

    def __init__(self, client: PolicyClient) -> None:
        self._arrived = threading.Condition()
        self._pictures: dict[int, np.ndarray] = {}
        self._ratio_of: dict[int, float] = {}
        self._actions_of: defaultdict[int, int] = defaultdict(int)
        self._ratio = float("nan")
        self.seen: defaultdict[float, Seen] = defaultdict(Seen)
        self.stops = 0
        self.episodes: dict[str, str] = {}
        """What the simulated robot last said of its episodes, by name."""
        subscribe = client.node.create_subscription
        subscribe(Image, "image_raw", self._on_image, qos_profile_sensor_data)
        subscribe(PruningStatus, "vla_pruner/pruning", self._on_status, 50)
        subscribe(EndEffectorAction, "vla_pruner/action", self._on_action, 50)
        subscribe(DiagnosticStatus, "sim_robot/episode", self._on_episode, 10)

    def expect(self, ratio: float) -> None:
        """Count pictures from now on under this ratio."""
        with self._arrived:
            self._ratio = ratio

    def wait_for_moments(self, ratio: float, count: int, timeout: float) -> int:
        """Wait for settled inferences under a ratio; return how many there are."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.seen[ratio].settled) >= count, timeout)
            return len(self.seen[ratio].settled)

    def episodes_done(self) -> str:
        """Of the finished episodes of the simulated task, those that succeeded; empty: none yet."""
        with self._arrived:
            finished = int(self.episodes.get("episodes_finished", 0))
            succeeded = self.episodes.get("episodes_succeeded", "0")
        return f"{succeeded} of {finished}" if finished else ""

    def actions(self, ratio: float) -> int:
        """Return the actions that followed from inferences under a ratio."""
        with self._arrived:
            sequences = (m.status.sequence for m in self.seen[ratio].moments)
            return sum(self._actions_of[sequence] for sequence in sequences)

    def _on_image(self, message: Image) -> None:
        picture = to_rgb(message).copy()
        with self._arrived:
            self._pictures[to_nanoseconds(message.header.stamp)] = picture
            while len(self._pictures) > PICTURES_KEPT:
                self._pictures.pop(next(iter(self._pictures)))
            self.seen[self._ratio].frames += 1

    def _on_status(self, message: PruningStatus) -> None:
        with self._arrived:
            picture = self._pictures.get(to_nanoseconds(message.header.stamp))
            ratio = round(float(message.keep_ratio), 6)
            self.seen[ratio].moments.append(InferenceSample(message, picture))
            self._arrived.notify_all()

    def _on_episode(self, message: DiagnosticStatus) -> None:
        with self._arrived:
            self.episodes = {pair.key: pair.value for pair in message.values}

    def _on_action(self, message: EndEffectorAction) -> None:
        with self._arrived:
            self.stops += message.stop
            if not message.stop:
                self._actions_of[message.sequence] += 1
