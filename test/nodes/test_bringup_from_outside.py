"""The bring-up is terminated or killed, while it loads and while the arm moves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from lifecycle_msgs.msg import TransitionEvent
from process_helpers import ACTIVATE, CONFIGURE, WAIT, Outside, arguments

from vla_pruner_ros.bringup.processes import find_executable

SLOW_LOAD = """
import sys, time
from vla_pruner_ros.models.cancellation import check_cancelled
from vla_pruner_ros.nodes.spin import run_node
from vla_pruner_ros.nodes.vla_pruner.node import VlaPrunerNode

def load(settings):
    for _ in range(600):
        time.sleep(0.1)
        check_cancelled()
    raise RuntimeError("nobody cancelled")

sys.exit(run_node(lambda: VlaPrunerNode(load=load)))
"""


class BringUp:
    """A bring-up in a namespace of its own, with what it started and an observer."""

    def __init__(self, folder: Path, slow: bool) -> None:
        namespace = f"bringup_{os.getpid()}_{time.monotonic_ns()}"
        self.outside = Outside(f"{namespace}/vla_pruner")
        self.states: list[str] = []
        self.events = self.outside.node.create_subscription(
            TransitionEvent,
            f"/{namespace}/vla_pruner/transition_event",
            lambda message: self.states.append(message.goal_state.label),
            10,
        )
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
        if slow:  # the executable found first on PATH is one that loads for long
            script = folder / "vla_pruner_node"
            script.write_text(f"#!{sys.executable}\n{SLOW_LOAD}")
            script.chmod(0o755)
            environment["PATH"] = f"{folder}:{environment['PATH']}"
        command = [find_executable("vla_pruner_bringup"), "checkpoint:=untrained"]
        command += [f"namespace:={namespace}", "instruction:=push"]
        command += [f"image_topic:=/{namespace}/unused"] if slow else ["image_topic:=/image_raw"]
        self.process = subprocess.Popen(command, env=environment)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in path.read_text().split()]

    def until_state(self, state: str) -> None:
        """Wait until the node is in a state and every later transition will be heard.

        The first transition is asked for so early that its event may have come before the
        subscription did.
        """
        heard = self.outside.node.count_publishers
        self.outside.until(lambda: heard(self.events.topic_name), "the node's events", 2 * WAIT)
        self.outside.until(lambda: self.outside.state() == state, state, 2 * WAIT)

    def close(self, children: list[int]) -> None:
        self.process.kill()
        self.process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.outside.close()


@contextmanager
def bring_up(folder: Path, slow: bool):
    made, children = BringUp(folder, slow), []
    try:
        made.outside.until(made.children, "a child")
        children += made.children()
        yield made, children
    finally:
        made.close(children)


def is_alive(child: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_load_ends_everything_and_activates_nothing(tmp_path, number):
    """It was deaf until the checkpoint had loaded, then activated the node, then stopped it."""
    with bring_up(tmp_path, slow=True) as (made, children):
        made.until_state("configuring")
        begun = time.monotonic()
        made.process.send_signal(number)
        assert made.process.wait(WAIT) == 0
        assert time.monotonic() - begun < 15.0
        assert not any(map(is_alive, children))
        assert not {"activating", "active"} & set(made.states)


def test_a_node_that_dies_during_the_load_ends_the_bring_up(tmp_path):
    """It waited 10 minutes for the answer."""
    with bring_up(tmp_path, slow=True) as (made, children):
        made.until_state("configuring")
        os.kill(children[0], signal.SIGKILL)
        killed = time.monotonic()
        assert made.process.wait(WAIT) == 1
        assert time.monotonic() - killed < 15.0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_motion_ends_with_the_bring_up(tmp_path, number):
    """The arm went on: the terminal's end and SIGKILL ended the bring-up alone."""
    with bring_up(tmp_path, slow=False) as (made, children):
        made.until_state("active")
        made.outside.start_camera()
        made.outside.until_moving()
        made.process.send_signal(number)
        made.process.wait(WAIT)
        made.outside.until(lambda: not any(map(is_alive, children)), "the end of the node")
        made.outside.until(lambda: made.outside.moving_twist_stands() == 0.0, "no motion")
        last = time.monotonic()
        made.outside.show()
        assert not made.outside.motions(last)


LAUNCH = """
import os, subprocess, sys, time
environment = {**os.environ, "VLA_PRUNER_END_WITH": str(os.getpid())}
print(subprocess.Popen(sys.argv[1:], env=environment).pid, flush=True)
time.sleep(600)
"""
"""A stand-in for ros2 launch: it starts a node as bringup.launch.py does."""


def test_motion_ends_with_the_launch_system():
    """ros2 launch leaves its nodes running if it is killed; the arm went on."""
    outside = Outside()
    command = [sys.executable, "-c", LAUNCH, *arguments(outside.name)]
    launch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    node = int(launch.stdout.readline())
    try:
        assert outside.change_state(CONFIGURE)
        assert outside.change_state(ACTIVATE)
        outside.start_camera()
        outside.until_moving()
        killed = time.monotonic()
        launch.kill()
        launch.wait()
        outside.until(lambda: not is_alive(node), "the end of the node")
        outside.until(lambda: outside.stops(killed), "the stop")
        assert not outside.motions(outside.stops(killed)[-1].at)
        assert outside.moving_twist_stands() == 0.0
    finally:
        launch.kill()
        launch.wait()
        with suppress(ProcessLookupError):
            os.kill(node, signal.SIGKILL)
        outside.close()


ORPHAN = """
import os, signal, sys, threading
from vla_pruner_ros.nodes.process.parent import end_with_launch
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
end_with_launch()
sys.exit(0 if told.wait(1.0) else 3)
"""


@pytest.mark.parametrize(("variable", "code"), [("gone", 0), ("", 3), ("here", 3)])
def test_a_node_whose_launch_system_is_gone_already_ends(variable, code):
    ended = subprocess.Popen(["true"])
    ended.wait()
    value = {"gone": str(ended.pid), "here": str(os.getpid())}.get(variable, "")
    environment = {**os.environ, "VLA_PRUNER_END_WITH": value}
    command = [sys.executable, "-c", ORPHAN]
    assert subprocess.run(command, env=environment, timeout=60).returncode == code
