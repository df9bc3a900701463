"""A bag recorded on one ROS 2 distribution replays on the other."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: the recorder needs rclpy")

from vla_pruner_ros.models.untrained import write_untrained_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "test" / "helpers" / "live_recording.py"
WHEELS = {"kilted": "", "jazzy": "jazzy"}
"""ROS_WHEELS of env.sh."""
VERSIONS = {"kilted": "9.", "jazzy": "7."}


def is_set_up(distribution: str) -> bool:
    suffix = f"-{WHEELS[distribution]}".rstrip("-")
    return (ROOT / f".venv{suffix}" / "installed").exists() and (
        ROOT / f"install{suffix}" / "built"
    ).exists()


pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.realtime,
    pytest.mark.skipif(
        not all(map(is_set_up, WHEELS)),
        reason="only one distribution is set up: run make setup and make setup-jazzy",
    ),
]


def run_on(distribution: str, *arguments: str) -> str:
    """Run Python in a distribution's environment; return what it printed."""
    kept = ("HOME", "TMPDIR", "ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"PATH": os.defpath, "ROS_WHEELS": WHEELS[distribution], "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = ""
    done = subprocess.run(
        ["bash", "-c", 'cd "$0" && . ./env.sh && python3 "$@"', str(ROOT), *arguments],
        env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("recorded_on", "replayed_on"), [("jazzy", "kilted"), ("kilted", "jazzy")])
def test_a_bag_of_one_distribution_replays_on_the_other(tmp_path, recorded_on, replayed_on):
    checkpoint = str(write_untrained_checkpoint(tmp_path / "checkpoint", "openvla_oft"))
    bag, out = str(tmp_path / "bag"), tmp_path / "out"
    printed = run_on(recorded_on, str(SCRIPT), checkpoint, bag)
    assert f"recorded with rclpy {VERSIONS[recorded_on]}" in printed
    command = ["-m", "vla_pruner_ros.replay.cli", bag, "--checkpoint", checkpoint]
    command += ["--device", "cpu", "--threads", "1", "--out", str(out), "--no-report"]
    run_on(replayed_on, *command)
    summary = json.loads((out / "summary.json").read_text())
    parity = summary["parity"]
    assert parity["comparable"] >= 10, summary
    assert parity["equal"] == parity["kept_equal"] == parity["comparable"]
    # The bag is data alone: no topic of it is unknown to the other distribution.
    topics = run_on(
        replayed_on,
        "-c",
        "import sys; from vla_pruner_ros.bags.reader import BagReader\n"
        "with BagReader(sys.argv[1]) as r:\n"
        "    print(sum(r.decode(m) is not None for m in r.messages(set(r.topics))), r.damage)",
        bag,
    )
    assert int(topics.split()[0]) > 60
    assert topics.strip().endswith("[]")
