"""The page's link with a real node: what it reports, and what its commands do."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the page is of a node")

from node_helpers import ControlledPolicy, bench

from vla_pruner_ros.dashboard.link import NodeLink

pytestmark = pytest.mark.realtime


def test_state_overlay_and_commands_of_a_running_node():
    policy = ControlledPolicy()
    with bench(policy, instruction="open the door") as b:
        client = SimpleNamespace(
            node=b.client,
            instruct=b.instruct,
            set_parameter=lambda name, value, timeout: b.set_parameter(name, value),
        )
        link = NodeLink(client)
        b.activate()
        b.show_until(
            lambda: link.overlay() and {"latency", "tokens", "health"} <= link.state().keys(),
            "the page knows nothing",
        )
        state = link.state()
        assert state["instruction"] == "open the door"
        assert state["tokens"] == "4 of 16"
        assert state["keep_ratio"] == 0.25
        assert link.overlay()[:2] == b"\xff\xd8"
        link.set_keep_ratio(0.5)
        b.show_until(lambda: link.state()["tokens"] == "8 of 16", "the budget was not set")
        resets = policy.resets
        link.reset()
        b.show_until(lambda: policy.resets > resets, "the history was not cleared")
        link.hold()
        b.show_until(lambda: "nstruction" in link.state()["health"], "hold did not stop motion")
