"""The decaying window of action relevance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_pruner_ros.pruning import TemporalRelevance


@given(
    st.integers(1, 5),
    st.floats(0.1, 1.0),
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_is_the_papers_weighted_mean_of_the_steps_held(window, decay, steps):
    relevance = TemporalRelevance(window, decay)
    for scores in steps:
        relevance.update(torch.tensor(scores))
    held = steps[-window:][::-1]
    weights = [decay**i for i in range(1, len(held) + 1)]
    expected = [
        sum(w * s[token] for w, s in zip(weights, held, strict=True)) / sum(weights)
        for token in range(4)
    ]
    assert relevance.estimate().tolist() == pytest.approx(expected, abs=1e-5)
    assert len(relevance) == len(held)


def test_newest_step_weighs_most():
    relevance = TemporalRelevance(window=3, decay=0.8)
    for token in range(3):
        relevance.update(torch.eye(3)[token])
    oldest, middle, newest = relevance.estimate().tolist()
    assert newest > middle > oldest > 0
    assert newest + middle + oldest == pytest.approx(1.0)


def test_there_is_no_estimate_before_a_step_and_none_after_reset():
    relevance = TemporalRelevance()
    assert relevance.estimate() is None
    relevance.update(torch.ones(4))
    relevance.reset()
    assert relevance.estimate() is None
    assert len(relevance) == 0
    relevance.update(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert relevance.estimate().tolist() == pytest.approx([0, 1, 2, 3])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_step_that_is_not_finite_is_left_out(bad):
    relevance = TemporalRelevance(window=2)
    relevance.update(torch.tensor([1.0, 2.0]))
    relevance.update(torch.tensor([3.0, 4.0]))
    before = relevance.estimate().clone()
    relevance.update(torch.tensor([bad, 1.0]))
    assert torch.equal(relevance.estimate(), before)


def test_scores_are_copied_and_held_in_float32():
    relevance = TemporalRelevance(window=1)
    scores = torch.rand(8).bfloat16()
    relevance.update(scores)
    expected = scores.float().clone()
    scores.zero_()
    assert torch.allclose(relevance.estimate(), expected)
    assert relevance.estimate().dtype == torch.float32


def test_buffers_keep_their_addresses():
    relevance = TemporalRelevance(window=2)
    relevance.update(torch.rand(8))
    addresses = [buffer.data_ptr() for buffer in relevance.buffers()]
    relevance.update(torch.rand(8))
    relevance.reset()
    relevance.update(torch.rand(8))
    assert [buffer.data_ptr() for buffer in relevance.buffers()] == addresses


def test_another_window_keeps_the_newest_steps():
    relevance = TemporalRelevance(window=3, decay=1.0)
    for value in (1.0, 2.0, 3.0):
        relevance.update(torch.tensor([value]))
    assert relevance.resized(2).estimate().item() == pytest.approx(2.5)
    longer = relevance.resized(5)
    assert len(longer) == 3
    assert longer.estimate().item() == pytest.approx(2.0)


def test_another_decay_weighs_the_held_steps_anew():
    relevance = TemporalRelevance(window=2, decay=1.0)
    relevance.update(torch.tensor([0.0]))
    relevance.update(torch.tensor([1.0]))
    relevance.set_decay(0.5, "newest_first")
    assert relevance.estimate().item() == pytest.approx(2 / 3)
    relevance.set_decay(0.5, "oldest_first")
    assert relevance.estimate().item() == pytest.approx(1 / 3)


def test_refuses_scores_that_do_not_fit():
    with pytest.raises(ValueError, match="at least 1 step"):
        TemporalRelevance(window=0)
    relevance = TemporalRelevance()
    with pytest.raises(ValueError, match=r"scores must be \[M\]"):
        relevance.update(torch.ones(2, 4))
    relevance.update(torch.ones(4))
    with pytest.raises(ValueError, match="cover 5 visual tokens, the history 4"):
        relevance.update(torch.ones(5))
    with pytest.raises(ValueError, match="are on meta"):
        relevance.update(torch.ones(4, device="meta"))
    assert len(relevance) == 1


def test_update_and_estimate_run_where_values_cannot_be_read():
    """On the meta device any look at a value fails, as a synchronisation would."""
    relevance = TemporalRelevance()
    for _ in range(4):
        relevance.update(torch.ones(4, device="meta"))
    assert relevance.estimate().shape == (4,)
