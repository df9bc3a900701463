"""Distances between actions, overlaps of kept tokens, and their summaries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.presets import resolve
from vla_pruner_ros.replay.inputs.recorded import Kept
from vla_pruner_ros.replay.replayer import ReplaySetting, Run, Step
from vla_pruner_ros.replay.results.comparison import (
    Reference,
    by_instruction,
    compare_actions,
    compare_run,
    summarise,
    token_overlap,
)
from vla_pruner_ros.replay.results.parity import recorded_reference
from vla_pruner_ros.replay.results.result import sweep
from vla_pruner_ros.replay.sweep import sweep_bases, sweep_settings
from vla_pruner_ros.settings.assignments import with_changes

CHUNKS = arrays(np.float32, (3, 7), elements=st.floats(-1, 1, width=32))


def test_known_differences():
    ours = np.zeros((2, 7), np.float32)
    theirs = np.zeros((2, 7), np.float32)
    ours[:, 0], theirs[:, 0] = 0.02, 0.01
    ours[1, 1] = 0.01
    ours[0, 5] = 0.3
    ours[:, 6], theirs[:, 6] = [1.0, 0.0], [0.9, 0.6]
    found = compare_actions(ours, theirs)
    assert found.absolute == pytest.approx([0.01, 0.005, 0, 0, 0, 0.15, 0.35], rel=1e-5)
    assert found.translation == pytest.approx((0.01 + math.hypot(0.01, 0.01)) / 2, rel=1e-5)
    assert found.rotation == pytest.approx(0.15, rel=1e-5)
    assert found.gripper == 0.5
    assert found.largest == pytest.approx(0.6, rel=1e-5)
    assert found.cosine == pytest.approx(4e-4 / math.sqrt(9e-4 * 2e-4), rel=1e-5)


@given(CHUNKS)
@settings(max_examples=50, deadline=None)
def test_a_chunk_equals_itself(chunk):
    found = compare_actions(chunk, chunk)
    assert found.largest == found.translation == found.rotation == found.gripper == 0.0
    assert math.isnan(found.cosine) or found.cosine == pytest.approx(1.0)


@given(CHUNKS, CHUNKS)
@settings(max_examples=50, deadline=None)
def test_differences_are_symmetric(ours, theirs):
    one, other = compare_actions(ours, theirs), compare_actions(theirs, ours)
    assert one.translation == pytest.approx(other.translation)
    assert one.gripper == other.gripper
    np.testing.assert_allclose(one.absolute, other.absolute)
    assert math.isnan(one.cosine) or -1.0 <= one.cosine <= 1.0


def test_longer_chunk_is_cut_and_empty_ones_are_refused():
    assert compare_actions(np.zeros((8, 7)), np.zeros((3, 7))).largest == 0.0
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_actions(np.zeros((0, 7)), np.zeros((3, 7)))
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_actions(np.zeros((2, 4)), np.zeros((2, 5)))


def kept(*cameras: list[int]) -> Kept:
    return Kept(tuple(np.array(one, np.uint16) for one in cameras), (4, 4))


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (kept([0, 1, 2, 3]), kept([2, 3, 4, 5]), 0.5),
        (kept([0, 1]), kept([0, 1, 2, 3]), 1.0),
        (kept([0], [1]), kept([0], [2]), 0.5),
        (kept([0]), kept([0], [1]), math.nan),
        (kept([]), kept([0]), math.nan),
        (kept(list(range(16))), kept([0]), math.nan),
        (None, kept([0]), math.nan),
    ],
)
def test_token_overlap(ours, theirs, expected):
    assert token_overlap(ours, theirs) == pytest.approx(expected, nan_ok=True)


def step(index: int, x: float, instruction: str = "go", seconds: float = 0.1) -> Step:
    actions = np.zeros((1, 7), np.float32)
    actions[0, 0] = x
    return Step(index, index, instruction, "", actions, kept([index % 16]), seconds, (4, 16))


def test_summary_by_instruction_and_overall():
    full = Run(ReplaySetting("full", None), [step(n, 0.0, seconds=0.4) for n in range(4)])
    pruned = Run(ReplaySetting("pruned", None))
    pruned.steps = [step(0, 0.001), step(1, 0.003), step(2, 0.01, "stop"), Step(3, 3, "go", "")]
    compared = compare_run(pruned, Reference.of_run(full))
    overall = summarise(compared)
    assert overall.count == 3  # the failed step is left out
    assert overall.translation == pytest.approx(0.014 / 3, rel=1e-5)
    assert overall.translation_max == pytest.approx(0.01, rel=1e-5)
    assert overall.latency_median == pytest.approx(0.1)
    assert overall.tokens == 0.25
    assert overall.overlap == 1.0
    parts = by_instruction(compared)
    assert {instruction: one.count for instruction, one in parts.items()} == {"go": 2, "stop": 1}
    assert parts["go"].translation == pytest.approx(0.002, rel=1e-5)


def test_summary_of_nothing_is_not_a_number():
    empty = summarise([])
    assert empty.count == 0
    assert math.isnan(empty.translation)
    assert np.isnan(empty.absolute).all()


def test_pruners_of_one_budget_are_compared_with_the_first_where_nothing_was_recorded():
    runs = []
    for name, ratio in (("full", 1.0), ("vla_pruner", 0.5), ("fastv", 0.25), ("fastv", 0.5)):
        setting = ReplaySetting(name, PruningConfig(method=name, keep_ratio=ratio))
        runs.append(Run(setting, [step(n, 0.0) for n in range(3)]))
    overlaps = [one.overall.overlap for one in sweep(runs, recorded_reference([]))]
    assert np.isnan(overlaps[:3]).all()
    assert overlaps[3] == 1.0


def test_sweep_has_one_unpruned_run_and_every_pair_once():
    base = PruningConfig(prune_layer=5, token_budget=7, budget_mode="deadline")
    settings_ = sweep_settings({"": base}, ["vla_pruner", "full", "fastv"], [0.25, 1.0, 0.5])
    assert [one.name for one in settings_] == [
        "full",
        "vla_pruner 50 %",
        "vla_pruner 25 %",
        "fastv 50 %",
        "fastv 25 %",
    ]
    assert {one.pruning.prune_layer for one in settings_} == {5}
    assert {(one.pruning.budget_mode, one.pruning.token_budget) for one in settings_} == {
        ("fixed", 0)
    }
    with pytest.raises(ValueError, match="keep_ratio"):
        sweep_settings({"": base}, ["vla_pruner"], [0.0])


def test_a_preset_overrules_what_was_recorded_and_an_assignment_overrules_the_preset():
    recorded = PruningConfig(semantic_queries="last", coverage=0.5, temporal_window=5)
    bases = sweep_bases(recorded, ["coverage=0.125"], ["default", "paper"])
    assert list(bases) == ["default", "paper"]
    resolved = {name: resolve(base) for name, base in bases.items()}
    assert {name: one.semantic_queries for name, one in resolved.items()} == {
        "default": "text",
        "paper": "all",
    }
    assert {(one.coverage, one.temporal_window) for one in resolved.values()} == {(0.125, 5)}
    assert sweep_bases(recorded, ["seed=1"], []) == {"": replace(recorded, seed=1)}
    settings_ = sweep_settings(bases, ["vla_pruner"], [0.25, 0.125])
    assert [(one.name, one.series) for one in settings_[1:]] == [
        ("vla_pruner default 25 %", "vla_pruner default"),
        ("vla_pruner default 12.5 %", "vla_pruner default"),
        ("vla_pruner paper 25 %", "vla_pruner paper"),
        ("vla_pruner paper 12.5 %", "vla_pruner paper"),
    ]


def test_token_reuse_is_compared_with_the_model_that_computes_everything():
    base = PruningConfig(method="fastv", token_reuse="gated")
    settings_ = sweep_settings({"": base}, ["fastv"], [0.5], ["static", "gated"])
    found = [(one.name, one.pruning.method, one.pruning.token_reuse) for one in settings_]
    assert found == [
        ("full", "full", "off"),
        ("full reuse static", "full", "static"),
        ("full reuse gated", "full", "gated"),
        ("fastv 50 %", "fastv", "off"),
    ]


def test_assignments():
    changed = with_changes(PruningConfig(), ["prune_layer=2", "history_fill=semantic"])
    assert (changed.prune_layer, changed.history_fill) == (2, "semantic")
    with pytest.raises(ValueError, match="NAME=VALUE"):
        with_changes(PruningConfig(), ["layer=2"])
    with pytest.raises(ValueError, match="prune_layer takes a int, got 'two'"):
        with_changes(PruningConfig(), ["prune_layer=two"])
