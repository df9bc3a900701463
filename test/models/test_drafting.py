"""Drafting: which guesses count, when it is worth it, and that no action ever changes by it."""

from __future__ import annotations

from functools import cache
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_helpers import observation
from pruning_streams import action_relevance

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.execution.drafting import TREES, Drafter, DraftGate, accepted_path
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.openvla.openvla import VAIN_PASSES
from vla_pruner_ros.pruning.config import PruningConfig

IDS = range(100, 110)
kinds = st.sampled_from(sorted(TREES))
actions = st.lists(st.sampled_from(IDS), min_size=ACTION_DIM, max_size=ACTION_DIM)


def after(prefix: tuple[int, ...]) -> int:
    """A model: the next token depends on all before it."""
    return IDS.start + hash(prefix) % len(IDS)


def greedy(length: int = ACTION_DIM) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < length:
        tokens.append(after(tuple(tokens)))
    return tokens


def leading_to(tree, node: int) -> list[int]:
    return [other for other in range(len(tree)) if tree.visible[node][other]]


@given(kind=kinds, last=actions, before=actions)
def test_what_is_accepted_is_what_greedy_decoding_gives(kind, last, before):
    drafter = Drafter(kind, ACTION_DIM, IDS)
    drafter.record(before, None)
    drafter.record(last, None)
    guesses, tree = drafter.propose(), drafter.tree
    seen = [tuple(guesses[other] for other in leading_to(tree, node)) for node in range(len(tree))]
    path, tokens = accepted_path(tree, guesses, [after(()), *map(after, seen)])
    assert tokens == greedy(len(path) + 1)
    assert [guesses[node] for node in path] == tokens[:-1]
    rejected = [n for n in range(len(tree)) if n not in path and len(path) in (tree.places[n],)]
    siblings = [n for n in rejected if tree.parents[n] == (path[-1] if path else -1)]
    assert all(guesses[node] != tokens[-1] for node in siblings)


@pytest.mark.parametrize("kind", sorted(TREES))
def test_every_node_continues_the_one_before_it(kind):
    tree = TREES[kind](6)
    for node, parent in enumerate(tree.parents):
        assert tree.places[node] == (tree.places[parent] + 1 if parent >= 0 else 0)
        assert len(leading_to(tree, node)) == tree.places[node] + 1
    assert tree.is_chain == (kind == "linear")
    assert len(tree) == {"linear": 6, "tree": 27}[kind]


@given(last=actions, before=actions)
def test_competing_guesses_differ_and_are_action_tokens(last, before):
    drafter = Drafter("tree", ACTION_DIM, IDS)
    drafter.record(before, None)
    drafter.record(last, None)
    guesses, tree = drafter.propose(), drafter.tree
    assert set(guesses) <= set(IDS)
    assert guesses[: ACTION_DIM - 1] == last[:-1]
    by_parent: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents):
        by_parent.setdefault(parent, []).append(guesses[node])
    assert all(len(set(children)) == len(children) for children in by_parent.values())


def test_the_tree_takes_one_change_in_its_stride():
    drafter = Drafter("tree", ACTION_DIM, IDS)
    drafter.record([100, 109, 102, 103, 104, 105, 106], None)
    drafter.record([100, 101, 102, 103, 104, 105, 106], None)
    now, tree, guesses = [100, 109, 102, 103, 104, 105, 106], drafter.tree, drafter.propose()
    predictions = [now[0], *(now[place + 1] for place in tree.places)]
    path, tokens = accepted_path(tree, guesses, predictions)
    assert tokens == now
    assert len(path) == ACTION_DIM - 1


def test_nothing_is_proposed_without_an_action_to_repeat():
    drafter = Drafter("linear", ACTION_DIM, IDS)
    assert drafter.propose() is None
    drafter.record([100] * 6 + [99], None)  # 99 is a word
    assert drafter.propose() is None
    drafter.record([100] * 7, None)
    assert drafter.propose() == [100] * 6
    drafter.reset()
    assert drafter.propose() is None


def drafted_steps(accepted: list[int], steps: int) -> list[int]:
    """Steps that drafted, where each draft in turn gets so many tokens accepted (then none)."""
    worth, drafted, gains = DraftGate(), [], iter(accepted)
    for step in range(steps):
        due = worth.is_due
        drafted += [step] if due else []
        worth.record(next(gains, 0) if due else None)
    return drafted


def test_vain_drafts_become_rare_and_are_tried_again():
    drafted = drafted_steps([], 2000)
    assert len(drafted) < 0.02 * 2000
    assert max(np.diff(drafted)) == DraftGate.LONGEST_PAUSE + 1
    assert drafted[-1] > 2000 - 2 * DraftGate.LONGEST_PAUSE


def test_drafting_that_pays_never_pauses():
    assert len(drafted_steps([6, 0, 3, 1] * 50, 200)) == 200


def test_drafting_resumes_when_it_pays_again():
    vain = len(drafted_steps([], 200))
    drafted = drafted_steps([0] * vain + [4] * 1000, 1000)
    assert drafted[-300:] == list(range(700, 1000))


# ---- on models


@cache
def loaded(directory: Path, draft: str):
    return load_policy(directory, execution=ExecutionConfig(draft=draft))


def runs_of_wrong(truth: list[int], proposal: list[int]) -> list[str]:
    pairs = zip(truth[:-1], proposal, strict=False)
    return "".join("w" if token != guess else " " for token, guess in pairs).split(" ")


