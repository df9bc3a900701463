"""Directories as users have them: each is read, or named with the remedy."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from model_helpers import observation, refused, rewrite
from safetensors.torch import load_file

from vla_pruner_ros.models.loading import load_policy


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# -- folders above a checkpoint ------------------------------------------------------------------


def test_the_last_checkpoint_of_a_training_output_is_read(copied, tmp_path):
    copied("pi05", "run/checkpoints/005000/pretrained_model")
    newest = copied("pi05", "run/checkpoints/010000/pretrained_model")
    refused(tmp_path / "run", "several checkpoints.*005000/pretrained_model, .*010000")
    (tmp_path / "run" / "checkpoints" / "last").symlink_to("010000")
    rewrite(newest, lambda tensors: tensors["model.action_out_proj.bias"].add_(1.0))
    expected = load_policy(newest)
    for folder in ("run", "run/checkpoints", "run/checkpoints/last"):
        policy = load_policy(tmp_path / folder)
        frame = observation(policy)
        assert np.array_equal(policy.act_unpruned(frame), expected.act_unpruned(frame))


def test_the_snapshot_of_a_cached_repository_is_read(copied, tmp_path):
    copied("smolvla", "hub/models--owner--arm/snapshots/0123abc")
    root = tmp_path / "hub" / "models--owner--arm"
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0123abc")
    assert load_policy(root).family == "smolvla"
    refused(tmp_path / "hub", "is a Hugging Face cache; set checkpoint to one of hf:owner/arm")
    shutil.rmtree(root / "snapshots" / "0123abc")
    refused(root, "without a complete snapshot; fetch it again with `hf download owner/arm")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"params/_METADATA": "", "assets/droid/norm_stats.json": "{}"},
            "JAX checkpoint of openpi",
        ),
        ({"config.yaml": "", "checkpoints/step-1.pt": ""}, "run of prismatic's training; convert"),
        ({"pytorch_model.bin": ""}, "holds pytorch_model.bin and no config.json"),
        ({"meta/info.json": "{}", "data/x": ""}, "is a LeRobot data set"),
        ({"notes.txt": ""}, "config.json is missing"),
    ],
)
def test_other_folders_are_named(tmp_path, files, reason):
    for name, text in files.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    refused(tmp_path / "folder", reason)


def test_a_hub_name_without_the_scheme_is_explained():
    refused("lerobot/pi05_base", "write hf:lerobot/pi05_base")


def test_the_type_of_a_policy_that_is_not_built_is_named(copied):
    directory = copied("pi05")
    edit(directory / "config.json", type="act")
    refused(directory, "'act'")


# -- weights -------------------------------------------------------------------------------------


def test_pickled_weights_are_named(copied):
    directory = copied("openvla")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused(directory, r"has pytorch_model\.bin and no safetensors; pickled weights are never")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "action_head--0_checkpoint.pt"]
)
def test_git_lfs_pointers_are_named(copied, name):
    directory = copied("openvla_oft")
    (directory / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(directory, f"{name} is a Git LFS pointer.*git lfs pull")


def test_weights_quantized_elsewhere_are_refused(copied):
    directory = copied("openvla")
    rewrite(
        directory,
        lambda tensors: tensors.update(
            {
                name: t.to(torch.int8)
                for name, t in tensors.items()
                if name.endswith("up_proj.weight")
            }
        ),
    )
    refused(directory, "up_proj.weight holds int8 numbers: the checkpoint was quantized")
    edit(directory / "config.json", quantization_config={"load_in_4bit": True})
    refused(directory, "quantized by bitsandbytes")


def test_one_tensor_under_two_names_is_refused(copied):
    directory = copied("pi05")
    rewrite(
        directory,
        lambda tensors: tensors.update(
            {"action_in_proj.bias": tensors["model.action_in_proj.bias"].clone()}
        ),
    )
    refused(directory, "holds one tensor twice")


# -- key layouts of pi0.5 ------------------------------------------------------------------------


def test_both_key_layouts_are_the_same_policy(copied):
    """Base files lack `model.` and hold the output layer alone; later ones hold both, unequal."""
    directory = copied("pi05")
    expected = load_policy(directory)
    frame = observation(expected)
    embedding = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
    output = "paligemma_with_expert.paligemma.lm_head.weight"

    def add_output(tensors):
        tensors["model." + output] = torch.randn_like(tensors["model." + embedding].float())

    def as_base(tensors):
        del tensors["model." + output]
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)
        tensors[output] = tensors.pop(embedding)

    for change in (add_output, as_base):
        rewrite(directory, change)
        ours = load_policy(directory).act_unpruned(frame)
        assert np.array_equal(ours, expected.act_unpruned(frame))


def test_openpis_folder_is_read(copied):
    directory = copied("pi05")
    expected = load_policy(directory)
    (directory / "config.json").unlink()
    given = load_file(directory / "policy_preprocessor_step_0_normalizer_processor.safetensors")
    for path in directory.glob("policy_*"):
        path.unlink()
    rewrite(
        directory,
        lambda tensors: [
            tensors.update({name.removeprefix("model."): tensors.pop(name)})
            for name in list(tensors)
        ],
    )
    stats = {
        key: {name: given[f"{feature}.{name}"].tolist() for name in ("mean", "std", "q01", "q99")}
        for key, feature in (("state", "observation.state"), ("actions", "action"))
    }
    for asset in ("droid", "trossen"):
        path = directory / "assets" / asset / "norm_stats.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"norm_stats": stats}))
    refused(directory, "set unnorm_key, .*several statistics: droid, trossen")
    policy = load_policy(directory, unnorm_key="droid", num_cameras=3)
    assert policy.family == "pi05"
    assert policy.num_cameras == 3
    frame = observation(expected)
    both = [*frame.images, None]  # square images of the model's size: no resizing in either
    from dataclasses import replace

    ours = policy.act_unpruned(replace(frame, images=both))
    assert np.allclose(ours, expected.act_unpruned(frame), atol=2e-4)


# -- cameras, names, widths ----------------------------------------------------------------------


def test_another_number_of_cameras_is_refused_with_their_names(checkpoints):
    refused(
        checkpoints("pi05"),
        r"trained with 2 camera\(s\), 1 given.*observation\.images\.base, observation\.images",
        num_cameras=1,
    )
    spec = load_policy(checkpoints("pi05")).spec
    assert spec.camera_names == ("observation.images.base", "observation.images.wrist")
    assert spec.action_dim == 7


# -- relative actions ----------------------------------------------------------------------------


def test_relative_actions_count_from_the_state_but_for_grippers(copied):
    directory = copied("pi05")
    plain = load_policy(directory)
    frame = observation(plain)
    names = [f"joint_{number}" for number in range(6)] + ["left_gripper"]
    edit(directory / "config.json", use_relative_actions=True, action_feature_names=names)
    relative = load_policy(directory)
    moved = relative.act_unpruned(frame) - plain.act_unpruned(frame)
    assert np.allclose(moved[:, :6], frame.state[:6].astype(np.float32), atol=1e-6)
    assert np.allclose(moved[:, 6], 0.0)
    edit(directory / "config.json", action_feature_names=None)
    unnamed = load_policy(directory).act_unpruned(frame) - plain.act_unpruned(frame)
    assert np.allclose(unnamed[:, 6], np.float32(frame.state[6]), atol=1e-6)


def test_base_checkpoints_without_statistics_are_named(copied):
    directory = copied("smolvla")
    for path in directory.glob("policy_*"):
        path.unlink()
    refused(directory, "saved without the statistics of a robot's data, as base checkpoints are")


# -- OpenVLA-OFT beyond LIBERO -------------------------------------------------------------------


def test_fourteen_numbers_three_cameras_and_chunks_of_25(copied):
    directory = copied("openvla_oft")
    statistics = json.loads((directory / "dataset_statistics.json").read_text())
    (only,) = statistics.values()
    for part in ("action", "proprio"):
        wide = 14 if part == "action" else len(only["proprio"]["q01"])
        low, high = ([-2.0] * wide, [3.0] * wide) if part == "action" else ([-1.0] * 8, [1.0] * 8)
        only[part] = {"q01": [-1.0] * wide, "q99": [1.0] * wide, "min": low, "max": high}
    (directory / "dataset_statistics.json").write_text(json.dumps(statistics))
    refused(directory, "the action head gives 7 numbers, the statistics of .* have 14")
    for path in directory.glob("action_head--*"):
        path.unlink()  # then the tokens are read as actions
    policy = load_policy(directory)
    assert (policy.num_cameras, policy.chunk_size, policy.action_dim) == (3, 25, 14)
    frame = observation(policy)
    ranged = policy.act_unpruned(frame)
    assert ranged.shape == (25, 14)
    narrow = load_policy(directory, action_range="q01_q99", chunk_size=25, num_cameras=3)
    assert np.allclose((ranged + 2.0) / 2.5 - 1.0, narrow.act_unpruned(frame), atol=1e-6)


def test_statistics_that_are_not_nested_by_data_set_are_read(copied):
    directory = copied("openvla")
    expected = load_policy(directory)
    statistics = json.loads((directory / "dataset_statistics.json").read_text())
    (only,) = statistics.values()
    (directory / "dataset_statistics.json").write_text(json.dumps({**only, "num_trajectories": 5}))
    policy = load_policy(directory)
    frame = observation(policy)
    assert np.array_equal(policy.act_unpruned(frame), expected.act_unpruned(frame))
    (directory / "dataset_statistics.json").write_text(json.dumps({**statistics, "num_runs": 5}))
    load_policy(directory)
    refused(directory, "unnorm_key 'num_runs' is not in", unnorm_key="num_runs")


def test_a_gpu_that_is_not_used_is_said(checkpoints, tmp_path, monkeypatch, caplog):
    from vla_pruner_ros.models import loading

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(loading, "GPU_FILES", (str(tmp_path),))
    load_policy(checkpoints("openvla"))
    assert "device auto took the CPU, although" in caplog.text
    caplog.clear()
    load_policy(checkpoints("openvla"), device="cpu")
    assert not caplog.text
