"""Settings of viewers, compared with the topics and message fields that the node publishes."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VIEWERS = ROOT / "config" / "viewers"
LAYOUT = json.loads((VIEWERS / "foxglove.json").read_text())
RVIZ = yaml.safe_load((VIEWERS / "vla_pruner.rviz").read_text())
TOPICS = {
    "/image_raw": "sensor_msgs/msg/Image",
    "/instruction": "std_msgs/msg/String",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    "/robot_description": "std_msgs/msg/String",
    "/end_effector_pose": "geometry_msgs/msg/PoseStamped",
    "/vla_pruner/action": "vla_pruner_ros/msg/EndEffectorAction",
    "/vla_pruner/action_chunk": "vla_pruner_ros/msg/ActionChunk",
    "/vla_pruner/pruning": "vla_pruner_ros/msg/PruningStatus",
    "/vla_pruner/overlay": "sensor_msgs/msg/Image",
    "/vla_pruner/target_pose": "geometry_msgs/msg/PoseStamped",
}
"""Topics around a node of the default name; a second test compares them with the node's page."""


def panels(layout) -> list[str]:
    if isinstance(layout, str):
        return [layout]
    return panels(layout["first"]) + panels(layout["second"])


def paths() -> list[str]:
    plots = [value for name, value in LAYOUT["configById"].items() if name.startswith("Plot!")]
    return [path["value"] for plot in plots for path in plot["paths"]]


def test_every_panel_of_the_layout_is_configured_and_shown_once():
    shown = panels(LAYOUT["layout"])
    assert sorted(shown) == sorted(LAYOUT["configById"])
    assert len(shown) >= 10


def test_image_panels_instruction_and_diagnostics_name_topics():
    configured = LAYOUT["configById"]
    images = {c["imageMode"]["imageTopic"] for n, c in configured.items() if n.startswith("Image!")}
    assert images == {"/image_raw", "/vla_pruner/overlay"}
    assert {TOPICS[topic] for topic in images} == {"sensor_msgs/msg/Image"}
    assert configured["Publish!instruction"]["topicName"] == "/instruction"
    assert configured["Publish!instruction"]["datatype"] == TOPICS["/instruction"]
    assert configured["DiagnosticSummary!all"]["topicToRender"] in TOPICS
    assert configured["CallService!reset"]["serviceName"] == "/vla_pruner/reset"


def test_every_plotted_field_is_in_its_message():
    pytest.importorskip("vla_pruner_ros.msg", reason="the messages are not built")
    assert len(paths()) > 8
    for path in paths():
        topic, _, fields = path.partition(".")
        package, _, name = TOPICS[topic].split("/")
        message = getattr(import_module(f"{package}.msg"), name)()
        for field in fields.split("."):
            message = getattr(message, re.sub(r"\[.*\]$", "", field))
        assert not hasattr(message, "get_fields_and_field_types"), f"{path} is no number"


def test_rviz_shows_topics_of_their_types():
    found = {}
    for display in RVIZ["Visualization Manager"]["Displays"]:
        topic = display.get("Topic") or display.get("Description Topic")
        if topic:
            found[topic["Value"]] = display["Class"].rpartition("/")[2]
    assert found.keys() <= TOPICS.keys()
    wanted = {"Image": "Image", "Pose": "PoseStamped", "RobotModel": "String"}
    for topic, kind in found.items():
        assert TOPICS[topic].rpartition("/")[2] == wanted[kind]
    assert len(found) == 5


def test_the_topics_are_those_of_the_node_s_page():
    page = (ROOT / "docs" / "reference" / "node.md").read_text()
    for topic in TOPICS:
        name = topic.removeprefix("/vla_pruner")
        written = f"`~{name}`" if topic != name else f"`{name.lstrip('/')}`"
        assert written in page or f"`{name}`" in page, topic
