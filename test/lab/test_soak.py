"""The soak test itself for one minute, next to other tests; the long run is in reliability.md."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the soak test needs rclpy")

from vla_pruner_lab.reliability.soak import is_clean

PATIENCE = 110.0


def test_a_minute_of_faults_is_survived(soak):
    code = soak.process.wait(PATIENCE)
    printed = soak.log.read_text()
    assert code == 0, printed[-5000:]
    report = json.loads(soak.report.read_text())
    assert report["wall_minutes"] >= 0.95
    assert report["actions"] > 0
    assert report["injected"] == report["survived"]
    assert len(report["injected"]) == 17
    assert "actions lost: 0" in printed
    assert is_clean(report)
    for change in ({"actions_lost": 1}, {"violations": {"a translation of 1 m": 1}}):
        assert not is_clean({**copy.deepcopy(report), **change})
