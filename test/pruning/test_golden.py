"""Selection and smoothing against outputs of the released VLA-Pruner code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_pruner_ros.pruning import TemporalRelevance, combine_then_filter, max_min_diversity
from vla_pruner_ros.pruning.token_selection import top_k

GOLDEN = Path(
    os.environ.get("VLA_PRUNER_GOLDEN") or Path(__file__).resolve().parents[3] / "shared" / "golden"
)
SELECTION_CASES = range(20)
TEMPORAL_CASES = range(6)


def load(path: str, prefix: str) -> dict[str, torch.Tensor]:
    file = GOLDEN / path
    if not file.exists():
        pytest.skip(f"no reference data at {file}: set VLA_PRUNER_GOLDEN")
    arrays = np.load(file)
    names = [name for name in arrays.files if name.startswith(prefix)]
    return {name[len(prefix) :]: torch.from_numpy(arrays[name]) for name in names}


@pytest.mark.parametrize("case", SELECTION_CASES)
def test_kept_set_equals_the_released_code(case):
    g = load("selection/selection_cases.npz", f"case{case:02d}_")
    keep = len(g["kept_sorted"])
    assert torch.equal(top_k(g["semantic_scores"], keep), g["semantic_topk"])
    assert torch.equal(top_k(g["action_scores"], keep), g["action_topk"])
    kept = combine_then_filter(g["features"], g["semantic_scores"], g["action_scores"], keep)
    assert torch.equal(kept, g["kept_sorted"])


@pytest.mark.parametrize("case", SELECTION_CASES)
def test_greedy_order_equals_the_released_code(case):
    g = load("selection/selection_cases.npz", f"case{case:02d}_")
    if len(g["greedy_order"]) == 0:  # the two sets coincide, nothing is filtered
        assert torch.equal(g["union_sorted"], g["kept_sorted"])
        return
    candidates = torch.zeros(256, dtype=torch.bool).index_fill_(0, g["union_sorted"], True)
    order = max_min_diversity(g["features"], len(g["greedy_order"]), candidates)
    assert torch.equal(order, g["greedy_order"])


@pytest.mark.parametrize("case", TEMPORAL_CASES)
def test_oldest_first_equals_the_released_smoothing(case):
    g = load("selection/temporal_cases.npz", f"case{case}_")
    relevance = TemporalRelevance(len(g["history"]), float(g["decay"]), "oldest_first")
    for scores in g["history"]:
        relevance.update(scores)
    guide = relevance.estimate()
    guide = guide / guide.sum()
    assert torch.allclose(guide, g["guided"], atol=1e-8, rtol=1e-5)
    # bfloat16 has 8 bits of mantissa: the official code hands on this rounding of the same values
    assert torch.allclose(guide.bfloat16().float(), g["guided_bf16"], rtol=2**-7, atol=0)


@pytest.mark.parametrize("case", TEMPORAL_CASES)
def test_newest_first_is_the_same_window_read_backwards(case):
    g = load("selection/temporal_cases.npz", f"case{case}_")
    relevance = TemporalRelevance(len(g["history"]), float(g["decay"]))
    for scores in g["history"].flip(0):
        relevance.update(scores)
    guide = relevance.estimate()
    assert torch.allclose(guide / guide.sum(), g["guided"], atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("run", ["vlapruner_prefill_keep64", "vlapruner_lasttoken_keep128"])
def test_history_over_a_whole_run_equals_the_released_code(run):
    g = load("pruner_e2e/runs.npz", f"{run}__")
    relevance = TemporalRelevance(3, 0.8, "oldest_first")
    for step, attention in enumerate(g["action_attention"]):
        if step >= 3:
            guide = relevance.estimate()
            assert torch.allclose(guide / guide.sum(), g["guide"][step], atol=1e-6)
        relevance.update(attention)
