"""Observer of the node from outside: statuses, actions and images, by budget."""

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

IMAGES_KEPT = 64
"""Newest images that are held until their status arrives."""


@dataclass(frozen=True)
class InferenceSample:
    """One inference as seen from outside: its status and its image."""

    status: PruningStatus
    image: np.ndarray | None

    @property
    def stages(self) -> dict[str, float]:
        """Seconds per stage."""
        return dict(zip(self.status.stage_names, self.status.stage_times, strict=True))


@dataclass
class Seen:
    """Observations under one keep ratio."""

    frames: int = 0
    actions: int = 0
    samples: list[InferenceSample] = field(default_factory=list)

    @property
    def settled(self) -> list[InferenceSample]:
        """Samples whose budget was in force: no history fill, no refresh."""
        return [m for m in self.samples if not (m.status.history_incomplete or m.status.refresh)]


class Observer:
    """Observer of everything, by keep ratio; statuses are sorted by the ratio they carry."""

    def __init__(self, client: PolicyClient) -> None:
        self._arrived = threading.Condition()
        self._images: dict[int, np.ndarray] = {}
        self._ratio_of: dict[int, float] = {}
        self._actions_of: defaultdict[int, int] = defaultdict(int)
        self._ratio = float("nan")
        self.seen: defaultdict[float, Seen] = defaultdict(Seen)
        self.stops = 0
        self.episodes: dict[str, str] = {}
        """Newest diagnostics of the simulated robot about its episodes, by name."""
        subscribe = client.node.create_subscription
        subscribe(Image, "image_raw", self._on_image, qos_profile_sensor_data)
        subscribe(PruningStatus, "vla_pruner/pruning", self._on_status, 50)
        subscribe(EndEffectorAction, "vla_pruner/action", self._on_action, 50)
        subscribe(DiagnosticStatus, "sim_robot/episode", self._on_episode, 10)

    def expect(self, ratio: float) -> None:
        """Count images from now on under this ratio."""
        with self._arrived:
            self._ratio = ratio

    def wait_for_samples(self, ratio: float, count: int, timeout: float) -> int:
        """Wait for settled inferences under a ratio; return their number."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.seen[ratio].settled) >= count, timeout)
            return len(self.seen[ratio].settled)

    def episodes_done(self) -> str:
        """Return the share of finished episodes that succeeded; empty before the first."""
        with self._arrived:
            finished = int(self.episodes.get("episodes_finished", 0))
            succeeded = self.episodes.get("episodes_succeeded", "0")
        return f"{succeeded} of {finished}" if finished else ""

    def actions(self, ratio: float) -> int:
        """Return the actions that followed from inferences under a ratio."""
        with self._arrived:
            sequences = (m.status.sequence for m in self.seen[ratio].samples)
            return sum(self._actions_of[sequence] for sequence in sequences)

    def _on_image(self, message: Image) -> None:
        image = to_rgb(message).copy()
        with self._arrived:
            self._images[to_nanoseconds(message.header.stamp)] = image
            while len(self._images) > IMAGES_KEPT:
                self._images.pop(next(iter(self._images)))
            self.seen[self._ratio].frames += 1

    def _on_status(self, message: PruningStatus) -> None:
        with self._arrived:
            image = self._images.get(to_nanoseconds(message.header.stamp))
            ratio = round(float(message.keep_ratio), 6)
            self.seen[ratio].samples.append(InferenceSample(message, image))
            self._arrived.notify_all()

    def _on_episode(self, message: DiagnosticStatus) -> None:
        with self._arrived:
            self.episodes = {pair.key: pair.value for pair in message.values}

    def _on_action(self, message: EndEffectorAction) -> None:
        with self._arrived:
            self.stops += message.stop
            if not message.stop:
                self._actions_of[message.sequence] += 1
