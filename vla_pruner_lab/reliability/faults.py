"""Faults around a node, one function a fault. After each the arm must move again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image

from vla_pruner_lab.reliability.bench import TestBench
from vla_pruner_ros.nodes.vla_pruner.inputs import NodeInputs

Fault = Callable[[TestBench, random.Random], None]

SILENCE = 0.5
"""The node's own limits on the age of images and joint states (s)."""

STORM: tuple[tuple[str, Any], ...] = (
    ("keep_ratio", 0.5), ("keep_ratio", 1), ("keep_ratio", -1.0), ("keep_ratio", "half"),
    ("token_budget", 3), ("token_budget", 0), ("method", "random"), ("method", "nobody"),
    ("method", "vla_pruner"), ("control_rate", 20.0), ("control_rate", 0.0), ("control_rate", 10.0),
    ("command_rate", 100.0), ("command_rate", 50.0), ("blend_steps", 2), ("blend_steps", 0),
    ("max_image_age", 0.4), ("max_image_age", 0.5), ("image_topics", ["elsewhere"]),
    ("checkpoint", "/etc"), ("temporal_window", 5), ("seed", -1),
)  # fmt: skip


def camera_drop_out(world: TestBench, rng: random.Random) -> None:
    """Stop the camera until the arm rests."""
    world.camera_on = False
    expect_rest(world, "frames stopped", lambda inputs: inputs.camera_ages()[0])
    world.camera_on = True


def joint_state_drop_out(world: TestBench, rng: random.Random) -> None:
    """Stop the joint states until the arm rests."""
    world.joints_on = False

    def age(inputs: NodeInputs) -> float | None:
        state = inputs.joint_state
        return None if state is None else time.monotonic() - state.arrival * 1e-9

    expect_rest(world, "joint states stopped", age)
    world.joints_on = True


def clock_jump(world: TestBench, rng: random.Random) -> None:
    """Set the simulated clock forward or back by 5 s to 10 min."""
    world.now += rng.choice((-600, -60, -5, 5, 60, 600)) * 10**9
    world.run(0.2)


def instruction_burst(world: TestBench, rng: random.Random) -> None:
    """Send 50 instructions at once, some of them hostile."""
    for number in range(50):
        hostile = ("", "\x00\x1b[2J", "x" * 5000, "\u202egnirts")
        world.instruct(rng.choice(hostile) if number % 5 == 0 else f"push button {number}")
    world.instruct(f"push button {rng.random()}")


def malformed_images(world: TestBench, rng: random.Random) -> None:
    """Send ten images whose fields do not fit each other."""
    for _ in range(10):
        encoding = rng.choice(("rgb8", "bgr8", "mono16", "32FC1", "nv99", "", "RGB8"))
        height, width = rng.choice((0, 1, 12, 2**31)), rng.choice((0, 16, 2**31))
        data = bytes(rng.choice((0, 1, 575, 4096)))
        image = Image(height=height, width=width, encoding=encoding, data=data)
        image.step = rng.choice((0, 1, 48, 2**32 - 1))
        world.step(image)


def malformed_joint_states(world: TestBench, rng: random.Random) -> None:
    """Send ten joint states with wrong names and numbers."""
    world.joints_on = False
    for _ in range(10):
        first, second, *_ = world.state_joints
        names = rng.choice(([first], [second, first], [], ["wheel"] * 3))
        world.send_joints(names, [rng.choice((0.0, float("nan"), 1e308))] * rng.randint(0, 3))
        world.step()
    world.joints_on = True


def parameter_storm(world: TestBench, rng: random.Random) -> None:
    """Set 20 parameters, some to values that are refused."""
    for _ in range(20):
        world.set_parameter(*rng.choice(STORM))
        world.step()
    world.set_parameter("control_rate", 10.0)


def reset_storm(world: TestBench, rng: random.Random) -> None:
    """Call ~/reset ten times."""
    for _ in range(10):
        world.reset()
        world.step()


def deactivation(world: TestBench, rng: random.Random) -> None:
    """Deactivate and activate the node."""
    world.change_state(Transition.TRANSITION_DEACTIVATE)
    world.run(0.1)
    world.change_state(Transition.TRANSITION_ACTIVATE)


def second_life(world: TestBench, rng: random.Random) -> None:
    """Deactivate, clean up, configure and activate the node."""
    world.change_state(Transition.TRANSITION_DEACTIVATE)
    world.change_state(Transition.TRANSITION_CLEANUP)
    world.change_state(Transition.TRANSITION_CONFIGURE)
    world.change_state(Transition.TRANSITION_ACTIVATE)


def policy_fault(fault: str, world: TestBench, rng: random.Random) -> None:
    """Make the policy fail in the named way for six inferences, or until the gate closes."""
    world.policy.fault = fault
    target = world.policy.inferences + 6  # beyond max_consecutive_failures: the hold comes, too
    world.until(lambda: world.policy.inferences >= target or not world.node.gate.is_open, 3.0)
    world.policy.fault = ""


def expect_rest(world: TestBench, what: str, age: Callable[[NodeInputs], float | None]) -> None:
    """Wait until the node's newest message is too old; from then on no action may be sent.

    age: of that message since it reached the node: on a busy machine it may do so late. What counts
    is what the node sends, not what has arrived, for the same reason.
    """

    def silent() -> bool:
        seconds = age(world.node.runner.inputs)
        return seconds is None or seconds > SILENCE

    if not world.until(silent, 10 * SILENCE):
        world.violations.append(f"messages kept reaching the node after {what}")
    sent = world.node.health.counts().get("actions", 0)
    world.run(0.4)
    if world.node.health.counts().get("actions", 0) > sent:
        world.violations.append(f"motion went on after {what}")


FAULTS: dict[str, Fault] = {
    "camera drop-out": camera_drop_out,
    "joint state drop-out": joint_state_drop_out,
    "clock jump": clock_jump,
    "burst of instructions": instruction_burst,
    "malformed images": malformed_images,
    "malformed joint states": malformed_joint_states,
    "parameter storm": parameter_storm,
    "reset storm": reset_storm,
    "deactivate, activate": deactivation,
    "clean up, configure": second_life,
    "NaN actions": partial(policy_fault, "not_a_number"),
    "infinite actions": partial(policy_fault, "infinite"),
    "huge actions": partial(policy_fault, "huge"),
    "actions of another shape": partial(policy_fault, "misshapen"),
    "slow steps": partial(policy_fault, "slow"),
    "policy errors": partial(policy_fault, "refusing"),
    "out of memory": partial(policy_fault, "out_of_memory"),
}
