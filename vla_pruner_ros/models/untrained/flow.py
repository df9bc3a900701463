"""Random weights of the flow-matching families.

pi0 is written in transformers' layout, pi0.5 and SmolVLA in LeRobot's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla_pruner_ros.models.actions import ACTION_DIM
from vla_pruner_ros.models.checkpoints import NOTE
from vla_pruner_ros.models.decoder.layers import DecoderShape
from vla_pruner_ros.models.images.siglip import SiglipShape
from vla_pruner_ros.models.paligemma.names import module_name, stored_name
from vla_pruner_ros.models.paligemma.network import NetworkShape
from vla_pruner_ros.models.pi05.network import Pi05Network
from vla_pruner_ros.models.smolvla.names import SmolVlaShape
from vla_pruner_ros.models.smolvla.network import SmolVlaNetwork
from vla_pruner_ros.models.untrained.prismatic import (
    ACTION_LIMITS,
    STATE_DIM,
    TinySize,
    action_statistics,
    random_tensor,
    state_statistics,
    write_json,
    write_tokenizer,
)

VOCABULARY = 1024
WIDEST = 32
"""Numbers that the projections of state and action take."""
VISION_HEADS = 16
NOTE_TEXT = {"trained": False, "note": "random weights, for tests and demos"}
CAMERAS = ("observation.images.base", "observation.images.wrist")


def write_pi0(directory: Path, seed: int, size: TinySize) -> None:
    """transformers' layout; the action expert is half as wide as the language model."""
    from transformers import PI0Config, PI0ForConditionalGeneration

    config = _pi0_config(size)
    write_json(directory / "config.json", config)
    write_json(directory / "processor_config.json", pi0_statistics())
    write_tokenizer(directory)
    fields = ("vlm_config", "dit_config", "chunk_size", "num_inference_steps")
    with torch.device("meta"):
        network = PI0ForConditionalGeneration(PI0Config(**{name: config[name] for name in fields}))
    _save(directory, network, seed, lambda name: stored_name(module_name(name)))


