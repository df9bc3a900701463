"""SigLIP's vision tower, with the names of transformers' checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vla_pruner_ros.models.decoder.layers import count_layers

EPS = 1e-6


@dataclass(frozen=True)
class SiglipShape:
    """Sizes of a SigLIP tower; image_size: side of its square image, pixels."""

    width: int
    mlp: int
    layers: int
    heads: int
    patch_size: int
    image_size: int

    @property
    def side(self) -> int:
        """Patch rows (and columns) of an image."""
        return self.image_size // self.patch_size


class SiglipTower(nn.Module):
    """Image -> one vector a patch, row by row, after the final norm."""

    def __init__(self, shape: SiglipShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _Embeddings(shape)
        self.encoder = _Encoder(shape)
        self.post_layernorm = nn.LayerNorm(shape.width, eps=EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        """[cameras, 3, S, S] in -1..1 -> [cameras, patches, width]."""
        hidden = self.embeddings(pixels)
        for layer in self.encoder.layers:
            hidden = layer(hidden)
        return self.post_layernorm(hidden)


class _Embeddings(nn.Module):
    def __init__(self, shape: SiglipShape) -> None:
        super().__init__()
        side = shape.patch_size
        self.patch_embedding = nn.Conv2d(3, shape.width, side, stride=side)
        self.position_embedding = nn.Embedding(shape.side**2, shape.width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return patches + self.position_embedding.weight


class _Encoder(nn.Module):
    def __init__(self, shape: SiglipShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))


class _Layer(nn.Module):
    def __init__(self, shape: SiglipShape) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(shape.width, eps=EPS)
        self.self_attn = _Attention(shape)
        self.layer_norm2 = nn.LayerNorm(shape.width, eps=EPS)
        self.mlp = _Mlp(shape)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.self_attn(self.layer_norm1(hidden)).add_(hidden)
        return self.mlp(self.layer_norm2(hidden)).add_(hidden)


class _Attention(nn.Module):
    def __init__(self, shape: SiglipShape) -> None:
        super().__init__()
        self.heads = shape.heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(shape.width, shape.width))

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = (
            projection(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, shape: SiglipShape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.mlp)
        self.fc2 = nn.Linear(shape.mlp, shape.width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(hidden), approximate="tanh"))


def siglip_shape(shapes: dict[str, tuple[int, ...]], prefix: str, heads: int) -> SiglipShape:
    """Read a tower's sizes off its tensors; prefix with the dot.

    Raises:
        KeyError: a tensor that is needed is missing.
        ValueError: the heads do not divide the width, or the patches form no square.
    """
    width, _, patch_size, _ = shapes[f"{prefix}embeddings.patch_embedding.weight"]
    patches = shapes[f"{prefix}embeddings.position_embedding.weight"][0]
    side = math.isqrt(patches)
    if side * side != patches or width % heads:
        raise ValueError(f"{prefix} has {patches} patches, {width} wide with {heads} heads")
    return SiglipShape(
        width=width,
        mlp=shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0],
        layers=count_layers(shapes, f"{prefix}encoder."),
        heads=heads,
        patch_size=patch_size,
        image_size=side * patch_size,
    )
