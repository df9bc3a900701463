"""Collect demonstrations of the scripted experts: python -m vla_pruner_lab.demonstrations.collect.

Every shard has seeds of its own, so that the result depends neither on the number of processes nor
on interruptions; a second run adds only the shards that are missing.

With --policy, a policy moves the arm at first and the expert takes over where that got it: what
the expert does then is recorded, so that the policy can learn a way out of its own mistakes (after
Ross et al. 2011, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
Learning", with long stretches of the expert instead of single actions: chunks need them).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vla_pruner_lab.common.markdown import text_table
from vla_pruner_lab.common.processes import run_in_processes
from vla_pruner_lab.common.program import COUNT, checkpoint, lab_program, task
from vla_pruner_lab.demonstrations.dataset import ShardWriter, encode_jpeg
from vla_pruner_lab.rollout.seeds import TRAINING_SEEDS
from vla_pruner_ros.sim.tasks import INSTRUCTIONS

PROGRAM = lab_program("demonstrations.collect", __doc__, "--tasks drawer-close --episodes 10")
DEFAULT_TASKS = (
    "reach", "push", "pick-place",  # the same scene: only the instruction differs
    "drawer-open", "drawer-close", "window-open", "window-close",
    "faucet-open", "faucet-close",  # the same scene again
    "door-close", "button-press-topdown", "handle-press",
)  # fmt: skip
CAMERAS = ("scene", "gripper")
SEEDS_PER_SHARD = 1000
MAX_ATTEMPTS_PER_EPISODE = 5
SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class CollectionSettings:
    """Settings that identify a collection.

    image_size: pixels, square. noise: standard deviation (m) of what is added to each executed
    displacement; an episode draws its own share of it. jitter: share of the camera views' largest
    random shift, also drawn per episode. max_actions: longest episode. policy: checkpoint that
    begins, none where empty; policy_actions: at most so many, drawn per episode, unrecorded.
    """

    image_size: int = 224
    noise: float = 0.01
    jitter: float = 0.5
    max_actions: int = 100
    actions_after_success: int = 3
    episodes_per_shard: int = 10
    seed: int = 0
    policy: str = ""
    policy_actions: int = 60


@dataclass(frozen=True)
class Shard:
    """One file to be written."""

    path: Path
    task: str
    number: int
    settings: CollectionSettings


@lru_cache(maxsize=1)  # shards of a task follow each other; a robot takes half a second to build
def _robot(task: str, image_size: int):
    from vla_pruner_ros.sim.robot import SimulatedRobot

    return SimulatedRobot(task, image_size=(image_size, image_size), cameras=CAMERAS)


@lru_cache(maxsize=1)
def _agent(checkpoint: str):
    import torch

    from vla_pruner_lab.rollout.episode import PolicyAgent
    from vla_pruner_ros.models.loading import load_policy
    from vla_pruner_ros.pruning.config import PruningConfig

    torch.set_num_threads(1)  # one process a core
    return PolicyAgent(load_policy(checkpoint, pruning=PruningConfig(method="full")), execute=1)


def collect_shard(shard: Shard) -> dict:
    """Write one shard; return its task, episodes, attempts, frames and bytes.

    Raises:
        RuntimeError: the expert fails too often.
    """
    settings = shard.settings
    robot = _robot(shard.task, settings.image_size)
    writer = ShardWriter(CAMERAS)
    first_seed = TRAINING_SEEDS * (1 + settings.seed) + shard.number * SEEDS_PER_SHARD
    attempts = 0
    while len(writer) < settings.episodes_per_shard:
        if attempts == settings.episodes_per_shard * MAX_ATTEMPTS_PER_EPISODE:
            raise RuntimeError(
                f"{shard.task} gave only {len(writer)} of the expert's successes in {attempts} "
                "attempts; use less noise, another task, or fewer actions of the policy"
            )
        _attempt(robot, writer, first_seed + attempts, settings)
        attempts += 1
    writer.save(shard.path, attempts)
    return {
        "task": shard.task,
        "episodes": len(writer),
        "attempts": attempts,
        "frames": writer.frames,
        "bytes": shard.path.stat().st_size,
    }


def _attempt(robot, writer: ShardWriter, seed: int, settings: CollectionSettings) -> None:
    """Record one episode, or nothing if the expert failed."""
    from vla_pruner_lab.rollout.expert import Expert
    from vla_pruner_ros.sim.rendering import DEFAULT_VIEWS

    rng = np.random.default_rng(seed)
    noise = settings.noise * rng.uniform()
    for camera in CAMERAS:
        robot.set_view(camera, DEFAULT_VIEWS[camera].jittered(rng, settings.jitter))
    instruction = str(rng.choice(INSTRUCTIONS[robot.task]))
    state = robot.reset(seed)
    if settings.policy:
        actions = int(rng.integers(settings.policy_actions + 1))
        state = _begin(robot, state, instruction, actions, settings.policy)
        if state.success:
            return
    expert = Expert(robot)
    actions_left, succeeded = settings.max_actions, False
    while actions_left > 0:
        images = [encode_jpeg(robot.render(camera)) for camera in CAMERAS]
        action = expert.action()
        writer.add_frame(images, action, state.proprioception, state.joint_positions)
        disturbance = np.append(rng.normal(0, noise, 3), np.zeros(4))
        state = robot.step(action + disturbance)
        actions_left -= 1
        if state.success and not succeeded:
            succeeded = True  # once is enough, as in evaluation: a pressed handle springs back
            actions_left = min(actions_left, settings.actions_after_success)
    if succeeded:
        writer.end_episode(seed, instruction)
    else:
        writer.drop_episode()


def _begin(robot, state, instruction: str, actions: int, checkpoint: str):
    """Let the policy act; return the state that it left."""
    agent = _agent(checkpoint)
    agent.begin(robot, instruction)
    for _ in range(actions):
        state = robot.step(agent.actions(state)[0])
        if state.success:
            break
    return state


def plan(
    folder: Path, tasks: tuple[str, ...], episodes: int, settings: CollectionSettings
) -> list[Shard]:
    """Return the missing shards of `episodes` of each task."""
    shards = -(-episodes // settings.episodes_per_shard)
    missing = [
        Shard(folder / task / f"{number:05d}.npz", task, number, settings)
        for task in tasks
        for number in range(shards)
    ]
    return [shard for shard in missing if not shard.path.exists()]


def check_settings(folder: Path, settings: CollectionSettings) -> None:
    """Note the settings in the folder.

    Raises:
        ValueError: the folder was collected with other settings.
    """
    path = folder / SETTINGS_FILE
    if path.exists():
        found = {**asdict(CollectionSettings()), **json.loads(path.read_text())}
        if found != asdict(settings):
            raise ValueError(f"{folder} was collected with {found}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(settings), indent=2) + "\n")


def collect(
    folder: Path, tasks: tuple[str, ...], episodes: int, settings: CollectionSettings, workers: int
) -> list[dict]:
    """Collect what is missing; return one record per new shard, see collect_shard."""
    check_settings(folder, settings)
    missing = plan(folder, tasks, episodes, settings)
    bar = tqdm(total=len(missing) * settings.episodes_per_shard, unit="episode")
    records = []
    with bar:
        for record in run_in_processes(collect_shard, missing, workers):
            records.append(record)
            bar.set_postfix_str(record["task"])
            bar.update(record["episodes"])
    return records


def print_summary(records: list[dict]) -> None:
    """Print the experts' success and the data volume, per task."""
    rows = []
    for name in sorted({record["task"] for record in records}):
        own = [record for record in records if record["task"] == name]
        total = {key: sum(r[key] for r in own) for key in own[0] if key != "task"}
        rate = total["episodes"] / total["attempts"]
        volume = total["bytes"] / total["frames"]
        rows.append((name, total["episodes"], f"{rate:.0%}", total["frames"], f"{volume:.0f}"))
    headers = ("task", "episodes", "expert success", "frames", "bytes/frame")
    print(text_table(headers, rows))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = PROGRAM.parser()
    defaults = CollectionSettings()
    parser.add_argument("--out", type=Path, default=Path("out/demonstrations"),
        help="folder to which missing shards are added")  # fmt: skip
    parser.add_argument("--tasks", nargs="+", type=task, default=DEFAULT_TASKS)
    parser.add_argument("--episodes", type=COUNT, default=100, help="per task")
    parser.add_argument("--workers", type=COUNT, default=2, help="processes")
    parser.add_argument("--image-size", type=int, default=defaults.image_size, help="pixels")
    parser.add_argument("--noise", type=float, default=defaults.noise, help="of the motion (m)")
    parser.add_argument("--jitter", type=float, default=defaults.jitter, help="of the views, 0..1")
    parser.add_argument("--episodes-per-shard", type=COUNT, default=defaults.episodes_per_shard)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    add = parser.add_argument
    add("--policy", type=checkpoint, help="checkpoint that begins")
    add("--policy-actions", type=int, default=defaults.policy_actions, help="at most so many")
    return parser.parse_args(argv)


@PROGRAM.main
def main(argv: list[str]) -> int:
    given = _arguments(argv)
    settings = CollectionSettings(
        image_size=given.image_size,
        noise=given.noise,
        jitter=given.jitter,
        episodes_per_shard=given.episodes_per_shard,
        seed=given.seed,
        policy=str(given.policy or ""),
        policy_actions=given.policy_actions,
    )
    from vla_pruner_ros.sim import backend  # noqa: F401  a missing simulator shows before the work

    records = collect(given.out, tuple(given.tasks), given.episodes, settings, given.workers)
    if records:
        print_summary(records)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
