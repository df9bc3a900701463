"""Success in closed loop: python -m vla_pruner_lab.closed_loop.run --checkpoint DIR.

Runs policies in the simulator with every method and budget from the same held-out initial states.
Each episode is a line of --out; a second run adds the missing ones only, so that an interrupted
evaluation goes on where it stopped. Episodes that decide most come first (experiments.py).
The evaluation itself is checked by --policy expert, the scripted experts, and --policy still, which
does not move.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from tqdm import tqdm

from vla_pruner_lab.closed_loop.experiments import (
    VARIED,
    EpisodeConfig,
    ExperimentConfig,
    make_episodes,
    make_experiments,
)
from vla_pruner_lab.closed_loop.records import (
    ALL_TASKS,
    EpisodeFile,
    aggregate,
    episode_key,
    read_episodes,
)
from vla_pruner_lab.common.machine import cpu_name
from vla_pruner_lab.common.markdown import text_table
from vla_pruner_lab.common.processes import run_in_processes
from vla_pruner_lab.common.program import COUNT, NATURAL, SHARE, checkpoint, lab_program, task
from vla_pruner_ros.models.checkpoints import is_trained, read_config, training_note
from vla_pruner_ros.models.loading import DTYPES, load_policy
from vla_pruner_ros.pruning.config import (
    ACTION_SOURCES,
    CAMERA_BUDGETS,
    HISTORY_FILLS,
    METHOD_NAMES,
    PRESETS,
    SEMANTIC_QUERIES,
    TOKEN_RECOVERIES,
    TOKEN_REUSES,
)

PROGRAM = lab_program(
    "closed_loop.run",
    __doc__,
    "--checkpoint openvla_oft_small --tasks drawer-close --episodes 10 --keep-ratios 1 0.25",
    "--policy expert --tasks drawer-close reach --episodes 5",
)
CHECKS = ("expert", "still")
"""Agents that may act instead of a checkpoint."""
DEFAULT_RATIOS = (1.0, 0.5, 0.25, 0.125, 0.0625)
MAX_ACTIONS = 120
"""Actions of 0.1 s an episode; the experts need at most 100 (demonstrations.collect)."""
PACKAGES = ("torch", "transformers", "numpy", "mujoco", "metaworld")


@dataclass(frozen=True)
class Subject:
    """Subject of an evaluation: a policy and how it acts; the same for all episodes of a call.

    policy: its name in the results. checkpoint: None where one of CHECKS acts. execute: actions of
    a chunk carried out before the next inference, None for all.
    """

    policy: str
    checkpoint: str | None
    device: str = "cpu"
    dtype: str = "float32"
    execute: int | None = None
    max_actions: int = MAX_ACTIONS
    image_size: int = 224


def run_one(subject: Subject, episode: EpisodeConfig) -> dict:
    """Run one episode; return its line of the results.

    Robot and policy stay loaded for the next call.
    """
    from vla_pruner_lab.rollout.episode import as_record, run_episode

    agent = _agent(subject, episode.experiment)
    robot = _robot(episode.task, subject.image_size)
    outcome = run_episode(robot, agent, episode.seed, subject.max_actions)
    method, keep_ratio, variant, task, seed = episode.key
    return {
        "policy": subject.policy,
        "method": method,
        "keep_ratio": keep_ratio,
        "variant": variant,
        "task": task,
        "seed": seed,
        **as_record(outcome),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=1)  # episodes of a task follow each other; a robot takes half a second to build
def _robot(task: str, image_size: int):
    from vla_pruner_lab.rollout.episode import CAMERAS
    from vla_pruner_ros.sim.robot import SimulatedRobot

    return SimulatedRobot(task, image_size=(image_size, image_size), cameras=CAMERAS)


@lru_cache(maxsize=1)
def _policy(subject: Subject):
    return load_policy(subject.checkpoint, device=subject.device, dtype=subject.dtype)


def _agent(subject: Subject, experiment: ExperimentConfig):
    from vla_pruner_lab.rollout import episode

    if subject.checkpoint is None:
        return episode.ExpertAgent() if experiment.method == "expert" else episode.StillAgent()
    policy = _policy(subject)
    policy.pruning = experiment.config()
    return episode.PolicyAgent(policy, subject.execute, experiment.unpruned_first)


def evaluate(
    subject: Subject, episodes: Sequence[EpisodeConfig], out: Path, processes: int = 0
) -> list[dict]:
    """Run the episodes that are not in `out` yet and append them.

    Args:
        processes: worker processes; 0 runs in this one.

    Returns:
        All lines of `out`.
    """
    file = EpisodeFile(out)
    done = {episode_key(line) for line in file.episodes}
    missing = [episode for episode in episodes if (subject.policy, *episode.key) not in done]
    with tqdm(total=len(episodes), initial=len(episodes) - len(missing), unit="episode") as bar:
        for line in _run_all(subject, missing, processes):
            file.add(line)
            bar.set_postfix_str(f"{line['method']} {line['keep_ratio']} {line['task']}")
            bar.update()
    return file.episodes


def _run_all(subject: Subject, missing: list[EpisodeConfig], processes: int) -> Iterator[dict]:
    if processes == 0:
        yield from (run_one(subject, episode) for episode in missing)
        return
    yield from run_in_processes(_Runner(subject), missing, processes, _use_one_thread)


@dataclass(frozen=True)
class _Runner:
    """run_one for one subject, as a pool can send it."""

    subject: Subject

    def __call__(self, episode: EpisodeConfig) -> dict:
        return run_one(self.subject, episode)


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def fingerprint(checkpoint: Path) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 over all files, names included.

    The package's own section of config.json is left out: it describes the training and names the
    robot profile, and an evaluation stays comparable when a description is added.
    """
    digest = hashlib.sha256()
    for path in sorted(checkpoint.iterdir()):
        if path.is_file():
            digest.update(path.name.encode())
            if path.name == "config.json":
                config = json.loads(path.read_text())
                config.pop("vla_pruner_ros", None)
                digest.update(json.dumps(config, sort_keys=True).encode())
                continue
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()[:12]


