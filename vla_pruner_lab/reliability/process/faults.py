"""Faults that are done to the real process from outside, and how each is undone."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from vla_pruner_lab.reliability.outside import CLEANUP, CONFIGURE, DEACTIVATE
from vla_pruner_lab.reliability.process.world import (
    CHECKPOINT,
    INSTRUCTION,
    NOT_A_NUMBER,
    ProcessWorld,
    burn,
)


def nothing() -> None:
    """Undo nothing: the arm goes on by itself."""


@dataclass(frozen=True)
class Fault:
    """A fault: what begins it and what ends it.

    begin: may return the moment of the cause, if it is not the moment of the call. stops: the arm
    has to stop. goes_on: it moves again by itself. ends_life: a process ends.
    ends_twist: it is enough if any message ends the twist that stood, as fresh inputs may be there.
    """

    begin: Callable[[], object]
    end: Callable[[], object] = nothing
    stops: bool = True
    goes_on: bool = False
    ends_life: bool = False
    ends_twist: bool = False


def faults(world: ProcessWorld) -> dict[str, Fault]:
    """Return all faults by name."""
    return {**_inputs(world), **_clocks(world), **_requests(world), **_processes(world)}


def _inputs(world: ProcessWorld) -> dict[str, Fault]:
    outside = world.outside

    def without(what: str) -> Fault:
        return Fault(lambda: world.sends.discard(what), lambda: world.sends.add(what))

    def wrong(owner: object, name: str, value: object, good: object, stops: bool = True) -> Fault:
        return Fault(lambda: setattr(owner, name, value), lambda: setattr(owner, name, good), stops)

    def stick() -> None:
        world.pose_stamp = outside.stamp(-0.4)

    numbers = itertools.count()

    def forge() -> None:
        for _ in range(20):
            outside.frame_id = f"camera\n[INFO] [1.0] [vla_pruner]: all is well {next(numbers)}"
            time.sleep(0.05)

    return {
        "cameras fall silent": Fault(outside.stop_camera, world.camera_on),
        "images repeated with an old stamp": wrong(outside, "image_age", 5.0, 0.0),
        "images of an unknown encoding": wrong(outside, "encoding", "nv99", "rgb8"),
        "forged frame names": Fault(forge, lambda: setattr(outside, "frame_id", ""), stops=False),
        "joint states fall silent": without("joints"),
        "joint states repeated with an old stamp": wrong(world, "joint_age", 5.0, 0.0),
        "joint states that are no numbers": wrong(world, "joint_position", NOT_A_NUMBER, 0.1),
        "pose falls silent": without("pose"),
        "pose repeated with an old stamp": wrong(world, "pose_age", 5.0, 0.0),
        "pose stuck on a stamp 0.4 s ahead": Fault(
            stick, lambda: setattr(world, "pose_stamp", None)
        ),
        "pose that is no number": wrong(world, "pose_height", NOT_A_NUMBER, 0.3),
        "stamps 30 s old": wrong(outside, "clock_offset", -30.0, 0.0),
        "stamps 30 s in the future": wrong(outside, "clock_offset", 30.0, 0.0),
    }


def _clocks(world: ProcessWorld) -> dict[str, Fault]:
    def step(seconds: float) -> Fault:
        return Fault(lambda: world.step_clock(seconds), lambda: world.step_clock(0.0))

    return {
        "clock of the computer set back 20 s": step(-20.0),
        "clock of the computer set forward 1 h": step(3600.0),
    }


class _Requests:
    """Requests to the node that come at a wrong time, race one another or have to be refused."""

    def __init__(self, world: ProcessWorld) -> None:
        self.world, self.outside = world, world.outside

    def down(self) -> None:
        self.world.require(self.outside.change_state(DEACTIVATE), "deactivate failed")
        self.world.require(self.outside.change_state(CLEANUP), "clean-up failed")

    def up(self) -> None:
        self.world.configure()
        self.world.activate()

    def bad_checkpoint(self) -> None:
        self.down()
        self.outside.set_parameter("checkpoint", "/dev/zero")
        self.world.require(not self.outside.change_state(CONFIGURE), "configured from /dev/zero")
        self.outside.set_parameter("checkpoint", CHECKPOINT)

    def race(self) -> float:
        """Send four deactivations at once; return when they were sent (s)."""
        outside = self.outside
        client = outside.node.create_client(ChangeState, f"/{outside.name}/change_state")
        outside.until(client.service_is_ready, "the service")
        began = time.monotonic()
        request = ChangeState.Request(transition=Transition(id=DEACTIVATE))
        answers = [client.call_async(request) for _ in range(4)]
        outside.until(lambda: all(answer.done() for answer in answers), "an answer to each")
        outside.node.destroy_client(client)
        done = sum(answer.result().success for answer in answers)
        self.world.require(done == 1, f"{done} of 4 racing transitions succeeded")
        return began

    def misfits(self) -> None:
        for wrong in (CONFIGURE, CLEANUP, 77):
            refused = not self.outside.change_state(wrong)
            self.world.require(refused, f"transition {wrong} while active")

    def parameters(self) -> None:
        for number in range(40):
            self.outside.set_parameter("seed", number)
            self.outside.set_parameter("max_translation", 2.0 + number)  # refused

    def unread(self) -> float:
        """Fill the terminal that nobody reads, deactivate; return when that was requested (s)."""
        self.world.is_read.clear()
        self.parameters()
        began = time.monotonic()
        self.outside.change_state(DEACTIVATE)
        return began

    def read(self) -> None:
        self.world.is_read.set()
        self.world.activate()


def _requests(world: ProcessWorld) -> dict[str, Fault]:
    do, outside = _Requests(world), world.outside

    def saying(text: str) -> Fault:
        return Fault(lambda: outside.say(text), lambda: outside.say(INSTRUCTION))

    return {
        "empty instruction": saying(""),
        "instruction of 1001 characters": saying("x" * 1001),
        "instruction beyond the model's context": saying("\N{CJK UNIFIED IDEOGRAPH-5B57}" * 1000),
        "~/reset": Fault(outside.reset, goes_on=True),
        "deactivate": Fault(lambda: outside.change_state(DEACTIVATE), world.activate),
        "deactivate, clean up": Fault(do.down, do.up),
        "deactivate, configure from /dev/zero": Fault(do.bad_checkpoint, do.up),
        "four deactivations at once": Fault(do.race, world.activate),
        "transitions that do not fit": Fault(do.misfits, stops=False),
        "80 parameters, half of them refused": Fault(do.parameters, stops=False),
        "deactivate while nobody reads the terminal": Fault(do.unread, do.read),
    }


def _processes(world: ProcessWorld) -> dict[str, Fault]:
    def ending(number: int, of_node: bool, code: int, begin: Callable | None = None) -> Fault:
        def end() -> None:
            world.until_ended(code)
            world.outside.stop_camera()
            world.start()

        return Fault(begin or (lambda: world.stop(number, of_node)), end, ends_life=True)

    def end_when_stopped() -> float:
        world.stop(signal.SIGSTOP, of_node=True)
        world.stop(signal.SIGTERM, of_node=True)
        goes_on = time.monotonic()
        world.stop(signal.SIGCONT, of_node=True)
        return goes_on

    def freeze() -> None:
        began = time.monotonic()
        world.stop(signal.SIGSTOP, of_node=True)
        time.sleep(1.0)
        world.stop(signal.SIGCONT, of_node=True)
        world.frozen = time.monotonic() - began

    def thaw() -> None:
        world.frozen = 0.0

    def starve() -> None:
        for process in burn(2.0, 4):
            process.wait()

    return {
        "process frozen for 1 s": Fault(freeze, thaw, goes_on=True, ends_twist=True),
        "four busy processes on two cores": Fault(starve, stops=False),
        "SIGINT": ending(signal.SIGINT, True, 1),
        "SIGTERM": ending(signal.SIGTERM, True, 1),
        "SIGHUP": ending(signal.SIGHUP, True, 1),
        "SIGTERM while stopped": ending(signal.SIGTERM, True, 1, end_when_stopped),
        "SIGTERM of the bring-up": ending(signal.SIGTERM, False, 0),
        "SIGHUP of the bring-up": ending(signal.SIGHUP, False, 0),
        "SIGKILL of the bring-up": ending(signal.SIGKILL, False, -signal.SIGKILL),
    }
