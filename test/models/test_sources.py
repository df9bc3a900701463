"""Directories as users have them: each is read, or named with the remedy."""

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
from vla_pruner_ros.models.sources import hub


@pytest.fixture
def copied(checkpoints, tmp_path):
    """copied(family, name) -> a checkpoint to change, at tmp_path / name."""

    def copy(family: str, name: str = "checkpoint"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copytree(checkpoints(family), target)

    return copy


def refused(directory, reason, **options):
    with pytest.raises(CheckpointError, match=reason):
        load_policy(directory, **options)


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


# -- adapters ------------------------------------------------------------------------------------


def write_adapter(directory, base, names, rank=2, alpha=4, prefix="", **settings):
    """A LoRA of these weights; returns name -> what it adds."""
    shapes = {name: t.shape for name, t in load_file(base / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(0)
    tensors, added = {}, {}
    for name in names:
        rows, columns = shapes[name]
        down = torch.randn(rank, columns, generator=generator) * 0.3
        up = torch.randn(rows, rank, generator=generator) * 0.3
        module = f"base_model.model.{prefix}{name.removesuffix('.weight')}"
        tensors |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
        added[name] = alpha / rank * up @ down
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, **settings}
    (directory / "adapter_config.json").write_text(json.dumps(content))
    return added


def merged(base, added):
    def change(tensors):
        for name, addition in added.items():
            tensors[name] = tensors[name].float() + addition

    rewrite(base, change)


LLAMA = "language_model.model.layers.1.self_attn.q_proj.weight"
EXPERT = "model.paligemma_with_expert.gemma_expert.model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(("family", "name"), [("openvla", LLAMA), ("pi05", EXPERT)])
@pytest.mark.parametrize("place", ["next to it", "apart", "lora_adapter"])
def test_an_adapter_is_merged_into_its_base(copied, tmp_path, family, name, place):
    base, whole = copied(family, "base"), copied(family, "whole")
    if place == "next to it":
        directory = base
        added = write_adapter(base, base, [name])
    else:
        directory = tmp_path / "adapter"
        where = directory if place == "apart" else directory / "lora_adapter"
        added = write_adapter(where, base, [name], base_model_name_or_path=str(base))
    merged(whole, added)
    expected = load_policy(whole)
    frame = observation(expected)
    plain = load_policy(base if place != "next to it" else copied(family, "plain"))
    ours = load_policy(directory).act_unpruned(frame)
    assert np.allclose(ours, expected.act_unpruned(frame), atol=0.02)
    if family == "pi05":
        assert np.allclose(ours, expected.act_unpruned(frame), atol=1e-4)
        assert not np.allclose(ours, plain.act_unpruned(frame), atol=1e-3)


def test_an_adapter_of_another_base_or_kind_is_refused(copied, tmp_path):
    base = copied("openvla", "base")
    adapter = tmp_path / "adapter"
    write_adapter(adapter, base, [LLAMA])
    refused(adapter, "names no base model: set base_checkpoint")
    refused(adapter, "is not to be had.*Set base_checkpoint", base_checkpoint=tmp_path / "none")
    load_policy(adapter, base_checkpoint=base)
    write_adapter(adapter, base, [LLAMA], prefix="stranger.")
    refused(adapter, "which its base does not have", base_checkpoint=base)
    write_adapter(adapter, base, [LLAMA], use_dora=True)
    refused(adapter, "DoRA .* merge_and_unload", base_checkpoint=base)
    write_adapter(adapter, base, [LLAMA])
    (adapter / "adapter_model.safetensors").unlink()
    refused(adapter, "has adapter_config.json and no adapter_model", base_checkpoint=base)


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


# -- the hub -------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache; returns its folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(cache, name, source):
    root = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(source, root / "snapshots" / ("0" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)


def test_a_cached_repository_is_used_without_a_network(cache, checkpoints, monkeypatch):
    put(cache, "owner/arm", checkpoints("pi05"))
    monkeypatch.setattr(hub, "_fetch", lambda *_: pytest.fail("nothing is to be fetched"))
    policy = load_policy("hf:owner/arm")
    assert policy.family == "pi05"


def test_what_cannot_be_fetched_is_named_with_the_command(cache, monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("hf:owner/arm", "cannot be fetched.*run `hf download owner/arm --include")
    refused("hf:arm", "not of the form hf:owner/name")

    def gated(*_, **options):
        if options.get("local_files_only"):
            raise errors.LocalEntryNotFoundError("not here")
        error = errors.GatedRepoError.__new__(errors.GatedRepoError)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    refused("hf:owner/arm@v2", "hf:owner/arm@v2 is gated: accept its licence.*--revision v2")


def test_the_tokenizer_that_a_policy_names_comes_from_the_cache(
    cache, copied, checkpoints, tmp_path
):
    directory = copied("pi05")
    expected = load_policy(directory)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).rename(tokenizer / name)
    policy = load_policy(directory, tokenizer=tokenizer)
    frame = observation(policy)
    assert np.array_equal(policy.act_unpruned(frame), expected.act_unpruned(frame))
    put(cache, "google/paligemma-3b-pt-224", tokenizer)
    ours = load_policy(directory).act_unpruned(frame)
    assert np.array_equal(ours, expected.act_unpruned(frame))


def test_a_gpu_that_is_not_used_is_said(checkpoints, tmp_path, monkeypatch, caplog):
    from vla_pruner_ros.models import loading

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(loading, "GPU_FILES", (str(tmp_path),))
    load_policy(checkpoints("openvla"))
    assert "device auto took the CPU, although" in caplog.text
    caplog.clear()
    load_policy(checkpoints("openvla"), device="cpu")
    assert not caplog.text
