"""PruningState over whole streams: warm-up, statistics, live settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pruning_streams import NUM_VISUAL, Scene, action_relevance, kept, make, remember, step

from vla_pruner_ros.pruning import PruningConfig, PruningState, Signals
from vla_pruner_ros.pruning.config import METHOD_NAMES

# ---- what a step has to do ----


def test_history_fill_runs_full_until_the_window_is_filled():
    state, scene = make(), Scene([1, 2], [3])
    plans = [step(state, scene)[0] for _ in range(5)]
    assert [plan.full for plan in plans] == [True, True, True, False, False]
    assert [plan.history_incomplete for plan in plans] == [True, True, True, False, False]
    assert [plan.history_length for plan in plans] == [0, 1, 2, 3, 3]
    assert [plan.keep for plan in plans] == [64, 64, 64, 16, 16]
    assert {plan.requested for plan in plans} == {16}
    assert plans[0].signals == frozenset()
    assert plans[3].signals == {"semantic", "features"}


def test_history_fill_may_prune_by_the_semantic_set_alone():
    state, scene = make(history_fill="semantic"), Scene([1, 2], list(range(40, 56)))
    for _ in range(3):
        plan, selection = step(state, scene)
        assert plan.history_incomplete
        assert not plan.full
        assert plan.signals == {"semantic"}
        assert selection.kept.tolist() == list(range(40, 56))
    assert not state.plan().history_incomplete


def test_the_action_rows_come_from_the_second_half_of_the_layers():
    assert make().plan().action_layers == (4, 5, 6, 7)
    assert make(action_layer=5).plan().action_layers == (5,)
    assert make(token_recovery="early_layers").plan().action_layers == (0, 1, 2, 4, 5, 6, 7)
    assert make(prune_layer=6, token_recovery="early_layers").plan().action_layers == tuple(
        range(8)
    )


def test_layers_follow_the_pruning_layer():
    plan = make(prune_layer=2, method="fastv").plan()
    assert (plan.prune_layer, plan.semantic_layer) == (2, 1)
    assert make(method="divprune").plan().prune_layer == 0


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_only_methods_with_action_relevance_ask_for_it(name):
    plan = make(method=name).plan()
    uses = name in ("vla_pruner", "action_only", "score_fusion")
    assert bool(plan.action_layers) == uses
    assert plan.history_incomplete == uses
    assert plan.full == (uses or name == "full")
    assert "action" not in plan.signals


@pytest.mark.parametrize("name", METHOD_NAMES)
@pytest.mark.parametrize("remedy", ["none", "early_layers", "refresh"])
def test_every_method_runs_a_stream(name, remedy):
    state = make(method=name, token_recovery=remedy, refresh_period=3)
    for _ in range(8):
        plan, selection = step(state, Scene([1, 2], [3]))
        assert plan.full or selection.kept.shape == (plan.keep,)


@pytest.mark.parametrize("name", [name for name in METHOD_NAMES if name != "full"])
def test_device_work_never_looks_at_a_value(name):
    """On the meta device any look at a value fails, as a synchronisation would in a capture."""
    state = make(always_observe=True, method=name, token_recovery="early_layers")
    scene = Scene([1], [2])
    for _ in range(5):
        plan = state.plan()
        signals = replace(scene.signals("meta"), device=torch.device("meta"))
        selection = None if plan.full else state.select(plan, signals)
        rows = torch.empty(len(plan.action_layers), NUM_VISUAL, device="meta")
        remember(state, rows, plan, selection)
    assert selection.kept.shape == (16,)
    assert selection.kept.device.type == "meta"


def test_keep_ratio_one_is_full_and_keeps_watching():
    state, scene = make(keep_ratio=1.0), Scene([1], [2])
    for _ in range(4):
        assert step(state, scene)[0].full
    state.config = PruningConfig(keep_ratio=0.25)
    assert not state.plan().full, "the history is there: no warm-up after the change"


def test_token_budget_counts_per_camera():
    assert make(num_cameras=2, token_budget=8, method="fastv").plan().keep == 16
    assert make(num_cameras=2, token_budget=999, method="fastv").plan().full


def test_plans_of_equal_work_share_a_key():
    state, scene = make(), Scene([1], [2])
    keys = [step(state, scene)[0].shape_key for _ in range(6)]
    assert len(set(keys[:3])) == 1
    assert len(set(keys[3:])) == 1
    assert keys[0] != keys[3]


# ---- robustness, settings, statistics ----


def test_a_nan_row_does_not_poison_the_history():
    state, scene = make(), Scene([1], [2])
    for _ in range(4):
        step(state, scene)
    before = action_relevance(state).clone()
    plan = state.plan()
    selection = state.select(plan, scene.signals())
    rows = torch.full((4, NUM_VISUAL), torch.nan)
    remember(state, rows, plan, selection)
    assert torch.equal(action_relevance(state), before)
    assert torch.isfinite(action_relevance(state)).all()


def test_reset_forgets_the_history():
    state, scene = make(), Scene([1], [2])
    first = [kept(state, scene) for _ in range(5)]
    state.reset()
    assert state.plan().history_length == 0
    assert state.plan().history_incomplete
    assert [kept(state, scene) for _ in range(5)] == first


@pytest.mark.parametrize(
    ("change", "history_length"),
    [
        ({"keep_ratio": 0.5}, 3),
        ({"temporal_decay": 0.5}, 3),
        ({"budget_mode": "motion"}, 3),
        ({"history_fill": "semantic"}, 3),
        ({"token_recovery": "refresh"}, 3),
        ({"temporal_window": 2}, 2),
        ({"temporal_window": 5}, 3),
        ({"method": "action_only"}, 3),
        ({"method": "fastv"}, 0),
        ({"action_layer": 5}, 0),
        ({"token_recovery": "early_layers"}, 0),
    ],
)
def test_history_survives_unless_its_meaning_changes(change, history_length):
    state, scene = make(), Scene([1], [2])
    for _ in range(4):
        step(state, scene)
    state.config = replace(state.config, **change)
    assert state.plan().history_length == history_length
    for _ in range(4):
        step(state, scene)


def test_a_new_window_or_method_calls_for_a_new_capture_and_a_new_budget_does_not():
    state = make()
    state.config = replace(state.config, keep_ratio=0.5, temporal_decay=0.7)
    assert state.generation == 0
    state.config = replace(state.config, temporal_window=2)
    state.config = replace(state.config, method="fastv")
    assert state.generation == 2


def test_the_deadline_is_followed_from_recorded_steps():
    state = make(budget_mode="deadline", target_latency=0.1, keep_ratio=1.0, method="fastv")
    keeps = []
    for _ in range(20):
        plan = state.plan()
        keeps.append(plan.keep)
        state.record_step(0.2 * (0.3 + 0.7 * plan.keep / NUM_VISUAL), None)
    assert 0.2 * (0.3 + 0.7 * keeps[-1] / NUM_VISUAL) <= 0.1
    assert keeps[0] == 64
    assert len(set(keeps[10:])) == 1


def test_coarse_motion_lowers_the_budget():
    state = make(budget_mode="motion", method="fastv")
    assert state.plan().keep == 32
    state.record_step(0.1, np.tile([0.05, 0, 0, 0, 0, 0, 1.0], (8, 1)))
    assert state.plan().keep == 16


def test_statistics_relate_the_sets():
    state, scene = make(), Scene(list(range(16)), list(range(8, 24)))
    step(state, scene)
    assert np.isnan(state.statistics().semantic_action_overlap), "a full step has no sets"
    for _ in range(3):
        step(state, scene)
    first = state.statistics()
    assert first.semantic_action_overlap == pytest.approx(0.5)
    assert np.isnan(first.action_overlap), "no previous action set"
    assert first.semantic_share + first.action_share >= 1.0
    step(state, scene)
    assert 0.0 < state.statistics().action_overlap <= 1.0


def test_statistics_of_a_method_without_history_where_asked_for():
    # early_layers: else only what fastv kept would have any action attention
    state = make(always_observe=True, method="fastv", token_recovery="early_layers")
    scene = Scene(list(range(16)), list(range(8, 24)))
    for _ in range(5):
        plan, selection = step(state, scene)
    assert plan.tracks_history
    assert not plan.uses_history
    assert not plan.history_incomplete
    assert state.statistics().semantic_action_overlap == pytest.approx(0.5)
    assert state.statistics().semantic_share == 1.0
    assert torch.equal(selection.kept, selection.semantic_set.sort().values)


def step_with_wrong_rows(state: PruningState, scene: Scene) -> None:
    step(state, scene)
    remember(state, torch.ones(1, 1), state.plan(), None)


def test_a_trial_run_leaves_no_trace():
    state, scene = make(), Scene([1], [2])
    with state.preserved():
        step(state, scene)
    assert state.plan().history_length == 0
    for _ in range(4):
        step(state, scene)
    before, numbers = action_relevance(state).clone(), state.statistics()
    with pytest.raises(ValueError, match="action_rows"), state.preserved():
        step_with_wrong_rows(state, Scene([60], [61]))
    assert torch.equal(action_relevance(state), before)
    assert state.statistics().semantic_share == numbers.semantic_share
    assert state.plan().history_length == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(prune_layer=8), "prune_layer must be below the model's 8 decoder layers"),
        (lambda: make(action_layer=9), "action_layer must be below"),
        (lambda: make(num_cameras=3), r"num_visual \(64\) must be a multiple of num_cameras \(3\)"),
        (lambda: make(method="best"), "method must be one of full, vla_pruner"),
        (lambda: make(fine_motion=0.1), "coarse_motion must be at least fine_motion"),
        (lambda: make(fine_keep_ratio=0.0), "fine_keep_ratio must be at least 0.0001"),
        (lambda: make(coarse_motion=-1.0), "coarse_motion must be at least 1e-06"),
    ],
)
def test_refuses_settings_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_refused_setting_leaves_the_old_one():
    state = make()
    old = state.config
    with pytest.raises(ValueError, match="prune_layer"):
        state.config = replace(old, prune_layer=20, keep_ratio=0.5)
    assert state.config is old
    assert state.plan().requested == 16


def test_refuses_signals_and_rows_that_do_not_fit():
    state = make(method="fastv")
    with pytest.raises(ValueError, match="signal 'last_row' is missing"):
        state.select(state.plan(), Signals(NUM_VISUAL))
    with pytest.raises(ValueError, match="'last_row' must cover 64 visual tokens"):
        state.select(state.plan(), Signals(NUM_VISUAL, last_row=torch.ones(63)))
    state = make()
    with pytest.raises(ValueError, match=r"action_rows must be \[4, 64\]"):
        remember(state, torch.ones(3, NUM_VISUAL), state.plan(), None)
    assert state.plan().history_length == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_captured_step_equals_the_eager_one():
    scenes = [Scene([index], [index + 20], seed=index) for index in range(8)]
    eager, captured = make(), make()
    for scene in scenes[:4]:
        for state in (eager, captured):
            plan = state.plan()
            selection = None if plan.full else state.select(plan, scene.signals("cuda"))
            rows = scene.action_rows(plan.action_layers, plan.prune_layer, None).cuda()
            remember(state, rows, plan, selection)
    plan, inputs = captured.plan(), scenes[4].signals("cuda")
    rows = torch.rand(4, NUM_VISUAL, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with captured.preserved(), torch.cuda.graph(graph):
        result = captured.select(plan, inputs)
        captured.update_history(rows, plan, result)
    for scene in scenes[4:]:
        new = scene.signals("cuda")
        inputs.semantic.copy_(new.semantic)
        inputs.features.copy_(new.features)
        rows.uniform_()
        graph.replay()
        captured.commit_step(captured.plan())
        selection = eager.select(eager.plan(), new)
        remember(eager, rows, eager.plan(), selection)
        assert torch.equal(result.kept, selection.kept)
