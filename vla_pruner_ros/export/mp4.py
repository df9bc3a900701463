"""A bag as a video: cameras next to each other, pruned patches dimmed, in the recorded time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vla_pruner_ros.export.inferences import ExportedInference
from vla_pruner_ros.export.video import VideoWriter, side_by_side

LONGEST_PAUSE = 2.0
"""Longest time one frame is shown (s): pauses of the recording are shortened to it."""


def write_mp4(inferences: Iterable[ExportedInference], path: Path) -> int:
    """Write the video; return its number of frames."""
    with VideoWriter(path, frames_per_second=10) as video:
        shown, last = 0.0, 0
        for one in inferences:
            if video.frames:
                shown += min(max((one.stamp - last) * 1e-9, 1e-3), LONGEST_PAUSE)
            last = one.stamp
            video.add(side_by_side(list(one.overlays().values()), one.caption()), shown)
        return video.frames
