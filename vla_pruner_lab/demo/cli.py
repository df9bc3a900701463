"""make demo: bring everything up, change the budget live, show what happened."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import sys
import time
from pathlib import Path

from tqdm import tqdm

from vla_pruner_lab.common.program import COUNT, checkpoint, lab_program, task
from vla_pruner_lab.demo.observer import Observer
from vla_pruner_lab.demo.report import write_report
from vla_pruner_lab.demo.summary import summarise, summary_table
from vla_pruner_ros.bringup import simulation
from vla_pruner_ros.bringup.cli import parameter
from vla_pruner_ros.bringup.client import PolicyClient
from vla_pruner_ros.bringup.executables import missing_part
from vla_pruner_ros.bringup.processes import Processes
from vla_pruner_ros.resources import SIMULATION_POLICY
from vla_pruner_ros.sim.tasks import INSTRUCTIONS, instruction_for

PROGRAM = lab_program("demo", __doc__, "", "--task window-open --out out/window")
RATIOS = (1.0, 0.5, 0.25)
SECONDS_PER_INFERENCE = 1.0
"""Patience for one inference on a slow machine."""


def parse_arguments(given: list[str]) -> argparse.Namespace:
    parser = PROGRAM.parser()
    parser.add_output(
        "--out", holds=("report.html", "bag"), default=Path("out"), help="where report and bag go"
    )
    parser.add_argument(
        "--task",
        type=task,
        default="drawer-close",
        help="task of the simulated robot: " + ", ".join(INSTRUCTIONS),
    )
    parser.add_argument(
        "--checkpoint",
        type=checkpoint,
        help="directory of a policy that sees one camera; default: the one of the package, which "
        "sees two",
    )
    parser.add_argument(
        "--inferences", type=COUNT, default=80, help="inferences to watch under each keep_ratio"
    )
    return parser.parse_args(given)


@PROGRAM.main
def main(given: list[str]) -> int:
    """Run the demonstration; exit 0 only if actions flowed and every budget was obeyed."""
    # The demonstration stays on loopback, whatever the machine's settings are.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    arguments = parse_arguments(given)
    if missing := missing_part():
        raise ValueError(missing)
    from vla_pruner_ros.sim import backend  # noqa: F401  a missing simulator shows at once

    arguments.out.mkdir(parents=True, exist_ok=True)
    bag = arguments.out / "bag"
    shutil.rmtree(bag, ignore_errors=True)
    with Processes(arguments.out / "logs") as processes, PolicyClient("vla_pruner_demo") as client:
        try:
            observer = _watch(processes, client, arguments, bag)
        except (TimeoutError, ValueError, RuntimeError, KeyboardInterrupt) as error:
            print(f"The demonstration failed: {error or 'interrupted'}", file=sys.stderr)
            for name in ("vla_pruner_node", "sim_robot_node"):
                print(f"--- end of {name}.log\n{processes.log_tail(name)}", file=sys.stderr)
            return 1
        client.deactivate()
    return _conclude(observer, arguments, bag)


def _watch(
    processes: Processes, client: PolicyClient, arguments: argparse.Namespace, bag: Path
) -> Observer:
    print("Starting the simulated robot, the recorder and the policy node (logs in "
          f"{arguments.out / 'logs'})")  # fmt: skip
    policy = simulation.policy_parameters(arguments.task)
    if arguments.checkpoint:
        policy = {"checkpoint": str(arguments.checkpoint)}
    processes.start("sim_robot_node", *_parameters(simulation.robot_parameters(arguments.task)))
    processes.start("vla_pruner_recorder", *parameter("output", str(bag)))
    processes.start(
        "vla_pruner_node", *_parameters(policy),
        *parameter("keep_ratio", RATIOS[0]),
        # One core stays free for the simulated robot.
        *parameter("num_threads", max(1, (os.cpu_count() or 2) // 2)),
    )  # fmt: skip
    observer = Observer(client)
    if not (client.configure() and client.activate()):
        raise RuntimeError("the policy node could not be configured and activated")
    instruction = instruction_for(arguments.task)
    print(f"Instruction: {instruction}")
    client.instruct(instruction)
    for ratio in RATIOS:
        _watch_ratio(processes, client, observer, ratio, arguments.inferences)
    return observer


def _parameters(values: dict[str, object]) -> list[str]:
    return [part for name, value in values.items() for part in parameter(name, value)]


def _watch_ratio(
    processes: Processes, client: PolicyClient, observer: Observer, ratio: float, count: int
) -> None:
    observer.expect(ratio)
    client.set_parameter("keep_ratio", ratio)
    deadline = time.monotonic() + 10.0 + count * SECONDS_PER_INFERENCE
    with tqdm(total=count, desc=f"keep_ratio {ratio:g}", unit="inference") as bar:
        while bar.n < count:
            seen = observer.wait_for_samples(ratio, bar.n + 1, timeout=1.0)
            bar.update(min(seen, count) - bar.n)
            if processes.ended():
                raise RuntimeError(f"{', '.join(processes.ended())} ended unexpectedly")
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {bar.n} of {count} inferences at keep_ratio {ratio}")


def _conclude(observer: Observer, arguments: argparse.Namespace, bag: Path) -> int:
    rows = summarise(observer, RATIOS)
    report = arguments.out / "report.html"
    write_report(report, observer, rows, _metadata(arguments, bag))
    print("\n" + summary_table(rows))
    print("Latencies: p50 / p95 per inference; warm-up inferences left out.\n")
    if observer.episodes_done():
        print(
            f"Episodes of {arguments.task} done: {observer.episodes_done()}, all budgets together\n"
        )
    print(f"Report: {report}\nBag:    {bag}")
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _metadata(arguments: argparse.Namespace, bag: Path) -> dict[str, str]:
    import torch

    return {
        "Date": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "Command": "python -m vla_pruner_lab.demo " + " ".join(sys.argv[1:]),
        "Machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "Python, torch": f"{platform.python_version()}, {torch.__version__}",
        "Task": arguments.task,
        "Checkpoint": str(arguments.checkpoint or SIMULATION_POLICY),
        "Bag": str(bag),
    }
