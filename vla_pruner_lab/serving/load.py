"""Robots that ask a server at a fixed rate: overhead, fairness, latency.

python -m vla_pruner_lab.serving.load --json load.json
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack
import numpy as np
from websockets.asyncio.client import connect

from vla_pruner_lab.common.program import POSITIVE, lab_program
from vla_pruner_lab.serving.server_process import server_process
from vla_pruner_ros.serving.wire import arrays

PROGRAM = lab_program("serving.load", __doc__, "--seconds 10 --json out/load.json")
SIDE = 224


@dataclass(frozen=True)
class Robots:
    """A load: count robots, each asking rate times a second (Hz) for seconds.

    A robot whose answer is late asks again as soon as it has it. image_format: raw or jpeg.
    """

    count: int = 1
    rate: float = 10.0
    seconds: float = 20.0
    image_format: str = "raw"


@dataclass
class Served:
    """Lists of the robots' measurements: latency (s), waits, inferences and overheads (ms)."""

    answers: list[int] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    wait_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    overhead_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Return the figures of a table: shares, percentiles in ms."""
        latency = 1e3 * np.array(self.latency)
        return {
            "answers": sum(self.answers),
            "largest_share_over_smallest": max(self.answers) / max(1, min(self.answers)),
            "latency_p50_ms": float(np.percentile(latency, 50)),
            "latency_p95_ms": float(np.percentile(latency, 95)),
            "wait_mean_ms": float(np.mean(self.wait_ms)),
            "infer_mean_ms": float(np.mean(self.infer_ms)),
            "overhead_p50_ms": float(np.percentile(self.overhead_ms, 50)),
            "overhead_p95_ms": float(np.percentile(self.overhead_ms, 95)),
        }


def request(image_format: str, seed: int = 0) -> bytes:
    """Return a packed LIBERO observation with two structured 224 x 224 images."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    images = np.kron(coarse, np.ones((1, 8, 8, 1), dtype=np.uint8))
    image, wrist = (arrays.encode_image(one, image_format) for one in images)
    return msgpack.packb(
        {
            "observation/image": image,
            "observation/wrist_image": wrist,
            "observation/state": np.zeros(8, dtype=np.float32),
            "prompt": "pick up the bowl",
        },
        default=arrays.encode_openpi,
    )


def run(url: str, robots: Robots) -> Served:
    """Let robots ask a server; the first answer of each is not counted."""
    return asyncio.run(_run(url, robots))


async def _run(url: str, robots: Robots) -> Served:
    served = Served()
    data = request(robots.image_format)
    begin = time.monotonic() + 1.0
    phases = np.random.default_rng(0).uniform(0.0, 1.0 / robots.rate, robots.count)
    robot = [_robot(url, robots, data, begin + phase, served) for phase in phases]
    await asyncio.gather(*robot)
    return served


async def _robot(url: str, robots: Robots, data: bytes, begin: float, served: Served) -> None:
    async with connect(url, compression=None, max_size=None) as socket:
        await socket.recv()
        await socket.send(data)
        await socket.recv()
        answers, due, end = 0, begin, begin + robots.seconds
        last: dict[str, Any] | None = None
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            start = time.monotonic()
            await socket.send(data)
            reply = msgpack.unpackb(await socket.recv())
            served.latency.append(time.monotonic() - start)
            timing = reply["server_timing"]
            if last is not None:
                spent = last["infer_ms"] + last["queue_ms"]
                served.overhead_ms.append(timing["prev_total_ms"] - spent)
            last = timing
            served.wait_ms.append(timing["queue_ms"])
            served.infer_ms.append(timing["infer_ms"])
            answers += 1
            due = max(due + 1.0 / robots.rate, time.monotonic())
        served.answers.append(answers)


CASES = (
    ("one robot, raw images", Robots(1), 30.0),
    ("one robot, JPEG images", Robots(1, image_format="jpeg"), 30.0),
    ("16 robots, 5 ms policy", Robots(16), 5.0),
    ("16 robots, 20 ms policy (overload)", Robots(16), 20.0),
)
"""Name, load, step time of the policy (ms)."""


def measure(seconds: float) -> list[dict[str, Any]]:
    """Run every case on a server of its own."""
    rows = []
    for name, robots, step_ms in CASES:
        robots = Robots(robots.count, robots.rate, seconds, robots.image_format)
        with server_process(fixed_ms=step_ms) as server:
            before = server.cpu_seconds()
            served = run(server.url, robots)
            cpu_ms = 1e3 * (server.cpu_seconds() - before) / sum(served.answers)
        load = os.getloadavg()[0]
        costs = {"step_ms": step_ms, "load": load, "cpu_ms": cpu_ms}
        rows.append({"case": name, **asdict(robots), **costs, **served.summary()})
        print(json.dumps(rows[-1]))
    return rows


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_output("--json", help="write the result to this file")
    parser.add_argument("--seconds", type=POSITIVE, default=20.0, help="of each measurement")
    options = parser.parse_args(arguments)
    rows = measure(options.seconds)
    machine = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}"
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
