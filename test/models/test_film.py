"""OpenVLA-OFT with FiLM: read as openvla-oft saves it, equal to its formula by brute force.

The formula and the names are those of prismatic/models/film_vit_wrapper.py, vla-scripts/finetune.py
(what is saved) and experiments/robot/openvla_utils.py (how it is loaded) of openvla-oft.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from model_helpers import SMALL, observation
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import CheckpointError
from vla_pruner_ros.pruning.config import PruningConfig

RANK, ALPHA = 32, 16
STOP = 2
FILE = "vision_backbone--10_checkpoint.pt"
LOW_RANK = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def saved_backbone(tensors: dict[str, Tensor], hidden: int) -> dict[str, Tensor]:
    """The backbone's state as finetune.py saves it: PEFT's names inside FiLM's blocks."""
    random = torch.Generator().manual_seed(5)

    def noise(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(shape, generator=random)

    saved = {}
    for name, tensor in tensors.items():
        if not name.startswith("vision_backbone."):
            continue
        start, _, rest = name.partition(".blocks.")
        number, _, leaf = rest.partition(".")
        module = leaf.rpartition(".")[0]
        block = f"{start}.blocks.{number}"
        if not rest:
            saved[name] = tensor
        elif module not in LOW_RANK:
            saved[f"{block}.block.{leaf}"] = tensor
        else:
            kind = leaf.rpartition(".")[2]
            saved[f"{block}.block.{module}.base_layer.{kind}"] = tensor
        if module in LOW_RANK and leaf.endswith(".weight"):
            wide, narrow = tensor.shape
            inner = f"{block}.block.{module}"
            saved[f"{inner}.lora_A.default.weight"] = noise(RANK, narrow, scale=0.1)
            saved[f"{inner}.lora_B.default.weight"] = noise(wide, RANK, scale=0.1)
        if leaf == "norm1.weight":
            width = len(tensor)
            for part in ("scale", "shift"):
                saved[f"{block}.{part}.weight"] = noise(width, hidden, scale=0.5)
                saved[f"{block}.{part}.bias"] = noise(width, scale=0.1)
    # `vision_backbone` of the wrapper, and DDP's `module`, stand before the names.
    return {f"module.{name}": tensor.bfloat16() for name, tensor in saved.items()}


class Reference:
    """One tower by brute force in float64, straight from the saved names."""

    def __init__(self, saved: dict[str, Tensor], tower: str, heads: int) -> None:
        prefix = f"module.vision_backbone.{tower}."
        self.tensors = {
            name.removeprefix(prefix): tensor.double()
            for name, tensor in saved.items()
            if name.startswith(prefix)
        }
        self.heads = heads

    def linear(self, name: str, x: Tensor) -> Tensor:
        t = self.tensors
        if f"{name}.weight" in t:
            return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]
        added = (
            (ALPHA / RANK)
            * t[f"{name}.lora_B.default.weight"]
            @ (t[f"{name}.lora_A.default.weight"] @ x.T)
        )
        return x @ t[f"{name}.base_layer.weight"].T + t[f"{name}.base_layer.bias"] + added.T

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        spread = (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
        return centred / spread * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def attention(self, name: str, x: Tensor) -> Tensor:
        width = x.shape[1]
        size = width // self.heads
        rows = self.linear(f"{name}.qkv", x)
        mixed = []
        for head in range(self.heads):
            query, key, value = (
                rows[:, part * width + head * size : part * width + (head + 1) * size]
                for part in range(3)
            )
            scores = query @ key.T / size**0.5
            mixed.append(torch.softmax(scores, dim=1) @ value)
        return self.linear(f"{name}.proj", torch.cat(mixed, dim=1))

    def mlp(self, name: str, x: Tensor) -> Tensor:
        inner = self.linear(f"{name}.fc1", x)
        inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        return self.linear(f"{name}.fc2", inner)

    def layer_scale(self, name: str) -> Tensor | float:
        return self.tensors.get(f"{name}.scale_factor", 1.0)

    def __call__(self, pixels: Tensor, task: Tensor) -> Tensor:
        """[3, S, S], [d] -> [patches, width]: get_intermediate_layers(n={blocks - 2})."""
        t, pixels = self.tensors, pixels.double()
        kernel = t["patch_embed.proj.weight"]
        side = kernel.shape[2]
        patches = [
            (pixels[:, top : top + side, left : left + side] * kernel).sum(dim=(1, 2, 3))
            for top in range(0, pixels.shape[1], side)
            for left in range(0, pixels.shape[2], side)
        ]
        x = torch.stack(patches) + t["patch_embed.proj.bias"] + t["pos_embed"][0]
        prefix = 0
        if "cls_token" in t:
            tokens = torch.cat([t["cls_token"][0], t["reg_token"][0]])
            x, prefix = torch.cat([tokens, x]), len(tokens)
        blocks = 1 + max(int(name.split(".")[1]) for name in t if name.startswith("blocks."))
        for number in range(blocks - 1):
            wrapper = f"blocks.{number}"
            inner = f"{wrapper}.block"
            gamma = self.linear(f"{wrapper}.scale", task[None])[0]
            beta = self.linear(f"{wrapper}.shift", task[None])[0]
            attended = self.attention(f"{inner}.attn", self.norm(f"{inner}.norm1", x))
            x = x + attended * self.layer_scale(f"{inner}.ls1")
            x = x * (1 + gamma) + beta
            x = x + self.mlp(f"{inner}.mlp", self.norm(f"{inner}.norm2", x)) * self.layer_scale(
                f"{inner}.ls2"
            )
        return x[prefix:]


def reference_features(saved: dict[str, Tensor], pixels: Tensor, task: Tensor) -> Tensor:
    """[cameras, 6, S, S] -> [cameras, patches, both widths]."""
    heads = SMALL["vision_heads"]
    towers = [Reference(saved, name, heads) for name in ("featurizer", "fused_featurizer")]
    return torch.stack([
        torch.cat([towers[0](image[:3], task), towers[1](image[3:], task)], dim=1)
        for image in pixels
    ])  # fmt: skip


@pytest.fixture
def film(checkpoints, tmp_path):
    """A small OpenVLA-OFT checkpoint with a FiLM file; its directory and the saved tensors."""
    directory = Path(shutil.copytree(checkpoints("openvla_oft"), tmp_path / "film"))
    saved = saved_backbone(load_file(directory / "model.safetensors"), SMALL["hidden"])
    torch.save(saved, directory / FILE)
    return directory, saved


def task_embedding(policy, frame) -> Tensor:
    """predict_action: the mean over BOS, prompt, 29871 and the stop token; no placeholders."""
    ids = [*policy._prepare(frame).ids.tolist(), STOP]
    assert ids[0] == 1
    assert ids[-2] == 29871
    return policy.model.language_model.model.embed_tokens.weight[ids].double().mean(dim=0)


@torch.no_grad()
def test_features_are_those_of_the_formula(film):
    directory, saved = film
    policy = load_policy(directory)
    frame = observation(policy, seed=3)
    pixels = policy.normalize(policy._prepare(frame).images, torch.float32)
    task = task_embedding(policy, frame)
    ours = policy.model.vision_backbone(pixels, task.float())
    wanted = reference_features(saved, pixels, task)
    assert ours.shape == wanted.shape
    np.testing.assert_allclose(ours.numpy(), wanted.numpy(), atol=2e-4, rtol=2e-4)
    assert float(wanted.std()) > 0.1


@torch.no_grad()
def test_actions_are_those_of_the_formula(film, checkpoints):
    """The policy takes the task from the instruction: its actions follow the reference features."""
    directory, saved = film
    policy, other = load_policy(directory), load_policy(checkpoints("openvla_oft"))
    frame = observation(policy, seed=4, instruction="close the door")
    task = task_embedding(policy, frame)

    def visual_tokens(pixels, _):
        features = reference_features(saved, pixels, task).float()
        return other.model.projector(features).flatten(0, 1)[None]

    plain = other.act(frame).actions
    other.model.visual_tokens = visual_tokens
    other.reset()
    wanted = other.act(frame).actions
    np.testing.assert_allclose(policy.act(frame).actions, wanted, atol=1e-4)
    assert np.abs(wanted - plain).max() > 1e-4


@torch.no_grad()
def test_the_instruction_changes_what_is_seen(film):
    policy = load_policy(film[0])
    seen = []
    for instruction in ("close the door", "open the door"):
        frame = observation(policy, seed=5, instruction=instruction)
        inputs = policy._prepare(frame)
        pixels = policy.normalize(inputs.images, torch.float32)
        seen.append(policy.model.visual_tokens(pixels, policy._task(inputs.ids)))
    assert float((seen[0] - seen[1]).abs().max()) > 1e-3


def test_a_film_policy_is_pruned(film):
    policy = load_policy(film[0], pruning=PruningConfig(keep_ratio=0.25, history_fill="semantic"))
    chunk = policy.act(observation(policy, seed=6))
    assert chunk.pruning.tokens_kept == policy.num_visual // 4
    assert np.isfinite(chunk.actions).all()


def test_an_adapter_that_is_not_merged_yet_goes_with_the_backbone_file(film, checkpoints, tmp_path):
    """finetune.py without merge_lora_during_training leaves lora_adapter/ and no weights."""
    directory, saved = film
    run = tmp_path / "run"
    shutil.copytree(directory, run, ignore=shutil.ignore_patterns("model.safetensors"))
    (run / "lora_adapter").mkdir()
    inner = {
        "base_model.model." + name.removeprefix("module.").replace(".default", ""): tensor
        for name, tensor in saved.items()
        if ".lora_" in name
    }
    inner = {name.replace("model.v", "model.vision_backbone.v", 1): t for name, t in inner.items()}
    layer = "language_model.model.layers.0.self_attn.q_proj"
    width = SMALL["hidden"]
    halves = {"A": torch.ones(4, width), "B": torch.ones(width, 4)}
    adapter = {f"base_model.model.{layer}.lora_{half}.weight": t for half, t in halves.items()}
    assert any("vision_backbone.vision_backbone.featurizer.blocks.0" in name for name in inner)
    save_file(inner | adapter, run / "lora_adapter" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4}
    (run / "lora_adapter" / "adapter_config.json").write_text(json.dumps(settings))
    policy = load_policy(run, base_checkpoint=checkpoints("openvla_oft"))
    merged = load_policy(directory)
    weights = policy.model.state_dict()
    changed = [name for name, t in merged.model.state_dict().items() if not t.equal(weights[name])]
    assert changed == [f"{layer}.weight"]
    assert "vision_backbone.featurizer.blocks.0.scale.weight" in weights


def test_a_backbone_without_scale_and_shift_is_refused(film):
    directory, saved = film
    torch.save({n: t for n, t in saved.items() if ".scale." not in n}, directory / FILE)
    with pytest.raises(CheckpointError, match="holds no FiLM"):
        load_policy(directory)


def test_half_an_addition_is_refused(film):
    directory, saved = film
    torch.save({n: t for n, t in saved.items() if ".lora_B." not in n}, directory / FILE)
    with pytest.raises(CheckpointError, match="no other half"):
        load_policy(directory)


def test_a_missing_tensor_is_named(film):
    directory, saved = film
    torch.save({n: t for n, t in saved.items() if not n.endswith("0.shift.bias")}, directory / FILE)
    with pytest.raises(CheckpointError, match=r"lacks .*shift\.bias"):
        load_policy(directory)
