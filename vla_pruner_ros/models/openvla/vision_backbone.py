"""The fused DINOv2 + SigLIP vision backbone of OpenVLA and the projector into the decoder's width.

Module and parameter names are those of the checkpoints (timm's), so that a state dict fits as it
is. Only what reaches the decoder is built: both towers hand on their second-to-last block, without
the final norm, so the last block, the norm and SigLIP's attention pool do not exist here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class TowerShape:
    """One ViT. depth counts all blocks of the checkpoint, the discarded last one included."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    registers: int = 0
    """Register tokens; a class token stands before them when there are any."""
    layer_scale: bool = False
    patch_size: int = 14
    patches: int = 256
    task_width: int = 0
    """Width of the task's embedding that modulates every block (FiLM of OpenVLA-OFT); 0: none."""


class FusedVisionBackbone(nn.Module):
    """RGB for two towers, stacked on channels -> both towers' patch features, stacked on width."""

    def __init__(self, dino: TowerShape, siglip: TowerShape) -> None:
        super().__init__()
        self.featurizer = VisionTower(dino)
        self.fused_featurizer = VisionTower(siglip)

    @property
    def task_width(self) -> int:
        """Width of the task's embedding that forward() needs; 0: none."""
        return self.featurizer.task_width

    def forward(self, pixels: Tensor, task: Tensor | None = None) -> Tensor:
        """[cameras, 6, S, S] (0-2 DINOv2, 3-5 SigLIP) -> [cameras, patches, widths], row-major.

        task: [task_width], where the towers were built for one.
        """
        dino = self.featurizer(pixels[:, :3], task)
        siglip = self.fused_featurizer(pixels[:, 3:], task)
        return torch.cat([dino, siglip], dim=-1)

    def forward_some(self, patches: Tensor, places: Tensor) -> Tensor:
        """Some patches of each image: [cameras, n, 6, P, P] -> [cameras, n, widths].

        places: int64 [cameras, n], which ones they are. With all of them, in order, the same as
        forward; training leaves most of them out.
        """
        dino = self.featurizer.forward_some(patches[:, :, :3], places)
        siglip = self.fused_featurizer.forward_some(patches[:, :, 3:], places)
        return torch.cat([dino, siglip], dim=-1)


class VisionTower(nn.Module):
    """A pre-norm ViT up to its second-to-last block, prefix tokens dropped at the end."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.prefix = 1 + shape.registers if shape.registers else 0
        self.task_width = shape.task_width
        self.patch_embed = PatchEmbedding(shape)
        self.pos_embed = nn.Parameter(torch.empty(1, shape.patches, shape.width))
        if self.prefix:
            self.cls_token = nn.Parameter(torch.empty(1, 1, shape.width))
            self.reg_token = nn.Parameter(torch.empty(1, shape.registers, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth - 1))

    def forward(self, pixels: Tensor, task: Tensor | None = None) -> Tensor:
        """[cameras, 3, S, S] -> [cameras, patches, width]."""
        return self._run_blocks(self.patch_embed(pixels) + self.pos_embed, task)

    def forward_some(self, patches: Tensor, places: Tensor) -> Tensor:
        """[cameras, n, 3, P, P] at places [cameras, n] -> [cameras, n, width]."""
        embedded = self.patch_embed.forward_patches(patches)
        return self._run_blocks(embedded + F.embedding(places, self.pos_embed[0]))

    def _run_blocks(self, hidden: Tensor, task: Tensor | None = None) -> Tensor:
        if self.prefix:
            hidden = torch.cat([self._prefix_tokens(len(hidden)), hidden], dim=1)
        for block in self.blocks:
            hidden = block(hidden, task)
        return hidden[:, self.prefix :]

    def _prefix_tokens(self, cameras: int) -> Tensor:
        tokens = torch.cat([self.cls_token, self.reg_token], dim=1)
        return tokens.expand(cameras, -1, -1)


class PatchEmbedding(nn.Module):
    """A linear map of each patch, written as the convolution that the checkpoints store."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch_size, stride=shape.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [n, patches, width] for pixels [n, 3, height, width]."""
        return self.proj(pixels).flatten(2).transpose(1, 2)

    def forward_patches(self, patches: Tensor) -> Tensor:
        """[..., 3, P, P] -> [..., width], for patches that were cut out already."""
        return F.linear(patches.flatten(-3), self.proj.weight.flatten(1), self.proj.bias)


class Block(nn.Module):
    """x + ls1(attention(norm1(x))), then x + ls2(mlp(norm2(x))).

    With FiLM the sum after the attention becomes x (1 + scale(task)) + shift(task).
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, eps=LAYER_NORM_EPS)
        self.attn = Attention(shape.width, shape.heads)
        self.norm2 = nn.LayerNorm(shape.width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(shape.width, shape.mlp_width)
        self.ls1 = LayerScale(shape.width) if shape.layer_scale else nn.Identity()
        self.ls2 = LayerScale(shape.width) if shape.layer_scale else nn.Identity()
        if shape.task_width:
            self.scale = nn.Linear(shape.task_width, shape.width)
            self.shift = nn.Linear(shape.task_width, shape.width)

    def forward(self, hidden: Tensor, task: Tensor | None = None) -> Tensor:
        """Return [n, tokens, width] for the same; task: FiLM's embedding [n, width], or None."""
        hidden = hidden + self.ls1(self.attn(self.norm1(hidden)))
        if task is not None:
            hidden = hidden * (1 + self.scale(task)) + self.shift(task)
        return hidden + self.ls2(self.mlp(self.norm2(hidden)))


class Attention(nn.Module):
    """Self-attention of all tokens, as in timm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [n, tokens, width] for [n, tokens, width]."""
        batch, tokens, width = hidden.shape
        qkv = self.qkv(hidden).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two linear layers with GELU between them, as in timm."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [..., width] for [..., width]."""
        # The exact (erf) GELU: the tanh form moves the first logits by 1e-2.
        return self.fc2(F.gelu(self.fc1(hidden)))


class LayerScale(nn.Module):
    """A learned factor for each number of a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.empty(width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [..., width] for [..., width]."""
        return hidden * self.scale_factor


class Projector(nn.Module):
    """Fused vision width V -> 4V -> decoder width H -> H, GELU between."""

    def __init__(self, vision_width: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_width, 4 * vision_width)
        self.fc2 = nn.Linear(4 * vision_width, hidden_size)
        self.fc3 = nn.Linear(hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        """[..., patches, V] -> [..., patches, H]: the visual tokens as the decoder gets them."""
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))
