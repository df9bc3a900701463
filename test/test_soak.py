"""The soak test itself, in its shortest form; the long run is in docs/reliability.md."""

from __future__ import annotations

import copy
import json
import os

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the soak test needs rclpy")

from vla_pruner_ros.evaluation.soak import is_clean, main, summary


def test_twenty_seconds_of_faults_is_survived(tmp_path, capsys):
    path = tmp_path / "soak.json"
    domain = str(100 + (os.getpid() + 1) % 100)
    code = main(["--minutes", "0.33", "--json", str(path), "--domain", domain])
    report = json.loads(path.read_text())
    assert code == 0, summary(report)
    assert report["actions"] > 0
    assert report["injected"] == report["survived"]
    assert len(report["injected"]) >= 8
    assert "actions lost: 0" in capsys.readouterr().out
    assert is_clean(report)
    for change in ({"actions_lost": 1}, {"violations": {"a translation of 1 m": 1}}):
        assert not is_clean({**copy.deepcopy(report), **change})
