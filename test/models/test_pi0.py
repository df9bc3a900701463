"""pi0 against transformers' own implementation, pruned and whole, and what it promises."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_helpers import INSTRUCTION, observation
from pi0_reference import LAYERS, Reference
from pruning_streams import action_relevance

from vla_pruner_ros.models.images.image_check import uses_image
from vla_pruner_ros.models.images.padding import ImageFitter
from vla_pruner_ros.models.lerobot.normalization import mean_std
from vla_pruner_ros.models.lerobot.options import PADDINGS
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation, PolicyError
from vla_pruner_ros.pruning.config import METHOD_NAMES, PruningConfig
from vla_pruner_ros.pruning.token_selection import Selection

TOLERANCE = 5e-5
"""Normalised actions of magnitude 5 after ten flow steps in float32."""
HALF = (2, 3, 4)
FEW_EXAMPLES = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def reference(checkpoints):
    return Reference(checkpoints("pi0"))


@pytest.fixture(scope="module")
def policy(checkpoints):
    """For tests that leave no trace in it."""
    return load_policy(checkpoints("pi0"))


def run(policy, frame, kept=None, prune_layer=3, signals=frozenset()):
    """Normalised actions, action attention [layers, M] and what the method was given."""
    seen = []

    def select(given_signals):
        seen.append(given_signals)
        return Selection(torch.as_tensor(kept))

    plan = replace(policy.unpruned_plan(), action_layers=tuple(range(LAYERS)))
    if kept is not None:
        plan = replace(
            plan, full=False, keep=len(kept), prune_layer=prune_layer, signals=frozenset(signals)
        )
    done = policy.run(frame, plan, select)[0]
    return done.raw, done.attention.mean(), seen[0] if seen else None


def close(one, other, tolerance=TOLERANCE):
    return torch.allclose(one, other, atol=tolerance, rtol=0)


# -- against transformers ------------------------------------------------------------------------


@pytest.mark.parametrize("cameras", [1, 2, 3])
def test_whole_model_samples_transformers_actions(checkpoints, reference, cameras):
    policy = load_policy(checkpoints("pi0"), num_cameras=cameras)
    frame = observation(policy, cameras)
    reference.hide_from(LAYERS, [])
    assert close(run(policy, frame)[0], reference.sample(policy, frame))


def test_absent_cameras_are_those_that_transformers_masks(policy, reference):
    frame = observation(policy)
    reference.hide_from(LAYERS, [])
    slots = torch.tensor([True, False, True])
    assert close(run(policy, frame)[0], reference.sample(policy, frame, slots))


def test_a_camera_without_image_is_as_if_the_model_had_one_less(checkpoints):
    two, one = (load_policy(checkpoints("pi0"), num_cameras=count) for count in (2, 1))
    whole = observation(two)
    first, second = whole.images
    for images, seen in (([first, None], 0), ([None, second], 1)):
        one.reset()
        chunk = two.act(replace(whole, images=images))
        alone = one.act(replace(whole, images=[images[seen]]))
        assert np.array_equal(chunk.actions, alone.actions)
        assert np.array_equal(chunk.pruning.kept_indices[seen], alone.pruning.kept_indices[0])
        assert len(chunk.pruning.kept_indices[1 - seen]) == 0
    fresh = load_policy(checkpoints("pi0"), num_cameras=2)
    assert np.array_equal(two.act(whole).actions, fresh.act(whole).actions)
    with pytest.raises(PolicyError, match="0 image"):
        two.act(replace(whole, images=[None, None]))


def test_number_of_flow_steps_is_transformers(checkpoints, reference):
    policy = load_policy(checkpoints("pi0"), num_flow_steps=3)
    frame = observation(policy)
    reference.hide_from(LAYERS, [])
    ours = run(policy, frame)[0]
    assert close(ours, reference.sample(policy, frame, steps=3))
    assert not close(ours, reference.sample(policy, frame, steps=4), 1e-3)


@FEW_EXAMPLES
@given(
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.02, 0.25, 0.5, 0.95]),
    prune_layer=st.sampled_from([0, 1, 3, 4]),
)
def test_pruning_a_token_is_forcing_its_attention_to_zero(
    policy, reference, seed, share, prune_layer
):
    """Masks, positions and caches of unequal length: against an unpruned run whose layers from K
    on may not look at the dropped tokens, in the prefix and in the expert."""
    random = np.random.default_rng(seed)
    count = policy.num_visual
    kept = np.sort(random.choice(count, max(1, round(share * count)), replace=False))
    reference.hide_from(prune_layer, np.setdiff1d(np.arange(count), kept))
    frame = observation(policy, seed % 100)
    expected = reference.sample(policy, frame)
    actions, attention, _ = run(policy, frame, kept, prune_layer)
    assert close(actions, expected)
    for layer in range(LAYERS):
        assert close(attention[layer], reference.action_rows(layer, count), 1e-6)
    dropped = np.setdiff1d(np.arange(count), kept)
    assert (attention[prune_layer:, dropped] == 0).all()


def test_semantic_relevance_counts_no_padding(policy, reference):
    frame = observation(policy)
    reference.hide_from(LAYERS, [])
    reference.sample(policy, frame)
    assert not reference.real.all()
    _, _, signals = run(policy, frame, np.arange(64), 3, {"semantic", "text", "features"})
    assert close(signals.semantic, reference.semantic(2, policy.num_visual), 1e-6)
    assert signals.text.shape == (int(reference.real.sum()) - policy.num_visual, policy.num_visual)
    assert signals.features.shape == (policy.num_visual, 32)


# -- what every family promises ------------------------------------------------------------------


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_keeping_every_token_is_the_unpruned_model(small_policy, method):
    policy = small_policy("pi0", keep_ratio=1.0, method=method, temporal_window=1)
    for seed in range(2):
        frame = observation(policy, seed)
        chunk = policy.act(frame)
        assert np.array_equal(chunk.actions, policy.act_unpruned(frame).astype(np.float32))
        assert chunk.pruning.tokens_kept == policy.num_visual


@pytest.mark.parametrize("method", sorted(set(METHOD_NAMES) - {"full"}))
def test_a_budget_is_kept_to(small_policy, method):
    policy = small_policy("pi0", keep_ratio=0.25, method=method, temporal_window=1)
    chunks = [policy.act(observation(policy, seed)) for seed in range(2)]
    report = chunks[-1].pruning
    assert report.tokens_kept == report.tokens_requested == policy.num_visual // 4
    assert [kept.dtype for kept in report.kept_indices] == [np.int32] * policy.num_cameras
    assert sum(len(np.unique(kept)) for kept in report.kept_indices) == report.tokens_kept
    whole = policy.act_unpruned(observation(policy, 1)).astype(np.float32)
    assert not np.array_equal(chunks[-1].actions, whole)


def test_chunk_has_the_promised_form(small_policy):
    policy = small_policy("pi0", keep_ratio=0.5, history_fill="semantic")
    chunk = policy.act(observation(policy))
    assert policy.family == "pi0"
    assert policy.trained is False
    assert chunk.actions.shape == (policy.chunk_size, 7) == (50, 7)
    assert chunk.actions.dtype == np.float32
    stages = {"preprocess", "vision", "prefill", "decode", "selection", "total"}
    assert set(chunk.pruning.timings) == stages
    assert uses_image(policy, "pick up the cup")


def test_history_holds_the_experts_attention_of_the_late_layers(small_policy, reference):
    policy = small_policy("pi0", keep_ratio=0.25)
    frame = observation(policy)
    policy.act(frame)
    reference.hide_from(LAYERS, [])
    reference.sample(policy, frame)
    rows = [reference.action_rows(layer, policy.num_visual) for layer in HALF]
    assert close(action_relevance(policy.pruning_state), torch.stack(rows).mean(dim=0), 1e-6)


def test_actions_depend_on_everything_observed(policy):
    frame = observation(policy)
    actions = policy.act_unpruned(frame)
    others = (
        observation(policy, 1),
        replace(frame, state=frame.state + 0.01),
        replace(frame, instruction="close the door"),
        replace(frame, images=frame.images[::-1]),
    )
    assert not any(np.array_equal(actions, policy.act_unpruned(other)) for other in others)


def test_actions_are_reproducible_by_their_noise_seed(checkpoints, policy):
    frame = observation(policy)
    same, other = (load_policy(checkpoints("pi0"), noise_seed=seed) for seed in (0, 1))
    expected = policy.act_unpruned(frame)
    other.act_unpruned(frame), same.act_unpruned(observation(policy, 5))
    assert np.array_equal(expected, same.act_unpruned(frame))
    assert not np.allclose(expected, other.act_unpruned(frame))


def test_bfloat16_gives_finite_actions(checkpoints):
    pruning = PruningConfig(keep_ratio=0.25, history_fill="semantic")
    policy = load_policy(checkpoints("pi0"), dtype=torch.bfloat16, pruning=pruning)
    assert np.isfinite(policy.act(observation(policy)).actions).all()


# -- state, actions, images --------------------------------------------------------------------


def test_statistics_normalise_and_restore():
    scale = mean_std("state", [1.0, -2.0], [0.5, 4.0])
    assert np.allclose(scale.normalize(np.array([1.5, 2.0])), [1.0, 1.0])
    padded = np.array([[1.0, 1.0, 9.0, 9.0]])
    assert np.allclose(scale.to_units(padded), [[1.5, 2.0]])


def test_actions_are_in_the_data_sets_units(checkpoints, policy, reference):
    frame = observation(policy)
    reference.hide_from(LAYERS, [])
    normalized = reference.sample(policy, frame)[0, :, :7].numpy()
    statistics = json.loads((checkpoints("pi0") / "processor_config.json").read_text())
    expected = normalized * statistics["actions_std"] + statistics["actions_mean"]
    assert np.allclose(policy.act_unpruned(frame), expected, atol=1e-5)


def test_images_keep_their_proportions():
    white = np.full((480, 640, 3), 255, np.uint8)
    corner = ImageFitter(224, "bottom_right").preview(white)
    assert (corner[:168] == 255).all()
    assert (corner[168:] == 0).all()
    middle = ImageFitter(224, "center").preview(white)
    assert (middle[28:196] == 255).all()
    assert not middle[:28].any()
    assert not middle[196:].any()
    square = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert all(np.array_equal(square, ImageFitter(224, p).preview(square)) for p in PADDINGS)


# -- troubles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": np.zeros(7)}, "state of 8 numbers, got 7"),
        ({"state": None}, "state of 8 numbers, got 0"),
        ({"state": np.full(8, np.nan)}, "NaN"),
        ({"images": [np.zeros((9, 9, 3), np.uint8)]}, "2 image.* got 1"),
        ({"instruction": " \n"}, "instruction is empty"),
        ({"instruction": "push the button " * 30}, "too long: .* takes 48"),
    ],
)
def test_unfit_observations_are_refused(policy, change, reason):
    with pytest.raises(PolicyError, match=reason):
        policy.act(replace(observation(policy), **change))


def test_a_refused_observation_harms_no_state(small_policy):
    policy = small_policy("pi0", keep_ratio=0.25)
    policy.act(observation(policy))
    with pytest.raises(PolicyError):
        policy.act(Observation([], INSTRUCTION, None))
    assert policy.act(observation(policy)).pruning.history_length == 1
