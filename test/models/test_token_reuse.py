"""Reuse of keys and values: what is reused, what is computed with it, and when nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_helpers import observation, same

from vla_pruner_ros.models.decoder.attention import project_key_value, project_query
from vla_pruner_ros.models.decoder.pruned_decoder import finish_layer
from vla_pruner_ros.models.decoder.reusing_pass import TextAttention, run_reusing
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.execution import token_reuse
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.token_reuse import layer_shares, reused_rows, static_patches
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation, PolicyError
from vla_pruner_ros.pruning.config import PruningConfig

GRID = (16, 16)
TEXT, PATCHES = 7, 20


def random_image(seed: int, side: int = 224) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), changed=st.integers(0, 256), data=st.data())
def test_static_patches_are_those_that_hardly_changed(seed, changed, data):
    before, random = random_image(seed), np.random.default_rng(seed + 1)
    now = before.clone()
    for patch in random.permutation(256)[:changed]:
        row, column = 14 * (patch // 16), 14 * (patch % 16)
        part = now[row : row + 14, column : column + 14]
        noise = random.integers(0, data.draw(st.sampled_from([2, 40, 200])), part.shape)
        part.copy_(torch.from_numpy((part.numpy().astype(int) + noise).clip(0, 255)))
    cosines = np.zeros(256)
    for patch in range(256):
        row, column = 14 * (patch // 16), 14 * (patch % 16)
        one, other = (
            image[row : row + 14, column : column + 14].numpy().astype(float).ravel()
            for image in (now, before)
        )
        cosines[patch] = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    found = static_patches(now, before, GRID).tolist()
    assert len(found) == min(120, (cosines >= 0.996).sum())
    assert (cosines[found] >= 0.996 - 1e-6).all()
    assert (np.diff(cosines[found]) <= 1e-6).all()
    left_out = cosines[[patch for patch in range(256) if patch not in found]]
    assert len(found) == 120 or (left_out < 0.996 + 1e-6).all()


def test_a_black_picture_that_stays_black_is_static():
    black = torch.zeros(224, 224, 3, dtype=torch.uint8)
    assert static_patches(black, black, GRID).tolist() == list(range(120))


def test_a_layers_share_follows_how_spread_its_attention_is():
    shares = layer_shares(torch.tensor([3.0, 4.0, 2.0, 3.0, 2.0, 2.5]))
    # 1 - normalised entropy: 0.5 0 1 0.5 1 0.75; rises damped to 0.55: 0.55, 0.5, 0.775, 0.75.
    assert shares.tolist() == pytest.approx([0.0, 0.0, 0.55, 0.55, 0.775, 0.775])


@given(st.lists(st.floats(0, 6), min_size=3, max_size=40))
def test_shares_are_shares_and_never_fall(entropies):
    shares = layer_shares(torch.tensor(entropies))
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares.diff() >= 0).all()
    assert (shares[:2] == 0).all()


def test_what_the_text_looks_at_is_recomputed_and_the_stillest_come_first():
    relevance = torch.zeros(4, 256)
    relevance[2, 156:] = 1.0  # of the four layers that were read, the third is at 15 / 32
    attention = TextAttention(relevance, torch.tensor([3.0, 3.0, 2.5, 1.0]))
    rows = reused_rows(torch.tensor([200, 5, 9, 160, 3, 7]), attention, 1, num_layers=5)
    shares = layer_shares(attention.entropies).tolist()
    expected = [[6, 10, 4, 8][: int(4 * share)] for share in (*shares, shares[-1])]
    assert [one.tolist() for one in rows] == expected
    assert expected[0] == []
    assert len(expected[-1]) >= 2


def reusing(checkpoints, kind: str = "static", **pruning):
    config = PruningConfig(**{"method": "full", "token_reuse": kind, **pruning})
    return load_policy(checkpoints("openvla"), pruning=config)


def a_prompt(policy, seed: int) -> Prompt:
    width = policy.model.language_model.config.hidden_size
    rows = 1 + PATCHES + TEXT
    embeddings = torch.randn(1, rows, width, generator=torch.Generator().manual_seed(seed))
    visual, text = Span(1, PATCHES), Span(1 + PATCHES, TEXT)
    return Prompt(embeddings, visual, text, read=Span(rows - 1, 1), following=6)


def row_by_row(decoder, prompt: Prompt, reused, held):
    """Compute the same pass one row at a time, with the keys and values of `held` where reused.

    Returns (hidden of the last row, keys and values by layer and row).
    """
    hidden = [prompt.embeddings[0, row] for row in range(prompt.rows)]
    kept = []
    for index, layer in enumerate(decoder.layers):
        rows = [row for row in range(prompt.rows) if row not in reused[index].tolist()]
        states = {}
        for row in range(prompt.rows):
            if row not in rows:
                states[row] = held[index][row]
                continue
            normed = layer.input_layernorm(hidden[row][None, None])
            tables = decoder.cos[row : row + 1], decoder.sin[row : row + 1]
            states[row] = project_key_value(layer.self_attn, normed, *tables)
        for row in rows:
            normed = layer.input_layernorm(hidden[row][None, None])
            tables = decoder.cos[row : row + 1], decoder.sin[row : row + 1]
            query = project_query(layer.self_attn, normed, *tables)[0, :, 0]
            keys = torch.stack([states[other][0][0, :, 0] for other in range(row + 1)])
            values = torch.stack([states[other][1][0, :, 0] for other in range(row + 1)])
            scores = torch.einsum("hd,nhd->hn", query, keys) * query.shape[-1] ** -0.5
            mixed = torch.einsum("hn,nhd->hd", scores.softmax(-1), values).flatten()
            hidden[row] = finish_layer(layer, hidden[row][None, None], mixed[None, None])[0, 0]
        kept.append(states)
    return decoder.norm(hidden[-1][None, None]), kept


NOTHING = [torch.empty(0, dtype=torch.int64)] * 5


@torch.no_grad()
def test_a_pass_that_reuses_nothing_is_the_usual_one(small_policy):
    policy = small_policy("openvla", method="vla_pruner", keep_ratio=1.0)
    plan, prompt = policy.pruning_state.plan(), a_prompt(policy, 0)
    assert plan.full
    assert plan.action_layers
    caches = [policy.decoder.new_cache(40) for _ in range(2)]
    usual = policy.decoder.run_prompt(prompt, plan, None, caches[0])
    ours, _ = run_reusing(policy.decoder, prompt, plan, caches[1], NOTHING)
    assert same(ours.hidden, usual.hidden)
    assert ours.cached == usual.cached
    assert same(ours.attention.mean()[:, :PATCHES], usual.attention.mean()[:, :PATCHES])
    for layer in range(5):
        for one, other in zip(*(cache.held(layer) for cache in caches), strict=True):
            assert same(one, other)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
def test_reuse_equals_a_row_by_row_computation(small_policy, seed):
    policy = small_policy("openvla", method="full")
    decoder, plan = policy.decoder, policy.pruning_state.plan()
    cache = decoder.new_cache(40)
    first, second = a_prompt(policy, 2 * seed), a_prompt(policy, 2 * seed + 1)
    drawn = torch.randperm(PATCHES, generator=torch.Generator().manual_seed(seed)) + 1
    reused = [drawn[:count] for count in (0, 2, 2, 9, 15)]
    run_reusing(decoder, first, plan, cache, NOTHING)
    ours, attention = run_reusing(decoder, second, plan, cache, reused)
    _, held = row_by_row(decoder, first, NOTHING, None)
    expected, _ = row_by_row(decoder, second, reused, held)
    assert same(ours.hidden, expected)
    assert ours.cached == (second.rows,) * 5
    assert attention.visual.shape == (4, PATCHES)
    assert attention.entropies.shape == (4,)
    unlike = run_reusing(decoder, second, plan, decoder.new_cache(40), NOTHING)[0].hidden
    assert not same(ours.hidden, unlike, 1e-3)


def test_a_still_picture_gives_the_same_action_with_less_work(small_policy, checkpoints):
    policy = reusing(checkpoints)
    usual = small_policy("openvla", method="full").act(observation(policy)).actions
    counts = []
    for _ in range(3):
        chunk = policy.act(observation(policy))
        assert np.array_equal(chunk.actions, usual)
        counts.append(chunk.pruning.reused_tokens)
    assert counts[0] == (0,) * 5
    assert counts[1][:2] == (0, 0)
    assert counts[1][-1] >= 20
    assert counts[2] == counts[1]


def last_share(policy, seen: Observation) -> int:
    return policy.act(seen).pruning.reused_tokens[-1]


def test_what_changed_is_not_reused(checkpoints):
    policy = reusing(checkpoints)
    policy.act(observation(policy, seed=0))
    changed = last_share(policy, observation(policy, seed=1))
    still = last_share(policy, observation(policy, seed=1))
    assert changed < still / 4  # a few plain patches have the colour of before


@pytest.mark.parametrize("event", ["reset", "instruction", "pruned", "failed", "asked aside"])
def test_nothing_is_reused_after(event, checkpoints):
    policy = reusing(checkpoints)
    seen = observation(policy)
    policy.act(seen)
    assert last_share(policy, seen) > 0
    if event == "reset":
        policy.reset()
    elif event == "instruction":
        seen = Observation(seen.images, "pull the button from under")
    elif event == "pruned":
        unpruned = policy.pruning
        policy.pruning = replace(unpruned, method="fastv", keep_ratio=0.25)
        assert policy.act(seen).pruning.reused_tokens == ()
        policy.pruning = unpruned
    elif event == "failed":
        read_back, policy._to_actions = policy._to_actions, lambda *_: np.full((1, 7), np.nan)
        with pytest.raises(PolicyError):
            policy.act(seen)
        policy._to_actions = read_back
    else:
        policy.act_unpruned(seen)
    assert last_share(policy, seen) == 0
    assert last_share(policy, seen) > 0


@pytest.mark.parametrize(("margin", "reuses"), [(-1.0, True), (1.1, False)])
def test_the_gate_asks_how_clear_the_last_action_was(margin, reuses, checkpoints, monkeypatch):
    monkeypatch.setattr(token_reuse, "LEAST_MARGIN", margin)
    policy = reusing(checkpoints, "gated")
    policy.act(observation(policy))
    assert (last_share(policy, observation(policy)) > 0) is reuses


def test_an_untrained_policy_is_never_clear(checkpoints):
    policy = reusing(checkpoints, "gated")
    shares = [last_share(policy, observation(policy)) for _ in range(3)]
    assert shares == [0, 0, 0]


def test_it_is_refused_where_it_cannot_work(checkpoints):
    reuse = PruningConfig(token_reuse="static")
    with pytest.raises(ValueError, match="with this openvla_oft set it to off"):
        load_policy(checkpoints("openvla_oft"), pruning=reuse)
    drafting = ExecutionConfig(draft="linear")
    with pytest.raises(ValueError, match="with draft off"):
        load_policy(checkpoints("openvla"), pruning=reuse, execution=drafting)
    policy = load_policy(checkpoints("openvla"), execution=drafting)
    for change in (policy.check_pruning, lambda config: setattr(policy, "pruning", config)):
        with pytest.raises(ValueError, match="with draft off"):
            change(reuse)
    assert policy.pruning.token_reuse == "off"


def test_it_begins_and_ends_between_two_inferences(checkpoints):
    policy = reusing(checkpoints)
    seen, kinds = observation(policy), ("static", "off", "static", "static")
    policy.act(seen)
    used = []
    for kind in kinds:
        policy.pruning = replace(policy.pruning, token_reuse=kind)
        used.append(bool(sum(policy.act(seen).pruning.reused_tokens)))
    assert used == [True, False, False, True]
