"""make demo: bring everything up, change the budget live, show what happened."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
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
from vla_pruner_ros.report import run_info
from vla_pruner_ros.resources import SIMULATION_POLICY
from vla_pruner_ros.sim.tasks import INSTRUCTIONS, instruction_for

PROGRAM = lab_program("demo", __doc__, "", "--task window-open --out out/window")
RATIOS = (1.0, 0.5, 0.25)
EPISODE_PATIENCE = 20.0
"""Longest wait (s) for the end of a turn's first episode; an episode takes at most 15 s."""
SECONDS_PER_INFERENCE = 1.0
"""Patience for one inference on a slow machine."""


def parse_arguments(given: list[str]) -> argparse.Namespace:
    """Parse the command line of the demonstration."""
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
    parser.add_argument(
        "--rounds", type=COUNT, default=3, help="turns of each keep_ratio, which alternate"
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
    turns = turns_of(RATIOS, arguments.rounds)
    count = -(-arguments.inferences // arguments.rounds)
    with tqdm(total=len(turns) * count, unit="inference") as bar:
        for ratio in turns:
            bar.set_description(f"keep_ratio {ratio:g}")
            _watch_turn(processes, client, observer, ratio, count, bar)
    return observer


def turns_of(ratios: Sequence[float], rounds: int) -> list[float]:
    """Return the budgets in turns, every second round backwards: a busy time meets all alike."""
    return [r for number in range(rounds) for r in (ratios if number % 2 == 0 else ratios[::-1])]


def _parameters(values: dict[str, object]) -> list[str]:
    return [part for name, value in values.items() for part in parameter(name, value)]


def _watch_turn(
    processes: Processes,
    client: PolicyClient,
    observer: Observer,
    ratio: float,
    count: int,
    bar: tqdm,
) -> None:
    """Watch `count` inferences, and one whole episode, under one budget."""
    client.set_parameter("keep_ratio", ratio)
    before = observer.expect(ratio)
    observer.reset_robot()
    begun, done = time.monotonic(), 0
    while done < count or not observer.has_finished_episode():
        seen = min(count, observer.wait_for_samples(ratio, before + done + 1, 1.0) - before)
        bar.update(seen - done)
        done, waited = seen, time.monotonic() - begun
        if processes.ended():
            raise RuntimeError(f"{', '.join(processes.ended())} ended unexpectedly")
        if done < count and waited > 10.0 + count * SECONDS_PER_INFERENCE:
            raise TimeoutError(f"only {done} of {count} inferences at keep_ratio {ratio}")
        if done >= count and waited > EPISODE_PATIENCE:
            return


def _conclude(observer: Observer, arguments: argparse.Namespace, bag: Path) -> int:
    rows = summarise(observer, RATIOS)
    report = arguments.out / "report.html"
    write_report(report, observer, rows, _metadata(observer, arguments, bag))
    print("\n" + summary_table(rows))
    print(
        "Latencies: p50 / p95 of an inference (ms); budgets in turns, load "
        f"{observer.load_before:.1f} before and {os.getloadavg()[0]:.1f} after on "
        f"{os.cpu_count()} cores.\n"
        f'Episodes: of "{instruction_for(arguments.task)}", succeeded of finished.\n'
    )
    print(
        f"Next: {next_step(arguments.checkpoint or SIMULATION_POLICY, arguments.out)}\nBag: {bag}"
    )
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    print(f"Report: {report}")
    return 1 if problems else 0


def next_step(checkpoint: object, out: Path) -> str:
    """Return the command that goes on from here: other budgets on the recorded images."""
    return (
        f". ./env.sh && vla_pruner_replay {out / 'bag'} --checkpoint {checkpoint} "
        f"--out {out / 'replay'} --keep-ratio 1.0 0.25 0.125"
    )


def _metadata(observer: Observer, arguments: argparse.Namespace, bag: Path) -> dict[str, str]:
    info = run_info(PROGRAM.name)
    return {
        "Date": info["date"],
        "Command": info["command"],
        "Machine": info["machine"],
        "Load average": f"{observer.load_before:.1f} before, {os.getloadavg()[0]:.1f} after "
        f"(all programs; {os.cpu_count()} cores)",
        "Versions": info["versions"],
        "Instruction": instruction_for(arguments.task),
        "Task": arguments.task,
        "Checkpoint": str(arguments.checkpoint or SIMULATION_POLICY),
        "Bag": str(bag),
        "Next step": next_step(arguments.checkpoint or SIMULATION_POLICY, arguments.out),
    }
