"""Checkpoints of pi0: transformers' and LeRobot's layouts, and refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from model_helpers import observation, rewrite
from safetensors.torch import load_file, save_file

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError


@pytest.fixture(scope="module")
def policy(checkpoints):
    """For tests that leave no trace in it."""
    return load_policy(checkpoints("pi0"))


@pytest.fixture
def copied(checkpoints, tmp_path):
    """A checkpoint to damage."""
    return shutil.copytree(checkpoints("pi0"), tmp_path / "pi0")


def without(name):
    return lambda tensors: tensors.pop(name)


def test_missing_and_unknown_tensors_are_named(copied):
    rewrite(copied, without("action_out_proj.bias"))
    with pytest.raises(CheckpointError, match=r"lacks action_out_proj\.bias"):
        load_policy(copied)
    rewrite(copied, lambda t: t.update({"action_out_proj.bias": torch.zeros(32)}))
    rewrite(copied, lambda t: t.update({"model.lora_A": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="lora_A"):
        load_policy(copied)


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state_mean": None}, "no mean and std of the state"),
        ({"actions_mean": [0.0] * 40, "actions_std": [1.0] * 40}, "40 numbers, the model takes 32"),
        ({"state_std": [1.0]}, "state are not usable"),
        ({"state_std": [float("inf")] * 8}, "state are not usable"),
    ],
)
def test_unfit_statistics_are_refused(copied, changes, reason):
    edit(copied / "processor_config.json", **changes)
    with pytest.raises(CheckpointError, match=reason):
        load_policy(copied)


def test_a_missing_tokenizer_is_named(copied):
    (copied / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_policy(copied)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_cameras": 9}, "num_cameras must be at most 8"),
        ({"num_flow_steps": -1}, "num_flow_steps"),
        ({"image_padding": "left"}, "image_padding must be one of"),
        ({"unnorm_key": "bridge"}, "one set of statistics"),
        ({"chunk_size": 8}, "pi0 has no option chunk_size"),
    ],
)
def test_unfit_options_are_refused(checkpoints, options, reason):
    with pytest.raises(CheckpointError, match=reason):
        load_policy(checkpoints("pi0"), **options)


def test_halves_of_unequal_depth_are_refused(copied):
    def cut(tensors):
        start = "paligemma_with_expert.gemma_expert.model.layers.4."
        for name in [name for name in tensors if name.startswith(start)]:
            del tensors[name]

    rewrite(copied, cut)
    with pytest.raises(CheckpointError, match="layers is 5 in the language model and 4"):
        load_policy(copied)


@pytest.mark.parametrize("size", [6, 14])
def test_any_number_of_action_numbers_is_taken(copied, size):
    edit(copied / "processor_config.json", actions_mean=[0.0] * size, actions_std=[1.0] * size)
    policy = load_policy(copied)
    assert policy.act_unpruned(observation(policy)).shape == (50, size)


# -- layouts -------------------------------------------------------------------------------------


def as_lerobot(name):
    """The names of LeRobot's releases: a prefix, a tied output layer, SigLIP's inner model."""
    name = name.replace("language_model.model.embed_tokens", "lm_head")
    name = name.replace("paligemma.model.lm_head", "paligemma.lm_head")
    name = name.replace("language_model.model.", "language_model.")
    return "model." + name.replace("vision_tower.", "vision_tower.vision_model.")


def write_lerobot(directory, in_weights):
    """Rewrite a checkpoint of transformers' layout in LeRobot's."""
    config = json.loads((directory / "config.json").read_text())
    config.pop("model_type")
    features = ("observation.images.base", "observation.images.empty_camera_0")
    visual = {name: {"type": "VISUAL", "shape": [3, 224, 224]} for name in features}
    config.update(type="pi0", input_features=visual, paligemma_variant="gemma_2b")
    (directory / "config.json").write_text(json.dumps(config))
    given = json.loads((directory / "processor_config.json").read_text())
    (directory / "processor_config.json").unlink()
    statistics = {
        f"{feature}.{kind}": torch.tensor(given[f"{own}_{kind}"])
        for feature, own in (("observation.state", "state"), ("action", "actions"))
        for kind in ("mean", "std")
    }
    path = directory / "model.safetensors"
    tensors = {as_lerobot(name): tensor for name, tensor in load_file(path).items()}
    if in_weights:
        owners = {"observation.state": "normalize_inputs", "action": "unnormalize_outputs"}
        for name, tensor in statistics.items():
            feature, kind = name.rsplit(".", 1)
            buffer = feature.replace(".", "_")
            tensors[f"{owners[feature]}.buffer_{buffer}.{kind}"] = tensor
    else:
        write_pipeline(directory, statistics)
    save_file(tensors, path)


def write_pipeline(directory, statistics, mode="MEAN_STD"):
    step = {
        "registry_name": "normalizer_processor",
        "config": {"norm_map": {"STATE": mode, "ACTION": mode}},
        "state_file": "policy_preprocessor_step_5_normalizer_processor.safetensors",
    }
    save_file(statistics, directory / step["state_file"])
    (directory / "policy_preprocessor.json").write_text(json.dumps({"steps": [step]}))


@pytest.mark.parametrize("in_weights", [False, True])
def test_lerobots_layout_is_the_same_model(checkpoints, copied, in_weights):
    write_lerobot(copied, in_weights)
    ours = load_policy(copied)
    assert ours.num_cameras == 1
    frame = observation(ours)  # square images of the model's size: no padding in either layout
    expected = load_policy(checkpoints("pi0"), num_cameras=1)
    # LeRobot keeps the statistics in float32.
    assert np.allclose(ours.act_unpruned(frame), expected.act_unpruned(frame), atol=1e-6)
    wide = np.full((112, 224, 3), 255, np.uint8)
    assert ours.preview(wide)[0].max() == 0
    assert expected.preview(wide)[0].min() == 255


def test_lerobots_relative_actions_are_told_to_whoever_explains_the_numbers(copied):
    write_lerobot(copied, in_weights=False)
    assert load_policy(copied).spec.relative_actions == ()
    size = load_policy(copied).spec.action_dim
    names = [*(f"joint_{n}" for n in range(size - 1)), "Gripper.pos"]
    edit(copied / "config.json", use_relative_actions=True, action_feature_names=names)
    assert load_policy(copied).spec.relative_actions == (True,) * (size - 1) + (False,)


def test_lerobots_quantiles_map_onto_one(copied):
    write_lerobot(copied, in_weights=False)
    statistics = load_file(next(copied.glob("policy_preprocessor_step*")))
    for feature in ("observation.state", "action"):
        mean, std = statistics[f"{feature}.mean"], statistics[f"{feature}.std"]
        statistics |= {f"{feature}.q01": mean - std, f"{feature}.q99": mean + std}
    plain = load_policy(copied)
    write_pipeline(copied, statistics, "QUANTILES")
    quantiles = load_policy(copied)
    frame = observation(plain)  # q01 and q99 one deviation off the mean: the same map
    expected = plain.act_unpruned(frame)
    assert np.allclose(quantiles.act_unpruned(frame), expected, atol=1e-5)
    write_pipeline(copied, statistics, "UNHEARD_OF")
    with pytest.raises(CheckpointError, match="UNHEARD_OF of the state is not one of"):
        load_policy(copied)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("adapt_to_pi_aloha", True),
        ("use_delta_joint_actions_aloha", True),
    ],
)
def test_what_lerobot_may_do_and_we_do_not_is_refused(copied, field, value):
    write_lerobot(copied, in_weights=True)
    edit(copied / "config.json", **{field: value})
    with pytest.raises(CheckpointError, match=f"{field}.* not supported"):
        load_policy(copied)
    edit(copied / "config.json", **{field: None})
    assert load_policy(copied).family == "pi0"


@pytest.mark.parametrize("in_weights", [False, True])
def test_lerobots_missing_statistics_are_named(copied, in_weights):
    write_lerobot(copied, in_weights)
    if in_weights:
        rewrite(copied, without("normalize_inputs.buffer_observation_state.mean"))
    else:
        (copied / "policy_preprocessor.json").write_text('{"steps": []}')
    with pytest.raises(CheckpointError, match=r"without the statistics|no mean and std"):
        load_policy(copied)


def test_pixels_are_scaled_as_the_image_processor_says(copied, policy):
    black = [np.zeros((224, 224, 3), np.uint8)]
    assert (policy._pixels(black) == -1.0).all()
    edit(copied / "processor_config.json", image_processor={"image_mean": [0.0] * 3})
    assert (load_policy(copied)._pixels(black) == 0.0).all()
    edit(copied / "processor_config.json", image_processor={"image_mean": [0.0]})
    with pytest.raises(CheckpointError, match="image_mean"):
        load_policy(copied)


def test_shards_are_read_together(checkpoints, policy, copied):
    tensors = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    parts = {"a.safetensors": list(tensors)[::2], "b.safetensors": list(tensors)[1::2]}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, copied / file)
    index = {name: file for file, names in parts.items() for name in names}
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    frame = observation(policy)
    assert np.array_equal(load_policy(copied).act_unpruned(frame), policy.act_unpruned(frame))
