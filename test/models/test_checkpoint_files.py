"""Checkpoints whose files are no files, claim absurd sizes or grow: refused soon, with a reason."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from vla_pruner_ros.models.checkpoint_files import check_config, check_inside
from vla_pruner_ros.models.checkpoints import read_config, read_json
from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError, InputError
from vla_pruner_ros.models.tokenizer import load_tokenizer
from vla_pruner_ros.resources import policy_directory

HEAD = "action_head--0_checkpoint.pt"


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A good checkpoint, its large files linked."""
    source, target = policy_directory("openvla_oft_small"), tmp_path / "checkpoint"
    target.mkdir()
    for file in source.iterdir():
        if file.stat().st_size > 2**20:
            (target / file.name).symlink_to(file.resolve())
        else:
            shutil.copy(file, target)
    return target


def become_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def become_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def become_sparse(path: Path) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(2**40)


FILES = ("config.json", "dataset_statistics.json", "model.safetensors", "tokenizer.json", HEAD)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("become", [become_pipe, become_device, become_sparse])
def test_what_is_no_file_of_its_kind_is_refused(checkpoint, name, become):
    """A pipe hung the node for ever, SIGTERM included; a device took all memory."""
    become(checkpoint / name)
    with pytest.raises(CheckpointError, match=name.partition(".")[0]):
        load_policy(checkpoint, device="cpu")


@pytest.mark.parametrize(
    ("length", "content"), [(99 * 2**20, b""), (2**63, b""), (0, b"{}"), (64, b"{}")]
)
def test_a_header_of_absurd_length_is_refused(checkpoint, length, content):
    weights = checkpoint / "model.safetensors"
    weights.unlink()
    weights.write_bytes(struct.pack("<Q", length) + content)
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        load_policy(checkpoint, device="cpu")


def change_text_config(checkpoint: Path, **values) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    config["text_config"].update(values)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 10**9),
        ("num_hidden_layers", 10**6),
        ("num_hidden_layers", -5),
        ("num_hidden_layers", "5"),
        ("num_hidden_layers", True),
        ("num_attention_heads", 0),
        ("vocab_size", 10**12),
        ("max_position_embeddings", 4 * 10**8),
        ("head_dim", 0),
        ("pad_to_multiple_of", 10**9),
    ],
)
def test_a_size_that_no_model_has_is_refused_before_anything_is_built(checkpoint, key, value):
    change_text_config(checkpoint, **{key: value})
    with pytest.raises(CheckpointError, match=key):
        load_policy(checkpoint, device="cpu")


@pytest.mark.parametrize(
    "change",
    [
        {"text_config": [1]},
        {"text_config": {"hidden_act": "os.system"}},
        {"timm_model_ids": [{}, {}]},
        {"vla_pruner_ros": [1]},
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_name_of_the_checkpoint(checkpoint, change):
    """The reason in the log was `'list' object has no attribute 'get'`, or 'os.system' alone."""
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = {**config[key], **value} if both else value
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"{checkpoint} cannot be loaded"):
        load_policy(checkpoint, device="cpu")


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_an_attention_of_a_hub_is_refused(checkpoint, key):
    """transformers would fetch it, with code."""
    change_text_config(checkpoint, **{key: "attacker/evil-kernel"})
    with pytest.raises(CheckpointError, match="evil-kernel"):
        load_policy(checkpoint, device="cpu")


def test_what_real_configs_say_is_accepted():
    check_config(
        {
            "text_config": {
                "vocab_size": 257152, "num_hidden_layers": 80, "hidden_size": 16384,
                "head_dim": 256, "max_position_embeddings": 131072, "intermediate_size": 53248,
                "_attn_implementation": "sdpa",
            },
            "vision_config": {"image_size": [224, 224], "patch_size": 14},
            "pad_to_multiple_of": 64, "attn_implementation": None,
        },
        "config.json",
    )  # fmt: skip


def rewrite(path: Path, compression: int, name: str = "", content: bytes = b"") -> None:
    """Write a torch file anew, with one entry of another content."""
    buffer = io.BytesIO(path.read_bytes())
    path.unlink()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", compression) as new:
        for entry in old.infolist():
            is_it = bool(name) and entry.filename.endswith(name)
            new.writestr(entry.filename, content if is_it else old.read(entry))


def test_a_component_that_would_grow_is_refused(checkpoint):
    """2 GB of zeros came in 2 MB."""
    rewrite(checkpoint / HEAD, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="would grow"):
        load_policy(checkpoint, device="cpu")


def test_a_component_whose_description_is_huge_is_refused(checkpoint):
    rewrite(checkpoint / HEAD, zipfile.ZIP_STORED, "data.pkl", bytes(2 * 2**20))
    with pytest.raises(CheckpointError, match="plain tensors"):
        load_policy(checkpoint, device="cpu")


def test_a_component_that_is_no_torch_file_is_refused(checkpoint):
    (checkpoint / HEAD).unlink()
    (checkpoint / HEAD).write_bytes(b"./pickle".ljust(512, b"\0") * 20)
    with pytest.raises(CheckpointError, match="not what torch"):
        load_policy(checkpoint, device="cpu")


def test_a_component_saved_by_torch_is_accepted(tmp_path):
    from vla_pruner_ros.models.checkpoints import load_component

    torch.save({"module.weight": torch.ones(3)}, tmp_path / "head.pt")
    assert load_component(tmp_path / "head.pt")["weight"].tolist() == [1.0, 1.0, 1.0]


def test_a_tokenizer_that_panics_is_an_input_that_cannot_be_used(checkpoint):
    """A panic of Rust is no Exception: configure was never answered, the policy's thread died."""
    path = checkpoint / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 3,
    }  # fmt: skip
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(checkpoint)("push the button")


def test_json_that_is_deep_or_holds_endless_numbers_is_refused(tmp_path):
    for text in ('{"a":' * 50_000 + "1" + "}" * 50_000, '{"a": %s}' % ("9" * 5000)):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="cannot be read as JSON"):
            read_json(tmp_path / "config.json")


def test_a_directory_that_is_a_loop_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(CheckpointError):
        read_config(tmp_path / "loop")


def test_checkpoints_may_be_kept_to_one_directory(tmp_path):
    inside, outside = tmp_path / "root" / "a", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
    (tmp_path / "root" / "way_out").symlink_to(outside)
    check_inside(inside, str(tmp_path / "root"))
    check_inside(outside, "")
    for way in (outside, tmp_path / "root" / ".." / "elsewhere", tmp_path / "root" / "way_out"):
        with pytest.raises(CheckpointError, match="checkpoint_root"):
            check_inside(way, str(tmp_path / "root"))
