"""The soak test itself for one minute; the long run is in reliability.md."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the soak test needs rclpy")

from vla_pruner_lab.reliability.page import JOINT_SOAK, sections, with_section
from vla_pruner_lab.reliability.soak import is_clean

PATIENCE = 110.0


def test_two_arms_moved_by_joints_survive_every_fault(tmp_path):
    report = tmp_path / "soak.json"
    command = [sys.executable, "-m", "vla_pruner_lab.reliability.soak", "--robot", "joints"]
    command += ["--minutes", "0.6", "--domain", os.environ["ROS_DOMAIN_ID"], "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    found = json.loads(report.read_text())
    assert len(found["injected"]) == 25
    assert found["injected"] == found["survived"]
    assert found["actions"] > 0
    assert found["stops"] > 0
    assert is_clean(found)


def test_a_page_keeps_the_sections_of_other_reports():
    page = "# Reliability\n\n## Soak\n\nold\n\n## Bad input\n\ntable\n"
    longer = with_section(page, JOINT_SOAK, f"{JOINT_SOAK}\n\nfirst\n")
    assert list(sections(longer)) == ["## Soak", "## Bad input", JOINT_SOAK]
    again = with_section(longer, JOINT_SOAK, f"{JOINT_SOAK}\n\nsecond\n")
    assert again == longer.replace("first", "second")
    other = with_section(longer, "## Soak", "## Soak\n\nnew\n")
    assert other == longer.replace("old", "new")


def test_a_minute_of_faults_is_survived(tmp_path):
    file = tmp_path / "soak.json"
    command = [sys.executable, "-m", "vla_pruner_lab.reliability.soak", "--json", str(file)]
    command += ["--minutes", "1", "--domain", os.environ["ROS_DOMAIN_ID"]]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 0, printed[-5000:]
    report = json.loads(file.read_text())
    assert report["wall_minutes"] >= 0.95
    assert report["actions"] > 0
    assert report["injected"] == report["survived"]
    assert len(report["injected"]) == 17
    assert "actions lost: 0" in printed
    assert is_clean(report)
    for change in ({"actions_lost": 1}, {"violations": {"a translation of 1 m": 1}}):
        assert not is_clean({**copy.deepcopy(report), **change})
