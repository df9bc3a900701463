"""LoRA adapters: merged into their base, or refused with the remedy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from model_helpers import observation, refused, rewrite
from safetensors.torch import load_file, save_file

from vla_pruner_ros.models.loading import load_policy


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
    refused(adapter, "cannot be read.*Set base_checkpoint", base_checkpoint=tmp_path / "none")
    load_policy(adapter, base_checkpoint=base)
    write_adapter(adapter, base, [LLAMA], prefix="stranger.")
    refused(adapter, "which its base does not have", base_checkpoint=base)
    write_adapter(adapter, base, [LLAMA], use_dora=True)
    refused(adapter, "DoRA .* merge_and_unload", base_checkpoint=base)
    write_adapter(adapter, base, [LLAMA])
    (adapter / "adapter_model.safetensors").unlink()
    refused(adapter, "has adapter_config.json and no adapter_model", base_checkpoint=base)
