"""One episode of a simulated task under a policy or its expert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import numpy as np

from vla_pruner_lab.rollout.expert import Expert
from vla_pruner_lab.rollout.flops import step_flops
from vla_pruner_ros.models.policy import (
    ActionChunk,
    Observation,
    PolicyError,
    PruningReport,
)
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.robots import Measured, assemble_state, decode_actions, load_profile
from vla_pruner_ros.sim.robot import ACTION_PERIOD, SimState, SimulatedRobot
from vla_pruner_ros.sim.tasks import instruction_for

CAMERAS = ("scene", "gripper")
HOLD_STILL = (0.0,) * 6


@dataclass(frozen=True)
class EpisodeResult:
    """Result of an episode; None if there is nothing to measure.

    actions: carried out. inferences: of the model. refused: inferences without a usable action: the
    robot held still instead. latency_ms: median of an inference. flops: mean of an inference,
    multiply-accumulates of the decoder's prompt. kept: mean visual tokens; kept_by_camera: of each.
    semantic_action_overlap, action_overlap: means over the steps that have them (PruningReport).
    """

    success: bool
    actions: int
    inferences: int = 0
    refused: int = 0
    latency_ms: float | None = None
    flops: float | None = None
    kept: float | None = None
    kept_by_camera: list[float] | None = None
    semantic_action_overlap: float | None = None
    action_overlap: float | None = None


class Agent(Protocol):
    """Source of the robot's actions."""

    def begin(self, robot: SimulatedRobot, instruction: str) -> None: ...

    def actions(self, state: SimState) -> np.ndarray:
        """Return the actions to carry out before the next call, [steps, 7]."""
        ...

    def measurements(self) -> dict[str, float | list[float] | None]:
        """Return fields of EpisodeResult."""
        ...


class ExpertAgent:
    """MetaWorld's expert, to check the evaluation itself."""

    def begin(self, robot: SimulatedRobot, instruction: str) -> None:
        """Begin an episode with an expert of this robot's task."""
        self._expert = Expert(robot)

    def actions(self, state: SimState) -> np.ndarray:
        """Return the expert's next action, float [1, 7]."""
        return self._expert.action()[None]

    def measurements(self) -> dict[str, float | None]:
        """Return nothing: an expert measures nothing."""
        return {}


class StillAgent:
    """Agent that holds still with an open hand; a task that this solves proves nothing."""

    def begin(self, robot: SimulatedRobot, instruction: str) -> None:
        """Begin an episode; nothing has to be prepared."""

    def actions(self, state: SimState) -> np.ndarray:
        """Return an action without motion, float [1, 7]."""
        return np.array([[*HOLD_STILL, 1.0]])

    def measurements(self) -> dict[str, float | None]:
        """Return nothing: holding still measures nothing."""
        return {}


class PolicyAgent:
    """A policy that sees what the robot's cameras see.

    The robot profile that its checkpoint names explains its numbers, as in the node.
    execute: actions of a chunk carried out before the next inference (None: all of them).
    unpruned_first: inferences at the start of each episode that see every token.
    """

    def __init__(
        self, policy: PrunedPolicy, execute: int | None = None, unpruned_first: int = 0
    ) -> None:
        self.policy, self.unpruned_first = policy, unpruned_first
        robot = getattr(policy, "robot", "")
        self.profile = load_profile(robot) if robot else None
        self.execute = min(execute or policy.chunk_size, policy.chunk_size)

    def begin(self, robot: SimulatedRobot, instruction: str) -> None:
        """Begin an episode: the policy is reset."""
        self.policy.reset()
        self._robot, self._instruction = robot, instruction
        self._reports: list[PruningReport] = []
        self._refused = 0

    def actions(self, state: SimState) -> np.ndarray:
        """Return the actions to execute, float [steps, 7]; hold still if the policy refuses."""
        observation = self.observe(state)
        try:
            chunk = self._act(observation)
        except PolicyError:
            self._refused += 1
            return np.array([[*HOLD_STILL, state.gripper_opening]])
        self._reports.append(chunk.pruning)
        return self._decoded(chunk.actions, state)[: self.execute]

    def _decoded(self, actions: np.ndarray, state: SimState) -> np.ndarray:
        """Return [steps, 7] in metres, radians and openings, as the node would command them."""
        if self.profile is None:
            return actions
        commands = decode_actions(self.profile, actions, measured(state), ACTION_PERIOD)
        return np.concatenate([commands.displacements, commands.openings], axis=1)

    def _act(self, observation: Observation) -> ActionChunk:
        if len(self._reports) + self._refused >= self.unpruned_first:
            return self.policy.act(observation)
        pruning = self.policy.pruning
        unpruned = replace(pruning, keep_ratio=1.0, token_budget=0, budget_mode="fixed")
        self.policy.pruning = unpruned
        try:
            return self.policy.act(observation)
        finally:
            self.policy.pruning = pruning

    def observe(self, state: SimState) -> Observation:
        """Return the policy's observation."""
        images = [self._robot.render(name) for name in CAMERAS[: self.policy.num_cameras]]
        return Observation(images, self._instruction, self._state(state))

    def _state(self, state: SimState) -> np.ndarray | None:
        """Return LIBERO's eight numbers or the nine joints, whichever has the policy's size."""
        if not self.policy.state_dim:
            return None
        if self.profile and self.profile.state_dim == self.policy.state_dim:
            return assemble_state(self.profile, measured(state))
        known = (state.proprioception, state.joint_positions)
        fitting = (values for values in known if len(values) == self.policy.state_dim)
        return next(fitting, state.joint_positions)

    def measurements(self) -> dict[str, float | list[float] | None]:
        """Return what the inferences of the episode measured, by name."""
        reports = self._reports
        flops = [step_flops(self.policy, self._instruction, report) for report in reports]
        return {
            "inferences": len(reports) + self._refused,
            "refused": self._refused,
            "latency_ms": _reduced(np.median, [1e3 * r.timings["total"] for r in reports]),
            "flops": _reduced(np.mean, flops),
            "kept": _reduced(np.mean, [r.tokens_kept for r in reports]),
            "kept_by_camera": _kept_by_camera(reports),
            "semantic_action_overlap": _reduced(
                np.mean, [r.semantic_action_overlap for r in reports]
            ),
            "action_overlap": _reduced(np.mean, [r.action_overlap for r in reports]),
        }


def _kept_by_camera(reports: list[PruningReport]) -> list[float] | None:
    counts = [[len(indices) for indices in report.kept_indices] for report in reports]
    return np.mean(counts, axis=0).tolist() if counts else None


def run_episode(robot: SimulatedRobot, agent: Agent, seed: int, max_actions: int) -> EpisodeResult:
    """Run an episode until the task has been done once or max_actions are carried out.

    Initial state and wording of the instruction follow from the seed.
    """
    state = robot.reset(seed)
    agent.begin(robot, instruction_for(robot.task, variant=seed))
    done = 0
    while done < max_actions and not state.success:
        for action in agent.actions(state)[: max_actions - done]:
            state = robot.step(action)
            done += 1
            if state.success:
                break
    return EpisodeResult(bool(state.success), done, **agent.measurements())


def measured(state: SimState) -> Measured:
    """Return the simulated robot as its topics would report it."""
    joints = dict(zip(state.joint_names, map(float, state.joint_positions), strict=True))
    return Measured(joints, state.end_effector_position, state.end_effector_quaternion)


def as_record(outcome: EpisodeResult) -> dict[str, object]:
    """Return the result as it is written to a file."""
    return asdict(outcome)


def _reduced(reduce: Callable, values: list[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(reduce(finite)) if finite else None
