"""The real node with a policy on a server that is lost, slow or lies, judged from outside.

Stop latency: from the moment a fault begins to the last message that moves the arm before the fault
is over. It may be an answer's actions and remote_timeout at most; then the arm has to move again.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.common.program import COUNT, lab_program
from vla_pruner_lab.reliability.page import with_section
from vla_pruner_ros.bringup.processes import find_executable

if TYPE_CHECKING:
    from vla_pruner_lab.reliability.network.faulty_server import Fault, FaultyServer
    from vla_pruner_lab.reliability.outside import Outside

PROGRAM = lab_program(
    "reliability.network.network_faults",
    __doc__.splitlines()[0],
    "--rounds 3",
    "--rounds 3 --markdown docs/reference/reliability.md",
)
ROBOT = "widowx_bridge"  # one camera, no state
HEADING = "## A policy server that is lost, slow or lies"
CHUNKS = (1, 8)
"""Actions of an answer."""
PERIOD = 0.1
"""Seconds that an action lasts."""
LASTS = 3.0
"""Seconds that a fault lasts."""
TIMEOUT = 1.0
"""remote_timeout of the node (s), its default."""
SLACK = 0.2
"""Seconds that a message may be on its way."""


@dataclass
class Found:
    """Outcome of one fault. latencies, recoveries: s. held: how often."""

    latencies: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    held: int = 0


def start_node(outside: Outside, port: int) -> subprocess.Popen:
    """Start the policy node with the server on this port."""
    given = {"checkpoint": f"ws://127.0.0.1:{port}", "robot": ROBOT, "instruction": "lift the cup"}
    command = [find_executable("vla_pruner_node"), "--ros-args", "-r", f"__node:={outside.name}"]
    for name, value in given.items():
        command += ["-p", f"{name}:={value}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def inject(fault: Fault, server: FaultyServer, outside: Outside, found: Found) -> None:
    """Let one fault begin and end; judge what the node sends meanwhile and afterwards."""
    outside.until_moving()
    server.over.clear()
    began = time.monotonic()
    fault.begin(server)
    time.sleep(LASTS)
    server.fault = None
    ended = time.monotonic()
    moving = [seen.at for seen in list(outside.seen) if seen.moves and began < seen.at < ended]
    found.latencies.append(max(moving, default=began) - began)
    server.over.set()
    fault.end(server)
    found.held += _recover(outside, ended)
    found.recoveries.append(outside.motions(ended)[0].at - ended)


def _recover(outside: Outside, since: float) -> bool:
    """Wait for motion; reset the node if diagnostics show it as held. Return whether they did."""
    held = False

    def moves() -> bool:
        nonlocal held
        if outside.values.get("held") == "True" and not outside.motions(since):
            held = True
            outside.reset()
        return bool(outside.motions(since))

    outside.until(moves, "motion again")
    return held


def run(rounds: int, chunk: int) -> dict[str, Found]:
    """Inject every fault so many times, with so many actions an answer.

    Raises:
        RuntimeError: the node did not activate.
    """
    from vla_pruner_lab.reliability.network.faulty_server import FAULTS, FaultyServer
    from vla_pruner_lab.reliability.outside import ACTIVATE, CONFIGURE, Outside

    found = {fault.name: Found() for fault in FAULTS}
    server, outside = FaultyServer(chunk), Outside()
    process = start_node(outside, server.port)
    try:
        outside.start_camera(10.0)
        if not (outside.change_state(CONFIGURE) and outside.change_state(ACTIVATE)):
            raise RuntimeError("the node did not activate")
        for _ in range(rounds):
            for fault in FAULTS:
                inject(fault, server, outside, found[fault.name])
                print(chunk, fault.name, found[fault.name], flush=True)
    finally:
        process.terminate()
        process.wait(30)
        outside.close()
        server.vanish()
    return found


def section(found: dict[int, dict[str, Found]], command: str) -> str:
    """Return the section of docs/reference/reliability.md; found: by actions of an answer."""
    head = [
        "fault",
        *(f"stop after, {chunk} action{'s' * (chunk > 1)} an answer" for chunk in found),
        "held",
        "moves again after",
    ]
    first = next(iter(found.values()))
    rows = [[name, *_cells([of[name] for of in found.values()])] for name in first]
    rounds = len(next(iter(first.values())).latencies)
    text = f"""\
{HEADING}

The node runs as a process, and its policy on a server over loopback. The server turns faulty while
the arm moves, {rounds} times for {LASTS:g} s with each number of actions an answer.
`remote_timeout` is {TIMEOUT:g} s and actions come at 10 Hz.
Stop after: from the fault's beginning to the last message that moves the arm, median and largest.
If the server does not answer, the actions in the queue are played to their end. An answer that is
refused stops motion at once. Held: how often so many inferences in a row failed that the node
waited for `~/reset`, which the test called. The last column is the median.

    {command}

Machine: {os.cpu_count()}-core {platform.machine()}, Python {platform.python_version()}, load
{os.getloadavg()[0]:.1f}, {date.today().isoformat()}.
"""
    return "\n".join([text, *markdown_table(head, rows)])


def _cells(found: Sequence[Found]) -> list[str]:
    recoveries = [seconds for one in found for seconds in one.recoveries]
    return [
        *(f"{statistics.median(o.latencies):.2f} s, {max(o.latencies):.2f} s" for o in found),
        f"{sum(one.held for one in found)} of {len(recoveries)}",
        f"{statistics.median(recoveries):.2f} s",
    ]


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Run the command; the exit status is 1 if a stop came too late."""
    parser = PROGRAM.parser()
    parser.add_argument("--rounds", type=COUNT, default=3, help="times that each fault comes")
    parser.add_argument("--markdown", type=Path, help="page whose section is replaced")
    options = parser.parse_args(arguments)
    found = {chunk: run(options.rounds, chunk) for chunk in CHUNKS}
    made = section(found, f"{PROGRAM.name} --rounds {options.rounds}")
    print(made)
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(with_section(page, HEADING, made), encoding="utf-8")
    late = [
        f"{name}, {chunk} actions: {max(one.latencies):.2f} s"
        for chunk, of in found.items()
        for name, one in of.items()
        if max(one.latencies) > TIMEOUT + PERIOD * chunk + SLACK
    ]
    print("\n".join(late))
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
