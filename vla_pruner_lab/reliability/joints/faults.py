"""Faults of a robot that is moved by joints, next to those of every robot."""

from __future__ import annotations

import random
import time
from functools import partial

import numpy as np

from vla_pruner_lab.reliability.faults import FAULTS, SILENCE, Fault, expect_rest, policy_fault
from vla_pruner_lab.reliability.joints.bench import FINGERS, JointBench, urdf
from vla_pruner_lab.reliability.joints.policy import PROFILE
from vla_pruner_ros.nodes.vla_pruner.inputs import NodeInputs

BAD_DESCRIPTIONS = (
    "",
    "no XML",
    "<robot><joint></robot>",
    "<sdf/>",
    '<!DOCTYPE robot [<!ENTITY a "b">]><robot name="&a;"/>',
    '<robot><joint name="a" type="revolute"><limit lower="1" upper="-1"/></joint></robot>',
    '<robot><joint name="a" type="revolute"><limit lower="nan" upper="1"/></joint></robot>',
)


def silence(names: tuple[str, ...], world: JointBench, rng: random.Random) -> None:
    """Let some joints fall silent; the others keep coming, and everything must stop."""
    world.silent = set(names)

    def age(inputs: NodeInputs) -> float | None:
        readings = inputs.joints.readings(names)
        oldest = min((reading.arrival for reading in readings.values()), default=None)
        return None if oldest is None else time.monotonic() - oldest

    expect_rest(world, f"{names[0]} fell silent", age)
    before = world.place()
    world.run(0.2)
    if np.abs(world.place() - before).max() > 0.0:
        world.violations.append(f"an arm moved on after {names[0]} fell silent")
    world.silent = set()
    if any(name not in world.node.health.problem for name in names[:1]):
        world.violations.append(
            f"the silence of {names[0]} is not named: {world.node.health.problem}"
        )


def bad_description(world: JointBench, rng: random.Random) -> None:
    """Publish a robot description that cannot be used, then the right one."""
    world.describe(rng.choice(BAD_DESCRIPTIONS))
    world.run(SILENCE)
    world.describe(urdf())


def push(world: JointBench, rng: random.Random) -> None:
    """Move both arms by hand, further than a chunk may jump."""
    for _ in range(3):
        world.push(np.array([rng.uniform(-0.6, 0.6) for _ in PROFILE.joints]))
        world.run(0.1)


def lying_joint(world: JointBench, rng: random.Random) -> None:
    """One joint reports nonsense in turn with its real place."""
    name = rng.choice([*PROFILE.joints, *FINGERS])
    for value in (float("nan"), 1e308, -1e308, float("inf"), 40.0):
        for _ in range(3):
            world.send_joints([name], [value])
            world.step()


JOINT_FAULTS: dict[str, Fault] = {
    **FAULTS,
    "one joint silent": partial(silence, ("left_elbow",)),
    "one arm silent": partial(
        silence, tuple(name for name in PROFILE.joints if name.startswith("right_"))
    ),
    "gripper silent": partial(silence, (FINGERS[1],)),
    "robot description unreadable": bad_description,
    "arms pushed by hand": push,
    "a joint reports nonsense": lying_joint,
    "targets beyond every limit": partial(policy_fault, "beyond"),
    "a chunk that would jump": partial(policy_fault, "jumping"),
}
