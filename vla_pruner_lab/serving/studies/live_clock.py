"""Success against keep_ratio on vla-eval's live clock, where the simulator waits for nobody.

    python -m vla_pruner_lab.serving.studies.live_clock --out out/live

The policy is a bundled one and really runs. Its step time is artificial: each step is stretched to
a commanded time that follows keep_ratio as the paper's OpenVLA-OFT does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.common.program import lab_program
from vla_pruner_lab.serving.scaling import POLICIES
from vla_pruner_ros.models.policy import ActionChunk, Observation
from vla_pruner_ros.pruning.config import PruningConfig

PROGRAM = lab_program("serving.studies.live_clock", __doc__, "--episodes 1 --ratios 1 0.25")
BENCHMARK = "vla_pruner_lab.serving.metaworld_benchmark:MetaWorldBenchmark"
TASKS = ("button-press-topdown", "door-close", "drawer-close", "window-open")
RATIOS = (1.0, 0.5, 0.25, 0.125)
FULL_STEPS = (0.2, 0.4, 0.8, 1.2)
"""Step times without pruning, s."""
HZ = 10.0
EXECUTED = 4
"""Actions of a chunk that are played before the next inference."""
STEP_TIMES = POLICIES[1]


def commanded_time(full_step: float, keep_ratio: float) -> float:
    """Return the step time (s) at a keep_ratio, if the unpruned step takes full_step (s)."""
    return full_step * STEP_TIMES.at(keep_ratio) / STEP_TIMES.at(1.0)


class StretchedPolicy:
    """A policy whose steps take a commanded time, if they are not slower by themselves.

    steps, overruns: inferences so far, and those that took longer than commanded by a tenth.
    """

    def __init__(self, policy: Any, full_step: float) -> None:
        self._policy, self._full_step = policy, full_step
        self.steps = self.overruns = 0

    def act(self, observation: Observation) -> ActionChunk:
        """See VlaPolicy.act."""
        start = time.monotonic()
        wanted = commanded_time(self._full_step, self._policy.pruning.keep_ratio)
        chunk = self._policy.act(observation)
        spent = time.monotonic() - start
        time.sleep(max(0.0, wanted - spent))
        self.steps += 1
        self.overruns += spent > 1.1 * wanted
        return chunk

    @property
    def pruning(self) -> PruningConfig:
        """Pruning settings of the policy that is stretched."""
        return self._policy.pruning

    @pruning.setter
    def pruning(self, config: PruningConfig) -> None:
        self._policy.pruning = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


def serve(checkpoint: str, full_step: float) -> None:
    """Serve a stretched policy until SIGTERM; print the port, and the overruns at the end."""
    from vla_pruner_ros.models.loading import load_policy
    from vla_pruner_ros.robots import load_profile
    from vla_pruner_ros.serving.server import PolicyServer
    from vla_pruner_ros.serving.settings import ServerSettings
    from vla_pruner_ros.serving.vla_eval import VlaEval

    pruning = PruningConfig(history_fill="semantic")
    policy = StretchedPolicy(load_policy(checkpoint, num_cameras=2, pruning=pruning), full_step)

    async def run() -> None:
        settings = ServerSettings(port=0, max_gap=60.0, execute_steps=EXECUTED)
        layout = VlaEval.layout(load_profile("metaworld"))
        server = PolicyServer(policy, VlaEval(), layout, settings)
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, server.request_stop)
        running = asyncio.ensure_future(server.run(ready))
        await ready.wait()
        print("port", server.port, flush=True)
        await running

    asyncio.run(run())
    print(json.dumps({"steps": policy.steps, "overruns": policy.overruns}), flush=True)


@contextmanager
def served(checkpoint: str, full_step: float, ended: dict[str, int]) -> Iterator[str]:
    """Run serve() in a process of its own; yield its address, fill in `ended` at the end.

    Raises:
        RuntimeError: the server does not start.
    """
    command = [sys.executable, "-m", __spec__.name, "--checkpoint", checkpoint]
    process = subprocess.Popen(
        [*command, "--serve", str(full_step)], stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        if not line.startswith("port "):
            raise RuntimeError(f"the server did not start: {line}")
        yield f"ws://127.0.0.1:{line.split()[1]}"
        process.terminate()
        ended.update(json.loads(process.communicate(timeout=30)[0]))
    finally:
        process.kill()


def evaluate(
    url: str, full_step: float, ratio: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Let vla-eval run all episodes of one cell; return its successes and how long ticks took."""
    import vla_eval.api

    entry = {
        "benchmark": BENCHMARK,
        "name": "metaworld",
        "mode": "live",
        "hz": options.hz,
        "episodes_per_task": options.episodes,
        "params": {"tasks": list(options.tasks)},
    }
    server = {"url": f"{url}/?keep_ratio={ratio}"}
    folder = options.out / f"{full_step:g}s_keep_{ratio:g}"
    config = {"server": server, "output_dir": str(folder), "benchmarks": [entry]}
    (result,) = vla_eval.api.run(config)
    episodes = [episode for task in result["tasks"] for episode in task["episodes"]]
    ticks = sum(episode["steps"] for episode in episodes)
    return {
        "keep_ratio": ratio,
        "episodes": len(episodes),
        "successes": sum(bool(episode["metrics"]["success"]) for episode in episodes),
        "errors": result["num_errors"],
        "tick_s": sum(episode["elapsed_sec"] for episode in episodes) / ticks,
        "load": os.getloadavg()[0],
    }


def sweep(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every step time with every keep_ratio; print a record of each as it ends."""
    rows = []
    for full_step in options.full_steps:
        ended: dict[str, int] = {}
        with served(options.checkpoint, full_step, ended) as url:
            made = [evaluate(url, full_step, ratio, options) for ratio in options.ratios]
        for row in made:
            times = {"full_step": full_step, "step": commanded_time(full_step, row["keep_ratio"])}
            rows.append({**times, **row, "server": ended})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return successes of episodes, step time without pruning against keep_ratio, as Markdown."""
    ratios = sorted({row["keep_ratio"] for row in rows}, reverse=True)
    lines = []
    for full_step in sorted({row["full_step"] for row in rows}):
        cells = {row["keep_ratio"]: row for row in rows if row["full_step"] == full_step}
        lines.append([f"{full_step:g} s", *(_cell(cells.get(ratio)) for ratio in ratios)])
    return markdown_table(["step without pruning", *(f"keep {r:g}" for r in ratios)], lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    return f"{row['successes']} of {row['episodes']} ({row['step']:.2f} s)"


@PROGRAM.main
def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.serve is not None:
        serve(options.checkpoint, options.serve)
        return 0
    rows = sweep(options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "live_clock.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--checkpoint", default="openvla_oft_small")
    add("--out", type=Path, default=Path("out/live_clock"))
    add("--tasks", nargs="+", default=TASKS)
    add("--episodes", type=int, default=4, help="of each task")
    add("--ratios", nargs="+", type=float, default=RATIOS)
    add("--full-steps", nargs="+", type=float, default=FULL_STEPS, help="s, without pruning")
    add("--hz", type=float, default=HZ, help="ticks a second; an action lasts 0.1 s of the robot")
    add("--serve", type=float, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
