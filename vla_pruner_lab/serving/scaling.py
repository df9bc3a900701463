"""Number of robots that one server can serve: a queueing model, checked against the real server.

python -m vla_pruner_lab.serving.scaling --check --plot docs/explanation/scaling.svg
"""

from __future__ import annotations

import heapq
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.common.program import POSITIVE, lab_program
from vla_pruner_lab.serving.load import Robots, run
from vla_pruner_lab.serving.scaling_plot import latency_plot
from vla_pruner_lab.serving.server_process import server_process

PROGRAM = lab_program("serving.scaling", __doc__, "", "--check --seconds 15")
ROBOT_COUNTS = (1, 4, 16)
RATIOS = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class StepTimes:
    """Step time of a policy against keep_ratio: fixed + slope x ratio, ms.

    source: who measured it, and on what. chunk_s: time that one answer's actions last (s).
    """

    name: str
    fixed_ms: float
    slope_ms: float
    chunk_s: float
    source: str

    @classmethod
    def through(
        cls, name: str, points: dict[float, float], chunk_s: float, source: str
    ) -> StepTimes:
        """Fit a line to measured points, keep_ratio -> ms."""
        slope, fixed = np.polyfit(list(points), list(points.values()), 1)
        return cls(name, float(fixed), float(slope), chunk_s, source)

    def at(self, ratio: float) -> float:
        """Return the step time at a keep_ratio, s."""
        return 1e-3 * (self.fixed_ms + self.slope_ms * ratio)


PAPER = "arXiv 2511.16449, RTX 4090"
POLICIES = (
    StepTimes.through(
        "OpenVLA-7B, one action at 5 Hz",
        {1.0: 236.0, 0.5: 178.0, 0.25: 145.0, 0.125: 129.0},
        0.2,
        PAPER,
    ),
    StepTimes.through("OpenVLA-OFT, 8 actions at 10 Hz", {1.0: 136.0, 0.125: 68.3}, 0.8, PAPER),
    StepTimes.through(
        "small OpenVLA-OFT on two CPU cores, 8 actions at 5 Hz",
        {1.0: 831.4, 0.5: 674.4, 0.25: 579.2, 0.125: 538.8},
        1.6,
        "docs/reference/benchmarks/latency_cpu.md",
    ),
)
PLOTTED = POLICIES[1]


def simulate(
    count: int, period: float, service: float, asks: int = 400, seed: int = 0
) -> np.ndarray:
    """Return the latencies (s), float [requests], of robots that share one server.

    The oldest request is served first. Every robot sends a request each `period` (s), from a random
    phase on, and at once if its last answer came later. service: time of one inference (s).
    """
    random = np.random.default_rng(seed)
    arrivals = [
        (float(phase), robot) for robot, phase in enumerate(random.uniform(0, period, count))
    ]
    heapq.heapify(arrivals)
    free_at, latencies = 0.0, []
    while len(latencies) < asks * count:
        arrival, robot = heapq.heappop(arrivals)
        free_at = max(free_at, arrival) + service
        latencies.append(free_at - arrival)
        heapq.heappush(arrivals, (max(arrival + period, free_at), robot))
    return np.array(latencies[len(latencies) // 4 :])


def most_robots(service: float, chunk_s: float, most: int = 200) -> int:
    """Return how many robots still get 95 % of their answers before their actions run out.

    A robot asks for the next chunk when one begins to play, once every chunk_s.
    """
    fitting = 0
    for count in range(1, most + 1):
        if np.percentile(simulate(count, chunk_s, service, asks=60), 95) > chunk_s:
            break
        fitting = count
    return fitting


def check(seconds: float, step_ms: float, rate: float) -> list[dict[str, Any]]:
    """Compare the model with the real server and an artificial policy, 1, 4 and 16 robots.

    The model is fed with the step time and the overhead that the lone robot measured.
    """
    rows, overhead = [], 0.0
    for count in ROBOT_COUNTS:
        with server_process(fixed_ms=step_ms) as server:
            served = run(server.url, Robots(count, rate, seconds))
        real = served.summary()
        service = 1e-3 * real["infer_mean_ms"]
        if count == 1:
            overhead = max(0.0, 1e-3 * real["latency_p50_ms"] - service)
        model = simulate(count, 1.0 / rate, service) + overhead
        rows.append(
            {
                "robots": count,
                "model_p50_ms": 1e3 * float(np.percentile(model, 50)),
                "real_p50_ms": real["latency_p50_ms"],
                "model_answers": count * seconds * min(rate, 1.0 / (count * service)),
                "real_answers": real["answers"],
                "load": os.getloadavg()[0],
            }
        )
    return rows


def capacity_table() -> list[str]:
    """Return robots against keep_ratio for every policy, as Markdown."""
    head = ["policy", *(f"keep {ratio:g}" for ratio in RATIOS)]
    rows = [
        [policy.name, *(str(most_robots(policy.at(ratio), policy.chunk_s)) for ratio in RATIOS)]
        for policy in POLICIES
    ]
    return markdown_table(head, rows)


def plot(policy: StepTimes, most: int = 16) -> str:
    """Return an SVG of the 95th percentile of latency against robots, one curve a keep_ratio."""
    counts = range(1, most + 1)
    curves = {
        f"keep_ratio {ratio:g}": [
            float(np.percentile(simulate(n, policy.chunk_s, policy.at(ratio), asks=60), 95))
            for n in counts
        ]
        for ratio in RATIOS
    }
    return latency_plot(counts, curves, policy.chunk_s, "actions run out")


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("--check", action="store_true", help="measure the real server too")
    parser.add_argument("--seconds", type=POSITIVE, default=20.0, help="of each measurement")
    parser.add_argument("--step-ms", type=POSITIVE, default=40.0, help="time of an inference (ms)")
    parser.add_argument("--rate", type=POSITIVE, default=5.0, help="observations of a robot (Hz)")
    parser.add_output("--plot", help="draw the table to this SVG file")
    options = parser.parse_args(arguments)
    print("\n".join(capacity_table()))
    if options.check:
        for row in check(options.seconds, options.step_ms, options.rate):
            print(json.dumps(row))
    if options.plot:
        options.plot.write_text(plot(PLOTTED), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
