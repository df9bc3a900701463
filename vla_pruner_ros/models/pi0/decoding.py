"""How pi0 runs: one pruned pass over the prefix, then flow steps of the action expert on its cache.

Prefix: [patches of each camera][BOS, instruction, newline], every token seeing every other.
Suffix: [state][one token per action]. The state sees the prefix and itself, the actions see
everything. So the state's keys and values are the same in every flow step and are computed once,
and the actions need no mask at all. The suffix stands behind the unpruned prefix: positions do not
move when tokens are pruned. Each layer's cache holds what the prefix left there: every token below
layer K, the kept ones from K on; the expert attends to that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.decoder.pruned_decoder import (
    ActionAttention,
    PrefillResult,
    PrunedDecoder,
    Select,
)
from vla_pruner_ros.models.decoder.signals import Prompt, Span
from vla_pruner_ros.models.pi0.network import Pi0Network, flow_times, time_embeddings
from vla_pruner_ros.pruning.step import PruningStep


class Pi0Decoder:
    """noise: float32 [1, chunk, max_action_dim], where every flow starts."""

    def __init__(
        self, network: Pi0Network, max_prefix: int, num_flow_steps: int, noise: Tensor
    ) -> None:
        self.network, self.noise = network, noise
        self.following = 1 + noise.shape[1]
        positions = max_prefix + self.following
        self.prefix = PrunedDecoder(network.language_model, positions)
        self.expert = PrunedDecoder(network.expert, positions)
        self.cache: KeyValueCache = self.prefix.new_cache(positions)
        times = flow_times(num_flow_steps)
        self.times = time_embeddings(network.config, times, noise.device)

    def run_prefix(
        self, visual: Tensor, ids: Tensor, plan: PruningStep, select: Select, semantic_queries: str
    ) -> PrefillResult:
        """Fill the cache, pruned as planned. visual: [1, M, d]; ids: int64 [n]."""
        prompt = self.prompt(visual, ids)
        return self.prefix.run_prompt(prompt, plan, select, self.cache, semantic_queries)

    def prompt(self, visual: Tensor, ids: Tensor) -> Prompt:
        """Padding of the instruction is left out: nothing sees it and positions skip it, so the
        actions are the same, and it does not count as a query of the semantic relevance."""
        embeddings = torch.cat([visual, self.network.embed(ids)[None]], dim=1)
        count = visual.shape[1]
        return Prompt(
            embeddings,
            visual=Span(0, count),
            text=Span(count, len(ids)),
            read=Span(embeddings.shape[1], 0),
            causal=False,
            following=self.following,
        )

    def flow(self, state: Tensor, position: int, attention: ActionAttention) -> Tensor:
        """Integrate from noise to actions, normalised: float32 [1, chunk, max_action_dim].

        state: [1, 1, max_state_dim], normalised and padded. position: the state's, which is the
        length of the unpruned prefix. attention: collects the action rows of every flow step.
        """
        embedded = self.network.state_proj(state)
        self.expert.run_tokens(embedded, position, self.cache, None, causal=False)
        behind_state = list(self.cache.lengths)
        actions = self.noise
        for time in self.times:
            self.cache.rewind(behind_state)
            velocity = self._velocity(actions, time, position + 1, attention)
            actions = actions - velocity / len(self.times)
        return actions

    def _velocity(
        self, actions: Tensor, time: Tensor, position: int, attention: ActionAttention
    ) -> Tensor:
        embedded = self.network.embed_actions(actions.to(self.expert.dtype), time)
        hidden = self.expert.run_tokens(embedded, position, self.cache, attention, causal=False)
        return self.network.action_out_proj(hidden).float()
