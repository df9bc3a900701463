"""One episode at two budgets side by side, with the kept tokens: an animation for the documents.

python -m vla_pruner_lab.closed_loop.episode_animation --task drawer-close     --out
docs/reference/episode.webp

Each side is an episode of its own from the same initial state: the camera as the policy's first
camera saw it, pruned patches dimmed. The side that is done first waits for the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vla_pruner_lab.rollout.episode import CAMERAS, PolicyAgent
from vla_pruner_ros.conversions.overlay import draw_kept
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.pruning.config import HISTORY_FILLS, METHOD_NAMES, PruningConfig
from vla_pruner_ros.resources import SIMULATION_POLICY, policy_directory
from vla_pruner_ros.sim.robot import SimState, SimulatedRobot
from vla_pruner_ros.sim.tasks import instruction_for, task_name

MILLISECONDS_A_FRAME = 120
LAST_FRAME_MILLISECONDS = 2000
SIDE = 336
"""Side length of one episode's frame, pixels."""
BAR, GAP, TEXT_SIZE = 26, 6, 15
MAX_ACTIONS = 120


@dataclass(frozen=True)
class FilmFrame:
    """Frame of a film.

    image: uint8 [H, W, 3]. caption: what it shows. actions: carried out so far.
    """

    image: np.ndarray
    caption: str
    actions: int


class FilmedAgent(PolicyAgent):
    """Agent whose policy is filmed: it remembers what it saw and kept."""

    def begin(self, robot: SimulatedRobot, instruction: str) -> None:
        super().begin(robot, instruction)
        self.frames: list[FilmFrame] = []
        self.carried_out = 0

    def film(self) -> None:
        """Store the current scene with what the last inference kept."""
        report = self._reports[-1]
        image = draw_kept(self._robot.render(CAMERAS[0]), report.kept_indices[0], report.grid)
        caption = f"{report.tokens_kept} of {report.tokens_total} visual tokens"
        self.frames.append(FilmFrame(image, caption, self.carried_out))

    def actions(self, state: SimState) -> np.ndarray:
        chunk = super().actions(state)
        if self._reports:
            self.film()
        return chunk


def film_episode(
    agent: FilmedAgent, task: str, seed: int, every: int
) -> tuple[list[FilmFrame], bool]:
    """Film one episode.

    Args:
        every: actions from frame to frame.

    Returns:
        The frames, and whether the episode succeeded.
    """
    robot = SimulatedRobot(task, cameras=CAMERAS)
    state = robot.reset(seed)
    agent.begin(robot, instruction_for(task, variant=seed))
    while agent.carried_out < MAX_ACTIONS and not state.success:
        for action in agent.actions(state):
            state = robot.step(action)
            agent.carried_out += 1
            if agent.carried_out % every == 0 or state.success:
                agent.film()
            if state.success:
                break
    robot.close()
    return agent.frames, bool(state.success)


def side_by_side(
    films: Sequence[Sequence[FilmFrame]], successes: Sequence[bool], title: str
) -> list[Image.Image]:
    """Lay films side by side, with captions above and the title below.

    A shorter film holds its last frame.
    """
    font = ImageFont.load_default(TEXT_SIZE)
    images = []
    for index in range(max(map(len, films))):
        image = Image.new("RGB", (len(films) * (SIDE + GAP) - GAP, SIDE + 2 * BAR), "white")
        draw = ImageDraw.Draw(image)
        for column, (film, success) in enumerate(zip(films, successes, strict=True)):
            frame, left = film[min(index, len(film) - 1)], column * (SIDE + GAP)
            large = Image.fromarray(frame.image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            image.paste(large, (left, BAR))
            draw.text((left + 6, 4), frame.caption, fill="#1c1f23", font=font)
            if index >= len(film) - 1:
                verdict = f"done in {frame.actions} actions" if success else "not done"
                draw.text((left + SIDE - 6, 4), verdict, fill="#0f8f76", font=font, anchor="ra")
        draw.text(
            (image.width // 2, image.height - 5), title, fill="#1c1f23", font=font, anchor="md"
        )
        images.append(image)
    return images


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, default=policy_directory(SIMULATION_POLICY))
    add("--task", type=task_name, default="drawer-close")
    add("--seed", type=int, default=0)
    add("--method", choices=METHOD_NAMES, default="vla_pruner")
    add("--keep-ratios", type=float, nargs=2, default=(1.0, 0.25))
    add("--history-fill", choices=HISTORY_FILLS, default="semantic")
    add("--execute", type=int, help="actions of a chunk before the next inference")
    add("--every", type=int, default=2, help="actions from frame to frame")
    add("--out", type=Path, default=Path("docs/reference/episode.webp"))
    given = parser.parse_args(argv)
    policy = load_policy(given.checkpoint)
    films, successes = [], []
    for ratio in given.keep_ratios:
        policy.pruning = PruningConfig(
            method=given.method, keep_ratio=ratio, history_fill=given.history_fill
        )
        agent = FilmedAgent(policy, given.execute)
        frames, success = film_episode(agent, given.task, given.seed, given.every)
        films.append(frames)
        successes.append(success)
    title = f"“{instruction_for(given.task, variant=given.seed)}”"
    first, *rest = side_by_side(films, successes, title)
    durations = [MILLISECONDS_A_FRAME] * len(rest) + [LAST_FRAME_MILLISECONDS]
    first.save(
        given.out, save_all=True, append_images=rest, duration=durations, loop=0,
        quality=70, method=4,
    )  # fmt: skip
    print(f"{given.out}: {len(rest) + 1} frames, {given.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
