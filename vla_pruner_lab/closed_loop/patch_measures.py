"""Measures of the patches that each method keeps, on the views of an expert's episode."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vla_pruner_lab.closed_loop.experiments import ExperimentConfig
from vla_pruner_lab.closed_loop.kept_patches_page import draw_sheet, sheet_name, write_page
from vla_pruner_lab.closed_loop.records import EpisodeFile
from vla_pruner_lab.closed_loop.run import fingerprint
from vla_pruner_lab.rollout.episode import CAMERAS, PolicyAgent
from vla_pruner_lab.rollout.expert import Expert
from vla_pruner_ros.models.checkpoints import read_config, training_note
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.sim.robot import PARTS, SimulatedRobot
from vla_pruner_ros.sim.tasks import instruction_for

MAX_ACTIONS = 100
SHOWN = ("vla_pruner", "sparsevlm", "fastv", "text_attention", "geoscaffold", "dart", "divprune")
"""Methods in the image, in this order."""
PAPER = (("preset", "paper"), ("history_fill", "semantic"))
"""Settings of the image's second vla_pruner."""
KEY = (
    "policy", "weights", "execute", "max_actions", "starts",
    "method", "keep_ratio", "variant", "task",
)  # fmt: skip
"""Lines that agree in these are the same measurement."""
COVERED = 0.125
"""Smallest share of a patch's area that counts as showing a part; a patch may show several."""


@dataclass(frozen=True)
class View:
    """Input of the policy at one instant.

    parts: bool [len(PARTS), M]: which visual tokens, all cameras, show each part.
    """

    observation: Observation
    parts: np.ndarray


@dataclass(frozen=True)
class Places:
    """Means over the views of a task; None where no view shows the part.

    found: of the patches that show the part, the share that was kept. share: of the kept patches,
    the share that shows it. action_change: distance between the displacement and the unpruned
    policy's, relative to the mean length of the latter.
    """

    views: int
    kept: float
    found: dict[str, float | None]
    share: dict[str, float]
    action_change: float


@dataclass(frozen=True)
class Schedule:
    """Length of the episodes: actions from one view to the next, and at most until the end."""

    execute: int
    max_actions: int = MAX_ACTIONS


def record_views(policy: PrunedPolicy, task: str, seed: int, schedule: Schedule) -> list[View]:
    """Return the expert's episode, one view for each instant at which the policy would run."""
    robot = SimulatedRobot(task, cameras=CAMERAS)
    state = robot.reset(seed)
    agent, expert = PolicyAgent(policy), Expert(robot)
    agent.begin(robot, instruction_for(task, variant=seed))
    views, done = [], 0
    while done < schedule.max_actions and not state.success:
        views.append(View(agent.observe(state), parts_seen(policy, robot)))
        for _ in range(schedule.execute):
            state = robot.step(expert.action())
            done += 1
    robot.close()
    return views


def parts_seen(policy: PrunedPolicy, robot: SimulatedRobot) -> np.ndarray:
    """Return View.parts, through the policy's own resizing and cropping.

    Returns:
        bool [len(PARTS), M].
    """
    images = [robot.parts(name) for name in CAMERAS[: policy.num_cameras]]
    return np.stack(
        [
            np.concatenate([_patches_covered(policy, image == part) for image in images])
            for part in range(len(PARTS))
        ]
    )


