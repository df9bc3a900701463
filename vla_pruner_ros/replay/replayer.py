"""Inputs of a bag through a policy, under one pruning setting."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vla_pruner_ros.models.policy import ActionChunk, Observation, PolicyError, VlaPolicy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.replay.history import History
from vla_pruner_ros.replay.inputs.recorded import Kept
from vla_pruner_ros.replay.inputs.sample import ReplayInput
from vla_pruner_ros.robots import RobotProfile

RECORDED = "recorded settings"
FULL = "full"


@dataclass(frozen=True)
class ReplaySetting:
    """A name and the pruning to replay with; None: that of each recorded inference.

    series: name of the settings that differ from this one in their budget alone.
    """

    name: str
    pruning: PruningConfig | None
    series: str = ""


@dataclass(frozen=True)
class Step:
    """One replayed inference.

    actions: float32 [steps, width], None if there is a problem.
    seconds: of policy.act() alone. tokens: kept, total.
    """

    index: int
    stamp: int
    instruction: str
    reset: str
    actions: np.ndarray | None = None
    kept: Kept | None = None
    seconds: float = float("nan")
    tokens: tuple[int, int] = (0, 0)
    history_incomplete: bool = False
    history_length: int = 0
    history_known: bool = True
    problem: str = ""


@dataclass
class Run:
    """All steps of one setting; reading_seconds: reading and converting the frames, without the
    policy."""

    setting: ReplaySetting
    steps: list[Step] = field(default_factory=list)
    reading_seconds: float = 0.0

    @property
    def done(self) -> list[Step]:
        """Steps with actions."""
        return [step for step in self.steps if step.actions is not None]

    @property
    def problems(self) -> list[Step]:
        """Steps that failed."""
        return [step for step in self.steps if step.problem]


class Replayer:
    """Loop over inputs with one policy; while it runs, the policy is this object's alone.

    joints: order of the state without a profile. profile: what the numbers mean on the robot.
    """

    def __init__(
        self,
        policy: VlaPolicy,
        joints: Sequence[str] = (),
        profile: RobotProfile | None = None,
    ) -> None:
        self._policy, self._profile = policy, profile
        self._joints = tuple(joints)
        self._warm = False

    def run(
        self, inputs: Iterable[ReplayInput], run: Run
    ) -> Iterator[tuple[ReplayInput, Step, ActionChunk | None]]:
        """Replay the inputs in order under run.setting, and add each step to the run as it is done.

        Yields:
            The input, its step and the policy's chunk, None if there is a problem.
        """
        history = History()
        started = time.perf_counter()
        for replay_input in inputs:
            known = replay_input.recorded is None or history.covers(replay_input.recorded)
            step, chunk, ended = self._step(replay_input, run.setting, known)
            run.reading_seconds += ended - started
            if replay_input.recorded is not None:
                history.add(replay_input.recorded, replayed=not step.problem)
            run.steps.append(step)
            yield replay_input, step, chunk
            started = time.perf_counter()

    def _step(
        self, replay_input: ReplayInput, setting: ReplaySetting, known: bool
    ) -> tuple[Step, ActionChunk | None, float]:
        """Do one inference; also return when its reading and converting was over."""
        if replay_input.reset:
            self._policy.reset()
        blank = Step(
            replay_input.index, replay_input.stamp, replay_input.instruction, replay_input.reset
        )
        try:
            observation = replay_input.observation(
                self._joints, self._policy.state_dim > 0, self._profile
            )
            converted = time.perf_counter()
            self._prepare(observation, self._pruning(replay_input, setting))
            called = time.perf_counter()
            chunk = self._policy.act(observation)
        except (ValueError, PolicyError) as error:
            problem = " ".join(str(error).split())
            return replace(blank, problem=problem), None, time.perf_counter()
        seconds = time.perf_counter() - called
        return _with_chunk(blank, chunk, seconds, known), chunk, converted

    def _pruning(self, replay_input: ReplayInput, setting: ReplaySetting) -> PruningConfig:
        if setting.pruning is not None:
            return setting.pruning
        if replay_input.recorded is None or replay_input.recorded.pruning is None:
            raise ValueError("the bag has no settings for this inference (no PruningStatus)")
        return replay_input.recorded.pruning

    def _prepare(self, observation: Observation, pruning: PruningConfig) -> None:
        if self._policy.pruning != pruning:
            self._policy.pruning = pruning
        if not self._warm:  # the first call of a process is slow and would be a false worst case
            self._policy.act(observation)
            self._policy.reset()
            self._warm = True


def _with_chunk(blank: Step, chunk: ActionChunk, seconds: float, known: bool) -> Step:
    report = chunk.pruning
    indices = tuple(np.asarray(kept, dtype=np.uint16) for kept in report.kept_indices)
    return replace(
        blank,
        actions=np.array(chunk.actions, dtype=np.float32),
        kept=Kept(indices, tuple(report.grid)),
        seconds=seconds,
        tokens=(report.tokens_kept, report.tokens_total),
        history_incomplete=report.history_incomplete,
        history_length=report.history_length,
        history_known=known,
    )
