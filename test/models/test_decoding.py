"""The pruned engine against transformers' own layers, in which dropped tokens are masked out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaModel

from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.decoder.pruned_decoder import PrunedDecoder
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.pruning.step import PruningStep
from vla_pruner_ros.pruning.token_selection import Selection

LAYERS, HIDDEN, VISUAL, TEXT = 5, 32, 12, 6
HIDE = torch.finfo(torch.float32).min


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="eager",
    )
    model = LlamaModel(config).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 2:
            parameter.mul_(8.0)  # default weights attend almost uniformly
    return model


@pytest.fixture(scope="module")
def decoder(llama):
    return PrunedDecoder(llama, max_positions=64)


def make_prompt(seed: int, causal: bool, read: int = 1, padded: int = 0) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    length = 1 + VISUAL + TEXT
    real = torch.ones(length, dtype=torch.bool)
    real[1 + VISUAL : 1 + VISUAL + padded] = False
    return Prompt(
        torch.randn(1, length, HIDDEN, generator=generator),
        visual=Span(1, VISUAL),
        text=Span(1 + VISUAL, TEXT),
        read=Span(length - read, read),
        causal=causal,
        real=real if padded else None,
        following=4,
    )


def make_plan(keep: int, prune_layer: int = 2, **changes) -> PruningStep:
    plan = PruningStep(
        keep=keep,
        requested=keep,
        full=False,
        prune_layer=prune_layer,
        signals=frozenset(),
        semantic_layer=prune_layer - 1,
        action_layers=tuple(range(LAYERS)),
        uses_history=False,
        tracks_history=False,
        history_incomplete=False,
        refresh=False,
        history_length=0,
    )
    return replace(plan, **changes)


def choose(kept: list[int]):
    return lambda signals: Selection(torch.tensor(sorted(kept)))


def reference(llama, prompt: Prompt, kept: list[int], prune_layer: int):
    """Every token runs through every layer; from prune_layer on dropped ones cannot be seen.

    Returns hidden states [L, d] after the norm and attention [layers, heads, L, L].
    """
    hidden, length = prompt.embeddings, prompt.length
    positions = torch.arange(length)[None]
    tables = llama.rotary_emb(hidden, positions)
    visible = torch.ones(length, length, dtype=torch.bool)
    if prompt.causal:
        visible = visible.tril()
    if prompt.real is not None:
        visible = visible & prompt.real[None]
    kept_columns = torch.ones(length, dtype=torch.bool)
    kept_columns[prompt.visual.start : prompt.visual.stop] = False
    kept_columns[torch.tensor(kept) + prompt.visual.start] = True
    maps = []
    for index, layer in enumerate(llama.layers):
        seen = visible & kept_columns[None] if index >= prune_layer else visible
        mask = torch.zeros(length, length).masked_fill(~seen, HIDE)[None, None]
        normed = layer.input_layernorm(hidden)
        mixed, weights = layer.self_attn(normed, tables, attention_mask=mask)
        maps.append(weights[0])
        hidden = hidden + mixed
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return llama.norm(hidden)[0], torch.stack(maps)


kept_sets = st.sets(st.integers(0, VISUAL - 1), min_size=1, max_size=VISUAL).map(sorted)


@settings(deadline=None, max_examples=40)
@given(kept=kept_sets, prune_layer=st.integers(0, LAYERS - 1), seed=st.integers(0, 99))
@pytest.mark.parametrize(("causal", "padded"), [(True, 0), (False, 0), (False, 2), (True, 2)])
def test_dropping_tokens_equals_hiding_them(
    llama, decoder, kept, prune_layer, seed, causal, padded
):
    prompt = make_prompt(seed, causal, read=3, padded=padded)
    done = decoder.run_prompt(prompt, make_plan(len(kept), prune_layer), choose(kept))
    hidden, maps = reference(llama, prompt, kept, prune_layer)
    torch.testing.assert_close(done.hidden[0], prompt.read.of(hidden, 0), atol=2e-5, rtol=1e-4)
    rows = prompt.visual.of(prompt.read.of(maps, 2)).mean(dim=(1, 2))
    rows[prune_layer:, sorted(set(range(VISUAL)) - set(kept))] = 0.0
    torch.testing.assert_close(done.attention.mean(), rows, atol=2e-6, rtol=1e-4)


@settings(deadline=None, max_examples=20)
@given(kept=kept_sets, seed=st.integers(0, 99))
def test_dropped_tokens_have_exactly_no_action_attention(decoder, kept, seed):
    done = decoder.run_prompt(make_prompt(seed, True), make_plan(len(kept), 2), choose(kept))
    dropped = sorted(set(range(VISUAL)) - set(kept))
    assert (done.attention.mean()[2:, dropped] == 0.0).all()
    assert (done.attention.mean()[:2, dropped] > 0.0).all()


@settings(deadline=None, max_examples=30)
@given(kept=kept_sets, prune_layer=st.integers(0, LAYERS - 1), seed=st.integers(0, 99))
def test_cached_tokens_equal_a_longer_prompt(decoder, kept, prune_layer, seed):
    """The last two tokens of a prompt, run one by one through the cache of the others."""
    whole = make_prompt(seed, causal=True, read=1)
    plan = make_plan(len(kept), prune_layer)
    start = whole.length - 2
    shorter = replace(
        whole,
        embeddings=whole.embeddings[:, :start],
        text=Span(whole.text.start, TEXT - 2),
        read=Span(start - 1, 1),
    )
    cache = decoder.new_cache()
    done = decoder.run_prompt(shorter, plan, choose(kept), cache)
    for position in (start, start + 1):
        embedding = whole.embeddings[:, position : position + 1]
        hidden = decoder.run_tokens(embedding, position, cache, done.attention)
    expected = decoder.run_prompt(whole, plan, choose(kept)).hidden
    torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("prune_layer", [0, 2, 4])
def test_several_tokens_at_once_equal_one_by_one(decoder, prune_layer):
    prompt, plan = make_prompt(3, causal=True), make_plan(5, prune_layer)
    further = torch.randn(1, 3, HIDDEN, generator=torch.Generator().manual_seed(1))
    results = []
    for size in (1, 3):
        cache = decoder.new_cache()
        done = decoder.run_prompt(prompt, plan, choose([0, 3, 4, 8, 11]), cache)
        for first in range(0, 3, size):
            tokens = further[:, first : first + size]
            hidden = decoder.run_tokens(tokens, prompt.length + first, cache, done.attention)
        results.append((hidden[:, -1], done.attention.mean()))
    torch.testing.assert_close(results[0], results[1], atol=2e-5, rtol=1e-4)


def test_layers_hold_as_many_keys_as_they_see(decoder):
    prompt, cache = make_prompt(0, causal=True), decoder.new_cache()
    decoder.run_prompt(prompt, make_plan(4, prune_layer=3), choose([1, 2, 5, 7]), cache)
    full, pruned = prompt.length, prompt.length - VISUAL + 4
    assert cache.lengths == [full, full, full, pruned, pruned]


@pytest.mark.parametrize("rows", ["all", "text", "length_normalised", "last"])
def test_semantic_relevance_is_read_from_the_layer_before(llama, decoder, rows):
    prompt, kept, seen = make_prompt(5, causal=True), list(range(VISUAL)), []
    plan = make_plan(VISUAL, 2, signals=frozenset({"semantic"}), semantic_queries=rows)

    def select(signals):
        seen.append(signals.semantic)
        return choose(kept)(signals)

    decoder.run_prompt(prompt, plan, select)
    attention = prompt.visual.of(reference(llama, prompt, kept, 2)[1][1].mean(dim=0))
    queries = torch.arange(prompt.length)[:, None]
    can_see = (queries >= torch.arange(1, 1 + VISUAL)).sum(dim=0)
    expected = {
        "all": attention.mean(dim=0),
        "text": prompt.text.of(attention, 0).mean(dim=0),
        "length_normalised": attention.sum(dim=0) / can_see,
        "last": attention[-1],
    }[rows]
    torch.testing.assert_close(seen[0], expected, atol=2e-6, rtol=1e-4)


def test_signals_are_only_those_asked_for(decoder):
    prompt, seen = make_prompt(5, causal=False), []
    names = {"last_row", "text", "text_features", "features"}

    def select(signals):
        seen.append(signals)
        return choose(list(range(VISUAL)))(signals)

    decoder.run_prompt(prompt, make_plan(VISUAL, 2, signals=frozenset(names)), select)
    (signals,) = seen
    assert signals.semantic is None
    assert signals.text.shape == (TEXT, VISUAL)
    torch.testing.assert_close(signals.last_row, signals.text[-1])
    assert torch.equal(signals.features, prompt.embeddings[0, 1 : 1 + VISUAL])
    assert torch.equal(signals.text_features, prompt.embeddings[0, 1 + VISUAL :])


def test_full_plan_never_selects(decoder):
    def select(signals):
        raise AssertionError("a full step must not select")

    done = decoder.run_prompt(make_prompt(0, True), make_plan(VISUAL, full=True), select)
    assert done.selection is None


def test_cache_grows_and_keeps_its_place():
    cache = KeyValueCache(2, heads=1, head_dim=4, device="cpu", dtype=torch.float32)
    cache.start([6, 3])
    keys, _ = cache.append(0, torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2, 4))
    address = keys.data_ptr()
    cache.start([4, 3])
    keys, values = cache.append(0, torch.full((1, 1, 3, 4), 2.0), torch.ones(1, 1, 3, 4))
    assert keys.data_ptr() == address
    assert (keys == 2.0).all()
    assert (values == 1.0).all()
    mark = list(cache.lengths)
    cache.append(0, torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4))
    cache.rewind(mark)
    assert cache.lengths == [3, 0]
