"""Coverage, budgets per camera, and the methods that drop tokens before the LLM."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_streams import NUM_VISUAL, Scene, make

from vla_pruner_ros.pruning import PruningConfig, Signals, find_method, make_method, method_names
from vla_pruner_ros.pruning.config import METHOD_NAMES
from vla_pruner_ros.pruning.diversity import (
    cosine_distances,
    extend_max_min,
    extend_on_device,
)
from vla_pruner_ros.pruning.methods import installed_methods
from vla_pruner_ros.pruning.methods.dart import farthest_from_pivots
from vla_pruner_ros.pruning.methods.geoscaffold import attention_of_voters, scaffold
from vla_pruner_ros.pruning.presets import preset_in_force, resolve
from vla_pruner_ros.pruning.token_selection import select_by_relevance, select_with_coverage

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "corner_method"


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- coverage ----


@settings(max_examples=80, deadline=None)
@given(n=st.integers(2, 20), seed=st.integers(0, 999), data=st.data())
def test_coverage_adds_the_token_farthest_from_those_chosen(n, seed, data):
    features = drawn(seed, n, 5)
    start = data.draw(st.integers(1, n - 1))
    count = data.draw(st.integers(0, n - start))
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:start]
    distances = cosine_distances(features)
    held = chosen.tolist()
    for found in extend_max_min(features, chosen, count).tolist():
        left = [token for token in range(n) if token not in held]
        gaps = {token: float(distances[token, held].min()) for token in left}
        assert found in gaps
        assert gaps[found] == pytest.approx(max(gaps.values()), abs=1e-5)
        held.append(found)
    on_device = extend_on_device(features, chosen, count)
    assert on_device.tolist() == extend_max_min(features, chosen, count).tolist()


@settings(max_examples=60, deadline=None)
@given(keep=st.integers(1, 40), coverage=st.floats(0, 1), seed=st.integers(0, 99))
def test_coverage_keeps_the_budget_and_the_most_relevant(keep, coverage, seed):
    features, semantic, action = drawn(seed, 40, 6), drawn(seed + 1, 40), drawn(seed + 2, 40)
    selection = select_with_coverage(features, semantic, action, keep, coverage)
    assert selection.kept.tolist() == sorted(set(selection.kept.tolist()))
    assert len(selection.kept) == keep
    core = keep - min(round(coverage * keep), keep - 1)
    assert set(select_by_relevance(features, semantic, action, core).kept.tolist()) <= set(
        selection.kept.tolist()
    )


def test_features_that_are_no_numbers_come_last():
    features = drawn(0, 6, 4)
    features[3] = torch.nan
    assert extend_max_min(features, torch.tensor([0]), 5).tolist()[-1] == 3


# ---- budgets per camera ----


@pytest.mark.parametrize("name", [name for name in METHOD_NAMES if name != "full"])
@pytest.mark.parametrize("keep_ratio", [0.25, 0.125, 1 / 64])
def test_an_even_budget_gives_each_camera_the_same(name, keep_ratio):
    state = make(
        2, method=name, camera_budget="even", history_fill="semantic", keep_ratio=keep_ratio
    )
    plan = state.plan()
    scene = Scene([1, 2], list(range(40, 60)))
    signals = replace(scene.signals(), current_action=None)
    kept = state.select(plan, signals).kept
    first = int((kept < NUM_VISUAL // 2).sum())
    assert len(kept) == plan.keep
    assert first - (plan.keep - first) in (0, 1)


def test_an_even_budget_is_a_top_k_in_each_camera():
    state = make(2, method="semantic_only", camera_budget="even")
    scores = Scene([], list(range(16))).signals()
    kept = state.select(state.plan(), scores).kept
    assert kept.tolist() == [*range(8), *range(32, 40)]
    shared = make(2, method="semantic_only")
    assert shared.select(shared.plan(), scores).kept.tolist() == list(range(16))


# ---- where the action relevance comes from ----


def test_current_action_rows_need_no_history():
    state = make(action_source="current", decodes_in_parallel=True)
    plan = state.plan()
    assert (plan.full, plan.history_incomplete, plan.action_layers) == (False, False, ())
    assert plan.signals == {"semantic", "features", "current_action"}
    scene = Scene([], list(range(8)))
    rows = torch.zeros(NUM_VISUAL)
    rows[50:58] = 1.0
    selection = state.select(plan, replace(scene.signals(), current_action=rows))
    assert set(range(50, 58)) <= set(selection.action_set.tolist())


def test_current_action_rows_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="decodes its action in parallel"):
        make(action_source="current")


def test_recovery_may_read_the_last_full_layer_alone():
    layers = make(token_recovery="last_full_layer").plan().action_layers
    assert layers == (2, 4, 5, 6, 7)
    assert make(token_recovery="last_full_layer", prune_layer=0).plan().action_layers == (
        4,
        5,
        6,
        7,
    )


# ---- presets ----


@pytest.mark.parametrize("family", ["openvla", "openvla_oft", "pi0"])
@pytest.mark.parametrize("preset", ["default", "paper", "released"])
def test_a_preset_is_recognised_and_given_up_on_the_first_change(preset, family):
    resolved = resolve(PruningConfig(preset=preset), family, 12)
    assert all(value is not None for value in vars(resolved).values())
    assert preset_in_force(resolved, family, 12) == preset
    assert preset_in_force(replace(resolved, coverage=0.4), family, 12) == "custom"
    own = resolve(PruningConfig(preset=preset, semantic_queries="last"), family, 12)
    assert own.semantic_queries == "last", "what is set goes before the preset"


def test_the_released_code_differs_by_family():
    openvla, oft = (
        resolve(PruningConfig(preset="released"), f, 32) for f in ("openvla", "openvla_oft")
    )
    assert (openvla.action_layer, openvla.decay_order, openvla.prune_layer) == (
        15,
        "oldest_first",
        3,
    )
    assert (oft.camera_budget, oft.prune_layer, oft.action_layer) == ("even", 4, 15)


# ---- before the LLM ----


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 30), keep=st.integers(1, 30), seed=st.integers(0, 99))
def test_dart_is_pivots_and_what_is_least_like_them(n, keep, seed):
    keep, features = min(keep, n), drawn(seed, n, 4)
    kept = farthest_from_pivots(features, keep).tolist()
    assert kept == sorted(set(kept))
    assert len(kept) == keep
    pivots = sorted(range(n), key=lambda i: -float(features[i].abs().sum()))[: min(4, keep)]
    taken, distances = list(pivots), cosine_distances(features)
    shares = [(keep - len(pivots)) // len(pivots) + (p < (keep - len(pivots)) % len(pivots))
              for p in range(len(pivots))]  # fmt: skip
    for pivot, share in zip(pivots, shares, strict=True):
        free = [i for i in range(n) if i not in taken]
        taken += sorted(free, key=lambda i: -float(distances[pivot, i]))[:share]
    assert kept == sorted(taken)


def test_dart_keeps_one_of_many_duplicates():
    features = torch.cat([torch.eye(4).repeat_interleave(5, dim=0), 2 * torch.eye(4)[:1]])
    kept = farthest_from_pivots(features, 4, pivots=1).tolist()
    assert 20 in kept, "the pivot"
    assert not set(kept) & set(range(5)), "its duplicates"


def test_text_attention_takes_the_best_of_each_camera():
    text = torch.zeros(3, 64)
    text[:, :8], text[1, 40:44] = 5.0, 1.0
    method = make_method(PruningConfig(method="text_attention"), num_cameras=2)
    kept = method.select(Signals(64, text=text), 8).kept.tolist()
    assert kept == [0, 1, 2, 3, 40, 41, 42, 43]


@settings(max_examples=40, deadline=None)
@given(keep=st.integers(1, 512), seed=st.integers(0, 99))
def test_geoscaffold_reaches_every_region_and_follows_the_text(keep, seed):
    text = drawn(seed, 10, 512).softmax(dim=1)
    method = make_method(PruningConfig(method="geoscaffold"), num_cameras=2)
    kept = method.select(Signals(512, text=text), keep).kept
    assert len(set(kept.tolist())) == keep
    region, _ = scaffold(256)
    region = torch.cat([region, region + 16])
    counts = torch.bincount(region[kept], minlength=32)
    assert counts.sum() == keep
    if keep >= 32:
        assert counts.min() >= 1
    share = torch.zeros(32).index_add(0, region, attention_of_voters(text))
    for more, less in ((i, j) for i in range(32) for j in range(32) if share[i] > 1.01 * share[j]):
        assert counts[more] >= counts[less], "more attention, no smaller quota"


def test_a_scaffold_begins_at_the_centre_and_spreads():
    region, order = scaffold(256)
    assert torch.bincount(region).tolist() == [16] * 16
    first = (order == 0).nonzero()[:, 0]
    rows, columns = first // 16 % 4, first % 16 % 4
    assert set(rows.tolist()) | set(columns.tolist()) <= {1, 2}, "the middle of each region"
    second = (order == 1).nonzero()[:, 0]
    assert all(abs(int(a) // 16 - int(b) // 16) + abs(int(a) % 16 - int(b) % 16) >= 3
               for a, b in zip(first, second, strict=True))  # fmt: skip


@pytest.mark.parametrize("name", ["vla_pruner", "fastv", "random", "uniform", "geoscaffold"])
def test_any_method_may_prune_before_the_first_layer(name):
    state = make(method=name, prune_layer=0, history_fill="semantic")
    plan = state.plan()
    assert (plan.prune_layer, plan.semantic_layer, plan.keep) == (0, 0, 16)


# ---- methods of other packages ----


@pytest.fixture
def installed_example(tmp_path, monkeypatch):
    """The example package as pip installs it."""
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(tmp_path / "site"), str(source)]
    subprocess.run(command, check=True, cwd=tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    caches = (method_names, find_method, installed_methods)
    for cached in caches:
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


def test_a_method_of_another_package_is_found(installed_example):
    assert "corner" in method_names()
    method = find_method("corner")({})
    assert method.select(Signals(64), 5).kept.tolist() == [0, 1, 2, 3, 4]


def test_a_method_that_is_nowhere_is_refused():
    with pytest.raises(ValueError, match="method must be one of full, vla_pruner, action_only"):
        find_method("dice")
