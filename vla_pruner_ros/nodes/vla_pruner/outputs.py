"""Publishers of the node next to its motion: chunk, pruning status, overlay."""

from __future__ import annotations

from array import array

import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vla_pruner_ros.control.action_queue import PlannedAction
from vla_pruner_ros.conversions.overlay import add_captions, draw_kept, mark
from vla_pruner_ros.models.policy import VlaPolicy
from vla_pruner_ros.msg import ActionChunk, PruningStatus
from vla_pruner_ros.nodes.messages import status_message, to_duration, to_time
from vla_pruner_ros.nodes.process.log import printable
from vla_pruner_ros.nodes.vla_pruner.host import Host
from vla_pruner_ros.nodes.vla_pruner.inference import Result
from vla_pruner_ros.report import encode_jpeg
from vla_pruner_ros.robots import Commands, RobotProfile

OVERLAY_QUALITY = 80
"""JPEG quality of ~/overlay/compressed."""


class Outputs:
    """Publishers of `~/action_chunk`, `~/pruning` and `~/overlay`, also compressed.

    tokens: what the last inference kept, for the diagnostics.
    """

    def __init__(self, node: Host) -> None:
        create, qos = node.create_lifecycle_publisher, QoSProfile(depth=10)
        self._chunks = create(ActionChunk, "~/action_chunk", qos)
        self._status = create(PruningStatus, "~/pruning", qos)
        self._overlay = create(Image, "~/overlay", QoSProfile(depth=1))
        self._compressed = create(CompressedImage, "~/overlay/compressed", QoSProfile(depth=1))
        self.clear()

    def clear(self) -> None:
        """Before the first inference there are no tokens to report."""
        self.tokens: dict[str, int] = {}

    @staticmethod
    def plan(result: Result, sequence: int, profile: RobotProfile | None) -> list[PlannedAction]:
        """Return the actions to carry out, each with where it came from; none without a profile."""
        task, stamp = result.task, result.task.stamp
        if result.commands is None or profile is None:
            return []
        # Not after the inference began, though the camera's clock is ahead.
        captured = task.now.playback - max(0, task.now.stamp - stamp)
        values, first_gripper = _values(result.commands)
        poses = result.commands.poses
        count = min(profile.actions_per_chunk or len(values), len(values))
        return [
            PlannedAction(
                values[step], step, sequence, stamp, task.epoch, captured, first_gripper,
                None if poses is None else poses[step],
            )
            for step in range(count)
        ]  # fmt: skip

    def publish(
        self,
        result: Result,
        sequence: int,
        policy: VlaPolicy,
        queue: tuple[int, float],
        profile: RobotProfile | None = None,
    ) -> None:
        """Publish everything about one inference; queue: length and age (s) it found."""
        self._chunks.publish(_chunk_message(result, sequence, profile))
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
        self._publish_overlay(result, policy)

    def _publish_overlay(self, result: Result, policy: VlaPolicy) -> None:
        wanted = [p for p in (self._overlay, self._compressed) if p.get_subscription_count()]
        if not wanted:
            return
        overlay, header = _overlay(result, policy), result.task.header
        if self._overlay in wanted:
            self._overlay.publish(_image_message(overlay, header))
        if self._compressed in wanted:
            jpeg = array("B", encode_jpeg(overlay, OVERLAY_QUALITY))
            self._compressed.publish(CompressedImage(header=header, format="jpeg", data=jpeg))


def _values(commands: Commands) -> tuple[np.ndarray, int]:
    """Return values [steps, n] as PlannedAction has them, and the index of the first gripper."""
    if commands.joints is not None:
        return np.concatenate([commands.joints, commands.openings], axis=1), commands.joints.shape[
            1
        ]
    steps = len(commands.openings)
    moves = np.zeros((steps, 6)) if commands.displacements is None else commands.displacements
    # Without a gripper nobody reads its opening; open is the one that cannot crush anything.
    openings = commands.openings if commands.openings.shape[1] else np.ones((steps, 1))
    return np.concatenate([moves, openings], axis=1), 6


def _chunk_message(result: Result, sequence: int, profile: RobotProfile | None) -> ActionChunk:
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
        width=actions.shape[1],
    )
    if profile:
        message.robot = profile.name
        message.action_names = list(profile.action_names)
        message.action_units = list(profile.action_units)
    if result.observation.state is not None:
        message.state = np.asarray(result.observation.state, dtype=np.float64).tolist()
        message.state_names = list(profile.state_names) if profile else []
        message.state_stamp = to_time(task.state_stamp)
    return message


def _overlay(result: Result, policy: VlaPolicy) -> np.ndarray:
    """Return the cameras next to each other with captions below, uint8 [H, W, 3]."""
    report = result.chunk.pruning
    dry_run = "DRY RUN" if result.task.settings.dry_run else ""
    images = [
        mark(draw_kept(policy.preview(image), kept, report.grid), dry_run)
        for image, kept in zip(result.observation.images, report.kept_indices, strict=True)
        if image is not None
    ]
    pruning = result.task.settings.pruning
    tokens = f"{report.tokens_kept} of {report.tokens_total} tokens"
    figures = f"{pruning.method}, {tokens}, {1e3 * result.seconds:.0f} ms"
    lines = [printable(result.task.instruction), figures]
    return np.ascontiguousarray(add_captions(np.concatenate(images, axis=1), lines))


def _image_message(overlay: np.ndarray, header: Header) -> Image:
    height, width = overlay.shape[:2]
    return Image(
        header=Header(stamp=header.stamp, frame_id=header.frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        step=3 * width,
        data=overlay.tobytes(),
    )
