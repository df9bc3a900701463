"""combine_then_filter: the method's properties, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_pruner_ros.pruning import combine_then_filter
from vla_pruner_ros.pruning.diversity import cosine_distances
from vla_pruner_ros.pruning.token_selection import top_k


def draw_inputs(seed: int, num_visual: int, dim: int = 8):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_visual, dim, generator=generator, dtype=torch.float64).float()
    scores = torch.rand(2, num_visual, generator=generator)
    return features, scores[0], scores[1]


def starts_with_a_tie(features, semantic, action, keep) -> bool:
    """Two tokens far from all others but each other's nearest start equally well: index decides."""
    union = torch.cat([top_k(semantic, keep), top_k(action, keep)]).unique()
    distances = cosine_distances(features[union]).fill_diagonal_(torch.inf)
    best = distances.amin(dim=1).sort(descending=True).values[:2]
    return len(best) == 2 and bool(best[0] - best[1] < 1e-6)


cases = st.tuples(st.integers(0, 2**31), st.integers(1, 48)).flatmap(
    lambda case: st.tuples(st.just(case[0]), st.just(case[1]), st.integers(1, case[1]))
)


@given(cases)
@settings(max_examples=60, deadline=None)
def test_keeps_distinct_tokens_in_their_order_from_the_union(case):
    seed, num_visual, keep = case
    features, semantic, action = draw_inputs(seed, num_visual)
    kept = combine_then_filter(features, semantic, action, keep)
    assert kept.dtype == torch.int64
    assert len(kept) == keep
    assert (kept[1:] > kept[:-1]).all()
    union = {*top_k(semantic, keep).tolist(), *top_k(action, keep).tolist()}
    assert set(kept.tolist()) <= union


@given(cases)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_renumbering_the_tokens_renumbers_the_choice(case):
    seed, num_visual, keep = case
    features, semantic, action = draw_inputs(seed, num_visual)
    assume(not starts_with_a_tie(features, semantic, action, keep))
    order = torch.randperm(num_visual, generator=torch.Generator().manual_seed(seed))
    kept = combine_then_filter(features, semantic, action, keep)
    moved = combine_then_filter(features[order], semantic[order], action[order], keep)
    assert sorted(order[moved].tolist()) == kept.tolist()


@given(st.integers(0, 2**31), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_a_larger_budget_starts_from_a_larger_union(seed, num_visual):
    features, semantic, action = draw_inputs(seed, num_visual)
    sizes = [len(combine_then_filter(features, semantic, action, k)) for k in range(1, num_visual)]
    assert sizes == list(range(1, num_visual))
    for keep in range(1, num_visual):
        assert set(top_k(semantic, keep).tolist()) < set(top_k(semantic, keep + 1).tolist())


def test_agreeing_sets_are_kept_whole():
    features, semantic, _ = draw_inputs(0, 32)
    kept = combine_then_filter(features, semantic, semantic, 8)
    assert torch.equal(kept, top_k(semantic, 8).sort().values)


def test_without_action_relevance_the_semantic_set_is_kept():
    features, semantic, _ = draw_inputs(1, 32)
    kept = combine_then_filter(features, semantic, None, 8)
    assert torch.equal(kept, top_k(semantic, 8).sort().values)


def test_a_twin_of_a_kept_token_is_dropped_first():
    features = torch.eye(6)
    features[1] = features[0]  # tokens 0 and 1 look the same
    semantic = torch.tensor([5.0, 4.0, 3.0, 0.0, 0.0, 0.0])
    action = torch.tensor([0.0, 0.0, 3.0, 5.0, 4.0, 0.0])
    # 2 first, for all others are as far; then 0, 1, 3 and 4 tie; after 0, 1 adds nothing
    assert combine_then_filter(features, semantic, action, 3).tolist() == [0, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_choose_as_float32_of_the_same_values(dtype):
    inputs = [array.to(dtype) for array in draw_inputs(2, 64)]
    kept = combine_then_filter(*inputs, keep=16)
    assert torch.equal(kept, combine_then_filter(*[array.float() for array in inputs], keep=16))


def test_equal_scores_keep_the_lowest_indices():
    assert top_k(torch.tensor([1.0, 2.0, 2.0, 0.0, 2.0]), 2).tolist() == [1, 2]
    assert top_k(torch.zeros(300), 5).tolist() == [0, 1, 2, 3, 4]
    assert top_k(torch.tensor([-0.0, 0.0, -0.0]), 2).tolist() == [0, 1]
    features = torch.randn(20, 4)
    assert combine_then_filter(features, torch.ones(20), torch.ones(20), 3).tolist() == [0, 1, 2]


def test_one_token_is_kept():
    one = torch.ones(1)
    assert combine_then_filter(torch.ones(1, 4), one, one, 1).tolist() == [0]


def test_all_tokens_are_kept_when_the_budget_is_all():
    features, semantic, action = draw_inputs(3, 16)
    assert combine_then_filter(features, semantic, action, 16).tolist() == list(range(16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": 0}, r"keep must be an integer in 1\.\.8"),
        ({"keep": 9}, r"keep must be an integer in 1\.\.8"),
        ({"keep": 2.0}, "keep must be an integer"),
        ({"keep": True}, "keep must be an integer"),
        ({"features": torch.ones(2, 8, 4)}, "call once for each"),
        ({"features": torch.ones(8, 4, dtype=torch.int64)}, "features must be of a float dtype"),
        ({"features": torch.full((8, 4), torch.nan)}, "features holds NaN"),
        ({"semantic": torch.ones(7)}, r"semantic must be \[8\]"),
        ({"semantic": torch.full((8,), torch.nan)}, "semantic holds NaN or Inf"),
        ({"action": torch.full((8,), torch.inf)}, "action holds NaN or Inf"),
        ({"action": torch.ones(1, 8)}, r"action must be \[8\]"),
        ({"action": torch.ones(8, dtype=torch.int32)}, "action must be of a float dtype"),
        ({"action": torch.ones(8, device="meta")}, "action is on meta"),
    ],
)
def test_refuses_by_name(change, message):
    arguments = {"features": torch.rand(8, 4), "semantic": torch.rand(8), "action": None, "keep": 2}
    with pytest.raises(ValueError, match=message):
        combine_then_filter(**(arguments | change))


def test_unchecked_nan_scores_rank_last_and_never_duplicate():
    features, semantic, action = draw_inputs(4, 32)
    semantic[:4], action[10:14], features[20] = torch.nan, torch.nan, torch.nan
    kept = combine_then_filter(features, semantic, action, 12, validate=False)
    assert len(set(kept.tolist())) == 12
    assert torch.isnan(semantic).sum() == 4, "inputs are left as they were"
    assert not set(top_k(semantic, 28).tolist()) & {0, 1, 2, 3}
