"""Greedy max-min diversity against a brute reference, in every form it comes in."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_pruner_ros.pruning import diversity_triton, max_min_diversity
from vla_pruner_ros.pruning.diversity import (
    _distance_to_nearest_other,
    cosine_distances,
    greedy_max_min,
    greedy_torch,
)


def brute_greedy(distances: list[list[float]], k: int, candidates: list[int]) -> list[int]:
    """The paper's words, on plain numbers: max() and min() take the first of equals."""
    chosen: list[int] = []
    while len(chosen) < k:
        left = [c for c in candidates if c not in chosen]
        others = chosen or candidates
        chosen.append(
            max(left, key=lambda c: min((distances[c][o] for o in others if o != c), default=0.0))
        )
    return chosen


@st.composite
def problems(draw):
    n = draw(st.integers(1, 24))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    # Few directions: many identical features and exact ties.
    features = torch.randint(-1, 2, (n, draw(st.integers(1, 6))), generator=generator).float()
    candidates = torch.tensor(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    candidates[draw(st.integers(0, n - 1))] = True
    return features, candidates, draw(st.integers(0, int(candidates.sum())))


@given(problems())
@settings(max_examples=150, deadline=None)
def test_equals_the_brute_reference_on_the_same_distances(problem):
    features, candidates, k = problem
    distances = cosine_distances(features)
    indices = candidates.nonzero().flatten().tolist()
    expected = brute_greedy(distances.tolist(), k, indices)
    assert max_min_diversity(features, k, candidates).tolist() == expected
    first = _distance_to_nearest_other(distances, candidates)
    assert greedy_torch(distances, first, k).tolist() == expected


def test_identical_features_are_chosen_once_each_in_order():
    assert max_min_diversity(torch.ones(7, 3), 7).tolist() == list(range(7))
    assert max_min_diversity(torch.zeros(5, 3), 3).tolist() == [0, 1, 2]


def test_length_of_features_does_not_matter():
    features = torch.randn(40, 16, dtype=torch.float64).float()
    scale = 2.0 ** torch.randint(-6, 7, (40, 1))
    assert torch.equal(max_min_diversity(features, 12), max_min_diversity(features * scale, 12))


def test_distances_of_simple_vectors():
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
    expected = torch.tensor([[0.0, 1, 2, 1], [1, 0, 1, 1], [2, 1, 0, 1], [1, 1, 1, 1]])
    assert torch.allclose(cosine_distances(features), expected, atol=1e-6)


def test_bfloat16_is_computed_in_float32():
    features = torch.randn(64, 128).bfloat16()
    exact = 1 - torch.nn.functional.cosine_similarity(
        features.double()[:, None], features.double()[None], dim=2
    )
    assert cosine_distances(features).dtype == torch.float32
    assert (cosine_distances(features) - exact).abs().max() < 1e-5


def test_nan_features_lead_to_no_duplicate():
    features = torch.randn(16, 4)
    features[3] = math.nan
    assert sorted(max_min_diversity(features, 16).tolist()) == list(range(16))


@pytest.mark.parametrize(
    ("features", "k", "candidates", "message"),
    [
        (torch.ones(4), 1, None, r"features must be \[n, d\]"),
        (torch.ones(4, 2), 5, None, "between 0 and the 4 candidates"),
        (torch.ones(4, 2), -1, None, "between 0 and the 4 candidates"),
        (torch.ones(4, 2), 2, torch.tensor([True, False, False, False]), "the 1 candidates"),
        (torch.ones(4, 2), 1, torch.ones(4), r"candidates must be bool \[4\]"),
        (torch.ones(4, 2), 1, torch.ones(3, dtype=torch.bool), r"candidates must be bool \[4\]"),
    ],
)
def test_refuses_by_name(features, k, candidates, message):
    with pytest.raises(ValueError, match=message):
        max_min_diversity(features, k, candidates)


KERNEL_CHECK = """
import torch
from vla_pruner_ros.pruning import diversity, diversity_triton
generator = torch.Generator().manual_seed(0)
for n, k in ((1, 1), (5, 5), (100, 40), (256, 64), (300, 300)):
    features = torch.randn(n, 16, generator=generator)
    features[: n // 3] = features[0]
    candidates = torch.rand(n, generator=generator) < 0.8
    candidates[:k] |= candidates.sum() < k
    distances = diversity.cosine_distances(features)
    first = diversity._distance_to_nearest_other(distances, candidates)
    k = min(k, int(candidates.sum()))
    fused = diversity_triton.greedy(distances, first, k)
    assert torch.equal(fused, diversity.greedy_torch(distances, first, k)), (n, k)
"""


@pytest.mark.skipif(
    not diversity_triton.AVAILABLE, reason="Triton is not installed: the fused kernel is not used"
)
def test_fused_kernel_picks_equally_in_the_interpreter():
    # A process of its own: Triton reads TRITON_INTERPRET when it is imported.
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    subprocess.run([sys.executable, "-c", KERNEL_CHECK], check=True, env=environment, timeout=120)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("n", "k"), [(1, 1), (256, 64), (256, 128), (512, 256), (700, 300)])
def test_gpu_picks_equal_the_cpu(n, k):
    features = torch.randn(n, 64)
    distances = cosine_distances(features)
    expected = greedy_max_min(distances, k)
    assert torch.equal(greedy_max_min(distances.cuda(), k).cpu(), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_gpu_choice_is_captured_in_a_graph():
    features = torch.randn(256, 64, device="cuda")
    max_min_diversity(features, 64)  # compiles the kernel
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        order = max_min_diversity(features, 64)
    features.copy_(torch.randn(256, 64))
    graph.replay()
    assert torch.equal(order, max_min_diversity(features, 64))
