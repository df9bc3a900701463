"""The access control file fits the node, and nothing in the package runs code from data."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from node_kit import ControlledPolicy, bench

ROOT = Path(__file__).resolve().parents[1]
POLICY = ElementTree.parse(ROOT / "security" / "vla_pruner.policy.xml").getroot()


def allowed(node: str, kind: str, permission: str) -> set[str]:
    """Full names of the topics or services a node's profile allows."""
    profile = POLICY.find(f".//profile[@node='{node}']")
    items = profile.findall(f"{kind}s[@{permission}='ALLOW']/{kind}")
    return {"/" + item.text.replace("~", node) for item in items}


@pytest.mark.xfail(
    strict=False, reason="open fault: late in a long run, discovery does not list every publisher"
)
def test_policy_allows_exactly_what_the_node_uses():
    with bench(ControlledPolicy(), use_sim_time=True) as b:
        b.activate()
        here = ("vla_pruner", "/")
        # The graph is told over DDS, too: wait for its last publisher.
        b.until(lambda: b.client.count_publishers("/vla_pruner/overlay"), "the node's publishers")
        b.until(lambda: b.client.count_publishers("/vla_pruner/target_pose"), "all of them")
        published = {n for n, _ in b.client.get_publisher_names_and_types_by_node(*here)}
        subscribed = {n for n, _ in b.client.get_subscriber_names_and_types_by_node(*here)}
        served = {n for n, _ in b.client.get_service_names_and_types_by_node(*here)}
    assert published <= allowed("vla_pruner", "topic", "publish")
    assert subscribed <= allowed("vla_pruner", "topic", "subscribe")
    assert served <= allowed("vla_pruner", "service", "reply")
    optional = {"/rosout", "/parameter_events"}  # not every distribution's rclpy lists them
    assert allowed("vla_pruner", "topic", "publish") - published <= optional
    assert allowed("vla_pruner", "topic", "subscribe") - subscribed <= optional


def test_only_the_node_may_move_the_arm_and_the_operator_finds_its_services():
    operator = "vla_pruner_operator"
    moving = {f"/vla_pruner/{name}" for name in ("action", "twist", "target_pose")}
    assert moving <= allowed("vla_pruner", "topic", "publish")
    assert not moving & allowed(operator, "topic", "publish")
    offered = allowed("vla_pruner", "service", "reply")
    assert allowed(operator, "service", "request") <= offered


@pytest.mark.parametrize(
    ("unsafe", "remedy"),
    [
        (r"\byaml\.(load|full_load|unsafe_load)\(", "yaml.safe_load"),
        (r"\bpickle\.loads?\(", "no pickle"),
        (r"\b(eval|exec)\(", "no evaluation of text"),
        (r"trust_remote_code\s*=\s*True", "no code from checkpoints"),
        (r"weights_only\s*=\s*False", "weights_only=True"),
        (r"shell\s*=\s*True", "no shell"),
    ],
)
def test_no_unsafe_call(unsafe, remedy):
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in (ROOT / "vla_pruner_ros").rglob("*.py")
        for match in re.finditer(unsafe, path.read_text())
        if not match.string[: match.start()].endswith(".")
    ]
    assert not found, remedy
