"""One episode at two budgets side by side, with the kept tokens: a picture for docs/results.md.

python -m vla_pruner_ros.evaluation.episode_animation --task drawer-close --out docs/episode.webp

Each side is an episode of its own from the same initial state: the camera as the policy's first
camera saw it, pruned patches dimmed. The side that is done first waits for the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vla_pruner_ros.evaluation.closed_loop_episode import CAMERAS, PolicyAgent
from vla_pruner_ros.models.registry import load_policy
from vla_pruner_ros.overlay import draw_kept
from vla_pruner_ros.pruning.config import PRUNERS, WARM_UP_MODES, PruningConfig
from vla_pruner_ros.shipped import SIMULATION_POLICY, policy_directory
from vla_pruner_ros.sim.robot import SimState, SimulatedRobot
from vla_pruner_ros.sim.tasks import instruction_for, task_name

MILLISECONDS_A_FRAME = 120
CAPTION_HEIGHT = 18
MAX_ACTIONS = 120


class FilmedAgent(PolicyAgent):
    """A policy that remembers what it saw and kept.

    frames: uint8 [H, W, 3], one for each inference's picture and each action that followed it.
    """

    def begin(self, robot: SimulatedRobot, instruction: str) -> None:
        super().begin(robot, instruction)
        self.frames: list[np.ndarray] = []

    def film(self) -> None:
        """The scene now, with what the last inference kept."""
        report = self._reports[-1]
        picture = self._robot.render(CAMERAS[0])
        self.frames.append(draw_kept(picture, report.kept_indices[0], report.grid))

    def actions(self, state: SimState) -> np.ndarray:
        chunk = super().actions(state)
        if self._reports:
            self.film()
        return chunk


def film_episode(
    agent: FilmedAgent, task: str, seed: int, every: int
) -> tuple[list[np.ndarray], bool]:
    """Frames of one episode and whether it succeeded. every: actions from frame to frame."""
    robot = SimulatedRobot(task, cameras=CAMERAS)
    state, done = robot.reset(seed), 0
    agent.begin(robot, instruction_for(task, variant=seed))
    while done < MAX_ACTIONS and not state.success:
        for action in agent.actions(state):
            state = robot.step(action)
            done += 1
            if done % every == 0 or state.success:
                agent.film()
            if state.success:
                break
    robot.close()
    return agent.frames, bool(state.success)


def side_by_side(films: Sequence[Sequence[np.ndarray]], captions: Sequence[str]) -> list:
    """Pillow images; shorter films stand still at their end."""
    longest = max(map(len, films))
    pictures = []
    for index in range(longest):
        columns = [film[min(index, len(film) - 1)] for film in films]
        row = np.concatenate(columns, axis=1)
        picture = Image.new("RGB", (row.shape[1], row.shape[0] + CAPTION_HEIGHT), "white")
        picture.paste(Image.fromarray(row), (0, CAPTION_HEIGHT))
        for column, caption in enumerate(captions):
            ImageDraw.Draw(picture).text(
                (column * columns[0].shape[1] + 4, 3), caption, fill="black"
            )
        pictures.append(picture)
    return pictures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, default=policy_directory(SIMULATION_POLICY))
    add("--task", type=task_name, default="drawer-close")
    add("--seed", type=int, default=0)
    add("--pruner", choices=PRUNERS, default="vla_pruner")
    add("--keep-ratios", type=float, nargs=2, default=(1.0, 0.25))
    add("--warm-up", choices=WARM_UP_MODES, default="semantic")
    add("--execute", type=int, help="actions of a chunk before the next inference")
    add("--every", type=int, default=2, help="actions from frame to frame")
    add("--out", type=Path, default=Path("docs/episode.webp"))
    given = parser.parse_args(argv)
    policy = load_policy(given.checkpoint)
    films, captions = [], []
    for ratio in given.keep_ratios:
        policy.pruning = PruningConfig(pruner=given.pruner, keep_ratio=ratio, warm_up=given.warm_up)
        agent = FilmedAgent(policy, given.execute)
        frames, success = film_episode(agent, given.task, given.seed, given.every)
        films.append(frames)
        captions.append(f"tokens kept: {ratio:g}  " + ("done" if success else "not done"))
    first, *rest = side_by_side(films, captions)
    first.save(
        given.out, save_all=True, append_images=rest, duration=MILLISECONDS_A_FRAME, loop=0,
        quality=60, method=4,
    )  # fmt: skip
    print(f"{given.out}: {len(rest) + 1} frames, {given.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
