"""An hour's worth of exchanges with faults in between: nothing lost, memory flat.

python -m vla_pruner_lab.serving.soak --exchanges 36000 --json soak.json
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from typing import Any

import numpy as np

from vla_pruner_lab.common.program import COUNT, lab_program
from vla_pruner_lab.serving import bad_connections, bad_messages
from vla_pruner_lab.serving.attack import Attack
from vla_pruner_lab.serving.server_process import ServerProcess, server_process
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.serving.client.address import RemoteOptions
from vla_pruner_ros.serving.client.policy import RemotePolicy

PROGRAM = lab_program("serving.soak", __doc__, "--exchanges 1000 --json out/soak.json")
ROBOTS = 4
SIDE = 224
SETTINGS = {**bad_connections.FAST, "max_gap": 600.0}
SAMPLES = 12
"""Times at which memory is read."""


class Robot:
    """One robot that checks every answer: its own image, its own history, in order."""

    def __init__(self, url: str, seed: int) -> None:
        self._policy = RemotePolicy(url, RemoteOptions(timeout=30.0))
        self._random = random.Random(seed)
        self._steps = 0

    def exchange(self) -> str:
        """Ask once; return "" if the answer is the right one."""
        level = self._random.randrange(256)
        image = np.full((SIDE, SIDE, 3), level, dtype=np.uint8)
        chunk = self._policy.act(Observation([image, image], "go on", np.zeros(8)))
        self._steps += 1
        steps, brightness = float(chunk.actions[0, 0]), float(chunk.actions[0, 1])
        if steps != self._steps:
            return f"answer {steps:.0f} came where answer {self._steps} was due"
        if abs(brightness - level / 255.0) > 1e-3:
            return "the answer is to another image"
        return ""

    @property
    def reconnects(self) -> int:
        """Number of times that the client connected again."""
        return int(self._policy.diagnostics()["remote_reconnects"])


def faults() -> list[Attack]:
    """Return the hostile exchanges that a server without a key can be given at any time."""
    every = [*bad_messages.cases(), *bad_connections.cases()]
    return [a for a in every if a.server == "openpi" and a.name != "40 MB"]


def soak(exchanges: int, every: int, seed: int = 0) -> dict[str, Any]:
    """Run the exchanges, with one fault after each `every` of them."""
    rng, attacks = random.Random(seed), faults()
    wrong: Counter[str] = Counter()
    injected: Counter[str] = Counter()
    memory: list[float] = []
    start = time.monotonic()
    with server_process(settings=SETTINGS) as server:
        robots = [Robot(server.url, number) for number in range(ROBOTS)]
        for number in range(exchanges):
            found = robots[number % ROBOTS].exchange()
            wrong[found] += bool(found)
            if number % every == every - 1:
                attack = rng.choice(attacks)
                outcome = attack.failure(server.port)
                injected[attack.area] += 1
                wrong[f"{attack.area}: {attack.name}: {outcome}"] += bool(outcome)
            if number % max(1, exchanges // SAMPLES) == exchanges // SAMPLES // 2:
                memory.append(server.memory_mib())
        return _summary(exchanges, start, robots, injected, wrong, memory, server)


def _summary(
    exchanges: int,
    start: float,
    robots: list[Robot],
    injected: Counter[str],
    wrong: Counter[str],
    memory: list[float],
    server: ServerProcess,
) -> dict[str, Any]:
    return {
        "exchanges": exchanges,
        "minutes": (time.monotonic() - start) / 60.0,
        "reconnects": sum(robot.reconnects for robot in robots),
        "faults": dict(injected),
        "wrong": {name: count for name, count in wrong.items() if count},
        "memory_mib": memory,
        "open_files": server.open_files(),
        "load": os.getloadavg()[0],
    }


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--exchanges", type=COUNT, default=36000, help="10 Hz for an hour: 36000")
    parser.add_argument("--every", type=COUNT, default=100, help="exchanges between two faults")
    parser.add_output("--json", help="write the result to this file")
    options = parser.parse_args(arguments)
    found = soak(options.exchanges, options.every)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
