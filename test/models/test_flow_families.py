"""pi0.5 and SmolVLA against one plain sequence with masks, and what every family promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from flow_reference import plain_actions
from model_helpers import observation

from vla_pruner_ros.models.execution.config import ExecutionConfig
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.pi05.network import Pi05Network
from vla_pruner_ros.models.policy import CheckpointError, PolicyError
from vla_pruner_ros.pruning.config import METHOD_NAMES, PruningConfig
from vla_pruner_ros.pruning.token_selection import Selection

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = ("pi05", "smolvla")
TOLERANCE = 3e-4
"""Normalised actions of magnitude 5 after the flow in float32, as for the recordings."""
STEPS = 3
"""Flow steps of these tests: as telling as ten."""


@pytest.fixture(scope="module")
def policies(checkpoints):
    """For tests that leave no trace in them; pi0.5 keeps the dense layers of its norms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pi05Network, "drop_what_expert_keeps", lambda network: None)
        yield {name: load_policy(checkpoints(name), num_flow_steps=STEPS) for name in FAMILIES}


def pruned(policy, frame, kept, prune_layer):
    step = policy.unpruned_plan()
    if len(kept) < policy.num_visual:
        step = replace(step, full=False, keep=len(kept), prune_layer=prune_layer)
    return policy.run(frame, step, lambda signals: Selection(torch.as_tensor(kept)))[0].raw


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("share", "prune_layer"), [(1.0, 3), (0.5, 1), (0.25, 3), (0.1, 0)])
def test_pruning_a_token_is_hiding_it(policies, family, share, prune_layer):
    policy = policies[family]
    random = np.random.default_rng(prune_layer)
    count = policy.num_visual
    kept = np.sort(random.choice(count, max(1, round(share * count)), replace=False))
    dropped = torch.as_tensor(np.setdiff1d(np.arange(count), kept))
    frame = observation(policy, prune_layer)
    with torch.no_grad():
        expected = plain_actions(policy, policy._prepare(frame), dropped, prune_layer)
    ours = pruned(policy, frame, kept, prune_layer)
    assert float((ours - expected).abs().max()) < TOLERANCE


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_every_token_is_the_unpruned_model(policies, family, method):
    policy = policies[family]
    policy.reset()
    policy.pruning = PruningConfig(keep_ratio=1.0, method=method, temporal_window=1)
    frame = observation(policy, 1)
    chunk = policy.act(frame)
    assert np.array_equal(chunk.actions, policy.act_unpruned(frame).astype(np.float32))
    assert chunk.pruning.tokens_kept == policy.num_visual


@pytest.mark.parametrize("method", sorted(set(METHOD_NAMES) - {"full"}))
@pytest.mark.parametrize("family", FAMILIES)
def test_a_budget_is_kept_to(policies, family, method):
    policy = policies[family]
    policy.reset()
    policy.pruning = PruningConfig(keep_ratio=0.25, method=method, temporal_window=1)
    reports = [policy.act(observation(policy, seed)).pruning for seed in range(2)]
    assert reports[-1].tokens_kept == policy.num_visual // 4
    assert sum(map(len, reports[-1].kept_indices)) == policy.num_visual // 4


@pytest.mark.parametrize("family", FAMILIES)
def test_an_absent_camera_takes_no_tokens(policies, family):
    policy = policies[family]
    frame = observation(policy)
    both = policy.act_unpruned(frame)
    one = replace(frame, images=[frame.images[0], None])
    alone = policy.act_unpruned(one)
    assert not np.allclose(both, alone, atol=1e-3)
    assert policy.num_visual == policy.grid[0] * policy.grid[1]
    assert np.array_equal(policy.act_unpruned(frame), both)
    with pytest.raises(PolicyError, match="0 image"):
        policy.act_unpruned(replace(frame, images=[None, None]))


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_observed_counts(policies, family):
    policy = policies[family]
    frame = observation(policy)
    expected = policy.act_unpruned(frame)
    for other in (
        replace(frame, state=frame.state + 0.02),
        replace(frame, instruction="close the door"),
        replace(frame, images=frame.images[::-1]),
    ):
        assert not np.array_equal(policy.act_unpruned(other), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_drafting_is_refused_by_name(checkpoints, family):
    with pytest.raises(CheckpointError, match=f"{family} does not decode its actions token by"):
        load_policy(checkpoints(family), execution=ExecutionConfig(draft="linear"))


def test_a_padded_prompt_gives_the_same_actions(policies):
    """CUDA graphs serve prompts of several lengths: padding must change nothing."""
    policy = policies["pi05"]
    policy.reset()
    plain, padded = policy.flow, replace(policy.flow, padded_prompt=32)
    outputs = {}
    for flow in (plain, padded):
        policy.flow = flow
        policy.reset()
        policy.pruning = PruningConfig(keep_ratio=0.25, method="vla_pruner", temporal_window=1)
        chunks = [policy.act(observation(policy, seed)) for seed in range(3)]
        outputs[flow] = chunks
    policy.flow = plain
    for one, other in zip(outputs[plain], outputs[padded], strict=True):
        assert np.allclose(one.actions, other.actions, atol=1e-5)
        for kept, also in zip(one.pruning.kept_indices, other.pruning.kept_indices, strict=True):
            assert np.array_equal(kept, also)


@pytest.mark.parametrize("method", ["semantic_only", "sparsevlm", "fastv"])
def test_padding_counts_for_no_method(policies, method):
    policy = policies["pi05"]
    frame = observation(policy, 2)
    seen = []

    def keep_all(signals):
        seen.append(signals)
        return Selection(torch.arange(policy.num_visual // 4))

    for multiple in (1, 32):
        policy.flow = replace(policy.flow, padded_prompt=multiple)
        policy.reset()
        policy.pruning = PruningConfig(keep_ratio=0.25, method=method)
        policy.run(frame, policy.pruning_state.plan(), keep_all)
    policy.flow = replace(policy.flow, padded_prompt=1)
    for name in ("semantic", "last_row"):
        one, other = (getattr(signals, name) for signals in seen)
        assert one is other is None or torch.allclose(one, other, atol=1e-6)
    if method == "sparsevlm":
        assert torch.equal(seen[0].text, seen[1].text)
