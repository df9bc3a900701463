"""Streams of steps for PruningState: a synthetic model whose attention peaks where it is set to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from vla_pruner_ros.pruning import PruningConfig, PruningState, Signals

NUM_VISUAL, NUM_LAYERS, DIM = 64, 8, 16


def make(
    num_cameras: int = 1,
    always_observe: bool = False,
    decodes_in_parallel: bool = False,
    **config,
) -> PruningState:
    """The paper's method unless set otherwise."""
    config = PruningConfig(**{"preset": "paper", **config})
    return PruningState(
        config,
        NUM_LAYERS,
        NUM_VISUAL,
        num_cameras,
        always_observe,
        decodes_in_parallel=decodes_in_parallel,
    )


class Scene:
    """A synthetic model: attention that peaks on target tokens, on those it is shown alone."""

    def __init__(self, target: list[int], semantic: list[int], seed: int = 0) -> None:
        self.target, self.semantic = target, semantic
        self.features = torch.randn(NUM_VISUAL, DIM, generator=torch.Generator().manual_seed(seed))

    def signals(self, device: str = "cpu") -> Signals:
        scores = self._attention(self.semantic)
        text = scores.expand(3, -1)
        signals = Signals(NUM_VISUAL, scores, scores, text, torch.ones(3, DIM), None, self.features)
        if device == "cpu":
            return signals
        moved = {n: v.to(device) for n, v in vars(signals).items() if torch.is_tensor(v)}
        return replace(signals, **moved)

    def action_rows(self, layers: tuple[int, ...], prune_layer: int, selection) -> torch.Tensor:
        return torch.stack(
            [self._row(selection if layer >= prune_layer else None) for layer in layers]
        )

    def _row(self, selection) -> torch.Tensor:
        seen = torch.zeros(NUM_VISUAL)
        seen[slice(None) if selection is None else selection.kept] = 1.0
        row = self._attention(self.target) * seen
        return row / row.sum()

    def _attention(self, peak: list[int]) -> torch.Tensor:
        attention = 1.0 + 0.001 * torch.arange(NUM_VISUAL).flip(0)
        attention[peak] += 20.0
        return attention / attention.sum()


def remember(state: PruningState, rows: torch.Tensor, plan, selection) -> None:
    """Hand a step's action attention to the state, as a policy does."""
    state.update_history(rows, plan, selection)
    state.commit_step(plan)


def action_relevance(state: PruningState) -> torch.Tensor | None:
    """Return the relevance that the coming step expects of each token."""
    return state._relevance.estimate()


def step(state: PruningState, scene: Scene):
    plan = state.plan()
    selection = None if plan.full else state.select(plan, scene.signals())
    if plan.action_layers:
        rows = scene.action_rows(plan.action_layers, plan.prune_layer, selection)
        remember(state, rows, plan, selection)
    state.record_step(0.1, np.zeros((1, 7)))
    return plan, selection


def kept(state: PruningState, scene: Scene) -> set[int]:
    plan, selection = step(state, scene)
    return set(range(NUM_VISUAL)) if plan.full else set(selection.kept.tolist())
