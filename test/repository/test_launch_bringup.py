"""launch/bringup.launch.py under the real launch system, where that is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed: no launch file can be run")
pytest.importorskip("metaworld", reason="MetaWorld is not installed: there is no robot to simulate")
if shutil.which("ros2") is None:
    pytest.skip("the ros2 command is not installed", allow_module_level=True)

from vla_pruner_ros.bringup.client import PolicyClient


@pytest.fixture
def launched(tmp_path):
    """Launch with the simulated robot; returns (process, log)."""
    log = tmp_path / "launch.log"
    command = ["ros2", "launch", "vla_pruner_ros", "bringup.launch.py", "sim:=true",
               "keep_ratio:=0.5", "instruction:=close the drawer"]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process, log
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def test_node_becomes_active_with_the_arguments_and_ends_cleanly(launched):
    process, log = launched
    with PolicyClient("launch_test") as client:
        deadline = time.monotonic() + 60.0
        while client.state(60.0) != "active":
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
        with pytest.raises(ValueError, match="out of range"):
            client.set_parameter("keep_ratio", 7.0)
        client.set_parameter("keep_ratio", 0.25)
    # As Ctrl-C in a terminal does it: to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    process.wait(30.0)
    text = log.read_text()
    assert "process has died" not in text
    assert text.count("process has finished cleanly") == 2


def test_no_node_outlives_a_launch_that_is_killed(launched):
    process, log = launched
    with PolicyClient("launch_test") as client:
        deadline = time.monotonic() + 60.0
        while client.state(60.0) != "active":
            assert time.monotonic() < deadline, log.read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        process.kill()
        while any(Path(f"/proc/{child}/exe").exists() for child in children):
            assert time.monotonic() < deadline + 30.0, log.read_text()
            time.sleep(0.05)
