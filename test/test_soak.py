"""The soak test itself, in its shortest form; the long run is in docs/reliability.md."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the soak test needs rclpy")

from vla_pruner_ros.evaluation.soak import is_clean


def test_twenty_seconds_of_faults_is_survived(tmp_path):
    path = tmp_path / "soak.json"
    # A process of its own: the garbage collector of a long test run pauses for half a second.
    command = [sys.executable, "-m", "vla_pruner_ros.evaluation.soak", "--minutes", "0.33"]
    command += ["--json", str(path), "--domain", os.environ["ROS_DOMAIN_ID"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(path.read_text())
    assert report["actions"] > 0
    assert report["injected"] == report["survived"]
    assert len(report["injected"]) >= 8
    assert "actions lost: 0" in done.stdout
    assert is_clean(report)
    for change in ({"actions_lost": 1}, {"violations": {"a translation of 1 m": 1}}):
        assert not is_clean({**copy.deepcopy(report), **change})
