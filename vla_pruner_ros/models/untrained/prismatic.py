"""Random weights of OpenVLA and OpenVLA-OFT, and the small files that all families need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_pruner_ros.models.actions import ACTION_DIM, BINS
from vla_pruner_ros.models.checkpoints import NOTE
from vla_pruner_ros.models.openvla.oft_head import L1ActionHead, ProprioProjector
from vla_pruner_ros.models.openvla.prismatic import OVERRIDES_FILE, VISION_BACKBONE, PrismaticModel
from vla_pruner_ros.models.openvla.prompt import prompt_text
from vla_pruner_ros.models.openvla.vision_backbone import TowerShape

UNNORM_KEY = "simulation"
UNTRAINED_NOTE = {"trained": False, "note": "random weights, for tests and demos"}
STATE_DIM = 8
VOCABULARY = 32000
VOCABULARY_PADDED = 32064
TIMM_MODELS = ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")
INSTRUCTIONS = (
    "pick up the black bowl and place it on the plate",
    "open the top drawer of the cabinet",
    "push the button from above",
    "close the door",
    "reach the red target",
    "put the spoon into the pot",
)
ACTION_LIMITS = [0.02, 0.02, 0.02, 0.05, 0.05, 0.05]
"""Largest translation (m) and rotation (rad) per action, both ways."""


@dataclass(frozen=True)
class TinySize:
    """Shape of a small model. vision_depth counts the discarded last block as well."""

    hidden: int = 128
    layers: int = 8
    heads: int = 4
    mlp: int = 352
    vision_width: int = 64
    vision_depth: int = 3
    vision_heads: int = 4
    state: int = STATE_DIM


def write_openvla(directory: Path, seed: int, size: TinySize) -> None:
    """Write an OpenVLA checkpoint of random weights."""
    _write_prismatic(directory, seed, size, {UNNORM_KEY: {"action": action_statistics()}})


def write_openvla_oft(directory: Path, seed: int, size: TinySize) -> None:
    """Head and projector are scaled as the weights are; the state is LIBERO's eight numbers, where
    it has as many."""
    statistics = {"action": action_statistics(), "proprio": state_statistics(size.state)}
    _write_prismatic(directory, seed, size, {UNNORM_KEY: statistics})
    with torch.device("meta"):
        head = L1ActionHead(ACTION_DIM, size.hidden, blocks=2)
        projector = ProprioProjector(size.state, size.hidden)
    _write_component(directory / "action_head--0_checkpoint.pt", head, "module.model.", seed + 1)
    projector_path = directory / "proprio_projector--0_checkpoint.pt"
    _write_component(projector_path, projector, "module.", seed + 2)


def _write_component(path: Path, module: nn.Module, prefix: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        prefix + name: random_tensor(name, parameter, generator)
        for name, parameter in module.named_parameters()
    }
    torch.save(tensors, path)


def _write_prismatic(directory: Path, seed: int, size: TinySize, statistics: dict) -> None:
    config = _config(size)
    if "proprio" not in statistics[UNNORM_KEY]:  # the simulated arm has nine joints
        config[NOTE] = {**UNTRAINED_NOTE, "robot": "metaworld"}
    write_json(directory / "config.json", {**config, "norm_stats": statistics})
    write_json(directory / "dataset_statistics.json", statistics)
    write_json(directory / "preprocessor_config.json", _preprocessor_config())
    write_json(directory / OVERRIDES_FILE, {m: _overrides(size) for m in TIMM_MODELS})
    write_tokenizer(directory)
    tensors = {name: t.to(torch.bfloat16) for name, t in random_weights(config, seed, size)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def action_statistics() -> dict:
    """Small motions; gripper 0 (closed) to 1 (open)."""
    return {
        "q01": [*(-limit for limit in ACTION_LIMITS), 0.0],
        "q99": [*ACTION_LIMITS, 1.0],
        "mask": [True] * ACTION_DIM,
    }


def state_statistics(size: int = STATE_DIM) -> dict:
    """Position (m), axis-angle (rad) and two gripper joints (m) of a table-top arm; another
    size: that many joints (rad)."""
    reach = [0.5, 0.5, 1.2, 3.2, 3.2, 3.2, 0.04, 0.04]
    if size != STATE_DIM:
        reach = [3.2] * size
    return {"q01": [-limit for limit in reach], "q99": reach}


def random_weights(config: dict, seed: int, size: TinySize) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor (any shape) of a PrismaticModel, scaled so that attention varies."""
    from transformers import LlamaConfig

    dino = _tower(size, registers=4, layer_scale=True)
    with torch.device("meta"):
        model = PrismaticModel(dino, _tower(size), LlamaConfig(**config["text_config"]))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        yield name, random_tensor(name, parameter, generator)


