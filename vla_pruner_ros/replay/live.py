"""Playback of a bag into a running node: parameters and topics that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vla_pruner_ros.bags.definitions import COMPRESSED_IMAGE
from vla_pruner_ros.bags.parameter_events import first_parameters, read_parameters
from vla_pruner_ros.bags.parameter_file import parameters_of_file
from vla_pruner_ros.bags.reader import BagReader
from vla_pruner_ros.pruning.config import FIELD_NAMES
from vla_pruner_ros.replay.inputs.camera_order import order_by_stamps
from vla_pruner_ros.replay.inputs.recorded import Recorded, read_recorded
from vla_pruner_ros.replay.inputs.topics import (
    COMMANDS,
    TopicSelection,
    choose_topics,
    find_node,
)

RECORDED_OUTPUTS = (
    *COMMANDS,
    *(f"preview/{name}" for name in COMMANDS),
    "action_chunk",
    "pruning",
    "overlay",
)
"""Topics of the recorded node that would mix with those of the running one."""
KEPT = (*FIELD_NAMES, "robot", "state_joints", "max_camera_spread", "relevance_timeout",
        "on_camera_loss", "unnorm_key", "draft", "quantization")  # fmt: skip
"""Parameters that determine the outputs; the others belong to the robot or to its computer."""


def parameters_as_recorded(bag: Path | str, node: str, params_file: Path | str) -> dict[str, Any]:
    """Return the parameters under which a node repeats the recorded node's outputs.

    Args:
        bag: with the outputs of a vla_pruner node; without them nothing is returned.
        node: full name of the recorded node, "" if there is only one.
        params_file: the parameters that it sets are left out.

    Raises:
        BagError: the bag cannot be read, or the choice of node or cameras is not clear.
        ValueError: the file cannot be read.
    """
    with BagReader(bag) as reader:
        node = find_node(reader.topics, node)
        if not node:
            return {}
        known = first_parameters(read_parameters(reader, node))
        # Empty lists and strings are left out; ROS cannot infer the type of an empty list.
        values = {name: known[name] for name in KEPT if known.get(name) not in (None, [], "")}
        values.update(_inputs(reader, node, known))
    given = parameters_of_file(Path(params_file), "vla_pruner")
    return {name: value for name, value in values.items() if name not in given}


def _inputs(reader: BagReader, node: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return the cameras as recorded in the bag, and the node's first instruction."""
    topics = choose_topics(
        reader.topics, 0, TopicSelection(node=node), known.get("image_topics") or ()
    )
    outputs: list[Recorded] = read_recorded(reader, topics, [], limit=20).inferences
    images = topics.images
    if not known.get("image_topics"):
        images = order_by_stamps(reader, images, outputs)[0]
    transports = [_transport(reader, name) for name in images]
    instruction = outputs[0].instruction if outputs else known.get("instruction")
    inputs = {
        "image_topics": [name.removesuffix("/compressed") for name in images],
        "image_transport": transports[0],
    }
    if len(set(transports)) > 1:
        inputs["image_transports"] = transports
    return {**inputs, "instruction": instruction} if instruction else inputs


def _transport(reader: BagReader, topic: str) -> str:
    """Return how a camera's images lie in the bag, as the parameter image_transport names it."""
    if topic.endswith("/compressed"):
        return "compressed"
    return "mjpeg" if reader.topics[topic].msgtype == COMPRESSED_IMAGE else "raw"


def moved_aside(node: str, topics: Iterable[str] = ()) -> list[str]:
    """Return the recorded topics that must not be played under their own names.

    The recorded node's outputs would mix with the running one's, and nodes would take recorded
    parameter events for their own.

    Args:
        node: full name of the recorded node.
        topics: of the bag; those that command one arm of several are added.
    """
    names = [f"{node.rstrip('/')}/{output}" for output in RECORDED_OUTPUTS]
    arms = [topic for topic in topics if is_arm_command(topic, node)]
    return [*names, *arms, "/parameter_events", "/diagnostics"]


def is_arm_command(topic: str, node: str) -> bool:
    """Return whether a topic commands one arm: <node>/left/joint_trajectory, or its preview."""
    start, _, name = topic.rpartition("/")
    parts = start.removeprefix(f"{node.rstrip('/')}/").removeprefix("preview/")
    return name in COMMANDS and start.startswith(f"{node.rstrip('/')}/") and "/" not in parts
