"""The real process with a bundled policy, under faults from outside, judged from outside.

    python -m vla_pruner_lab.reliability.process_soak --minutes 10 --json process_soak.json

Each fault ends motion; the time from the fault to the first stop or zero twist is the stop's
latency. After each, the arm has to move again. Memory is that of the process.
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import random
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vla_pruner_lab.common.program import POSITIVE, lab_program
from vla_pruner_lab.reliability.outside import (
    ACTIVATE,
    CLEANUP,
    CONFIGURE,
    DEACTIVATE,
    Outside,
)
from vla_pruner_ros.bringup.processes import find_executable

PROGRAM = lab_program("reliability.process_soak", __doc__, "--minutes 2 --seed 1")
JOINTS = 9
MAX_TRANSLATION = 0.05
GOES_ON = ("~/reset", "process frozen for 1 s")
"""Faults after which the arm moves on by itself, once it has stopped."""
REST = 0.7
"""Seconds without motion that count as rest: pauses between two actions are shorter."""
SLACK = 0.25
"""Seconds a message may be late on a busy machine."""


class ProcessSoak:
    """A node process, the world it sees, and what it did wrong.

    latencies: seconds by fault. violations: sentences. memory: (seconds since start,
    MiB, process id).
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self.violations: list[str] = []
        self.memory: list[tuple[float, float, int]] = []
        self.sends = {"images", "joints", "pose"}
        self.pose_age = 0.0
        self.started = time.monotonic()
        self.outside = Outside(cameras=("image_raw", "gripper/image_raw"))
        self._clock = self._make_clock()
        self.process = self._start()

    # --- The world ------------------------------------------------------------------------------

    def _make_clock(self) -> mmap.mmap | None:
        source = Path(__file__).with_name("clock_shim.c")
        command = ["cc", "-shared", "-fPIC", "-O2", str(source), "-o", str(self.folder / "shim.so")]
        try:
            subprocess.run([*command, "-ldl"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        offset = self.folder / "offset"
        offset.write_bytes(bytes(8))
        with offset.open("r+b") as file:
            return mmap.mmap(file.fileno(), 8)

    def step_clock(self, seconds: float) -> None:
        if self._clock is not None:
            self._clock[:] = struct.pack("<q", round(seconds * 1e9))

    def _start(self) -> subprocess.Popen:
        given = {
            "checkpoint": "openvla_oft_small",
            "image_topics": "['image_raw','gripper/image_raw']",
            "instruction": "close the drawer",
            "workspace": "[-2.0,-2.0,-2.0,2.0,2.0,2.0]",
            "max_translation": MAX_TRANSLATION,
        }
        command = [find_executable("vla_pruner_node"), "--ros-args"]
        command += ["-r", f"__node:={self.outside.name}"]
        for name, value in given.items():
            command += ["-p", f"{name}:={value}"]
        environment = dict(os.environ)
        if self._clock is not None:
            environment["LD_PRELOAD"] = str(self.folder / "shim.so")
            environment["CLOCK_SHIM"] = str(self.folder / "offset")
        with (self.folder / "node.log").open("a") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def bring_up(self) -> None:
        self._require(self.outside.change_state(CONFIGURE, 300.0), "configure failed")
        self._require(self.outside.change_state(ACTIVATE), "activate failed")
        self.outside.start_camera(10.0, self._send)
        self.outside.until_moving()

    def _send(self) -> None:
        if "joints" in self.sends:
            self.outside.send_joint_state(JOINTS)
        if "pose" in self.sends:
            self.outside.send_pose((0.0, 0.0, 0.3), self.pose_age)

    def close(self) -> None:
        self.outside.stop_camera()
        self.process.kill()
        self.process.wait()
        self.outside.close()

    # --- Faults ---------------------------------------------------------------------------------

    def faults(self) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
        """Return what begins and what ends each fault."""
        outside, nothing = self.outside, lambda: None

        def without(what: str) -> tuple[Callable[[], None], Callable[[], None]]:
            return lambda: self.sends.discard(what), lambda: self.sends.add(what)

        def restart(number: int) -> None:
            self.process.send_signal(number)
            self._require(self.process.wait(30.0) == 0, f"signal {number}: not in order")

        def again() -> None:
            outside.stop_camera()
            self.process = self._start()
            self.bring_up()

        def freeze() -> None:
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            self.process.send_signal(signal.SIGCONT)

        return {
            "cameras fall silent": (outside.stop_camera, self._camera_on),
            "joint states fall silent": without("joints"),
            "pose falls silent": without("pose"),
            "pose repeated with an old stamp": (lambda: self._pose_age(5.0), self._pose_now),
            "stamps 30 s old": (lambda: self._offset(-30.0), lambda: self._offset(0.0)),
            "stamps 30 s in the future": (lambda: self._offset(30.0), lambda: self._offset(0.0)),
            "clock of the computer set back 20 s": (lambda: self._step(-20.0), self._step_back),
            "empty instruction": (lambda: outside.say(""), self._instruct),
            "instruction of 1001 characters": (lambda: outside.say("x" * 1001), self._instruct),
            "~/reset": (outside.reset, nothing),
            "deactivate": (lambda: outside.change_state(DEACTIVATE), self._activate),
            "deactivate, clean up": (self._down, self._up),
            "process frozen for 1 s": (freeze, nothing),
            "SIGTERM": (lambda: restart(signal.SIGTERM), again),
            "SIGHUP": (lambda: restart(signal.SIGHUP), again),
        }

    def inject(self, name: str) -> None:
        """Inject one fault while the arm moves; measure and judge."""
        begin, end = self.faults()[name]
        outside = self.outside
        outside.until_moving()
        time.sleep(self.random.uniform(0.2, 0.6))
        began = time.monotonic()
        begin()
        goes_on = name in GOES_ON
        try:
            outside.until(
                lambda: self._first_stop(began) if goes_on else self._rests(began),
                f"{name}: a stop",
                10.0,
            )
            rest = self._first_stop(began) if goes_on else self._rests(began)
            self.latencies[name].append(max(0.0, rest - began))
            first = self._first_stop(began)
            later = [s for s in outside.seen if first and s.moves and s.at > first + SLACK]
            if later and not goes_on:
                self.violations.append(f"{name}: {len(later)} motions after the stop")
        except AssertionError as error:
            self.violations.append(str(error))
        end()
        try:
            outside.until_moving(20.0)
        except AssertionError:
            self.violations.append(f"{name}: no motion again; {outside.sentences[-1:]}")
        self._judge_actions()

    def _first_stop(self, began: float) -> float | None:
        """Return when the first stop came after a time, None if there was none."""
        return next((s.at for s in self.outside.stops(began)), None)

    def _rests(self, began: float) -> float | None:
        """Return when the arm came to rest for REST seconds after a time, None if it did not."""
        recent = [s for s in self.outside.seen if s.at > began - 1.0]
        moved = max((s.at for s in recent if s.moves), default=began)
        if time.monotonic() - max(began, moved) < REST or self.outside.moving_twist_stands():
            return None
        # It may have rested between two actions already, with no other to come.
        return next((s.at for s in recent if not s.moves and s.at > max(began, moved)), began)

    def _judge_actions(self) -> None:
        seen, self.outside.seen[:-500] = list(self.outside.seen), []
        for one in seen:
            if one.kind == "action" and one.moves:
                t = one.message.translation
                if np.linalg.norm([t.x, t.y, t.z]) > MAX_TRANSLATION + 1e-9:
                    self.violations.append("an action beyond max_translation")
        twists = [s for s in seen if s.kind == "twist"]
        for one, after in pairwise(twists):
            if one.moves and after.at - one.at > 0.1 + 1.5:
                self.violations.append(f"a twist stood for {after.at - one.at:.2f} s")

    def note_memory(self) -> None:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))
        self.memory.append((time.monotonic() - self.started, kib / 1024, self.process.pid))

    def _require(self, is_so: bool, sentence: str) -> None:
        if not is_so:
            self.violations.append(sentence)

    def _camera_on(self) -> None:
        self.outside.start_camera(10.0, self._send)

    def _pose_age(self, age: float) -> None:
        self.pose_age = age

    def _pose_now(self) -> None:
        self.pose_age = 0.0

    def _offset(self, seconds: float) -> None:
        self.outside.clock_offset = seconds

    def _step(self, seconds: float) -> None:
        self.step_clock(seconds)

    def _step_back(self) -> None:
        self.step_clock(0.0)

    def _instruct(self) -> None:
        self.outside.say("close the drawer")

    def _activate(self) -> None:
        self._require(self.outside.change_state(ACTIVATE), "activate failed")

    def _down(self) -> None:
        self._require(self.outside.change_state(DEACTIVATE), "deactivate failed")
        self._require(self.outside.change_state(CLEANUP), "clean-up failed")

    def _up(self) -> None:
        self._require(self.outside.change_state(CONFIGURE, 300.0), "configure failed")
        self._activate()


