"""Filmed episodes of a policy: the images of its first camera with the kept tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_pruner_lab.closed_loop.film_frames import FilmFrame
from vla_pruner_lab.rollout.episode import CAMERAS, PolicyAgent
from vla_pruner_ros.conversions.overlay import draw_kept
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.sim.robot import SimState, SimulatedRobot
from vla_pruner_ros.sim.tasks import instruction_for

MAX_ACTIONS = 120


class FilmedAgent(PolicyAgent):
    """Agent whose policy is filmed: it remembers what it saw and kept."""

    def begin(self, robot: SimulatedRobot, instruction: str) -> None:
        """Begin an episode without frames."""
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
        """Return the policy's actions, float [steps, 7], and film what it saw."""
        chunk = super().actions(state)
        if self._reports:
            self.film()
        return chunk

    @property
    def tokens(self) -> tuple[int, int]:
        """Visual tokens that the last inference kept, and all of them."""
        return self._reports[-1].tokens_kept, self._reports[-1].tokens_total


@dataclass(frozen=True)
class FilmedEpisode:
    """One episode: its frames, whether it succeeded, its actions, and (kept, all) tokens."""

    frames: list[FilmFrame]
    success: bool
    actions: int
    tokens: tuple[int, int]


def film_episode(
    policy: PrunedPolicy, pruning: PruningConfig, task: str, seed: int, every: int
) -> FilmedEpisode:
    """Film one episode under the policy; every chunk is played to its end.

    Args:
        every: actions from frame to frame.
    """
    policy.pruning = pruning
    agent = FilmedAgent(policy)
    robot = SimulatedRobot(task, cameras=CAMERAS)
    state = robot.reset(seed)
    agent.begin(robot, instruction_for(task))
    while agent.carried_out < MAX_ACTIONS and not state.success:
        for action in agent.actions(state):
            state = robot.step(action)
            agent.carried_out += 1
            if agent.carried_out % every == 0 or state.success:
                agent.film()
            if state.success or agent.carried_out == MAX_ACTIONS:
                break
    robot.close()
    return FilmedEpisode(agent.frames, bool(state.success), agent.carried_out, agent.tokens)