def load(checkpoints, draft: str, seed: int = 0, **pruning):
    """A policy as good as new."""
    policy = loaded(checkpoints("openvla", seed), draft)
    policy.reset()
    policy.pruning = PruningConfig(**pruning)
    if policy.drafter is not None:
        policy.drafter = Drafter(draft, ACTION_DIM, policy.tokens.ids)
    return policy


def tokens_of(policy, frame) -> list[int]:
    return policy.run(frame, policy.pruning_state.plan())[0].raw.tolist()


def assert_same_step(drafted, plain, frame, proposal: list[int] | None = None) -> int:
    """Act on both and compare; returns how many guesses held."""
    if proposal is not None:
        drafted.drafter.record(proposal, None)
    one, other = drafted.act(frame), plain.act(frame)
    assert np.array_equal(one.actions, other.actions)
    pairs = zip(one.pruning.kept_indices, other.pruning.kept_indices, strict=True)
    assert all(np.array_equal(kept, expected) for kept, expected in pairs)
    relevance = (action_relevance(policy.pruning_state) for policy in (drafted, plain))
    torch.testing.assert_close(*relevance, atol=1e-6, rtol=1e-4)
    return one.pruning.accepted_tokens


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=kinds,
    keep_ratio=st.sampled_from([0.02, 0.25, 0.5, 1.0]),
    prune_layer=st.integers(1, 4),
    semantic_queries=st.sampled_from(["all", "length_normalised"]),
    seed=st.integers(0, 1),
    wrong=st.sets(st.integers(0, ACTION_DIM - 1)),
)
@pytest.mark.slow
def test_actions_and_relevance_are_those_of_plain_decoding(
    checkpoints, kind, keep_ratio, prune_layer, semantic_queries, seed, wrong
):
    pruning = {
        "keep_ratio": keep_ratio,
        "prune_layer": prune_layer,
        "semantic_queries": semantic_queries,
        "temporal_window": 1,
    }
    drafted, plain = (load(checkpoints, draft, seed, **pruning) for draft in (kind, "off"))
    for number in range(2):
        frame = observation(plain, number)
        truth = tokens_of(plain, frame)
        proposal = [31800 if place in wrong else token for place, token in enumerate(truth)]
        wrong_in_a_row = max(len(run) for run in runs_of_wrong(truth, proposal))
        right = sum(token == guess for token, guess in zip(truth[:-1], proposal, strict=False))
        held = assert_same_step(drafted, plain, frame, proposal)
        # A right guess behind a wrong one saves its pass as well, until drafting is given up.
        if wrong_in_a_row < VAIN_PASSES:
            assert held >= right
        assert held >= len(list(takewhile(lambda place: place not in wrong, range(6))))


@pytest.mark.parametrize("kind", sorted(TREES))
@pytest.mark.parametrize("method", ["vla_pruner", "fastv", "sparsevlm", "divprune"])
def test_a_moving_image_gives_the_same_actions(checkpoints, kind, method):
    pruning = {"method": method, "keep_ratio": 0.25, "history_fill": "semantic"}
    drafted, plain = (load(checkpoints, draft, **pruning) for draft in (kind, "off"))
    for number in range(4):
        frame = observation(plain, number // 2)
        one, other = drafted.act(frame), plain.act(frame)
        assert np.array_equal(one.actions, other.actions)


@pytest.mark.parametrize("kind", sorted(TREES))
def test_an_image_that_stands_still_needs_one_pass(checkpoints, kind, monkeypatch):
    policy = load(checkpoints, kind, keep_ratio=1.0)
    frame, passes = observation(policy), []
    run_tokens = policy.decoder.run_tokens

    def counted(*arguments, **options):
        passes.append(1)
        return run_tokens(*arguments, **options)

    monkeypatch.setattr(policy.decoder, "run_tokens", counted)
    first, second = policy.act(frame), policy.act(frame)
    assert np.array_equal(first.actions, second.actions)
    assert (first.pruning.drafted_tokens, first.pruning.accepted_tokens) == (0, 0)
    assert (second.pruning.drafted_tokens, second.pruning.accepted_tokens) == (6, 6)
    assert len(passes) == ACTION_DIM - 1  # all of them in the first act


@pytest.mark.parametrize("place", range(5))
def test_a_second_choice_in_the_middle_is_followed(checkpoints, place):
    """The accepted nodes do not lie side by side: keys, values and attention rows must move."""
    pruning = {"keep_ratio": 0.25, "temporal_window": 1}
    drafted, plain = (load(checkpoints, draft, **pruning) for draft in ("tree", "off"))
    for number in range(2):
        frame = observation(plain, number)
        truth = tokens_of(plain, frame)
        drafted.drafter.record([t if p == place else 31801 for p, t in enumerate(truth)], None)
        last = [31800 if p in (place, 5) else t for p, t in enumerate(truth)]
        assert assert_same_step(drafted, plain, frame, last) == ACTION_DIM - 2


def test_reset_forgets_what_was_drafted_from(checkpoints):
    policy = load(checkpoints, "linear")
    policy.act(observation(policy))
    policy.reset()
    assert policy.act(observation(policy)).pruning.drafted_tokens == 0


def test_looking_at_the_unpruned_model_leaves_the_draft_alone(checkpoints):
    policy = load(checkpoints, "linear")
    frame = observation(policy)
    policy.act(frame)
    proposal = policy.drafter.propose()
    policy.act_unpruned(observation(policy, 1))
    assert policy.drafter.propose() == proposal
