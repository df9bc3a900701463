"""The access control file fits the node, and nothing in the package runs code from data."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from node_helpers import ControlledPolicy, bench

ROOT = Path(__file__).resolve().parents[2]
POLICY = ElementTree.parse(ROOT / "security" / "vla_pruner.policy.xml").getroot()

OPTIONAL = {"/rosout", "/parameter_events"}
"""Not every distribution's rclpy lists them."""


def allowed(node: str, kind: str, permission: str) -> set[str]:
    """Full names of the topics or services a node's profile allows."""
    profile = POLICY.find(f".//profile[@node='{node}']")
    items = profile.findall(f"{kind}s[@{permission}='ALLOW']/{kind}")
    return {"/" + item.text.replace("~", node) for item in items}


def test_policy_allows_exactly_what_the_node_uses():
    with bench(ControlledPolicy(), use_sim_time=True) as b:
        b.activate()
        here = ("vla_pruner", "/")

        def found(kind: str) -> set[str]:
            ask = getattr(b.client, f"get_{kind}_names_and_types_by_node")
            return {name for name, _ in ask(*here)}

        # The graph arrives over DDS piece by piece: all that is allowed must turn up, nothing else.
        for kind, permission in (("publisher", "publish"), ("subscriber", "subscribe")):
            topics = allowed("vla_pruner", "topic", permission)
            b.until(lambda k=kind, t=topics: t - OPTIONAL <= found(k), f"every {kind}")
            assert found(kind) <= topics
        assert found("service") <= allowed("vla_pruner", "service", "reply")


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
        (r"\byaml\.(full_load|unsafe_load)\(", "yaml.safe_load"),
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


def yaml_loaders() -> list[tuple[str, str]]:
    """Return (module, name of the loader) of every yaml.load call of the product."""
    found = []
    for path in (ROOT / "vla_pruner_ros").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "yaml.load":
                given = [*node.args[1:], *(word.value for word in node.keywords)]
                found.append((module, ast.unparse(given[0]) if given else ""))
    return found


def test_yaml_is_read_with_safe_loaders():
    assert yaml_loaders(), "no yaml.load was found: this test compares nothing"
    for module, name in yaml_loaders():
        loader = getattr(import_module(module), name)
        assert issubclass(loader, (yaml.SafeLoader, yaml.CSafeLoader)), f"{module}: {name}"
