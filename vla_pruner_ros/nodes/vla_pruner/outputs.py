"""Publishers of the node next to its motion: chunk, pruning status, overlay."""

from __future__ import annotations

import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vla_pruner_ros.control.action_queue import PlannedAction
from vla_pruner_ros.conversions.overlay import draw_kept
from vla_pruner_ros.models.policy import VlaPolicy
from vla_pruner_ros.msg import ActionChunk, PruningStatus
from vla_pruner_ros.nodes.messages import status_message, to_duration, to_time
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.inference import Result


class Outputs:
    """Publishers of `~/action_chunk`, `~/pruning` and `~/overlay`.

    tokens: what the last inference kept, for the diagnostics.
    """

    def __init__(self, node: Host) -> None:
        create, qos = node.create_lifecycle_publisher, QoSProfile(depth=10)
        self._chunks = create(ActionChunk, "~/action_chunk", qos)
        self._status = create(PruningStatus, "~/pruning", qos)
        self._overlay = create(Image, "~/overlay", QoSProfile(depth=1))
        self.clear()

    def clear(self) -> None:
        """Before the first inference there are no tokens to report."""
        self.tokens: dict[str, int] = {}

    @staticmethod
    def plan(result: Result, sequence: int) -> list[PlannedAction]:
        """Return the chunk's actions, each with where it came from."""
        task, stamp = result.task, result.task.stamp
        captured = task.now.playback - (task.now.stamp - stamp)
        return [
            PlannedAction(values, step, sequence, stamp, task.epoch, captured)
            for step, values in enumerate(np.asarray(result.chunk.actions, dtype=np.float32))
        ]

    def publish(
        self, result: Result, sequence: int, policy: VlaPolicy, queue: tuple[int, float]
    ) -> None:
        """Publish everything about one inference; queue: length and age (s) it found."""
        self._chunks.publish(_chunk_message(result, sequence))
        report = result.chunk.pruning
        self.tokens = {
            "tokens_requested": report.tokens_requested,
            "tokens_kept": report.tokens_kept,
            "history_length": report.history_length,
        }
        status = status_message(report, result.task.header, sequence)
        pruning = result.task.settings.pruning
        status.model, status.trained = policy.family, policy.trained
        status.budget_mode, status.keep_ratio = pruning.budget_mode, float(pruning.keep_ratio)
        status.queue_length, status.queue_age = queue
        self._status.publish(status)
        if self._overlay.get_subscription_count():
            self._overlay.publish(_overlay_message(result, policy))


def _chunk_message(result: Result, sequence: int) -> ActionChunk:
    task, actions = result.task, result.chunk.actions
    message = ActionChunk(
        header=task.header,
        image_stamps=[to_time(frame.stamp if frame else 0) for frame in task.frames],
        sequence=sequence,
        instruction=task.instruction,
        inference_start=to_time(task.now.stamp),
        inference_time=to_duration(result.seconds),
        steps=len(actions),
        period=1.0 / task.settings.control_rate,
        actions=np.asarray(actions, dtype=np.float32).reshape(-1).tolist(),
    )
    if result.observation.state is not None:
        message.state_stamp = task.joint_state.header.stamp
    return message


def _overlay_message(result: Result, policy: VlaPolicy) -> Image:
    report = result.chunk.pruning
    pictures = [
        draw_kept(policy.preview(image), kept, report.grid)
        for image, kept in zip(result.observation.images, report.kept_indices, strict=True)
        if image is not None
    ]
    picture = np.ascontiguousarray(np.concatenate(pictures, axis=1))
    height, width = picture.shape[:2]
    header = result.task.header
    return Image(
        header=Header(stamp=header.stamp, frame_id=header.frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        step=3 * width,
        data=picture.tobytes(),
    )