def run(minutes: float, seed: int, one_life: bool = False) -> dict[str, Any]:
    """Inject faults in random order for so many minutes; return the report.

    Args:
        minutes: wall time.
        seed: of the order.
        one_life: leave out the faults that end the process, to see its memory over time.
    """
    with tempfile.TemporaryDirectory() as folder:
        soak = ProcessSoak(Path(folder), seed)
        try:
            soak.bring_up()
            end, names = soak.started + 60.0 * minutes, []
            while time.monotonic() < end and soak.process.poll() is None:
                if not names:
                    names = [n for n in soak.faults() if not (one_life and n.startswith("SIG"))]
                    soak.random.shuffle(names)
                soak.inject(names.pop())
                soak.note_memory()
            soak._require(soak.process.poll() is None, "the node ended by itself")
            return _report(soak)
        finally:
            soak.close()


def _report(soak: ProcessSoak) -> dict[str, Any]:
    return {
        "command": " ".join(["python -m vla_pruner_lab.reliability.process_soak", *sys.argv[1:]]),
        "wall_minutes": (time.monotonic() - soak.started) / 60.0,
        "date": date.today().isoformat(),
        "load": os.getloadavg(),
        "violations": soak.violations,
        "memory_mib": soak.memory,
        "latencies": dict(soak.latencies),
    }


