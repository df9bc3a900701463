"""TokenPruner over whole streams: warm-up, statistics, live settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pruning_streams import NUM_VISUAL, Scene, kept, make, step

from vla_pruner_ros.pruning import PruningConfig, Signals, StepMeasurement, TokenPruner
from vla_pruner_ros.pruning.config import PRUNERS

# ---- what a step has to do ----


def test_warm_up_runs_full_until_the_window_is_filled():
    pruner, scene = make(), Scene([1, 2], [3])
    plans = [step(pruner, scene)[0] for _ in range(5)]
    assert [plan.full for plan in plans] == [True, True, True, False, False]
    assert [plan.warm_up for plan in plans] == [True, True, True, False, False]
    assert [plan.history_length for plan in plans] == [0, 1, 2, 3, 3]
    assert [plan.keep for plan in plans] == [64, 64, 64, 16, 16]
    assert {plan.requested for plan in plans} == {16}
    assert plans[0].signals == frozenset()
    assert plans[3].signals == {"semantic", "features"}


def test_warm_up_may_prune_by_the_semantic_set_alone():
    pruner, scene = make(warm_up="semantic"), Scene([1, 2], list(range(40, 56)))
    for _ in range(3):
        plan, selection = step(pruner, scene)
        assert plan.warm_up
        assert not plan.full
        assert plan.signals == {"semantic"}
        assert selection.kept.tolist() == list(range(40, 56))
    assert not pruner.plan().warm_up


def test_the_action_rows_come_from_the_second_half_of_the_layers():
    assert make().plan().action_layers == (4, 5, 6, 7)
    assert make(action_layer=5).plan().action_layers == (5,)
    assert make(lock_in_remedy="early_layers").plan().action_layers == (0, 1, 2, 4, 5, 6, 7)
    assert make(prune_layer=6, lock_in_remedy="early_layers").plan().action_layers == tuple(
        range(8)
    )


def test_layers_follow_the_pruning_layer():
    plan = make(prune_layer=2, pruner="fastv").plan()
    assert (plan.prune_layer, plan.semantic_layer) == (2, 1)
    assert make(pruner="divprune").plan().prune_layer == 0


@pytest.mark.parametrize("name", PRUNERS)
def test_only_methods_with_action_relevance_ask_for_it(name):
    plan = make(pruner=name).plan()
    uses = name in ("vla_pruner", "action_only", "score_fusion")
    assert bool(plan.action_layers) == uses
    assert plan.warm_up == uses
    assert plan.full == (uses or name == "full")
    assert "action" not in plan.signals


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("remedy", ["none", "early_layers", "refresh"])
def test_every_method_runs_a_stream(name, remedy):
    pruner = make(pruner=name, lock_in_remedy=remedy, refresh_period=3)
    for _ in range(8):
        plan, selection = step(pruner, Scene([1, 2], [3]))
        assert plan.full or selection.kept.shape == (plan.keep,)


@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "full"])
def test_device_work_never_looks_at_a_value(name):
    """On the meta device any look at a value fails, as a synchronisation would in a capture."""
    pruner = make(always_observe=True, pruner=name, lock_in_remedy="early_layers")
    scene = Scene([1], [2])
    for _ in range(5):
        plan = pruner.plan()
        signals = replace(scene.signals("meta"), device=torch.device("meta"))
        selection = None if plan.full else pruner.select(plan, signals)
        rows = torch.empty(len(plan.action_layers), NUM_VISUAL, device="meta")
        pruner.observe(rows, plan, selection)
    assert selection.kept.shape == (16,)
    assert selection.kept.device.type == "meta"


def test_keep_ratio_one_is_full_and_keeps_watching():
    pruner, scene = make(keep_ratio=1.0), Scene([1], [2])
    for _ in range(4):
        assert step(pruner, scene)[0].full
    pruner.config = PruningConfig(keep_ratio=0.25)
    assert not pruner.plan().full, "the history is there: no warm-up after the change"


def test_token_budget_counts_per_camera():
    assert make(num_cameras=2, token_budget=8, pruner="fastv").plan().keep == 16
    assert make(num_cameras=2, token_budget=999, pruner="fastv").plan().full


def test_plans_of_equal_work_share_a_key():
    pruner, scene = make(), Scene([1], [2])
    keys = [step(pruner, scene)[0].shape_key for _ in range(6)]
    assert len(set(keys[:3])) == 1
    assert len(set(keys[3:])) == 1
    assert keys[0] != keys[3]


# ---- robustness, settings, statistics ----


def test_a_nan_row_does_not_poison_the_history():
    pruner, scene = make(), Scene([1], [2])
    for _ in range(4):
        step(pruner, scene)
    before = pruner.action_relevance().clone()
    plan = pruner.plan()
    selection = pruner.select(plan, scene.signals())
    rows = torch.full((4, NUM_VISUAL), torch.nan)
    pruner.observe(rows, plan, selection)
    assert torch.equal(pruner.action_relevance(), before)
    assert torch.isfinite(pruner.action_relevance()).all()


def test_reset_forgets_the_history():
    pruner, scene = make(), Scene([1], [2])
    first = [kept(pruner, scene) for _ in range(5)]
    pruner.reset()
    assert pruner.plan().history_length == 0
    assert pruner.plan().warm_up
    assert [kept(pruner, scene) for _ in range(5)] == first


@pytest.mark.parametrize(
    ("change", "history_length"),
    [
        ({"keep_ratio": 0.5}, 3),
        ({"temporal_decay": 0.5}, 3),
        ({"budget_mode": "motion"}, 3),
        ({"warm_up": "semantic"}, 3),
        ({"lock_in_remedy": "refresh"}, 3),
        ({"temporal_window": 2}, 2),
        ({"temporal_window": 5}, 3),
        ({"pruner": "action_only"}, 3),
        ({"pruner": "fastv"}, 0),
        ({"action_layer": 5}, 0),
        ({"lock_in_remedy": "early_layers"}, 0),
    ],
)
def test_history_survives_unless_its_meaning_changes(change, history_length):
    pruner, scene = make(), Scene([1], [2])
    for _ in range(4):
        step(pruner, scene)
    pruner.config = replace(pruner.config, **change)
    assert pruner.plan().history_length == history_length
    for _ in range(4):
        step(pruner, scene)


def test_a_new_window_or_method_calls_for_a_new_capture_and_a_new_budget_does_not():
    pruner = make()
    pruner.config = replace(pruner.config, keep_ratio=0.5, temporal_decay=0.7)
    assert pruner.generation == 0
    pruner.config = replace(pruner.config, temporal_window=2)
    pruner.config = replace(pruner.config, pruner="fastv")
    assert pruner.generation == 2


def test_the_deadline_is_followed_from_recorded_steps():
    pruner = make(budget_mode="deadline", target_latency=0.1, keep_ratio=1.0, pruner="fastv")
    keeps = []
    for _ in range(20):
        plan = pruner.plan()
        keeps.append(plan.keep)
        pruner.record_step(0.2 * (0.3 + 0.7 * plan.keep / NUM_VISUAL), None)
    assert 0.2 * (0.3 + 0.7 * keeps[-1] / NUM_VISUAL) <= 0.1
    assert keeps[0] == 64
    assert len(set(keeps[10:])) == 1


def test_a_measurement_may_come_with_the_plan():
    pruner = make(budget_mode="motion", pruner="fastv")
    assert pruner.plan().keep == 32
    swing = np.tile([0.05, 0, 0, 0, 0, 0, 1.0], (8, 1))
    assert pruner.plan(StepMeasurement(0.1, swing)).keep == 16


def test_statistics_relate_the_sets():
    pruner, scene = make(), Scene(list(range(16)), list(range(8, 24)))
    step(pruner, scene)
    assert np.isnan(pruner.statistics().semantic_action_overlap), "a full step has no sets"
    for _ in range(3):
        step(pruner, scene)
    first = pruner.statistics()
    assert first.semantic_action_overlap == pytest.approx(0.5)
    assert np.isnan(first.action_overlap), "no previous action set"
    assert first.semantic_share + first.action_share >= 1.0
    step(pruner, scene)
    assert 0.0 < pruner.statistics().action_overlap <= 1.0


def test_statistics_of_a_method_without_history_where_asked_for():
    # early_layers: else only what fastv kept would have any action attention
    pruner = make(always_observe=True, pruner="fastv", lock_in_remedy="early_layers")
    scene = Scene(list(range(16)), list(range(8, 24)))
    for _ in range(5):
        plan, selection = step(pruner, scene)
    assert plan.tracks_history
    assert not plan.uses_history
    assert not plan.warm_up
    assert pruner.statistics().semantic_action_overlap == pytest.approx(0.5)
    assert pruner.statistics().semantic_share == 1.0
    assert torch.equal(selection.kept, selection.semantic_set.sort().values)


def step_with_wrong_rows(pruner: TokenPruner, scene: Scene) -> None:
    step(pruner, scene)
    pruner.observe(torch.ones(1, 1), pruner.plan(), None)


def test_a_trial_run_leaves_no_trace():
    pruner, scene = make(), Scene([1], [2])
    with pruner.preserved():
        step(pruner, scene)
    assert pruner.plan().history_length == 0
    for _ in range(4):
        step(pruner, scene)
    before, numbers = pruner.action_relevance().clone(), pruner.statistics()
    with pytest.raises(ValueError, match="action_rows"), pruner.preserved():
        step_with_wrong_rows(pruner, Scene([60], [61]))
    assert torch.equal(pruner.action_relevance(), before)
    assert pruner.statistics().semantic_share == numbers.semantic_share
    assert pruner.plan().history_length == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(prune_layer=8), "prune_layer must be below the model's 8 decoder layers"),
        (lambda: make(action_layer=9), "action_layer must be below"),
        (lambda: make(num_cameras=3), r"num_visual \(64\) must be a multiple of num_cameras \(3\)"),
        (lambda: make(pruner="best"), "pruner must be one of full, vla_pruner"),
        (lambda: make(fine_motion=0.1), "coarse_motion must be at least fine_motion"),
        (lambda: make(fine_keep_ratio=0.0), r"fine_keep_ratio must be in \(0, 1\]"),
        (lambda: make(coarse_motion=-1.0), "coarse_motion must be above 0 m"),
    ],
)
def test_refuses_settings_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_refused_setting_leaves_the_old_one():
    pruner = make()
    old = pruner.config
    with pytest.raises(ValueError, match="prune_layer"):
        pruner.config = replace(old, prune_layer=20, keep_ratio=0.5)
    assert pruner.config is old
    assert pruner.plan().requested == 16


def test_refuses_signals_and_rows_that_do_not_fit():
    pruner = make(pruner="fastv")
    with pytest.raises(ValueError, match="signal 'last_row' is missing"):
        pruner.select(pruner.plan(), Signals(NUM_VISUAL))
    with pytest.raises(ValueError, match="'last_row' must cover 64 visual tokens"):
        pruner.select(pruner.plan(), Signals(NUM_VISUAL, last_row=torch.ones(63)))
    pruner = make()
    with pytest.raises(ValueError, match=r"action_rows must be \[4, 64\]"):
        pruner.observe(torch.ones(3, NUM_VISUAL), pruner.plan(), None)
    assert pruner.plan().history_length == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_captured_step_equals_the_eager_one():
    scenes = [Scene([index], [index + 20], seed=index) for index in range(8)]
    eager, captured = make(), make()
    for scene in scenes[:4]:
        for pruner in (eager, captured):
            plan = pruner.plan()
            selection = None if plan.full else pruner.select(plan, scene.signals("cuda"))
            rows = scene.action_rows(plan.action_layers, plan.prune_layer, None).cuda()
            pruner.observe(rows, plan, selection)
    plan, inputs = captured.plan(), scenes[4].signals("cuda")
    rows = torch.rand(4, NUM_VISUAL, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with captured.preserved(), torch.cuda.graph(graph):
        result = captured.select(plan, inputs)
        captured.observe_on_device(rows, plan, result)
    for scene in scenes[4:]:
        new = scene.signals("cuda")
        inputs.semantic.copy_(new.semantic)
        inputs.features.copy_(new.features)
        rows.uniform_()
        graph.replay()
        captured.advance(captured.plan())
        selection = eager.select(eager.plan(), new)
        eager.observe(rows, eager.plan(), selection)
        assert torch.equal(result.kept, selection.kept)
