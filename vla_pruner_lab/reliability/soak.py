"""Soak test: run the node for minutes with injected faults, and report the outcome.

    python -m vla_pruner_lab.reliability.soak --minutes 10 --json soak.json

Needs ROS 2 (rclpy); everything stays on loopback. The exit code is 1 on any violation: an action
over a limit, not finite, outside active or lost; motion after a sensor fell silent; an unanswered
service; no motion once a fault is over; memory that keeps growing.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from vla_pruner_lab.common.program import POSITIVE, lab_program

PROGRAM = lab_program("reliability.soak", __doc__, "--minutes 1 --json out/soak.json")
RECOVERY = 5.0
"""Longest wall time from the end of a fault to motion (s)."""

CALM = 0.3
"""Wall time of undisturbed motion between faults (s)."""

WARM_UP = 0.2
"""Share of the run after which memory is measured first: allocators and caches fill up before."""

MEMORY_LIMIT = 48.0
"""Growth after that which counts as a leak (MiB)."""


ROBOTS = ("end_effector", "joints")


def soak(minutes: float, domain: int, seed: int = 0, robot: str = ROBOTS[0]) -> dict[str, Any]:
    """Run for `minutes` of wall time and return the report, see `summary`.

    Args:
        robot: end_effector, or joints: two arms with a gripper each, by the profile aloha.
    """
    world, faults = _world(robot, domain)
    injected: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    started, simulated = time.monotonic(), world.now
    try:
        _bring_up(world)
        end = started + 60.0 * minutes
        memory = _inject(world, faults, random.Random(seed), end, injected, survived)
        published = _come_to_rest(world)
    finally:
        world.close()
    if memory[1] - memory[0] > MEMORY_LIMIT:
        world.violations.append(f"memory grew by {memory[1] - memory[0]:.1f} MiB")
    wall = time.monotonic() - started
    return {
        "robot": robot,
        "load": os.getloadavg()[0],
        "command": " ".join(["python -m vla_pruner_lab.reliability.soak", *sys.argv[1:]]),
        "wall_minutes": wall / 60.0,
        "simulated_hours": _simulated_hours(world.ticks),
        "frames": world.frames,
        "frames_per_second": world.frames / wall,
        "inferences": world.policy.inferences,
        "actions": world.motions,
        "stops": world.stops,
        "actions_lost": published - world.received,
        "injected": dict(injected),
        "survived": dict(survived),
        "memory_mib": memory,
        "violations": dict(Counter(world.violations)),
        "clock_end_s": (world.now - simulated) * 1e-9,
    }


def _world(robot: str, domain: int) -> tuple[Any, dict[str, Any]]:
    """Return the test bench and its faults; rclpy is imported here only."""
    if robot == "joints":
        from vla_pruner_lab.reliability.joints.bench import JointBench
        from vla_pruner_lab.reliability.joints.faults import JOINT_FAULTS

        return JointBench(domain), JOINT_FAULTS
    from vla_pruner_lab.reliability.bench import TestBench
    from vla_pruner_lab.reliability.faults import FAULTS

    return TestBench(domain), FAULTS


def _simulated_hours(ticks: int) -> float:
    from vla_pruner_lab.reliability.bench import TICK

    return ticks * TICK / 3600.0


def _bring_up(world: Any) -> None:
    from lifecycle_msgs.msg import Transition

    world.change_state(Transition.TRANSITION_CONFIGURE)
    world.change_state(Transition.TRANSITION_ACTIVATE)
    if not world.until(lambda: world.motions > 0, RECOVERY):
        raise RuntimeError(f"The node never moved: {world.node.health.problem}")


def _inject(
    world: Any,
    faults: dict[str, Any],
    rng: random.Random,
    end: float,
    injected: Counter,
    survived: Counter,
) -> tuple[float, float]:
    """Inject one fault after the other until `end`; return memory (MiB) early and at the end."""
    begin, early, order = time.monotonic(), None, []
    while time.monotonic() < end:
        order = order or rng.sample(list(faults), len(faults))
        name = order.pop()
        injected[name] += 1
        faults[name](world, rng)
        survived[name] += _recovers(world, name)
        world.run(CALM)
        if early is None and time.monotonic() - begin > WARM_UP * (end - begin):
            early = _resident_mib()
    return (early if early is not None else _resident_mib()), _resident_mib()


def _recovers(world: Any, fault: str) -> bool:
    """Return whether the arm moves again; a hold is released first, as an operator would."""
    world.instruct("push the button")
    before = world.motions

    def moves_again() -> bool:
        if not world.node.gate.is_open:
            world.reset()
        return world.motions > before

    if world.until(moves_again, RECOVERY):
        return True
    world.violations.append(f"no motion after {fault}: {world.node.health.problem}")
    return False


def _come_to_rest(world: Any) -> int:
    """Deactivate; return the number of actions and stops that the node has published."""
    from lifecycle_msgs.msg import Transition

    world.change_state(Transition.TRANSITION_DEACTIVATE)
    world.until(lambda: world.received >= world.published(), 2.0)
    return world.published()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def summary(report: dict[str, Any]) -> str:
    """Return the report in a few lines."""
    first, last = report["memory_mib"]
    lines = [
        f"ran {report['wall_minutes']:.1f} minutes, "
        f"{report['simulated_hours']:.2f} simulated hours",
        f"load held: {report['frames']} frames ({report['frames_per_second']:.0f}/s), "
        f"{report['inferences']} inferences, {report['actions']} actions, {report['stops']} stops",
        f"faults: {sum(report['injected'].values())} injected, "
        f"{sum(report['survived'].values())} survived, {len(report['injected'])} kinds",
        f"actions lost: {report['actions_lost']}",
        f"memory: {first:.0f} MiB after warm-up, {last:.0f} MiB at the end",
        f"violations: {sum(report['violations'].values())}",
    ]
    lines += [f"  {count} x {sentence}" for sentence, count in report["violations"].items()]
    return "\n".join(lines)


def is_clean(report: dict[str, Any]) -> bool:
    """Return whether nothing was violated and no action lost."""
    return not report["violations"] and report["actions_lost"] == 0


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Run the command; see the module's docstring."""
    parser = PROGRAM.parser()
    parser.add_argument("--minutes", type=POSITIVE, default=10.0, help="wall time (default: 10)")
    parser.add_argument("--robot", choices=ROBOTS, default=ROBOTS[0], help="what the arm follows")
    parser.add_argument("--seed", type=int, default=0, help="of the order of faults")
    parser.add_argument("--domain", type=int, default=191, help="ROS domain to run in")
    parser.add_output("--json", help="write the report to this file")
    parser.add_output("--markdown", help="write docs/reference/reliability.md here")
    parser.add_argument("--report", type=Path, help="do not run: read this --json of earlier")
    options = parser.parse_args(arguments)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if options.report:
        report = json.loads(options.report.read_text())
    else:
        report = soak(options.minutes, options.domain, options.seed, options.robot)
    print(summary(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if options.markdown:
        from vla_pruner_lab.reliability.page import page

        earlier = options.markdown.read_text() if options.markdown.exists() else ""
        options.markdown.write_text(page(report, earlier))
    return 0 if is_clean(report) else 1


if __name__ == "__main__":
    sys.exit(main())
