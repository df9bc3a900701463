"""Decoder layers as PaliGemma and SmolLM2 have them, under the names their checkpoints use.

PrunedDecoder calls the parts of a layer one by one. A norm's weight holds the factor itself: a
family whose files hold the factor minus one (Gemma) adds the one after loading.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a stack of decoder layers.

    Attributes:
        activation: of the gated MLP, gelu_tanh or silu.
        eps: of the RMS norms.
    """

    width: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    activation: str = "gelu_tanh"
    eps: float = 1e-6
    rotary_base: float = ROTARY_BASE


class RmsNorm(nn.Module):
    """Root-mean-square norm, computed in float32 and multiplied by its weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise [..., width] in float32; return the same shape and dtype."""
        normed = F.rms_norm(hidden.float(), self.weight.shape, self.weight.float(), self.eps)
        return normed.to(hidden.dtype)


class Attention(nn.Module):
    """Projections of one attention; kv_inputs: width of what keys and values are made of."""

    def __init__(self, shape: DecoderShape, kv_inputs: int = 0) -> None:
        super().__init__()
        inputs = kv_inputs or shape.width
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.head_dim = shape.head_dim
        self.q_proj = nn.Linear(shape.width, queries, bias=False)
        self.k_proj = nn.Linear(inputs, keys, bias=False)
        self.v_proj = nn.Linear(inputs, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.width, bias=False)


class GatedMlp(nn.Module):
    """down(activation(gate(x)) * up(x)); finish_layer calls the parts."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.act_fn = nn.SiLU() if activation == "silu" else nn.GELU(approximate="tanh")


class DecoderLayer(nn.Module):
    """Attention and MLP with a norm in front of each."""

    def __init__(self, shape: DecoderShape, kv_inputs: int = 0) -> None:
        super().__init__()
        self.input_layernorm: nn.Module = RmsNorm(shape.width, shape.eps)
        self.self_attn = Attention(shape, kv_inputs)
        self.post_attention_layernorm: nn.Module = RmsNorm(shape.width, shape.eps)
        self.mlp = GatedMlp(shape.width, shape.mlp, shape.activation)


class RotaryTables:
    """Cosines and sines of rotary position embedding; holds no tensors of its own."""

    def __init__(self, head_dim: int, base: float = ROTARY_BASE) -> None:
        self.head_dim, self.base = head_dim, base

    def __call__(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin, each [*positions, head_dim] in the dtype of `like`."""
        exponents = torch.arange(0, self.head_dim, 2, device=positions.device).float()
        frequencies = self.base ** -(exponents / self.head_dim)
        angles = positions[..., None].float() * frequencies
        both = torch.cat([angles, angles], dim=-1)
        return both.cos().to(like.dtype), both.sin().to(like.dtype)


class DecoderStack(nn.Module):
    """Layers and final norm, as PrunedDecoder takes them."""

    def __init__(self, shape: DecoderShape, vocabulary: int = 0) -> None:
        """vocabulary: rows of the token embedding; 0: none."""
        super().__init__()
        self.shape = shape
        if vocabulary:
            self.embed_tokens = nn.Embedding(vocabulary, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.norm: nn.Module = RmsNorm(shape.width, shape.eps)

    @property
    def rotary_emb(self) -> RotaryTables:
        """Rotary tables of this decoder, made anew."""
        return RotaryTables(self.shape.head_dim, self.shape.rotary_base)

    def add_one_to_norms(self) -> None:
        """Turn Gemma's stored weights w into the factors 1 + w, in float32; call it once."""
        for module in self.modules():
            if isinstance(module, RmsNorm):
                module.weight = nn.Parameter(1.0 + module.weight.float(), requires_grad=False)


def decoder_shape(
    shapes: dict[str, tuple[int, ...]], prefix: str, kv_heads: int = 1, **others
) -> DecoderShape:
    """Read the sizes of a stack off its tensors.

    Args:
        shapes: name -> shape of all tensors.
        prefix: of the stack's names, with the dot.
        kv_heads: key-value heads, which the shapes do not show.
        others: further fields of DecoderShape.

    Raises:
        KeyError: a tensor that is needed is missing.
        ValueError: sizes that do not fit together.
    """
    first = f"{prefix}layers.0."
    rows, width = shapes[f"{first}self_attn.q_proj.weight"]
    head_dim, rest = divmod(shapes[f"{first}self_attn.k_proj.weight"][0], kv_heads)
    if rest or not head_dim or rows % head_dim:
        raise ValueError(f"{prefix} has {rows} query rows and {kv_heads} key-value heads")
    return DecoderShape(
        width=width,
        mlp=shapes[f"{first}mlp.gate_proj.weight"][0],
        layers=count_layers(shapes, prefix),
        heads=rows // head_dim,
        kv_heads=kv_heads,
        head_dim=head_dim,
        **others,
    )


def count_layers(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    """Count the layers whose tensors are named {prefix}layers.N."""
    start = f"{prefix}layers."
    numbers = {name[len(start) :].split(".")[0] for name in shapes if name.startswith(start)}
    return 1 + max(int(number) for number in numbers if number.isdigit())
