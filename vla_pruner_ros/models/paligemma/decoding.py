"""The forward pass of pi0 and pi0.5: a pruned prefix, then flow steps of the action expert.

Prefix: [patches of each camera][prompt], every token seeing every other. Suffix: pi0's state
token, then one token per action. The suffix stands behind the unpruned prefix: positions do not
move when tokens are pruned. Each layer's cache holds what the prefix left there: every token below
layer K, the kept ones from K on; the expert attends to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.attention import (
    attend,
    project_key_value,
    project_query,
)
from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.decoder.pruned_decoder import (
    ActionAttention,
    PrefillResult,
    PrunedDecoder,
    Select,
)
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.paligemma.expert import ActionExpert
from vla_pruner_ros.models.paligemma.network import PaliGemmaNetwork
from vla_pruner_ros.pruning.step import PruningStep


@dataclass(frozen=True)
class Suffix:
    """Positions of the expert's tokens.

    Attributes:
        cos, sin: rotary tables of all suffix tokens, [tokens, head_dim].
        real: bool [prompt tokens], False where the prompt is padded, or None.
    """

    cos: Tensor
    sin: Tensor
    real: Tensor | None = None


class FlowDecoder:
    """Prefix, cache and flow of one policy.

    noise: float32 [1, chunk, action_dim], where every flow starts; it may be replaced.
    """

    def __init__(
        self, network: PaliGemmaNetwork, expert: ActionExpert, max_prefix: int, noise: Tensor
    ) -> None:
        self.network, self.expert, self.noise = network, expert, noise
        self.following = expert.leading + noise.shape[1]
        positions = max_prefix + self.following
        self.prefix = PrunedDecoder(network.language_model, positions)
        self.cache: KeyValueCache = self.prefix.new_cache(positions)

    def run_prefix(
        self,
        visual: Tensor,
        ids: Tensor,
        plan: PruningStep,
        select: Select,
        real: Tensor | None = None,
    ) -> PrefillResult:
        """Fill the cache, pruned as planned.

        Args:
            visual: [1, M, d]. ids: int64 [n].
            real: bool [n], False where ids are padding; None: nowhere.
        """
        prompt = self.prompt(visual, ids, real)
        return self.prefix.run_prompt(prompt, plan, select, self.cache)

    def prompt(self, visual: Tensor, ids: Tensor, real: Tensor | None = None) -> Prompt:
        """Put visual tokens and prompt into one sequence."""
        embeddings = torch.cat([visual, self.network.embed(ids)[None].to(visual.dtype)], dim=1)
        count = visual.shape[1]
        if real is not None:
            real = torch.cat([real.new_ones(count), real])
        return Prompt(
            embeddings,
            visual=Span(0, count),
            text=Span(count, len(ids)),
            read=Span(embeddings.shape[1], 0),
            causal=False,
            real=real,
            following=self.following,
        )

    def suffix(self, position: int | Tensor, real: Tensor | None = None) -> Suffix:
        """Place the expert's tokens.

        Args:
            position: of the first, which is the number of real prefix tokens before pruning; an
                int64 [1] tensor where a CUDA graph must serve prompts of several lengths.
            real: as in run_prefix.
        """
        if isinstance(position, int):
            stop = position + self.following
            return Suffix(self.prefix.cos[position:stop], self.prefix.sin[position:stop], real)
        rows = position + self.prefix.positions[: self.following]
        tables = (table.index_select(0, rows) for table in (self.prefix.cos, self.prefix.sin))
        return Suffix(*tables, real)

    def flow(self, suffix: Suffix, attention: ActionAttention, state: Tensor | None = None):
        """Integrate from noise to actions, normalised: float32 [1, chunk, action_dim].

        Args:
            suffix: see there.
            attention: collects the action rows of every flow step.
            state: pi0's state, [1, 1, state_dim], normalised and padded.
        """
        leading = self.expert.leading
        if leading:
            self._run(self.expert.embed_state(state), 0, suffix, 0, None)
        behind_state = list(self.cache.lengths)
        actions = self.noise
        for step in range(self.expert.steps):
            self.cache.rewind(behind_state)
            embedded = self.expert.embed_actions(actions.to(self.prefix.dtype), step)
            hidden = self._run(embedded, step, suffix, leading, attention)
            velocity = self.expert.velocity(hidden, step)
            actions = actions - velocity.float() / self.expert.steps
        return actions

    def _run(
        self,
        hidden: Tensor,
        step: int,
        suffix: Suffix,
        start: int,
        attention: ActionAttention | None,
    ) -> Tensor:
        """Suffix tokens from `start` on, seeing the cache and one another, through all layers."""
        expert, count = self.expert, hidden.shape[1]
        cos, sin = (table[start : start + count] for table in (suffix.cos, suffix.sin))
        for index, layer in enumerate(expert.layers):
            normed, gate = expert.norm_before_attention(index, hidden, step)
            query = project_query(layer.self_attn, normed, cos, sin)
            new = project_key_value(layer.self_attn, normed, cos, sin)
            key, value = self.cache.append(index, *new)
            mask = _mask(suffix.real, key.shape[2], start + count)
            if attention is not None:
                attention.add(index, query, key, mask)
            hidden = _add(hidden, layer.self_attn.o_proj(attend(query, key, value, mask)), gate)
            normed, gate = expert.norm_before_mlp(index, hidden, step)
            mlp = layer.mlp
            inner = mlp.act_fn(mlp.gate_proj(normed)).mul_(mlp.up_proj(normed))
            hidden = _add(hidden, mlp.down_proj(inner), gate)
        if attention is not None:
            attention.accept(count)
        return hidden


def _add(hidden: Tensor, branch: Tensor, gate: Tensor | None) -> Tensor:
    return branch.add_(hidden) if gate is None else torch.addcmul(hidden, branch, gate)


def _mask(real: Tensor | None, keys: int, suffix: int) -> Tensor | None:
    """bool [1, keys]: what stands before the prompt, its real tokens, and the suffix."""
    if real is None:
        return None
    before = keys - len(real) - suffix
    return torch.cat([real.new_ones(before), real, real.new_ones(suffix)])[None]