def random_tensor(name: str, like: nn.Parameter, generator: torch.Generator) -> Tensor:
    """Return a parameter of the shape of `like`, any shape, by its role.

    Returns:
        Float32 on the generator's device.
    """
    noise = torch.randn(like.shape, generator=generator, device=generator.device)
    if "norm" in name or "scale_factor" in name:
        return noise * 0.05 + (0.0 if name.endswith("bias") else 1.0)
    if name.endswith("bias"):
        return noise * 0.02
    if name.endswith("lm_head.weight"):
        return _action_heavy(noise)
    if "embed" in name or "token" in name:
        return noise * (0.3 if name.endswith("proj.weight") else 1.0) * 0.2
    gain = 2.0 if any(part in name for part in ("q_proj", "k_proj", "qkv")) else 1.0
    return noise * gain * like[0].numel() ** -0.5


def _action_heavy(rows: Tensor) -> Tensor:
    """Output rows [ids, d] that make greedy decoding land on action tokens."""
    scale = rows.new_full((len(rows), 1), 0.05)
    scale[VOCABULARY - BINS : VOCABULARY] = 1.0
    return rows * scale


def write_tokenizer(directory: Path, instructions: Iterable[str] = INSTRUCTIONS) -> None:
    """A byte-level BPE tokenizer with LLaMA's special ids, trained on a few instructions."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(prompt_text, instructions), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "model_max_length": 2048,
        },
    )


def _config(size: TinySize) -> dict:
    return {
        "architectures": ["OpenVLAForActionPrediction"],
        "model_type": "openvla",
        "vision_backbone_id": VISION_BACKBONE,
        "use_fused_vision_backbone": True,
        "timm_model_ids": list(TIMM_MODELS),
        "image_sizes": [224, 224],
        "n_action_bins": BINS,
        "pad_to_multiple_of": VOCABULARY_PADDED - VOCABULARY,
        "pad_token_id": VOCABULARY,
        "text_config": {
            "model_type": "llama",
            "hidden_size": size.hidden,
            "intermediate_size": size.mlp,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads,
            "pad_token_id": VOCABULARY,
            "vocab_size": VOCABULARY_PADDED,
        },
        "torch_dtype": "bfloat16",
        NOTE: UNTRAINED_NOTE,
    }


def _preprocessor_config() -> dict:
    imagenet = {
        "mean": [0.484375, 0.455078125, 0.40625],
        "std": [0.228515625, 0.2236328125, 0.224609375],
    }
    siglip = {"mean": [0.5] * 3, "std": [0.5] * 3}
    return {
        "image_processor_type": "PrismaticImageProcessor",
        "image_resize_strategy": "resize-naive",
        "tvf_normalize_params": [imagenet, siglip],
        "use_fused_vision_backbone": True,
    }


def _tower(size: TinySize, registers: int = 0, layer_scale: bool = False) -> TowerShape:
    width = size.vision_width
    return TowerShape(
        width, size.vision_depth, size.vision_heads, 4 * width, registers, layer_scale
    )


def _overrides(size: TinySize) -> dict:
    return {"embed_dim": size.vision_width, "num_heads": size.vision_heads}


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file with an indent of two."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


WRITERS = {"openvla": write_openvla, "openvla_oft": write_openvla_oft}
