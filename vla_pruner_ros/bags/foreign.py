"""Recognition of other paths and topics, to name them in errors about a missing bag."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def what_it_is(path: Path) -> str:
    """Return a sentence about a directory that is no bag but something known, else ""."""
    info = path / "meta" / "info.json"
    if path.is_dir() and info.is_file():
        return _lerobot(info)
    ros1 = sorted(p.name for p in path.iterdir() if p.suffix == ".bag") if path.is_dir() else []
    if ros1:
        return (
            f"{', '.join(ros1)} is a ROS 1 bag: convert it with rosbags-convert --src {ros1[0]} "
            "--dst NAME"
        )
    return ""


def remarks(topics: Iterable[Any]) -> list[str]:
    """Return remarks on topics that do not hold ROS 2 messages."""
    ros1 = sorted(topic.name for topic in topics if topic.encoding == "ros1")
    if not ros1:
        return []
    return [f"the bag holds ROS 1 messages (encoding ros1) on {', '.join(ros1)}"]


def _lerobot(info: Path) -> str:
    try:
        content = json.loads(info.read_text("utf-8"))
        version, frames = content.get("codebase_version", "?"), content.get("total_frames", "?")
    except (OSError, ValueError, AttributeError):
        version, frames = "?", "?"
    return (
        f"this is a LeRobot data set (version {version}, {frames} frames), not a rosbag2 bag: "
        "replay needs the messages of a robot; LeRobot data sets are for training"
    )
