"""A policy's inference, replayed as a CUDA graph wherever one has been recorded."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any, Protocol

import torch

from vla_pruner_ros.models.execution.cuda_graphs import (
    MEGABYTE,
    CapturedGraph,
    GraphStore,
    Record,
    StaticInputs,
    record_on_cuda,
    shape_key,
)
from vla_pruner_ros.models.execution.timing import StageClock
from vla_pruner_ros.models.inference import InferenceOutput
from vla_pruner_ros.pruning.state import PruningState
from vla_pruner_ros.pruning.step import PruningStep


class GraphablePolicy(Protocol):
    """The parts of a policy that a graph records and replays; see PrunedPolicy."""

    device: torch.device
    pruning_state: PruningState
    buffer_generation: int

    def infer(self, inputs: Any, plan: PruningStep, clock: StageClock) -> InferenceOutput: ...

    def wait(self) -> None: ...


class GraphedStep:
    """One shape of step: the inference, and what the pruning state remembers of it, as two graphs.

    Two, because a step that turns out to be no action must leave the pruning state as it was.
    """

    def __init__(
        self, policy: GraphablePolicy, inputs: Any, plan: PruningStep, record: Record
    ) -> None:
        """The same step must have run before.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        self._static = StaticInputs(inputs)
        self._clock = StageClock(policy.device, recorded=True)
        self._memory: CapturedGraph | None = None
        with policy.pruning_state.preserved():
            infer = partial(policy.infer, self._static.inputs, plan, self._clock)
            self._inference = record(infer)
            inference = self._inference.result
            if plan.action_layers and not inference.attention.awaits:
                self._memory = record(partial(_observe, policy, plan, inference))
            self._try(policy, inputs)
        self.bytes = self._inference.bytes + (self._memory.bytes if self._memory else 0)

    def infer(self, inputs: Any, clock: StageClock) -> InferenceOutput:
        """The results stay valid until the next call."""
        self._static.fill(inputs)
        self._inference.replay()
        clock.include(self._clock)
        return self._inference.result.fork()

    def observe(self) -> bool:
        """Remember the step on the device; False: it has to be done without a graph."""
        if self._memory is not None:
            self._memory.replay()
        return self._memory is not None

    def _try(self, policy: GraphablePolicy, inputs: Any) -> None:
        """Replay once now: a broken graph is found while eager execution is still available."""
        clock = StageClock(policy.device)
        self.infer(inputs, clock)
        self.observe()
        policy.wait()
        clock.read()


def _observe(policy: GraphablePolicy, plan: PruningStep, inference: InferenceOutput) -> None:
    policy.pruning_state.update_history(inference.attention.mean(), plan, inference.selection)


class GraphedSteps:
    """The graphs of one policy, recorded after the first run of each shape."""

    def __init__(
        self, policy: GraphablePolicy, memory_mb: int, record: Record | None = None
    ) -> None:
        """record: record_on_cuda by default."""
        self._policy, self._memory_mb = policy, memory_mb
        self._record = record or partial(record_on_cuda, device=policy.device)
        self.store = GraphStore(memory_mb * MEGABYTE)

    def emptied(self) -> GraphedSteps:
        """The same with no graph recorded yet."""
        return GraphedSteps(self._policy, self._memory_mb, self._record)

    def find(self, inputs: Any, plan: PruningStep) -> GraphedStep | None:
        """Return the graph of such a step, None if none was captured."""
        return self.store.find(self._key(inputs, plan))

    def add(self, inputs: Any, plan: PruningStep) -> None:
        """Record a step that has just run."""

        def record() -> tuple[GraphedStep, int]:
            step = GraphedStep(self._policy, inputs, plan, self._record)
            return step, step.bytes

        self.store.add(self._key(inputs, plan), record)

    def _key(self, inputs: Any, plan: PruningStep) -> Hashable:
        policy = self._policy
        return shape_key(inputs), policy.pruning_state.capture_key(plan), policy.buffer_generation
