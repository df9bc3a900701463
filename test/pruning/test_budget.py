"""Budgets: fixed, by deadline on simulated machines, by motion."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vla_pruner_ros.pruning import PruningConfig, PruningState
from vla_pruner_ros.pruning.budget import (
    BUDGET_RATIOS,
    DeadlineBudget,
    MotionBudget,
    MotionGate,
    make_budget,
    tokens_to_keep,
)


@pytest.mark.parametrize(
    ("ratio", "num_visual", "keep"),
    [
        (0.25, 256, 64),
        (1.0, 256, 256),
        (0.001, 256, 1),
        (0.5, 5, 2),
        (0.3, 10, 3),
        (0.125, 512, 64),
    ],
)
def test_keeps_the_rounded_share_and_one_token_at_least(ratio, num_visual, keep):
    assert tokens_to_keep(ratio, num_visual) == keep


@given(st.integers(1, 1024), st.floats(1e-4, 1), st.floats(1e-4, 1))
def test_a_larger_share_never_keeps_fewer(num_visual, one, other):
    small, large = sorted((one, other))
    assert 1 <= tokens_to_keep(small, num_visual) <= tokens_to_keep(large, num_visual)
    assert tokens_to_keep(large, num_visual) <= num_visual


@given(st.integers(1, 4), st.integers(1, 300))
def test_a_token_count_is_met_exactly_for_every_camera(cameras, tokens):
    num_visual = 256 * cameras
    budget = make_budget(PruningConfig(token_budget=tokens), num_visual, cameras)
    assert tokens_to_keep(budget.ratio, num_visual) == min(tokens * cameras, num_visual)


class Machine:
    """Latency of a step: load * (fixed + (1 - fixed) * ratio) seconds, with noise."""

    def __init__(self, fixed: float, noise: float = 0.0, seed: int = 0) -> None:
        self.fixed, self.noise, self.load = fixed, noise, 1.0
        self._random = random.Random(seed)

    def latency(self, ratio: float) -> float:
        return self.load * (self.fixed + (1 - self.fixed) * ratio)

    def run(self, budget: DeadlineBudget, steps: int) -> list[float]:
        """The shares chosen after each step."""
        shares = []
        for _ in range(steps):
            noise = 1 + self._random.uniform(-self.noise, self.noise)
            budget.record(budget.ratio, self.latency(budget.ratio) * noise, None)
            shares.append(budget.ratio)
        return shares


def moves(shares: list[float]) -> int:
    return sum(a != b for a, b in pairwise(shares))


def reversals(shares: list[float]) -> int:
    """Count how often a move goes the other way than the one before."""
    ups = [b > a for a, b in pairwise(shares) if a != b]
    return sum(a != b for a, b in pairwise(ups))


fixed_parts = st.floats(0.0, 0.9)
targets = st.floats(0.25, 1.5)
load_changes = st.sampled_from([(1.0, 2.0), (1.0, 0.5), (2.0, 1.0), (0.5, 1.0), (0.7, 1.4)])


@given(fixed_parts, targets, load_changes, st.floats(0.05, 1.0))
@settings(max_examples=300, deadline=None)
def test_settles_within_ten_steps_of_a_load_change(fixed, target, loads, start):
    machine, budget = Machine(fixed), DeadlineBudget(target, start)
    for machine.load in loads:
        shares = machine.run(budget, 10)
        assert machine.latency(budget.ratio) <= target or budget.ratio == BUDGET_RATIOS[-1]
        assert moves(shares[-1:] + machine.run(budget, 100)) == 0


@given(fixed_parts, targets, load_changes)
@settings(max_examples=200, deadline=None)
def test_leaves_no_larger_share_that_would_fit_with_ease(fixed, target, loads):
    machine, budget = Machine(fixed), DeadlineBudget(target, 0.25)
    machine.load = loads[0]
    for _ in range(3):
        budget.record(1.0, machine.latency(1.0), None)  # the warm-up steps of a policy
    for machine.load in loads:
        machine.run(budget, 30)
        larger = [r for r in BUDGET_RATIOS if r > budget.ratio]
        easy = DeadlineBudget.SETTLED_HEADROOM * target * 0.999
        assert not [r for r in larger if machine.latency(r) <= easy]


@given(fixed_parts, targets, load_changes, st.integers(0, 1000))
# Two small shares close together once gave a slope of noise, and a walk to 1.0 and back.
@example(0.7262484761946232, 0.4398558763980346, (1.0, 0.5), 3561)
@settings(max_examples=100, deadline=None)
def test_noise_does_not_make_it_swing(fixed, target, loads, seed):
    machine, budget = Machine(fixed, noise=0.03, seed=seed), DeadlineBudget(target, 0.5)
    for machine.load in loads:
        machine.run(budget, 10)
        shares = machine.run(budget, 200)
        # A share right at its threshold may be left late, but none is left and entered by turns.
        assert reversals(shares) <= 1


def test_one_slow_step_changes_nothing():
    budget = DeadlineBudget(0.8, 0.5)
    machine = Machine(fixed=0.5)
    machine.run(budget, 10)
    settled = budget.ratio
    budget.record(budget.ratio, 30.0, None)
    assert {budget.ratio, *machine.run(budget, 10)} == {settled}


def test_unpruned_steps_of_a_history_fill_teach_the_line():
    machine, budget = Machine(fixed=0.1), DeadlineBudget(0.6, 0.25)
    for _ in range(3):
        budget.record(1.0, machine.latency(1.0), None)
    machine.run(budget, 3)
    assert budget.ratio == 0.375, "the largest within 0.9 of 0.6 s, found in one move"


def test_tries_a_larger_share_again_after_a_long_time():
    machine, budget = Machine(fixed=0.0), DeadlineBudget(0.5, 1.0)
    machine.run(budget, 20)
    assert budget.ratio == 0.375
    # Tokens have become free, but the share in use takes what it took: nothing shows.
    machine.fixed, machine.load = 1.0, machine.latency(0.375)
    assert moves(machine.run(budget, DeadlineBudget.MEMORY // 2)) == 0
    assert machine.run(budget, DeadlineBudget.MEMORY)[-1] == 1.0


def test_another_target_is_followed_with_what_is_known():
    machine, budget = Machine(fixed=0.5), DeadlineBudget(0.7, 0.25)
    machine.run(budget, 30)
    low = budget.ratio
    budget.retarget(1.2)
    assert machine.run(budget, 10)[-1] > low


@pytest.mark.parametrize("latency", [None, float("nan"), float("inf"), 0.0, -1.0])
def test_a_latency_that_is_none_teaches_nothing(latency):
    budget = DeadlineBudget(0.1, 0.5)
    for _ in range(10):
        budget.record(0.5, latency, None)
    assert budget.ratio == 0.5


def actions(translation: float, rotation: float = 0.0, gripper: float = 1.0, steps: int = 1):
    return np.tile([translation, 0, 0, 0, 0, rotation, gripper], (steps, 1))


def motion_budget() -> MotionBudget:
    return MotionBudget(coarse_ratio=0.25, fine_ratio=0.5, fine_motion=0.005, coarse_motion=0.015)


def test_fine_motion_keeps_more_tokens_than_coarse():
    budget = motion_budget()
    assert budget.ratio == 0.5
    for _ in range(5):
        budget.record(0.5, None, actions(0.03))
    assert budget.ratio == 0.25
    for _ in range(5):
        budget.record(0.25, None, actions(0.002))
    assert budget.ratio == 0.5


def test_between_the_thresholds_the_last_verdict_stands():
    budget = motion_budget()
    budget.record(0.5, None, actions(0.010, steps=8))
    assert budget.ratio == 0.5
    budget.record(0.5, None, actions(0.03, steps=8))
    budget.record(0.25, None, actions(0.010, steps=8))
    assert budget.ratio == 0.25


def test_rotation_counts_as_motion():
    budget = motion_budget()
    budget.record(0.5, None, actions(0.0, rotation=0.3, steps=4))
    assert budget.ratio == 0.25


def test_a_grasp_is_fine_even_in_full_swing():
    budget = motion_budget()
    budget.record(0.5, None, actions(0.03, steps=4))
    budget.record(0.25, None, actions(0.03, gripper=0.0))
    assert budget.ratio == 0.5


def test_actions_that_are_not_finite_or_missing_are_ignored():
    budget = motion_budget()
    budget.record(0.5, None, actions(0.03, steps=4))
    budget.record(0.25, None, None)
    budget.record(0.25, None, actions(np.nan))
    budget.record(0.25, None, np.zeros((0, 7)))
    assert budget.ratio == 0.25


def test_motion_never_gives_fine_moves_less_than_coarse_ones():
    config = PruningConfig(budget_mode="motion", keep_ratio=0.8, fine_keep_ratio=0.5)
    assert make_budget(config, 256).ratio == 0.8


def pruned_windows(displacements: list[float]) -> list[bool]:
    """ADP's rule over whole windows, written down as a table: is the window after each pruned?"""
    pruned: list[bool] = []
    for place, moved in enumerate(displacements):
        before = displacements[max(place - 2, 0) : place]
        coarse = len(before) == 2 and not moved < min(before)
        pruned.append(coarse and pruned[-3:] != [True] * 3)
    return pruned


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.sampled_from([1, 4, 8]))
@example([5, 5, 5, 5, 5, 5, 5, 5], 8)
def test_the_motion_gate_is_adps_rule(steps_mm, chunk):
    gate, seen = MotionGate(0.25), []
    for step in steps_mm:
        for _ in range(8 // chunk):  # a window of eight actions, however they are chunked
            gate.record(gate.ratio, None, actions(step / 1024, steps=chunk))
        seen.append(gate.ratio == 0.25)
    assert seen == pruned_windows([8 * step / 1024 for step in steps_mm])
    assert gate.ratio in (0.25, 1.0)


def test_the_motion_gate_measures_the_distance_between_the_ends_of_a_window():
    gate = MotionGate(0.25)
    for _ in range(3):
        gate.record(1.0, None, actions(0.01, steps=8))
    assert gate.ratio == 0.25
    there_and_back = np.concatenate([actions(0.03, steps=4), actions(-0.03, steps=4)])
    gate.record(0.25, None, there_and_back)
    assert gate.ratio == 1.0


def test_the_motion_gate_starts_anew_with_every_episode():
    config = PruningConfig(budget_mode="motion_gate", method="fastv")
    state = PruningState(config, num_layers=5, num_visual=256)
    for _ in range(3):
        assert state.plan().full
        state.record_step(None, actions(0.01, steps=8))
    assert state.plan().keep == 64
    state.reset()
    assert state.plan().full
