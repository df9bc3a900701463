"""The budget follows the deadline through the node while the machine gets busier and freer."""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from node_helpers import ControlledPolicy, bench

from vla_pruner_ros.models.policy import ActionChunk, Observation, PruningReport
from vla_pruner_ros.msg import PruningStatus
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.state import PruningState

TOKENS = 256
TARGET = 0.05
SETTLING = 10


class BusyPolicy(ControlledPolicy):
    """The real budget over steps that last as long as tokens and load make them."""

    def __init__(self) -> None:
        self.pruning_state = PruningState(PruningConfig(method="random"), 8, TOKENS)
        super().__init__()
        self.load = 1.0
        self.seconds: list[float] = []

    @property
    def pruning(self) -> PruningConfig:
        return self.pruning_state.config

    @pruning.setter
    def pruning(self, config: PruningConfig) -> None:
        self.pruning_state.config = config

    def act(self, observation: Observation) -> ActionChunk:
        plan = self.pruning_state.plan()
        step = self.load * (0.015 + 0.045 * plan.keep / TOKENS)
        time.sleep(step)  # this is the work
        actions = self._follow_brightness(observation)
        self.pruning_state.record_step(step, actions)
        self.seconds.append(step)
        kept = np.arange(plan.keep, dtype=np.int32)
        report = PruningReport([kept], (16, 16), TOKENS, plan.requested, plan.keep, "random")
        return ActionChunk(actions.astype(np.float32), report)

    def reset(self) -> None:
        self.pruning_state.reset()


def test_deadline_holds_under_doubled_load_and_the_budget_returns():
    policy = BusyPolicy()
    parameters = {"budget_mode": "deadline", "target_latency": TARGET, "method": "random"}
    with bench(policy, **parameters, keep_ratio=1.0, control_rate=1000.0) as b:
        statuses = b.listen(PruningStatus, "/vla_pruner/pruning", 500)
        b.activate()

        def run(steps: int) -> tuple[list[int], list[float]]:
            """Tokens kept and seconds taken by each of the next steps."""
            first = len(statuses)
            begun = len(policy.seconds)
            b.show_until(lambda: len(statuses) >= first + steps, f"{steps} steps")
            return [s.tokens_kept for s in statuses[first:]], policy.seconds[begun:]

        def settled(load: float) -> int:
            policy.load = load
            run(SETTLING)
            tokens, seconds = run(8)
            assert len(set(tokens)) == 1, f"still moving under load {load}: {tokens}"
            assert max(seconds) <= TARGET
            return tokens[-1]

        free = settled(1.0)
        busy = settled(2.0)
        assert settled(1.0) == free > busy
        assert {s.budget_mode for s in statuses} == {"deadline"}


def test_latency_and_misses_are_in_the_diagnostics():
    policy = BusyPolicy()
    policy.load = 2.0
    with bench(policy, target_latency=0.01, method="random") as b:
        diagnostics = b.listen(DiagnosticArray, "/diagnostics")
        b.activate()
        values = lambda: {v.key: v.value for v in diagnostics[-1].status[0].values}
        missed = lambda: diagnostics and int(values().get("deadline_misses", 0)) >= 3
        b.show_until(missed, "misses in the diagnostics")
        assert float(values()["latency_p95"]) >= float(values()["latency_p50"]) >= 0.03
        assert int(values()["deadline_misses"]) == int(values()["inferences"])
        late = lambda: any("target_latency" in m.status[0].message for m in diagnostics)
        b.show_until(late, "a sentence about the deadline")
