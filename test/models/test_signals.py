"""The semantic relevance is the same however many rows of the map are made at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_pruner_ros.models.decoder import signals
from vla_pruner_ros.models.decoder.attention import attention_weights
from vla_pruner_ros.models.decoder.signals import CPU_ROWS, Prompt, SignalReader, Span

HEADS, HEAD_DIM, VISUAL = 3, 8, 20
LENGTHS = st.sampled_from([VISUAL + 2, CPU_ROWS - 1, CPU_ROWS, CPU_ROWS + 1, 2 * CPU_ROWS, 150])


def semantic(query, key, mask, prompt: Prompt, rows: str) -> torch.Tensor:
    return SignalReader(prompt, frozenset({"semantic"}), rows).at_layer(query, key, mask).semantic


@settings(deadline=None, max_examples=12)
@given(length=LENGTHS, guesses=st.integers(0, 3), causal=st.booleans(), seed=st.integers(0, 99))
@pytest.mark.parametrize("rows", ["all", "length_normalised"])
def test_row_blocks_add_up_to_the_whole_map(rows, length, guesses, causal, seed):
    """Against the whole map at once, in blocks of the shipped size and smaller ones."""
    generator = torch.Generator().manual_seed(seed)
    total = length + guesses
    query, key = torch.randn(2, 1, HEADS, total, HEAD_DIM, generator=generator)
    mask = torch.ones(total, total, dtype=torch.bool).tril() if causal else None
    prompt = Prompt(
        torch.zeros(1, total, 4),
        visual=Span(1, VISUAL),
        text=Span(1 + VISUAL, length - VISUAL - 1),
        read=Span(length - 1, 1 + guesses),
        causal=causal,
        guesses=guesses,
    )
    whole = attention_weights(query, key, mask)[:, :length, 1 : 1 + VISUAL].mean(dim=0)
    expected = whole.mean(dim=0)
    if rows == "length_normalised" and causal:
        expected = whole.sum(dim=0) / (length - torch.arange(1, 1 + VISUAL))
    for size in (CPU_ROWS, 7):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(signals, "CPU_ROWS", size)
            found = semantic(query, key, mask, prompt, rows)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_a_map_is_never_made_of_more_rows_than_a_block(monkeypatch):
    """Else the test above would compare the whole map with itself."""
    made, weights = [], signals.attention_weights

    def watched(query, key, mask=None):
        made.append(query.shape[2])
        return weights(query, key, mask)

    monkeypatch.setattr(signals, "attention_weights", watched)
    length = 2 * CPU_ROWS + 10
    query, key = torch.randn(2, 1, HEADS, length, HEAD_DIM)
    prompt = Prompt(
        torch.zeros(1, length, 4),
        visual=Span(1, VISUAL),
        text=Span(1 + VISUAL, length - 1 - VISUAL),
        read=Span(length - 1, 1),
    )
    semantic(query, key, None, prompt, "all")
    assert made == [CPU_ROWS, CPU_ROWS, 10]
