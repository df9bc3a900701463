"""The forward pass of SmolVLA: a pruned prefix, then flow steps of the expert on its cache.

The original's sequence is [per camera: mark, mark, 64 visual tokens, mark][prompt][state]. Here the
visual tokens of all cameras stand first and everything keeps its position: attention does not care
for the order of rows. Images and prompt do not see the state; the state sees all.

Layers of the expert that attend to the prefix alone read the language model's cached keys and
values through projections of their own. Those are the same in all flow steps and are made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.attention import (
    attend,
    heads_first,
    project_key_value,
    project_query,
)
from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.decoder.pruned_decoder import (
    ActionAttention,
    PrefillResult,
    PrunedDecoder,
    Select,
    finish_layer,
)
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.smolvla.network import FlowEmbedding, SmolVlaNetwork
from vla_pruner_ros.pruning.step import PruningStep


@dataclass(frozen=True)
class ImageMarks:
    """Token ids around each camera's visual tokens; empty where training had none."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of marks of one image."""
        return len(self.before) + len(self.after)


class SmolVlaDecoder:
    """Prefix, cache and flow of one policy; noise: float32 [1, chunk, action_dim]."""

    def __init__(
        self,
        network: SmolVlaNetwork,
        embed_actions: FlowEmbedding,
        marks: ImageMarks,
        max_prefix: int,
        noise: Tensor,
    ) -> None:
        self.network, self.embed_actions, self.noise = network, embed_actions, noise
        self.following = noise.shape[1]
        positions = max_prefix + self.following
        self.prefix = PrunedDecoder(network.language_model, positions)
        self.cache: KeyValueCache = self.prefix.new_cache(positions)
        device = noise.device
        self._marks = torch.tensor([*marks.before, *marks.after], device=device)
        self.marks = marks
        self._causal = torch.ones(
            self.following, self.following, dtype=torch.bool, device=device
        ).tril_()

    def run_prefix(
        self,
        visual: Tensor,
        ids: Tensor,
        state: Tensor,
        cameras: int,
        plan: PruningStep,
        select: Select,
    ) -> PrefillResult:
        """Fill the cache, pruned as planned.

        Args:
            visual: [1, M, d], all cameras. ids: int64 [n]. state: [1, 1, state_dim], padded.
        """
        prompt = self.prompt(visual, ids, state, cameras)
        return self.prefix.run_prompt(prompt, plan, select, self.cache)

    def prompt(self, visual: Tensor, ids: Tensor, state: Tensor, cameras: int) -> Prompt:
        """Order: visual tokens, marks, prompt, state; each with its position."""
        network, count = self.network, visual.shape[1]
        parts = [visual]
        if self.marks.count:
            parts.append(network.embed_special(self._marks).repeat(cameras, 1)[None])
        parts += [network.embed(ids)[None], network.state_proj(state)]
        embeddings = torch.cat([part.to(visual.dtype) for part in parts], dim=1)
        length = embeddings.shape[1]
        visible = torch.ones(length, length, dtype=torch.bool, device=visual.device)
        visible[:-1, -1] = False
        return Prompt(
            embeddings,
            visual=Span(0, count),
            text=Span(length - 1 - len(ids), len(ids)),
            read=Span(length, 0),
            causal=False,
            following=self.following,
            positions=self._positions(count, cameras, length),
            visible=visible,
        )

    def _positions(self, count: int, cameras: int, length: int) -> Tensor | None:
        """int64 [length] in the original's order; None: as they stand."""
        if not self.marks.count:
            return None
        numbers = self.prefix.positions
        slots = numbers[: count + cameras * self.marks.count].view(cameras, -1)
        start, stop = len(self.marks.before), slots.shape[1] - len(self.marks.after)
        around = torch.cat([slots[:, :start], slots[:, stop:]], dim=1)
        rest = numbers[slots.numel() : length]
        return torch.cat([slots[:, start:stop].flatten(), around.flatten(), rest])

    def flow(self, position: int, attention: ActionAttention) -> Tensor:
        """Integrate from noise to actions, normalised: float32 [1, chunk, action_dim].

        Args:
            position: of the first action, the number of prefix tokens before pruning.
            attention: collects the action rows of every flow step.
        """
        crossed = self._project_prefix()
        behind_prefix = list(self.cache.lengths)
        masks = {length: self._mask(length) for length in set(behind_prefix)}
        actions, steps = self.noise, self.embed_actions.steps
        for step in range(steps):
            self.cache.rewind(behind_prefix)
            embedded = self.embed_actions(actions.to(self.prefix.dtype), step)
            hidden = self._run(embedded, position, crossed, masks, attention)
            velocity = self.network.action_out_proj(self.network.expert.norm(hidden))
            actions = actions - velocity.float() / steps
        return actions

    def _project_prefix(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Keys and values of the layers that see the prefix alone, [1, kv_heads, n, h] each."""
        crossed = {}
        for index, cross in enumerate(self.network.shape.cross):
            if cross:
                own = self.network.expert.layers[index].self_attn
                key, value = self.cache.held(index)
                crossed[index] = tuple(
                    heads_first(projection(held.transpose(1, 2).flatten(2)), own.head_dim)
                    for projection, held in ((own.k_proj, key), (own.v_proj, value))
                )
        return crossed

    def _mask(self, prefix: int) -> Tensor:
        """bool [chunk, prefix + chunk]: the prefix, and actions up to the row's own."""
        return torch.cat([self._causal.new_ones(self.following, prefix), self._causal], dim=1)

    def _run(
        self,
        hidden: Tensor,
        position: int,
        crossed: dict[int, tuple[Tensor, Tensor]],
        masks: dict[int, Tensor],
        attention: ActionAttention,
    ) -> Tensor:
        count = hidden.shape[1]
        tables = (self.prefix.cos, self.prefix.sin)
        behind = [table[position : position + count] for table in tables]
        alone = [table[:count] for table in tables]
        for index, layer in enumerate(self.network.expert.layers):
            normed = layer.input_layernorm(hidden)
            if index in crossed:
                query = project_query(layer.self_attn, normed, *alone)
                (key, value), mask = crossed[index], None
            else:
                query = project_query(layer.self_attn, normed, *behind)
                mask = masks[self.cache.lengths[index]]
                new = project_key_value(layer.self_attn, normed, *behind)
                key, value = self.cache.append(index, *new)
            attention.add(index, query, key, mask)
            hidden = finish_layer(layer, hidden, attend(query, key, value, mask))
        attention.accept(count)
        return hidden
