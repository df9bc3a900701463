"""Policies of any shape with random weights made on the device; nothing is written to disk.

Latency does not depend on the weights' values, as long as the tokens they lead to are valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vla_pruner_lab.latency.model_shapes import DecoderShape, ModelShape
from vla_pruner_lab.latency.model_work import MAX_ACTION_DIM
from vla_pruner_ros.models import untrained
from vla_pruner_ros.models.actions import ACTION_DIM, ActionTokens, Bounds
from vla_pruner_ros.models.checkpoints import assign
from vla_pruner_ros.models.decoder import layers as decoder_layers
from vla_pruner_ros.models.flow_policy import FlowParts, PixelRange
from vla_pruner_ros.models.images.padding import ImageFitter
from vla_pruner_ros.models.images.preprocessing import Normalization
from vla_pruner_ros.models.images.siglip import SiglipShape
from vla_pruner_ros.models.lerobot.normalization import mean_std
from vla_pruner_ros.models.lerobot.prompts import PromptTokenizer
from vla_pruner_ros.models.lerobot.statistics import Statistics
from vla_pruner_ros.models.openvla.oft_head import L1ActionHead, ProprioProjector
from vla_pruner_ros.models.openvla.oft_images import ImagePath
from vla_pruner_ros.models.openvla.openvla import OpenVlaPolicy
from vla_pruner_ros.models.openvla.openvla_oft import BOUNDS_EPSILON, OpenVlaOftPolicy
from vla_pruner_ros.models.openvla.prismatic import PrismaticModel
from vla_pruner_ros.models.openvla.prismatic_policy import PrismaticParts
from vla_pruner_ros.models.openvla.vision_backbone import TowerShape
from vla_pruner_ros.models.paligemma.network import NetworkShape
from vla_pruner_ros.models.paligemma.policy import Flow, PaliGemmaPolicy
from vla_pruner_ros.models.pi0.network import Pi0Expert, Pi0Network
from vla_pruner_ros.models.pi0.policy import Pi0Policy
from vla_pruner_ros.models.pi05.network import Pi05Expert, Pi05Network
from vla_pruner_ros.models.pi05.policy import Pi05Policy
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.models.pruned_policy import PolicySpec, PrunedPolicy
from vla_pruner_ros.models.smolvla.decoding import ImageMarks
from vla_pruner_ros.models.smolvla.names import SmolVlaShape
from vla_pruner_ros.models.smolvla.network import FlowEmbedding, SmolVlaNetwork
from vla_pruner_ros.models.smolvla.policy import SmolVlaPolicy
from vla_pruner_ros.pruning.config import PruningConfig

CAMERA = (480, 640, 3)
"""Size of the input images, as a robot's camera delivers them."""
INSTRUCTION = "put the red block into the bowl"


@dataclass(frozen=True)
class Model:
    """Weights on a device, and how to make policies that share them.

    make_policy(pruning, policy_class): policy_class takes the arguments of the family's own class,
    which is the default.
    """

    shape: ModelShape
    weights: tuple[nn.Module, ...]
    make_policy: Callable[..., PrunedPolicy]


