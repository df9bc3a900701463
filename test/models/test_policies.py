"""Contract of OpenVLA and OpenVLA-OFT policies with their callers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_helpers import INSTRUCTION, observation, rewrite

from vla_pruner_ros.models.images.image_check import uses_image
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import Observation, PolicyError
from vla_pruner_ros.models.untrained import write_untrained_checkpoint
from vla_pruner_ros.pruning.config import METHOD_NAMES, PruningConfig

FAMILIES = ("openvla", "openvla_oft")
ACTS_BEFORE_PRUNING = 3


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_keeping_every_token_is_the_unpruned_model(small_policy, family, method):
    policy = small_policy(family, keep_ratio=1.0, method=method)
    for seed in range(5):
        frame = observation(policy, seed)
        chunk = policy.act(frame)
        assert np.array_equal(chunk.actions, policy.act_unpruned(frame).astype(np.float32))
        assert chunk.pruning.tokens_kept == policy.num_visual


@pytest.mark.parametrize("method", sorted(set(METHOD_NAMES) - {"full"}))
def test_a_budget_is_kept_to(small_policy, family, method):
    policy = small_policy(family, keep_ratio=0.25, method=method)
    for seed in range(ACTS_BEFORE_PRUNING + 1):
        report = policy.act(observation(policy, seed)).pruning
    assert report.tokens_kept == report.tokens_requested == policy.num_visual // 4
    assert sum(len(kept) for kept in report.kept_indices) == report.tokens_kept
    assert len(report.kept_indices) == policy.num_cameras
    rows, columns = report.grid
    for kept in report.kept_indices:
        assert kept.dtype == np.int32
        assert np.array_equal(kept, np.unique(kept))
        assert ((kept >= 0) & (kept < rows * columns)).all()


def test_chunk_has_the_promised_form(small_policy, family):
    policy = small_policy(family, keep_ratio=0.5, history_fill="semantic")
    chunk = policy.act(observation(policy))
    assert chunk.actions.shape == (policy.chunk_size, 7)
    assert chunk.actions.dtype == np.float32
    stages = chunk.pruning.timings
    assert {"preprocess", "vision", "prefill", "decode", "selection", "total"} == set(stages)
    parts = sum(stages[name] for name in ("preprocess", "vision", "prefill", "decode"))
    assert 0.0 < stages["selection"] < stages["prefill"] < parts <= stages["total"]


def test_untrained_weights_say_so(small_policy, family):
    assert small_policy(family).trained is False


def test_history_fills_and_reset_empties_it(small_policy, family):
    policy = small_policy(family, keep_ratio=0.25, temporal_window=2)
    reports = [policy.act(observation(policy, seed)).pruning for seed in range(4)]
    assert [report.history_incomplete for report in reports] == [True, True, False, False]
    assert [report.history_length for report in reports] == [0, 1, 2, 2]
    policy.reset()
    assert policy.act(observation(policy)).pruning.history_length == 0


def test_settings_take_effect_on_the_next_act(small_policy, family):
    policy = small_policy(family, keep_ratio=0.5, history_fill="semantic")
    assert policy.act(observation(policy)).pruning.tokens_kept == policy.num_visual // 2
    policy.pruning = replace(policy.pruning, keep_ratio=0.125)
    assert policy.act(observation(policy)).pruning.tokens_kept == policy.num_visual // 8
    assert policy.pruning.keep_ratio == 0.125


def test_a_prune_layer_beyond_the_model_is_refused(small_policy, family):
    policy = small_policy(family)
    with pytest.raises(ValueError, match="prune_layer must be below the model's 5 decoder layers"):
        policy.pruning = PruningConfig(prune_layer=5)
    assert policy.pruning_state.settings.prune_layer == 3


def test_same_inputs_give_the_same_actions(small_policy, family):
    runs = []
    for _ in range(2):
        policy = small_policy(family, keep_ratio=0.25)
        runs.append([policy.act(observation(policy, seed)).actions for seed in range(5)])
    assert np.array_equal(runs[0], runs[1])


def test_actions_depend_on_image_and_instruction(small_policy, family):
    policy = small_policy(family, keep_ratio=1.0)
    first = policy.act(observation(policy, 0)).actions
    assert not np.array_equal(first, policy.act(observation(policy, 1)).actions)
    other = observation(policy, 0, instruction="close the door")
    assert not np.array_equal(first, policy.act(other).actions)


def test_bfloat16_keeps_the_budget_and_gives_finite_actions(checkpoints, family):
    pruning = PruningConfig(keep_ratio=0.25, history_fill="semantic")
    policy = load_policy(checkpoints(family), dtype=torch.bfloat16, pruning=pruning)
    chunk = policy.act(observation(policy))
    assert np.isfinite(chunk.actions).all()
    assert chunk.pruning.tokens_kept == policy.num_visual // 4


def test_blindness_is_noticed_and_leaves_no_history(checkpoints, family, tmp_path):
    seeing = load_policy(checkpoints(family))
    assert uses_image(seeing, "pick up the cup")
    assert seeing.act(observation(seeing)).pruning.history_length == 0

    blind = write_untrained_checkpoint(tmp_path, family, hidden=32, layers=2, mlp=64)

    def cut_off_vision(tensors):
        tensors["projector.fc3.weight"].zero_()

    rewrite(blind, cut_off_vision)
    assert not uses_image(
        load_policy(blind, pruning=PruningConfig(prune_layer=1)), "pick up the cup"
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "takes . image"),
        ([np.zeros((8, 8, 3), np.uint8)] * 3, "takes . image"),
        ("float", "must be a uint8 array"),
        ("gray", r"must be \[H, W, 3\] RGB"),
        ("empty", r"must be \[H, W, 3\] RGB"),
    ],
)
def test_wrong_images_are_refused(small_policy, family, images, message):
    policy = small_policy(family)
    odd = {
        "float": np.zeros((8, 8, 3), np.float32),
        "gray": np.zeros((8, 8), np.uint8),
        "empty": np.zeros((0, 8, 3), np.uint8),
    }
    if isinstance(images, str):
        images = [odd[images]] * policy.num_cameras
    state = np.zeros(policy.state_dim) if policy.state_dim else None
    with pytest.raises(PolicyError, match=message):
        policy.act(Observation(images, INSTRUCTION, state))


@pytest.mark.parametrize(
    ("instruction", "message"),
    [("  ", "instruction is empty"), ("push " * 3000, "instruction is too long")],
)
def test_wrong_instructions_are_refused(small_policy, family, instruction, message):
    policy = small_policy(family)
    with pytest.raises(PolicyError, match=message):
        policy.act(observation(policy, instruction=instruction))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "a state of 8 numbers, got 0"),
        (np.zeros(7), "a state of 8 numbers, got 7"),
        (np.full(8, np.nan), "NaN or infinite"),
    ],
)
def test_wrong_states_are_refused(small_policy, state, message):
    policy = small_policy("openvla_oft")
    frame = observation(policy)
    with pytest.raises(PolicyError, match=message):
        policy.act(Observation(frame.images, INSTRUCTION, state))


def test_a_refused_observation_leaves_the_state_unharmed(small_policy, family):
    disturbed, calm = (small_policy(family, keep_ratio=0.25) for _ in range(2))
    for seed in range(5):
        with pytest.raises(PolicyError):
            disturbed.act(Observation([], INSTRUCTION))
        frame = observation(calm, seed)
        one, other = disturbed.act(frame), calm.act(frame)
        assert np.array_equal(one.actions, other.actions)
        assert one.pruning.history_length == other.pruning.history_length


def test_a_token_that_is_no_action_is_never_motion(checkpoints, tmp_path):
    directory = write_untrained_checkpoint(tmp_path, hidden=32, layers=2, mlp=64)

    def prefer_text(tensors):
        tensors["language_model.lm_head.weight"][31744:32000] *= 1e-3

    rewrite(directory, prefer_text)
    policy = load_policy(directory, pruning=PruningConfig(prune_layer=1))
    with pytest.raises(PolicyError, match="not action tokens"):
        policy.act(observation(policy))
    assert policy.pruning_state.plan().history_length == 0


def test_infinite_actions_are_refused(checkpoints):
    policy = load_policy(checkpoints("openvla_oft"))
    policy.head.fc2.bias.data[0] = float("nan")
    with pytest.raises(PolicyError, match="not finite"):
        policy.act(observation(policy))


def test_oft_takes_three_cameras_and_another_chunk(checkpoints):
    pruning = PruningConfig(keep_ratio=0.25, history_fill="semantic")
    policy = load_policy(checkpoints("openvla_oft"), pruning=pruning, num_cameras=3, chunk_size=5)
    chunk = policy.act(observation(policy))
    assert chunk.actions.shape == (5, 7)
    assert len(chunk.pruning.kept_indices) == 3
    assert chunk.pruning.tokens_total == 768


def test_preview_is_what_the_model_sees(small_policy, family):
    policy = small_policy(family)
    for shape in [(480, 640, 3), (224, 224, 3), (100, 60, 3)]:
        image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        before = image.copy()
        shown = policy.preview(image)
        assert shown.shape == (policy.image_size, policy.image_size, 3)
        assert shown.dtype == np.uint8
        assert np.array_equal(image, before)
