"""The log file of a node: what it holds, who writes it, and a disk that hangs under it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from process_helpers import (
    DISK_SHIM,
    WAIT,
    compile_shared,
    log_stop_and_end,
    moving_subject,
    subject,
)

from vla_pruner_ros.nodes.process.log_file import log_directory, without_file_of_rcl


@pytest.mark.parametrize("opens", [{}, {"DISK_SHIM_OPENS": "1"}], ids=["writing", "opening"])
def test_a_hanging_disk_under_the_log_stops_nothing(tmp_path, opens):
    """rcl wrote its log inside the logging call; the whole process froze with the disk."""
    directory = tmp_path / "log"
    directory.mkdir()
    environment = {
        "LD_PRELOAD": str(compile_shared(DISK_SHIM, tmp_path / "disk_shim.so")),
        "DISK_SHIM": str(directory),
        "ROS_LOG_DIR": str(directory),
        **opens,
    }
    with moving_subject(environment) as (outside, process):
        log_stop_and_end(outside, process, 30)


def test_a_node_writes_one_log_file(tmp_path):
    environment = {"ROS_LOG_DIR": str(tmp_path / "log"), "RCUTILS_COLORIZED_OUTPUT": "1"}
    with subject(environment) as (outside, process):
        assert outside.set_parameter("seed", 7).successful
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
    (file,) = (tmp_path / "log").iterdir()
    assert file.name.startswith(f"vla_pruner_node_{process.pid}_")
    assert f"[{outside.name}]: Parameter seed is now 7\n" in file.read_text()
    assert "\x1b" not in file.read_text()


def test_the_arguments_of_a_person_come_first():
    off = ["--ros-args", "--disable-external-lib-logs"]
    assert without_file_of_rcl(["node"]) == ["node", *off]
    asked = ["node", "--ros-args", "--enable-external-lib-logs"]
    assert without_file_of_rcl(asked) == asked


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ROS_LOG_DIR": "/a", "ROS_HOME": "/b"}, "/a"),
        ({"ROS_LOG_DIR": "", "ROS_HOME": "/b"}, "/b/log"),
        ({"ROS_HOME": ""}, "/home/me/.ros/log"),
    ],
)
def test_the_directory_is_that_of_rcl(monkeypatch, variables, expected):
    for name in ("ROS_LOG_DIR", "ROS_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert str(log_directory()) == expected


UNREAD = """
import os, sys
from pathlib import Path
from vla_pruner_ros.nodes.process.log_file import LogFile
from vla_pruner_ros.nodes.process.terminal import OutputRelay
OutputRelay(LogFile(Path(sys.argv[1]))).start()
for number in range(100):
    print("x" * 1000, number)
"""


def test_the_file_is_complete_though_nobody_reads_the_terminal(tmp_path):
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-c", UNREAD, str(tmp_path)]
        assert subprocess.run(command, stdout=writing, stderr=writing, timeout=60).returncode == 0
    finally:
        os.close(reading)
        os.close(writing)
    (file,) = tmp_path.iterdir()
    assert [line.split()[1] for line in file.read_text().splitlines()] == list(map(str, range(100)))


def test_a_directory_that_cannot_be_made_costs_the_file_alone(tmp_path):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-c", UNREAD, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 100