def write_pi05(directory: Path, seed: int, size: TinySize) -> None:
    """LeRobot's layout with the real numbers of heads: eight, one for keys and values."""
    vision = siglip_of(size, VISION_HEADS, patch_size=14, image_size=224)
    text, expert = (
        DecoderShape(width, mlp, size.layers, 8, 1, max(4, size.hidden // 8))
        for width, mlp in ((size.hidden, size.mlp), (size.hidden // 2, size.mlp // 2))
    )
    with torch.device("meta"):
        network = Pi05Network(NetworkShape(vision, text, expert, VOCABULARY, 0, WIDEST))
    _save(directory, network, seed, lambda name: "model." + lerobot_name(name))
    _write_lerobot(directory, "pi05", "QUANTILES", {})


def write_smolvla(directory: Path, seed: int, size: TinySize) -> None:
    """LeRobot's layout, with the configuration of its language and vision model in config.json.

    The expert is as wide as the language model: small widths stay multiples of int4's groups.
    """
    vision = siglip_of(size, size.vision_heads, patch_size=64, image_size=512)
    heads, head_dim = size.heads, size.hidden // size.heads
    settings = {"activation": "silu", "eps": 1e-5}
    text, expert = (
        DecoderShape(width, mlp, size.layers, heads, max(1, heads // 2), head_dim, **settings)
        for width, mlp in ((size.hidden, size.mlp), (size.hidden, size.mlp // 2))
    )
    cross = tuple(layer % 2 == 1 for layer in range(size.layers))
    shape = SmolVlaShape(vision, text, expert, VOCABULARY, 2, WIDEST, WIDEST, cross)
    with torch.device("meta"):
        network = SmolVlaNetwork(shape)
    _save(directory, network, seed, smolvla_name)
    vlm = {
        "text_config": {
            "num_attention_heads": heads,
            "head_dim": head_dim,
            "hidden_size": size.hidden,
            "rms_norm_eps": 1e-5,
        },
        "vision_config": {"num_attention_heads": size.vision_heads},
    }
    _write_lerobot(directory, "smolvla", "MEAN_STD", {**vlm, "self_attn_every_n_layers": 2})


def lerobot_name(name: str) -> str:
    """Turn a tensor's name in pi0's and pi0.5's networks into LeRobot's, without `model.`."""
    paligemma = "paligemma_with_expert.paligemma.model."
    if name.startswith("expert."):
        return "paligemma_with_expert.gemma_expert.model." + name.removeprefix("expert.")
    if name.startswith("vision_tower."):
        return f"{paligemma}vision_tower.vision_model." + name.removeprefix("vision_tower.")
    if name.startswith(("language_model.", "multi_modal_projector.")):
        return paligemma + name
    return name


def smolvla_name(name: str) -> str:
    """Turn a tensor's name in SmolVlaNetwork into LeRobot's."""
    vlm = "model.vlm_with_expert.vlm.model."
    for ours, theirs in (
        ("vision_tower.", f"{vlm}vision_model."),
        ("connector.", f"{vlm}connector.modality_projection."),
        ("language_model.", f"{vlm}text_model."),
        ("expert.", "model.vlm_with_expert.lm_expert."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return f"model.{name}"


def siglip_of(size: TinySize, heads: int, patch_size: int, image_size: int) -> SiglipShape:
    """Return the shape of a small tower."""
    width = size.vision_width
    return SiglipShape(width, 4 * width, size.vision_depth, heads, patch_size, image_size)


def random_flow_tensor(name: str, like: nn.Parameter, generator: torch.Generator) -> Tensor:
    """Return one parameter of pi0 or pi0.5 of the shape of `like`, any shape, by its role."""
    if ".dense." in name:
        noise = torch.randn(like.shape, generator=generator, device=generator.device)
        gate = 2 * len(noise) // 3
        scaled = noise * 0.3 * max(1, like[0].numel()) ** -0.5
        if name.endswith("bias"):
            scaled[gate:] += 1.0
        return scaled
    tensor = random_tensor(name, like, generator)
    is_rms_norm = "layernorm" in name or name.endswith(".norm.weight")
    return tensor - 1.0 if is_rms_norm and "vision" not in name else tensor  # Gemma adds the 1


def pi0_statistics() -> dict:
    """The ranges of the other families, as mean and standard deviation."""
    reach = state_statistics()["q99"]
    return {
        "state_mean": [0.0] * STATE_DIM,
        "state_std": [limit / 2 for limit in reach],
        "actions_mean": [*(0.0 for _ in ACTION_LIMITS), 0.5],
        "actions_std": [*(limit / 2 for limit in ACTION_LIMITS), 0.25],
    }


def _save(directory: Path, network: nn.Module, seed: int, rename) -> None:
    generator = torch.Generator().manual_seed(seed)
    is_gemma = not isinstance(network, SmolVlaNetwork)
    random = random_flow_tensor if is_gemma else random_tensor
    tensors = {
        rename(name): random(name, parameter, generator).bfloat16()
        for name, parameter in network.named_parameters()
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _write_lerobot(directory: Path, family: str, mode: str, others: dict) -> None:
    visual = {name: {"type": "VISUAL", "shape": [3, 480, 640]} for name in CAMERAS}
    modes = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    config = {
        "type": family,
        "input_features": {
            **visual,
            "observation.state": {"type": "STATE", "shape": [STATE_DIM]},
        },
        "output_features": {"action": {"type": "ACTION", "shape": [ACTION_DIM]}},
        "chunk_size": 50,
        "n_action_steps": 50,
        "normalization_mapping": modes,
        **others,
        NOTE: NOTE_TEXT,
    }
    write_json(directory / "config.json", config)
    statistics = _tensors()
    for name, step in (("preprocessor", "normalizer"), ("postprocessor", "unnormalizer")):
        file = f"policy_{name}_step_0_{step}_processor.safetensors"
        save_file(statistics, directory / file)
        settings = {"eps": 1e-8, "norm_map": modes}
        entry = {
            "registry_name": f"{step}_processor",
            "config": settings,
            "state_file": file,
        }
        write_json(directory / f"policy_{name}.json", {"name": name, "steps": [entry]})
    write_tokenizer(directory)


def _tensors() -> dict[str, Tensor]:
    """The statistics that the modes above read, keyed feature.statistic."""
    given, action, state = pi0_statistics(), action_statistics(), state_statistics()
    values = {
        "observation.state": {"mean": given["state_mean"], "std": given["state_std"], **state},
        "action": {"mean": given["actions_mean"], "std": given["actions_std"], **action},
    }
    return {
        f"{feature}.{name}": torch.tensor(numbers, dtype=torch.float32)
        for feature, statistics in values.items()
        for name, numbers in statistics.items()
        if name != "mask"
    }


def _pi0_config(size: TinySize) -> dict:
    decoder = {
        "model_type": "gemma",
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": 1,
        "head_dim": size.hidden // size.heads,
        "vocab_size": VOCABULARY,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    text = {**decoder, "hidden_size": size.hidden, "intermediate_size": size.mlp}
    expert = {**decoder, "hidden_size": size.hidden // 2, "intermediate_size": size.mlp // 2}
    vision = {
        "model_type": "siglip_vision_model",
        "image_size": 224,
        "patch_size": 14,
        "hidden_size": size.vision_width,
        "intermediate_size": 4 * size.vision_width,
        "num_hidden_layers": size.vision_depth,
        "num_attention_heads": size.vision_heads,
        "vision_use_head": False,
    }
    return {
        "architectures": ["PI0ForConditionalGeneration"],
        "model_type": "pi0",
        "vlm_config": {
            "model_type": "paligemma",
            "text_config": text,
            "vision_config": {**vision, "projection_dim": size.hidden},
            "projection_dim": size.hidden,
            "image_token_id": VOCABULARY,
        },
        "dit_config": expert,
        "chunk_size": 50,
        "num_inference_steps": 10,
        "torch_dtype": "bfloat16",
        NOTE: NOTE_TEXT,
    }


FLOW_WRITERS = {"pi0": write_pi0, "pi05": write_pi05, "smolvla": write_smolvla}
