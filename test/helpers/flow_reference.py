"""pi0.5 and SmolVLA as one plain sequence with masks: no cache, no pruned tokens, no tables.

Prefix and actions run together in every flow step. From layer K on the dropped tokens are hidden by
a mask. Only the weights are shared with the fast path.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def plain_actions(policy, inputs, dropped, prune_layer: int) -> torch.Tensor:
    """Normalised actions [1, chunk, action_dim]."""
    run = _smolvla_velocity if policy.family == "smolvla" else _paligemma_velocity
    prompt = _prompt(policy, inputs)
    actions, steps = policy.decoder.noise, _steps(policy)
    for step in range(steps):
        time = 1.0 - step / steps
        actions = actions - run(policy, prompt, actions, time, dropped, prune_layer) / steps
    return actions


def _steps(policy) -> int:
    decoder = policy.decoder
    return (decoder.embed_actions if policy.family == "smolvla" else decoder.expert).steps


def _prompt(policy, inputs):
    visual = policy.network.visual_tokens(inputs.pixels)
    if policy.family == "smolvla":
        return policy.decoder.prompt(visual, inputs.ids, inputs.state, len(policy.cameras))
    return policy.decoder.prompt(visual, inputs.ids)


def _time_embedding(width: int, time: float) -> torch.Tensor:
    """Sines, then cosines; periods from 0.004 to 4; the time in float32, as in training."""
    time = float(torch.tensor(time))
    fraction = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    angles = 2.0 * math.pi * time / (0.004 * 1000.0**fraction)
    return torch.cat([angles.sin(), angles.cos()]).float()


def _rotated(tensor: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """[heads, n, h] with halves rotated by position."""
    half = tensor.shape[-1] // 2
    angles = positions[:, None] * 10000.0 ** -(torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    one, two = tensor[..., :half], tensor[..., half:]
    return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)


def _heads(flat: torch.Tensor, size: int) -> torch.Tensor:
    return flat.unflatten(-1, (-1, size)).transpose(0, 1)


def _attention(query, key, value, visible) -> torch.Tensor:
    """[heads, n, h], [kv_heads, m, h] -> [n, heads * h]; visible: bool [n, m]."""
    repeat = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(repeat, 0), value.repeat_interleave(repeat, 0)
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    weights = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    return (weights @ value).transpose(0, 1).flatten(1)


def _mlp(layer, hidden: torch.Tensor) -> torch.Tensor:
    mlp = layer.mlp
    return mlp.down_proj(mlp.act_fn(mlp.gate_proj(hidden)) * mlp.up_proj(hidden))


def _prefix_layers(policy, prompt, dropped, prune_layer):
    """Keys and values of every layer's prefix, and which of its columns may be seen."""
    hidden = prompt.embeddings[0]
    positions = torch.arange(len(hidden)) if prompt.positions is None else prompt.positions
    layers = policy.network.language_model.layers
    for index, layer in enumerate(layers):
        attention, size = layer.self_attn, layer.self_attn.head_dim
        normed = layer.input_layernorm(hidden)
        key = _rotated(_heads(attention.k_proj(normed), size), positions)
        value = _heads(attention.v_proj(normed), size)
        columns = torch.ones(len(hidden), dtype=torch.bool)
        if index >= prune_layer:
            columns[dropped] = False
        yield key, value, columns
        if index == len(layers) - 1:
            return
        visible = columns.expand(len(hidden), -1).clone()
        if prompt.visible is not None:
            visible &= prompt.visible
        visible.fill_diagonal_(True)  # what is dropped sees itself; nobody reads it
        query = _rotated(_heads(attention.q_proj(normed), size), positions)
        hidden = hidden + attention.o_proj(_attention(query, key, value, visible))
        hidden = hidden + _mlp(layer, layer.post_attention_layernorm(hidden))


def _adaptive(norm, hidden, condition):
    scale, shift, gate = norm.dense(condition).chunk(3)
    normed = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.eps)
    return normed * (1.0 + scale) + shift, gate


def _paligemma_velocity(policy, prompt, actions, time, dropped, prune_layer):
    """pi0.5's velocity; its policy must have kept the dense layers of its norms."""
    network = policy.network
    condition = _time_embedding(network.time_mlp_in.in_features, time)
    condition = F.silu(network.time_mlp_out(F.silu(network.time_mlp_in(condition))))
    hidden = network.action_in_proj(actions[0])
    positions = torch.arange(len(hidden)) + prompt.embeddings.shape[1]
    prefix = _prefix_layers(policy, prompt, dropped, prune_layer)
    for layer, (key, value, columns) in zip(network.expert.layers, prefix, strict=True):
        attention, size = layer.self_attn, layer.self_attn.head_dim
        normed, gate = _adaptive(layer.input_layernorm, hidden, condition)
        query, own = (
            _rotated(_heads(projection(normed), size), positions)
            for projection in (attention.q_proj, attention.k_proj)
        )
        keys = torch.cat([key, own], dim=1)
        values = torch.cat([value, _heads(attention.v_proj(normed), size)], dim=1)
        visible = torch.cat([columns, columns.new_ones(len(hidden))]).expand(len(hidden), -1)
        hidden = hidden + gate * attention.o_proj(_attention(query, keys, values, visible))
        normed, gate = _adaptive(layer.post_attention_layernorm, hidden, condition)
        hidden = hidden + gate * _mlp(layer, normed)
    return network.action_out_proj(_adaptive(network.expert.norm, hidden, condition)[0])


def _smolvla_velocity(policy, prompt, actions, time, dropped, prune_layer):
    network = policy.network
    embedded = network.action_in_proj(actions[0])
    at = _time_embedding(embedded.shape[1], time).expand_as(embedded)
    mixed = F.silu(network.action_time_mlp_in(torch.cat([embedded, at], dim=1)))
    hidden = network.action_time_mlp_out(mixed)
    count = len(hidden)
    behind = torch.arange(count) + prompt.embeddings.shape[1]
    causal = torch.ones(count, count, dtype=torch.bool).tril()
    prefix = _prefix_layers(policy, prompt, dropped, prune_layer)
    for index, (layer, (key, value, columns)) in enumerate(
        zip(network.expert.layers, prefix, strict=True)
    ):
        attention, size = layer.self_attn, layer.self_attn.head_dim
        normed = layer.input_layernorm(hidden)
        visible = columns.expand(count, -1)
        query = _heads(attention.q_proj(normed), size)
        if network.shape.cross[index]:
            query = _rotated(query, torch.arange(count))
            key, value = (
                _heads(projection(held.transpose(0, 1).flatten(1)), size)
                for projection, held in ((attention.k_proj, key), (attention.v_proj, value))
            )
        else:
            query = _rotated(query, behind)
            own = _rotated(_heads(attention.k_proj(normed), size), behind)
            key = torch.cat([key, own], dim=1)
            value = torch.cat([value, _heads(attention.v_proj(normed), size)], dim=1)
            visible = torch.cat([visible, causal], dim=1)
        hidden = hidden + attention.o_proj(_attention(query, key, value, visible))
        hidden = hidden + _mlp(layer, layer.post_attention_layernorm(hidden))
    return network.action_out_proj(network.expert.norm(hidden))
