"""A bring-up with the node that it started, the sensors around it, and a clock that can step."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from vla_pruner_lab.reliability.outside import ACTIVATE, CONFIGURE, Outside
from vla_pruner_ros.bringup.processes import find_executable
from vla_pruner_ros.robots import load_profile

CHECKPOINT, INSTRUCTION = "openvla_oft_small", "close the drawer"
MAX_TRANSLATION = 0.05
CAMERAS = ("image_raw", "gripper/image_raw")
NOT_A_NUMBER = float("nan")

_TERMINAL_BYTES = 4096
"""Size of the pipe that stands for a terminal: full after a few lines."""


class ProcessWorld:
    """The process under test and what it sees.

    sends: what the sensors send. violations: sentences about what went wrong. frozen: seconds for
    which the node was frozen. pose_stamp: of every pose, None for the present time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.violations: list[str] = []
        self.sends = {"images", "joints", "pose"}
        self.frozen = 0.0
        self.pose_age = self.joint_age = 0.0
        self.pose_height, self.joint_position = 0.3, 0.1
        self.pose_stamp: Any = None
        space = f"soak_{os.getpid()}"
        self._joints = load_profile("metaworld").needed_joints
        self.outside = Outside(f"{space}/vla_pruner", CAMERAS, space)
        self._space = space
        self._clock = self._make_clock()
        self.is_read = threading.Event()
        """Set while someone reads the terminal."""
        self.is_read.set()
        self.bring_up, self.node = None, 0

    def start(self) -> None:
        """Start the bring-up; the node moves on return."""
        self.bring_up = self._start()
        self.outside.until(self._child, "the node's process")
        self.node = self._child()
        self.outside.until(self._is_active, "the activation", 300.0)
        self.camera_on()
        self.outside.until_moving()

    def stop(self, number: int, of_node: bool) -> None:
        """Send a signal to the node or its bring-up."""
        assert self.bring_up is not None
        os.kill(self.node if of_node else self.bring_up.pid, number)

    def until_ended(self, code: int) -> None:
        """Wait until both processes have ended; the bring-up's exit code is checked."""
        assert self.bring_up is not None
        try:
            ended = self.bring_up.wait(30.0)
        except subprocess.TimeoutExpired:
            self.bring_up.kill()
            ended = None
        self.require(ended == code, f"the bring-up's exit code was {ended}, not {code}")
        try:
            self.outside.until(lambda: not is_alive(self.node), "the end of the node")
        except AssertionError as error:
            self.violations.append(str(error))
            os.kill(self.node, signal.SIGKILL)

    def close(self) -> None:
        """End all processes that were started."""
        self.outside.stop_camera()
        if self.bring_up is not None:
            self.bring_up.kill()  # the node ends with it
            self.bring_up.wait()
            with suppress(AssertionError):
                self.outside.until(lambda: not is_alive(self.node), "the end of the node")
            if is_alive(self.node):
                os.kill(self.node, signal.SIGKILL)
        self.is_read.set()
        self.outside.close()

    def memory(self) -> float:
        """Return the resident memory of the node in MiB."""
        text = Path(f"/proc/{self.node}/status").read_text()
        lines = (line.split() for line in text.splitlines())
        return next(int(words[1]) for words in lines if words[0] == "VmRSS:") / 1024

    def step_clock(self, seconds: float) -> None:
        """Step the wall clock of the node's process to so many seconds off."""
        if self._clock is not None:
            self._clock[:] = struct.pack("<q", round(seconds * 1e9))

    def camera_on(self) -> None:
        """Publish images and states ten times a second."""
        self.outside.start_camera(10.0, self._send)

    def require(self, is_so: bool, sentence: str) -> None:
        """Store the sentence as a violation unless it is so."""
        if not is_so:
            self.violations.append(sentence)

    def activate(self) -> None:
        """Activate the node; a failure is a violation."""
        self.require(self.outside.change_state(ACTIVATE), "activate failed")

    def configure(self) -> None:
        """Configure the node; a failure is a violation."""
        self.require(self.outside.change_state(CONFIGURE, 300.0), "configure failed")

    def _send(self) -> None:
        if "joints" in self.sends:
            self.outside.send_joint_state(self._joints, self.joint_age, self.joint_position)
        if "pose" in self.sends:
            place = (0.0, 0.0, self.pose_height)
            self.outside.send_pose(place, self.pose_age, self.pose_stamp)

    def _is_active(self) -> bool:
        assert self.bring_up is not None
        if self.bring_up.poll() is not None:
            raise RuntimeError(f"the bring-up ended; see {self.folder}/node.log")
        with suppress(AssertionError):
            return self.outside.state() == "active"
        return False

    def _child(self) -> int:
        assert self.bring_up is not None
        children = Path(f"/proc/{self.bring_up.pid}/task/{self.bring_up.pid}/children")
        return next(map(int, children.read_text().split()), 0)

    def _make_clock(self) -> mmap.mmap | None:
        source = Path(__file__).parents[1] / "clock_shim.c"
        command = ["cc", "-shared", "-fPIC", "-O2", str(source), "-o", str(self.folder / "shim.so")]
        try:
            subprocess.run([*command, "-ldl"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        offset = self.folder / "offset"
        offset.write_bytes(bytes(8))
        with offset.open("r+b") as file:
            return mmap.mmap(file.fileno(), 8)

    def _start(self) -> subprocess.Popen:
        settings = {
            "checkpoint": CHECKPOINT,
            "image_topics": list(CAMERAS),
            "instruction": INSTRUCTION,
            "workspace": [-2.0, -2.0, -2.0, 2.0, 2.0, 2.0],
            "max_translation": MAX_TRANSLATION,
        }
        file = self.folder / "node.yaml"
        file.write_text(yaml.safe_dump({"/**/vla_pruner": {"ros__parameters": settings}}))
        command = [find_executable("vla_pruner_bringup"), f"params_file:={file}"]
        command += [f"namespace:={self._space}"]
        environment = dict(os.environ)
        if self._clock is not None:
            environment["LD_PRELOAD"] = str(self.folder / "shim.so")
            environment["CLOCK_SHIM"] = str(self.folder / "offset")
        reading, writing = os.pipe()
        fcntl.fcntl(writing, 1031, _TERMINAL_BYTES)  # F_SETPIPE_SZ
        threading.Thread(target=self._read, args=(reading,), daemon=True).start()
        process = subprocess.Popen(command, env=environment, stdout=writing, stderr=writing)
        os.close(writing)
        return process

    def _read(self, terminal: int) -> None:
        """Keep what is written to the terminal, as long as someone reads it."""
        with (self.folder / "node.log").open("ab", buffering=0) as log:
            while True:
                self.is_read.wait()
                data = os.read(terminal, 4096)
                if not data:
                    os.close(terminal)
                    return
                log.write(data)


def is_alive(process: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def burn(seconds: float, count: int) -> list[subprocess.Popen]:
    """Keep so many processors busy."""
    end = time.time() + seconds
    script = f"import time\nwhile time.time() < {end}: pass"
    return [subprocess.Popen([sys.executable, "-c", script]) for _ in range(count)]