def note_run(runs: Path, subject: Subject, arguments: Sequence[str]) -> None:
    """Append the settings of this call to `runs`, next to the episodes.

    Raises:
        ValueError: the episodes there have this name, but other weights or settings.
    """
    same = {
        "policy": subject.policy,
        "fingerprint": subject.checkpoint and fingerprint(Path(subject.checkpoint)),
        "execute": subject.execute,
        "max_actions": subject.max_actions,
        "image_size": subject.image_size,
        "dtype": subject.dtype,
    }
    for earlier in read_episodes(runs):
        if earlier["policy"] == subject.policy and any(earlier[k] != same[k] for k in same):
            raise ValueError(
                f"{runs} has episodes of {subject.policy!r} with other weights or settings; "
                "give another --policy-name or --out"
            )
    EpisodeFile(runs).add(
        {**same, **_training(subject.checkpoint), **_circumstances(subject, arguments)}
    )


def _training(checkpoint: str | None) -> dict:
    """Return the checkpoint's record of its training; None if it has none."""
    if checkpoint is None:
        return {"trained": None, "training": None}
    config = read_config(Path(checkpoint))
    return {"trained": is_trained(config), "training": training_note(config) or None}


def _circumstances(subject: Subject, arguments: Sequence[str]) -> dict:
    on_gpu = subject.device.startswith("cuda")
    processor = f"{cpu_name()}, {os.cpu_count()} cores"
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m vla_pruner_lab.closed_loop.run " + shlex.join(arguments),
        "device": torch.cuda.get_device_name() if on_gpu else processor,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def runs_path(out: Path) -> Path:
    """Return the file that lists the calls which wrote a file of episodes."""
    return out.with_suffix(".runs.jsonl")


