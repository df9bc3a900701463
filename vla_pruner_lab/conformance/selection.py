"""Token selection and temporal smoothing against recordings of the released pruner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vla_pruner_lab.conformance.recordings import ATTENTION, EXACT, Comparison
from vla_pruner_ros.pruning.diversity import max_min_diversity
from vla_pruner_ros.pruning.relevance import TemporalRelevance
from vla_pruner_ros.pruning.token_selection import combine, combine_then_filter, top_k

QUANTITIES = ("semantic topk", "action topk", "union", "kept tokens")


def compare(directory: Path, comparison: Comparison) -> None:
    """Compare selection and temporal relevance with the recorded cases."""
    for case in _grouped(directory / "selection" / "selection_cases.npz"):
        comparison.expect(*QUANTITIES)
        if len(case["greedy_order"]):
            comparison.expect("greedy order")
        _compare_selection(case, comparison)
    for case in _grouped(directory / "selection" / "temporal_cases.npz"):
        comparison.expect("smoothed relevance")
        _compare_smoothing(case, comparison)


def _compare_selection(case: dict, comparison: Comparison) -> None:
    features, semantic, action = (
        torch.from_numpy(case[name]) for name in ("features", "semantic_scores", "action_scores")
    )
    keep = len(case["kept_sorted"])
    sets = [top_k(scores, keep) for scores in (semantic, action)]
    for name, indices in zip(("semantic_topk", "action_topk"), sets, strict=True):
        comparison.add(name.replace("_", " "), indices, case[name], EXACT)
    union = combine(len(features), *sets)
    comparison.add("union", union.nonzero().flatten(), case["union_sorted"], EXACT)
    if len(case["greedy_order"]):  # empty where both sets coincide and nothing is filtered
        order = max_min_diversity(features, keep, union)
        comparison.add("greedy order", order, case["greedy_order"], EXACT)
    kept = combine_then_filter(features, semantic, action, keep)
    comparison.add("kept tokens", kept, case["kept_sorted"], EXACT)


def _compare_smoothing(case: dict, comparison: Comparison) -> None:
    history = torch.from_numpy(case["history"])
    relevance = TemporalRelevance(len(history), float(case["decay"]), order="oldest_first")
    for scores in history:
        relevance.update(scores)
    estimate = relevance.estimate()
    # The released code scales its result to sum 1; ranks do not depend on it.
    comparison.add("smoothed relevance", estimate / estimate.sum(), case["guided"], ATTENTION / 10)


def _grouped(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays named case<N>_<name> of one file, case by case."""
    if not path.exists():
        return
    with np.load(path) as arrays:
        cases: dict[str, dict[str, np.ndarray]] = {}
        for key in arrays:
            case, name = key.split("_", 1)
            cases.setdefault(case, {})[name] = arrays[key]
    yield from (cases[case] for case in sorted(cases))