def build(shape: ModelShape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Model:
    """Build a model of a shape with random weights."""
    return BUILDERS[shape.family](shape, device, dtype, seed)


def observation(shape: ModelShape, seed: int = 0) -> Observation:
    """Draw images with structure at several scales, and a state within the statistics."""
    random = np.random.default_rng(seed)
    blocks = np.ones((40, 40, 1), dtype=np.uint8)
    images = [
        np.kron(random.integers(0, 256, (CAMERA[0] // 40, CAMERA[1] // 40, 3), np.uint8), blocks)
        for _ in range(shape.cameras)
    ]
    state = random.uniform(-0.03, 0.03, shape.state_dim) if shape.state_dim else None
    return Observation(images, INSTRUCTION, state)


def fill(
    module: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    draw: Callable = untrained.random_tensor,
) -> nn.Module:
    """Give a module that was built on the meta device its weights, one parameter at a time."""
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in list(module.named_parameters()):
        if parameter.is_meta:
            assign(module, name, draw(name, parameter, generator).to(dtype))
    return module.eval()


def _prismatic_model(
    shape: ModelShape, device: torch.device, dtype: torch.dtype, seed: int
) -> PrismaticModel:
    with torch.device("meta"):
        model = PrismaticModel(*shape.towers, llama_config(shape))
    fill(model, device, dtype, seed)
    model.restore_tables(device)
    return model


def llama_config(shape: ModelShape, **options):
    """Return transformers' configuration of the decoder."""
    from transformers import LlamaConfig

    decoder = _decoder_fields(shape.decoder)
    return LlamaConfig(
        **decoder,
        vocab_size=shape.vocabulary,
        pad_token_id=untrained.VOCABULARY,
        **options,
    )


def _decoder_fields(decoder: DecoderShape) -> dict[str, int]:
    return {
        "hidden_size": decoder.width,
        "intermediate_size": decoder.mlp_width,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
    }


def _components(model: PrismaticModel, shape: ModelShape, epsilon: float = 0.0) -> PrismaticParts:
    statistics = {"action": untrained.action_statistics(), "proprio": untrained.state_statistics()}
    halves = torch.full((2, 3, 1, 1), 0.5, device=model.projector.fc1.weight.device)
    return PrismaticParts(
        model=model,
        tokenize=_constant_prompt(shape.prompt_tokens - 2),  # the policy adds first and last
        normalize=Normalization(halves, halves),
        bounds=Bounds(statistics["action"], "random weights, action", epsilon),
        tokens=ActionTokens(untrained.VOCABULARY),
        unnorm_key=untrained.UNNORM_KEY,
        statistics=statistics,
        trained=False,
    )


def _constant_prompt(count: int) -> Callable[[str], list[int]]:
    """Return a tokenizer that turns every text into `count` tokens."""
    ids = [10 + number for number in range(count)]
    return lambda text: list(ids)


def _build_openvla(shape, device, dtype, seed) -> Model:
    model = _prismatic_model(shape, device, dtype, seed)
    parts = _components(model, shape)

    def make_policy(pruning: PruningConfig, policy_class=OpenVlaPolicy) -> OpenVlaPolicy:
        return policy_class(parts, pruning)

    return Model(shape, (model,), make_policy)


def _build_oft(shape, device, dtype, seed) -> Model:
    model = _prismatic_model(shape, device, dtype, seed)
    with torch.device("meta"):
        head = L1ActionHead(ACTION_DIM, shape.decoder.width, blocks=2)
        projector = ProprioProjector(shape.state_dim, shape.decoder.width)
    fill(head, device, dtype, seed + 1)
    fill(projector, device, dtype, seed + 2)
    parts = _components(model, shape, BOUNDS_EPSILON)
    images = ImagePath("camera", center_crop=True)

    def make_policy(pruning: PruningConfig, policy_class=OpenVlaOftPolicy) -> OpenVlaOftPolicy:
        return policy_class(parts, pruning, head, projector, images, shape.cameras, shape.chunk)

    return Model(shape, (model, head, projector), make_policy)


def pi0_config(shape: ModelShape):
    """Return transformers' configuration of the whole model."""
    from transformers import PI0Config

    (tower,) = shape.towers
    gemma = {"model_type": "gemma", "vocab_size": shape.vocabulary, "bos_token_id": 2}
    vision = {
        "model_type": "siglip_vision_model",
        "image_size": 224,
        "patch_size": tower.patch_size,
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.depth,
        "num_attention_heads": tower.heads,
        "projection_dim": shape.decoder.width,
        "vision_use_head": False,
    }
    vlm = {
        "model_type": "paligemma",
        "text_config": {**gemma, **_decoder_fields(shape.decoder)},
        "vision_config": vision,
        "projection_dim": shape.decoder.width,
        "image_token_id": shape.vocabulary,
    }
    return PI0Config(
        vlm_config=vlm,
        dit_config={**gemma, **_decoder_fields(shape.expert)},
        chunk_size=shape.chunk,
        num_inference_steps=shape.flow_steps,
    )


def _network_shape(shape: ModelShape) -> NetworkShape:
    (tower,) = shape.towers
    state = 0 if shape.family == "pi05" else MAX_ACTION_DIM
    text, expert = _layers(shape.decoder), _layers(shape.expert)
    return NetworkShape(_siglip(tower), text, expert, shape.vocabulary, state, MAX_ACTION_DIM)


def _siglip(tower: TowerShape) -> SiglipShape:
    side = math.isqrt(tower.patches) * tower.patch_size
    return SiglipShape(
        tower.width, tower.mlp_width, tower.depth, tower.heads, tower.patch_size, side
    )


def _layers(decoder: DecoderShape, **others) -> decoder_layers.DecoderShape:
    d = decoder
    sizes = (d.width, d.mlp_width, d.layers, d.heads, d.kv_heads, d.head_dim)
    return decoder_layers.DecoderShape(*sizes, **others)


def _flow_parts(shape: ModelShape, side: int, padding: str, state: int) -> FlowParts:
    given = untrained.pi0_statistics()
    statistics = Statistics(
        mean_std("state", given["state_mean"], given["state_std"]),
        mean_std("action", given["actions_mean"], given["actions_std"]),
    )
    return FlowParts(statistics, ImageFitter(side, padding), PixelRange(), state)


def _flow_spec(shape: ModelShape, grid: tuple[int, int], side: int) -> PolicySpec:
    return PolicySpec(
        family=shape.family,
        trained=False,
        num_cameras=shape.cameras,
        state_dim=shape.state_dim,
        chunk_size=shape.chunk,
        grid=grid,
        num_layers=shape.decoder.layers,
        image_size=side,
    )


PALIGEMMA = {
    "pi0": (Pi0Network, Pi0Expert, Pi0Policy, "bottom_right"),
    "pi05": (Pi05Network, Pi05Expert, Pi05Policy, "center"),
}


def _build_paligemma(shape, device, dtype, seed) -> Model:
    network_class, expert_class, own_policy, padding = PALIGEMMA[shape.family]
    with torch.device("meta"):
        network = network_class(_network_shape(shape))
    fill(network, device, dtype, seed, untrained.random_flow_tensor)
    network.finish()
    expert = expert_class(network, shape.flow_steps)
    network.drop_what_expert_keeps()
    side = network.shape.vision.image_size
    parts = _flow_parts(shape, side, padding, network.shape.state_dim)
    spec = _flow_spec(shape, network.grid, side)
    tokenizer = PromptTokenizer(_constant_prompt(shape.prompt_tokens), shape.prompt_tokens)

    def make_policy(pruning: PruningConfig, policy_class=own_policy) -> PaliGemmaPolicy:
        flow = Flow(shape.chunk, seed)
        return policy_class(spec, network, expert, tokenizer, parts, flow, pruning, device)

    return Model(shape, (network,), make_policy)


def _build_smolvla(shape, device, dtype, seed) -> Model:
    settings = {"activation": "silu", "eps": 1e-5}
    (tower,) = shape.towers
    sizes = SmolVlaShape(
        vision=_siglip(tower),
        text=_layers(shape.decoder, **settings),
        expert=_layers(shape.expert, **settings),
        vocabulary=shape.vocabulary,
        shuffle=math.isqrt(shape.patches_per_token),
        state_dim=MAX_ACTION_DIM,
        action_dim=MAX_ACTION_DIM,
        cross=shape.cross_layers,
    )
    with torch.device("meta"):
        network = SmolVlaNetwork(sizes)
    fill(network, device, dtype, seed)
    side = sizes.vision.image_size
    parts = _flow_parts(shape, side, "top_left", MAX_ACTION_DIM)
    spec = _flow_spec(shape, network.grid, side)
    tokenizer = PromptTokenizer(_constant_prompt(shape.prompt_tokens), shape.prompt_tokens)
    embed = FlowEmbedding(network, shape.flow_steps)

    def make_policy(pruning: PruningConfig, policy_class=SmolVlaPolicy) -> SmolVlaPolicy:
        marks = ImageMarks()
        return policy_class(spec, network, embed, tokenizer, parts, marks, seed, pruning, device)

    return Model(shape, (network,), make_policy)


BUILDERS = {
    "openvla": _build_openvla,
    "openvla_oft": _build_oft,
    "pi0": _build_paligemma,
    "pi05": _build_paligemma,
    "smolvla": _build_smolvla,
}
