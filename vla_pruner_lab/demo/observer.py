"""Observer of the node from outside: statuses, actions and images, by budget."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from vla_pruner_ros.bringup.client import PolicyClient
from vla_pruner_ros.bringup.simulation import CAMERAS
from vla_pruner_ros.conversions.images import to_rgb
from vla_pruner_ros.msg import ActionChunk, EndEffectorAction, PruningStatus
from vla_pruner_ros.nodes.messages import to_nanoseconds

CAMERA_TOPICS = ("image_raw", *(f"{camera}/image_raw" for camera in CAMERAS[1:]))
IMAGES_KEPT = 128
"""Newest images that are held until their status arrives."""


@dataclass(frozen=True)
class InferenceSample:
    """One inference as seen from outside: its status and its image."""

    status: PruningStatus
    images: tuple[np.ndarray, ...]
    """Images of the cameras in order; empty if one is missing."""

    @property
    def stages(self) -> dict[str, float]:
        """Seconds per stage."""
        return dict(zip(self.status.stage_names, self.status.stage_times, strict=True))


@dataclass
class Seen:
    """Observations under one keep ratio."""

    frames: int = 0
    episodes_finished: int = 0
    episodes_succeeded: int = 0
    samples: list[InferenceSample] = field(default_factory=list)

    @property
    def settled(self) -> list[InferenceSample]:
        """Samples whose budget was in force: no history fill, no refresh."""
        return [m for m in self.samples if not (m.status.history_incomplete or m.status.refresh)]


class Observer:
    """Observer of everything, by keep ratio; statuses are sorted by the ratio they carry."""

    def __init__(self, client: PolicyClient) -> None:
        self._arrived = threading.Condition()
        self._images: dict[tuple[str, int], np.ndarray] = {}
        self._image_stamps: dict[int, tuple[int, ...]] = {}
        self._episode_counts: tuple[int, int] | None = None
        self._finished_in_turn = 0
        self._ratio_of: dict[int, float] = {}
        self._actions_of: defaultdict[int, int] = defaultdict(int)
        self._ratio = float("nan")
        self.seen: defaultdict[float, Seen] = defaultdict(Seen)
        self.stops = 0
        self.load_before = os.getloadavg()[0]
        self._robot_reset = client.node.create_client(Trigger, "sim_robot/reset")
        subscribe = client.node.create_subscription
        for topic in CAMERA_TOPICS:
            subscribe(Image, topic, partial(self._on_image, topic), qos_profile_sensor_data)
        subscribe(ActionChunk, "vla_pruner/action_chunk", self._on_chunk, 50)
        subscribe(PruningStatus, "vla_pruner/pruning", self._on_status, 50)
        subscribe(EndEffectorAction, "vla_pruner/action", self._on_action, 50)
        subscribe(DiagnosticStatus, "sim_robot/episode", self._on_episode, 10)

    def expect(self, ratio: float) -> int:
        """Count images and episodes from now on under this ratio; return its inferences so far."""
        with self._arrived:
            self._ratio, self._finished_in_turn = ratio, 0
            return len(self.seen[ratio].settled)

    def reset_robot(self, patience: float = 10.0) -> None:
        """Let the robot begin an episode, so that each belongs to one budget."""
        if self._robot_reset.wait_for_service(patience):
            answered = threading.Event()
            self._robot_reset.call_async(Trigger.Request()).add_done_callback(
                lambda _: answered.set()
            )
            answered.wait(patience)

    def has_finished_episode(self) -> bool:
        """Return whether an episode ended since expect()."""
        with self._arrived:
            return self._finished_in_turn > 0

    def wait_for_samples(self, ratio: float, count: int, timeout: float) -> int:
        """Wait for settled inferences under a ratio; return their number."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self.seen[ratio].settled) >= count, timeout)
            return len(self.seen[ratio].settled)

    def episodes(self, ratio: float) -> tuple[int, int]:
        """Return how many episodes succeeded under a ratio, and how many finished."""
        with self._arrived:
            seen = self.seen[ratio]
            return seen.episodes_succeeded, seen.episodes_finished

    def actions(self, ratio: float) -> int:
        """Return the actions that followed from inferences under a ratio."""
        with self._arrived:
            sequences = (m.status.sequence for m in self.seen[ratio].samples)
            return sum(self._actions_of[sequence] for sequence in sequences)

    def _on_image(self, topic: str, message: Image) -> None:
        image = to_rgb(message).copy()
        with self._arrived:
            self._images[topic, to_nanoseconds(message.header.stamp)] = image
            while len(self._images) > IMAGES_KEPT:
                self._images.pop(next(iter(self._images)))
            self.seen[self._ratio].frames += topic == CAMERA_TOPICS[0]

    def _on_chunk(self, message: ActionChunk) -> None:
        with self._arrived:
            stamps = tuple(to_nanoseconds(stamp) for stamp in message.image_stamps)
            self._image_stamps = {message.sequence: stamps}  # its status comes next

    def _on_status(self, message: PruningStatus) -> None:
        with self._arrived:
            first = (to_nanoseconds(message.header.stamp),)
            stamps = self._image_stamps.get(message.sequence, first)
            keys = list(zip(CAMERA_TOPICS, stamps, strict=False))
            images = tuple(self._images[key] for key in keys if key in self._images)
            ratio = round(float(message.keep_ratio), 6)
            sample = InferenceSample(message, images if len(images) == len(keys) else ())
            self.seen[ratio].samples.append(sample)
            self._arrived.notify_all()

    def _on_episode(self, message: DiagnosticStatus) -> None:
        values = {pair.key: pair.value for pair in message.values}
        counts = int(values["episodes_succeeded"]), int(values["episodes_finished"])
        with self._arrived:
            before = self._episode_counts or counts
            seen = self.seen[self._ratio]
            seen.episodes_succeeded += counts[0] - before[0]
            seen.episodes_finished += counts[1] - before[1]
            self._finished_in_turn += counts[1] - before[1]
            self._episode_counts = counts
            self._arrived.notify_all()

    def _on_action(self, message: EndEffectorAction) -> None:
        with self._arrived:
            self.stops += message.stop
            if not message.stop:
                self._actions_of[message.sequence] += 1
