"""Run the expert through a profile: python -m vla_pruner_lab.libero --episodes 50."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from vla_pruner_lab.libero.arm import MAX_STEPS, LiberoArm
from vla_pruner_lab.libero.expert import PickAndPlace
from vla_pruner_ros.robots import load_profile


def run_episode(arm: LiberoArm, episode: int, max_steps: int) -> dict:
    """Run one episode; return its record."""
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


def main() -> int:
    """Run episodes over all tasks of a suite and print how many succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robot", default="franka_libero", help="bundled profile or file")
    parser.add_argument("--suite", default="libero_object", choices=["libero_object"])
    parser.add_argument("--episodes", type=int, default=50, help="over all ten tasks together")
    parser.add_argument("--out", type=Path, help="file for one JSON record an episode")
    given = parser.parse_args()
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
    sys.exit(main())
