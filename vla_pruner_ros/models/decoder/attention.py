"""Attention of decoder layers: the mixed values, and the weights where somebody reads them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def project_query(attention: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """[B, n, d] -> rotated query [B, heads, n, h]; cos, sin: [n, h] or [B, 1, n, h]."""
    return rotate(heads_first(attention.q_proj(hidden), attention.head_dim), cos, sin)


def project_key_value(
    attention: nn.Module, hidden: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """[B, n, d] -> rotated key and value, each [B, kv_heads, n, h]; cos, sin as for the query."""
    key = heads_first(attention.k_proj(hidden), attention.head_dim)
    return rotate(key, cos, sin), heads_first(attention.v_proj(hidden), attention.head_dim)


def heads_first(flat: Tensor, head_dim: int) -> Tensor:
    """[B, n, heads * h] -> [B, heads, n, h]."""
    return flat.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def rotate(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary position embedding, halves convention.

    Args:
        tensor: [..., rows, head_dim].
        cos, sin: tables as from rotary_tables, [rows, head_dim] or broadcastable.

    Returns:
        The same shape and dtype.
    """
    return torch.addcmul(tensor * cos, tensor.roll(tensor.shape[-1] // 2, dims=-1), sin)


def rotary_tables(
    rotary: nn.Module, positions: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin [n, h] of transformers' rotary module, with the signs that rotate leaves out.

    Usually (-x2, x1) is multiplied by sin; swapping halves alone saves passes over the data.
    """
    cos, sin = rotary(torch.empty(1, dtype=dtype, device=positions.device), positions[None])
    half = sin.shape[-1] // 2
    return cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, triangle: bool = False
) -> Tensor:
    """Mixed values [B, n, heads * h].

    mask: bool [n, keys] (or what expands to [B, heads, n, keys]), True where a query may look;
    triangle: the causal mask of equally many queries and keys, which has faster kernels.
    """
    grouped = query.shape[1] != key.shape[1]
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=triangle, enable_gqa=grouped
    )
    return mixed.transpose(1, 2).flatten(2)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmaxed weights, float32 [heads, n, keys]; mask as in attend."""
    kv_heads, queries = key.shape[1], query.shape[2]
    by_group = query[0].reshape(kv_heads, -1, query.shape[3])
    scores = torch.matmul(by_group, key[0].transpose(1, 2)).view(-1, queries, key.shape[2])
    scores = scores.to(torch.float32).mul_(query.shape[3] ** -0.5)
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(dim=-1)
