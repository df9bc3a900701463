"""Run the expert through a profile: python -m vla_pruner_lab.libero --episodes 50."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from typing import Any

import numpy as np

from vla_pruner_lab.common.program import COUNT, lab_program
from vla_pruner_ros.robots import load_profile

PROGRAM = lab_program("libero", __doc__, "--robot franka_libero --episodes 10")


def run_episode(arm: Any, episode: int, max_steps: int) -> dict:
    """Run one episode of a LiberoArm; return its record."""
    from vla_pruner_lab.libero.expert import PickAndPlace

    arm.reset(episode)
    expert, steps, difference = PickAndPlace(arm), 0, 0.0
    while steps < max_steps and not arm.succeeded:
        expert.act()
        steps += 1
        difference = max(difference, float(np.abs(arm.state() - arm.libero_state()).max()))
    return {
        "instruction": arm.instruction,
        "episode": episode,
        "success": arm.succeeded,
        "steps": steps,
        "state_difference": difference,
    }


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Run episodes over all tasks of a suite and print how many succeeded."""
    parser = PROGRAM.parser()
    parser.add_argument("--robot", default="franka_libero", help="bundled profile or file")
    parser.add_argument("--suite", default="libero_object", choices=["libero_object"])
    parser.add_argument("--episodes", type=COUNT, default=50, help="over all ten tasks together")
    parser.add_output("--out", help="file for one JSON record an episode")
    given = parser.parse_args(arguments)
    if find_spec("libero") is None:
        raise ImportError("LIBERO is not installed: pip install hf-libero")
    from vla_pruner_lab.libero.arm import MAX_STEPS, LiberoArm

    profile, records, started = load_profile(given.robot), [], time.monotonic()
    for task in range(10):
        episodes = range(task, given.episodes, 10)
        if not episodes:
            continue
        arm = LiberoArm(profile, given.suite, task)
        for number in range(len(episodes)):
            records.append(run_episode(arm, number, MAX_STEPS[given.suite]))
            print(json.dumps(records[-1]), flush=True)
        arm.close()
    succeeded = sum(record["success"] for record in records)
    minutes = (time.monotonic() - started) / 60
    print(f"{given.robot}: {succeeded} of {len(records)} episodes succeeded in {minutes:.1f} min")
    if given.out:
        given.out.write_text("".join(json.dumps(record) + "\n" for record in records))
    return 0 if succeeded >= 0.9 * len(records) else 1


if __name__ == "__main__":
    raise SystemExit(main())
