"""Weights to start training from: they let a shallow network see colours and places at once."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from vla_pruner_lab.training.network import TrainingNetwork
from vla_pruner_ros.models.checkpoints import read_json

DECODER_LAYERS = "model.language_model.model.layers."
BRANCH_ENDS = ("o_proj.weight", "down_proj.weight")
PLACE_SCALE = 0.5
"""Size of the position embeddings relative to what a patch with full contrast gives."""


def initialise(network: nn.Module, layers: int, seed: int) -> None:
    """Draw weights to start training from, in place.

    Linear maps keep the variance of their input; those that end a residual branch are smaller by
    sqrt(2 * layers), so that the sum over the branches stays of order one. Patches begin as their
    lowest spatial frequencies, positions as sines of row and column.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(_start_value(name, parameter.shape, layers, generator))


def take_weights(network: TrainingNetwork, start: Path, checkpoint: Path) -> None:
    """Replace, in place, every parameter that `checkpoint` has too, in the same shape.

    Between the families towers, projector, embeddings and decoder carry over; a decoder of fewer
    layers is grown (grow_decoder). start: directory the network was loaded from.

    Raises:
        ValueError: a checkpoint with another tokenizer, whose rows of the vocabulary mean other
            tokens; with more decoder layers; or with nothing of the same shape.
    """
    if _vocabulary(checkpoint) != _vocabulary(start):
        raise ValueError(
            f"{checkpoint} has another tokenizer than this run; name a checkpoint that "
            "was trained on the same instructions"
        )
    given = dict(TrainingNetwork.load(checkpoint, torch.device("cpu")).named_parameters())
    given = grow_decoder(given, len(network.model.language_model.model.layers))
    shared = [
        (parameter, given[name])
        for name, parameter in network.named_parameters()
        if name in given and given[name].shape == parameter.shape
    ]
    if not shared:
        raise ValueError(f"{checkpoint} has no parameter of the same shape; give the same sizes")
    with torch.no_grad():
        for parameter, value in shared:
            parameter.copy_(value)


def grow_decoder(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Spread the decoder layers of `weights` evenly over `layers` and insert new ones between.

    An inserted layer is a copy of the next given one whose output projections are zero: it sees
    what that layer will see, attends as it does, and adds nothing yet, so the network computes
    what it did (after Wu et al. 2024, "LLaMA Pro: Progressive LLaMA with Block Expansion").

    weights: parameters by name, any shape. Returns them for a decoder of `layers` layers.

    Raises:
        ValueError: more layers are given than requested.
    """
    by_layer: dict[int, dict[str, Tensor]] = {}
    grown: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(DECODER_LAYERS):
            number, rest = name.removeprefix(DECODER_LAYERS).split(".", 1)
            by_layer.setdefault(int(number), {})[rest] = tensor
        else:
            grown[name] = tensor
    sources = spread_layers(len(by_layer), layers)
    for index, source in enumerate(sources):
        is_inserted = index + 1 < layers and sources[index + 1] == source
        for rest, tensor in by_layer[source].items():
            silent = is_inserted and rest.endswith(BRANCH_ENDS)
            value = torch.zeros_like(tensor) if silent else tensor
            grown[f"{DECODER_LAYERS}{index}.{rest}"] = value
    return grown


def spread_layers(given: int, layers: int) -> list[int]:
    """Return the source of each of `layers` layers among `given` ones.

    The last of equal entries is the layer itself, those before it are inserted. The first and the
    last layer stay in place.

    Raises:
        ValueError: given is above layers.
    """
    if given > layers:
        raise ValueError(f"the initial checkpoint has {given} decoder layers, the run {layers}")
    places = [n * (layers - 1) // (given - 1) for n in range(given - 1)] + [layers - 1]
    return [next(n for n, place in enumerate(places) if place >= i) for i in range(layers)]


def _vocabulary(directory: Path) -> dict[str, int]:
    return read_json(directory / "tokenizer.json")["model"]["vocab"]


def _start_value(name: str, shape: torch.Size, layers: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if name.endswith("bias"):
        return torch.zeros(shape)
    if "norm" in name or "scale_factor" in name or _is_layer_norm_of_head(name):
        return torch.ones(shape)
    if name.endswith("lm_head.weight"):
        return noise * 0.02
    if name.endswith("pos_embed"):
        return PLACE_SCALE * place_waves(math.isqrt(shape[1]), shape[2])[None] + 0.02 * noise
    if name.endswith("patch_embed.proj.weight"):
        return patch_waves(shape[0], shape[2]) + 0.2 * noise * shape[1:].numel() ** -0.5
    if any(part in name for part in ("embed_tokens", "cls_token", "reg_token")):
        return noise * 0.2
    is_branch_end = any(
        name.endswith(end) for end in ("o_proj.weight", "down_proj.weight", "attn.proj.weight")
    ) or ("mlp.fc2" in name)
    fan_in = shape[1:].numel()
    return noise * fan_in**-0.5 * ((2 * layers) ** -0.5 if is_branch_end else 1.0)


def _is_layer_norm_of_head(name: str) -> bool:
    return "mlp_resnet_blocks" in name and ".ffn.0." in name


def place_waves(side: int, width: int) -> Tensor:
    """Return sines and cosines of row and column, [side * side, width].

    Wavelengths go from 2 * side down.
    """
    frequencies = math.pi / side * 2.0 ** torch.linspace(0.0, 3.0, width // 4)
    waves = torch.arange(side)[:, None] * frequencies
    line = torch.cat([waves.sin(), waves.cos()], dim=1)
    rows = line[:, None].expand(-1, side, -1)
    return torch.cat([rows, line.expand(side, -1, -1)], dim=2).flatten(0, 1)


def patch_waves(width: int, side: int) -> Tensor:
    """Return cosine waves of growing frequency on each colour in turn, [width, 3, side, side].

    Images have less of the high frequencies, which are enlarged accordingly.
    """
    grid = (torch.arange(side) + 0.5) * math.pi / side
    orders = sorted(((u, v) for u in range(side) for v in range(side)), key=lambda o: (sum(o), o))
    kernels = torch.zeros(width, 3, side, side)
    for index in range(width):
        u, v = orders[index // 3]
        wave = torch.cos(u * grid)[:, None] * torch.cos(v * grid)
        kernels[index, index % 3] = wave * (1 + u + v) / side**2
    return kernels
