"""metadata.yaml of a bag directory: the files and message counts that the recorder promised."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Metadata:
    """Content of metadata.yaml; empty if it could not be read.

    problem: reason why it could not be used, "" if it could. files: names of the storage files.
    counts: messages promised by topic.
    """

    problem: str = ""
    files: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    distribution: str | None = None
    custom_data: dict[str, str] = field(default_factory=dict)


def read_metadata(directory: Path) -> Metadata:
    """Read metadata.yaml of a bag directory."""
    path = directory / "metadata.yaml"
    if not path.is_file():
        return Metadata(problem="metadata.yaml is missing")
    try:
        content = yaml.load(path.read_text("utf-8"), _Loader)
        return _parse(content["rosbag2_bagfile_information"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        return Metadata(problem=f"metadata.yaml cannot be used ({text})")


def _parse(content: dict[str, Any]) -> Metadata:
    counts: Counter[str] = Counter()
    for topic in content["topics_with_message_count"]:
        counts[str(topic["topic_metadata"]["name"])] += int(topic["message_count"])
    custom = content.get("custom_data") or {}
    return Metadata(
        files=tuple(Path(str(name)).name for name in content["relative_file_paths"]),
        counts=dict(counts),
        distribution=content.get("ros_distro") or None,
        custom_data={str(key): str(value) for key, value in custom.items()},
    )


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe loader that ignores rosbag2's own tags and reads their values."""


_Loader.add_multi_constructor(
    "!", lambda loader, _, node: loader.construct_mapping(node) if isinstance(
        node, yaml.MappingNode
    ) else loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode)
    else loader.construct_scalar(node)
)  # fmt: skip