def _patches_covered(policy: PrunedPolicy, mask: np.ndarray) -> np.ndarray:
    """Convert a mask of a camera, bool [H, W], into one of its patches, bool [rows * columns]."""
    shown = policy.preview(np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=2))[..., 0]
    rows, columns = policy.grid
    height, width = shown.shape[0] // rows, shown.shape[1] // columns
    patches = shown[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return (patches > 127).mean(axis=(1, 3)).ravel() >= COVERED


def kept_tokens(policy: PrunedPolicy, kept_indices: Sequence[np.ndarray]) -> np.ndarray:
    """Convert PruningReport.kept_indices into a mask of all visual tokens, bool [M]."""
    patches = policy.grid[0] * policy.grid[1]
    kept = np.zeros((len(kept_indices), patches), bool)
    for camera, indices in enumerate(kept_indices):
        kept[camera, indices] = True
    return kept.ravel()


def look(
    policy: PrunedPolicy, experiment: ExperimentConfig, episode: Sequence[View], execute: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run the policy over one episode.

    Returns:
        Kept tokens bool [views, M] and displacements [views, execute, 3] (m).
    """
    policy.pruning = experiment.config()
    policy.reset()
    chunks = [policy.act(view.observation) for view in episode]
    kept = np.stack([kept_tokens(policy, chunk.pruning.kept_indices) for chunk in chunks])
    return kept, np.stack([chunk.actions[:execute, :3] for chunk in chunks])


def measure(kept: np.ndarray, parts: np.ndarray, moves: np.ndarray, unpruned: np.ndarray) -> Places:
    """Compute the measures of one method over some views.

    Args:
        kept: bool [V, M].
        parts: bool [V, len(PARTS), M].
        moves: displacements of the method, [V, steps, 3] (m).
        unpruned: displacements of the unpruned policy, [V, steps, 3] (m).
    """
    both = (parts & kept[:, None]).sum(axis=2)
    shown, total = parts.sum(axis=2), kept.sum(axis=1)
    found = {
        part: float((both[seen, i] / shown[seen, i]).mean()) if seen.any() else None
        for i, part in enumerate(PARTS)
        for seen in (shown[:, i] > 0,)
    }
    share = {part: float((both[:, i] / total).mean()) for i, part in enumerate(PARTS)}
    length = np.linalg.norm(unpruned, axis=-1).mean()
    change = np.linalg.norm(moves - unpruned, axis=-1).mean() / max(length, 1e-9)
    return Places(len(kept), float(total.mean()), found, share, float(change))


def measure_task(
    policy: PrunedPolicy,
    experiments: Sequence[ExperimentConfig],
    task: str,
    seeds: Sequence[int],
    schedule: Schedule,
) -> Iterator[tuple[ExperimentConfig, Places]]:
    """Yield every experiment and its measures, over the same episodes of a task."""
    episodes = [record_views(policy, task, seed, schedule) for seed in seeds]
    execute = schedule.execute
    parts = np.stack([view.parts for episode in episodes for view in episode])
    full = [
        look(policy, ExperimentConfig("full", 1.0), episode, execute)[1] for episode in episodes
    ]
    for experiment in experiments:
        looked = [look(policy, experiment, episode, execute) for episode in episodes]
        kept, moves = (np.concatenate(values) for values in zip(*looked, strict=True))
        yield experiment, measure(kept, parts, moves, np.concatenate(full))


def run(
    given: argparse.Namespace, policy: PrunedPolicy, experiments: Sequence[ExperimentConfig]
) -> list[dict]:
    """Measure what is missing; return all lines of --out."""
    file, schedule = EpisodeFile(given.out), _schedule(given, policy)
    common = {
        "policy": _name(given),
        "weights": fingerprint(given.checkpoint),
        **asdict(schedule),
        "starts": given.episodes,
    }
    done = {_key(line) for line in file.episodes}
    missing = {
        task: [c for c in experiments if _key({**common, **_named(c), "task": task}) not in done]
        for task in given.tasks or training_note(read_config(given.checkpoint))["tasks"]
    }
    with tqdm(total=sum(map(len, missing.values())), unit="experiment") as bar:
        for task in filter(missing.get, missing):
            seeds = range(given.episodes)
            for experiment, places in measure_task(policy, missing[task], task, seeds, schedule):
                date = datetime.now(timezone.utc).date().isoformat()
                line = {
                    **common,
                    **_named(experiment),
                    "task": task,
                    **asdict(places),
                    "date": date,
                }
                file.add(line)
                bar.update()
    return file.episodes


def make_sheet(
    policy: PrunedPolicy,
    experiments: Sequence[ExperimentConfig],
    tasks: Sequence[str],
    schedule: Schedule,
    path: Path,
) -> None:
    """Draw the middle of one episode of each task: the patches of the first camera each
    experiment keeps.
    """
    rows, patches = [], policy.grid[0] * policy.grid[1]
    for task in tasks:
        episode = record_views(policy, task, 0, schedule)
        middle = len(episode) // 2
        kept = {
            c: look(policy, c, episode[: middle + 1], schedule.execute)[0][-1, :patches]
            for c in experiments
        }
        methods = [(_label(c), np.flatnonzero(k)) for c, k in kept.items()]
        rows.append((policy.preview(episode[middle].observation.images[0]), methods))
    draw_sheet(rows, policy.grid).save(path, quality=80, method=4)


def _label(experiment: ExperimentConfig) -> str:
    preset = dict(experiment.settings).get("preset", "")
    return " ".join(filter(None, (experiment.method, preset, f"{experiment.keep_ratio:g}")))


def _named(experiment: ExperimentConfig) -> dict:
    return {
        "method": experiment.method,
        "keep_ratio": experiment.keep_ratio,
        "variant": experiment.variant,
    }


def _key(line: dict) -> tuple:
    return tuple(line[name] for name in KEY)


def _name(given: argparse.Namespace) -> str:
    return given.policy_name or given.checkpoint.resolve().name


def _schedule(given: argparse.Namespace, policy: PrunedPolicy) -> Schedule:
    return Schedule(min(given.execute or policy.chunk_size, policy.chunk_size), given.max_actions)


def publish(
    given: argparse.Namespace,
    policy: PrunedPolicy,
    experiments: Sequence[ExperimentConfig],
    lines: list[dict],
) -> None:
    """Write the page and its image: SHOWN at the smallest ratio, with the settings nearest to the
    defaults, and vla_pruner also as the paper has it.
    """
    smallest = min(experiment.keep_ratio for experiment in experiments)
    nearest = min((experiment.settings for experiment in experiments), key=len)
    shown = [ExperimentConfig(name, smallest, nearest) for name in SHOWN]
    shown.insert(1, ExperimentConfig("vla_pruner", smallest, PAPER))
    given.page.mkdir(parents=True, exist_ok=True)
    sheet = given.page / sheet_name(_name(given))
    make_sheet(policy, shown, given.sheet_tasks, _schedule(given, policy), sheet)
    write_page(given.page, lines)