def format_table(records: list[dict]) -> str:
    """Return a text table with one line an experiment, over all its tasks."""
    rows = [
        (
            record["method"],
            f"{record['keep_ratio']:g}",
            f"{record['success_rate']:.1%}",
            f"{record['ci_low']:.0%}..{record['ci_high']:.0%}",
            record["episodes"],
            None if record["latency_ms"] is None else f"{record['latency_ms']:.1f}",
            record["variant"],
        )
        for record in records
        if record["task"] == ALL_TASKS
    ]
    headers = ("method", "keep", "success", "95 %", "episodes", "ms", "variant")
    return text_table(headers, rows)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--policy", choices=("checkpoint", *CHECKS), default="checkpoint", help="who acts")
    add("--checkpoint", type=checkpoint, help="folder of the policy, or a bundled name")
    add("--policy-name", help="in the results; by default the checkpoint's folder")
    add("--tasks", nargs="+", type=task, help="by default those it was trained on")
    add("--methods", nargs="+", choices=METHOD_NAMES, default=METHOD_NAMES)
    add("--keep-ratios", nargs="+", type=SHARE, default=DEFAULT_RATIOS)
    add("--episodes", type=COUNT, default=50, help="of each task in each experiment")
    add("--first-seed", type=int, default=0, help="of the initial states")
    add("--out", type=Path, default=Path("out/results.jsonl"),
        help="file to which missing episodes are added")  # fmt: skip
    add("--processes", type=NATURAL, default=1, help="0: in this one")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", choices=DTYPES, default="float32")
    add(
        "--execute", type=COUNT, help="actions of a chunk before the next inference; all by default"
    )
    add("--max-actions", type=COUNT, default=MAX_ACTIONS, help="of an episode")
    add("--image-size", type=int, default=224, help="of the cameras, pixels")
    add("--preset", nargs="+", choices=PRESETS, default=[], help="of the method's settings")
    add("--temporal-window", nargs="+", type=int, default=[], help="w, several for an ablation")
    add("--temporal-decay", nargs="+", type=float, default=[], help="gamma")
    add("--prune-layer", nargs="+", type=int, default=[], help="K")
    add("--semantic-queries", nargs="+", choices=SEMANTIC_QUERIES, default=[])
    add("--coverage", nargs="+", type=float, default=[], help="share of the budget")
    add("--camera-budget", nargs="+", choices=CAMERA_BUDGETS, default=[])
    add("--action-source", nargs="+", choices=ACTION_SOURCES, default=[])
    add("--token-recovery", nargs="+", choices=TOKEN_RECOVERIES, default=[])
    add("--history-fill", nargs="+", choices=HISTORY_FILLS, default=[])
    add("--unpruned-first", nargs="+", type=int, default=[0],
        help="unpruned inferences at the start of an episode, with every method")  # fmt: skip
    add("--token-reuse", nargs="+", choices=TOKEN_REUSES[1:], default=[],
        help="also the unpruned policy that keeps keys and values, for openvla")  # fmt: skip
    given = parser.parse_args(argv)
    if given.policy == "checkpoint" and given.checkpoint is None:
        parser.error("give --checkpoint, or --policy expert or still")
    return given


def _subject(given: argparse.Namespace) -> Subject:
    common = {"max_actions": given.max_actions, "image_size": given.image_size}
    if given.policy in CHECKS:
        return Subject(given.policy_name or given.policy, None, **common)
    return Subject(
        given.policy_name or given.checkpoint.resolve().name,
        str(given.checkpoint),
        given.device,
        given.dtype,
        given.execute,
        **common,
    )


def _tasks(given: argparse.Namespace) -> list[str]:
    if given.tasks:
        return given.tasks
    if given.checkpoint is not None:
        trained_on = training_note(read_config(given.checkpoint)).get("tasks")
        if trained_on:
            return trained_on
    raise ValueError("the checkpoint does not name the tasks it was trained on; give --tasks")


@PROGRAM.main
def main(argv: list[str]) -> int:
    given = _arguments(argv)
    subject = _subject(given)
    varied = {name: getattr(given, name) for name in VARIED}
    experiments = (
        [ExperimentConfig(given.policy, 1.0)]
        if given.policy in CHECKS
        else make_experiments(
            given.methods, given.keep_ratios, varied, given.unpruned_first, given.token_reuse
        )
    )
    episodes = list(make_episodes(experiments, _tasks(given), given.episodes, given.first_seed))
    from vla_pruner_ros.sim import backend  # noqa: F401  a missing simulator shows before the work

    note_run(runs_path(given.out), subject, argv)
    print(f"{len(episodes)} episodes of {subject.policy}; results go to {given.out}", flush=True)
    lines = evaluate(subject, episodes, given.out, given.processes)
    print(format_table(aggregate(line for line in lines if line["policy"] == subject.policy)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