def table(report: dict[str, Any]) -> str:
    """Return the stop latencies as a Markdown table, in seconds."""
    lines = ["| cause | stops | median | 99th percentile | longest |", "|---|---:|---:|---:|---:|"]
    everything = [one for many in report["latencies"].values() for one in many]
    for name, many in [*sorted(report["latencies"].items()), ("all", everything)]:
        high, longest = np.percentile(many, 99), max(many)
        lines.append(
            f"| {name} | {len(many)} | {statistics.median(many):.2f} | {high:.2f} | {longest:.2f} |"
        )
    return "\n".join(lines)


def memory_table(report: dict[str, Any]) -> str:
    """Return the memory of the longest life of the process as a Markdown table."""
    lives: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at, mib, pid in report["memory_mib"]:
        lives[pid].append((at, mib))
    longest = max(lives.values(), key=lambda life: life[-1][0] - life[0][0])
    points = longest[:: max(1, len(longest) // 8)]
    cells = [(f"{at - longest[0][0]:.0f}", f"{mib:.0f}") for at, mib in points]
    return "\n".join(["| seconds | MiB |", "|---:|---:|", *(f"| {a} | {m} |" for a, m in cells)])


def page(report: dict[str, Any]) -> str:
    """Return docs/reference/process_soak.md."""
    loads = ", ".join(f"{load:.0f}" for load in report["load"])
    return "\n".join(
        [
            "# Soak of the real process",
            "",
            "Generated by the command below; do not edit.",
            "",
            f"    {report['command']}",
            "",
            f"Machine: {os.cpu_count()}-core {platform.machine()}, Python "
            f"{platform.python_version()}, {report['date']}; load averages at the end: {loads}.",
            "",
            f"The process ran for {report['wall_minutes']:.0f} minutes with the bundled policy",
            "openvla_oft_small, two cameras, joint states, a pose and a workspace. Another process",
            "injected each fault and received what the node sent. After every",
            "fault the arm had to move again.",
            "",
            "A stop's latency is the time in seconds from the fault to the first stop or zero",
            "twist that was received. A silence is noticed 0.5 s after the last message.",
            "",
            table(report),
            "",
            "Violations (limits, motion after a stop, no motion again): "
            f"{len(report['violations'])}.",
            "",
            *(f"- {sentence}" for sentence in report["violations"]),
            "Resident memory of the process in the longest of its lives:",
            "",
            memory_table(report),
            "",
        ]
    )


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--minutes", type=POSITIVE, default=10.0, help="of running")
    parser.add_argument("--seed", type=int, default=0, help="of the order of faults")
    parser.add_argument("--one-life", action="store_true", help="never end the process")
    parser.add_output("--json", help="where the report goes")
    parser.add_argument("--markdown", type=Path, help="write docs/reference/process_soak.md here")
    parser.add_argument("--report", type=Path, help="do not run: read this --json of earlier")
    options = parser.parse_args(arguments)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if options.report:
        report = json.loads(options.report.read_text())
    else:
        report = run(options.minutes, options.seed, options.one_life)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.markdown:
        options.markdown.write_text(page(report))
    print(table(report))
    print("violations:", report["violations"] or "none")
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
