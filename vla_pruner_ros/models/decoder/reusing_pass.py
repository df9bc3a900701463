"""An unpruned pass over a prompt in which some tokens keep their last keys and values.

From the layer on at which a token is reused, nothing is computed for it: its keys and values are
those that the cache holds from the pass before, and all other tokens go on attending to them. So
the sequence that is attended to stays complete, while the one that is computed gets shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_pruner_ros.models.decoder.attention import (
    attend,
    attention_weights,
    project_key_value,
    project_query,
)
from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.decoder.pruned_decoder import (
    ActionAttention,
    PrefillResult,
    PrunedDecoder,
    Stream,
    finish_layer,
)
from vla_pruner_ros.models.decoder.signals import Prompt
from vla_pruner_ros.pruning.step import PruningStep


@dataclass(frozen=True)
class TextAttention:
    """Attention of the text's rows in every layer but the last, as read in one pass.

    visual: [L - 1, M] mean over heads and rows, onto each visual token. entropies: [L - 1] mean
    over the rows of the entropy of a row's head-mean attention, in nats.
    """

    visual: Tensor
    entropies: Tensor


@torch.no_grad()
def run_reusing(
    decoder: PrunedDecoder,
    prompt: Prompt,
    plan: PruningStep,
    cache: KeyValueCache,
    reused: Sequence[Tensor],
) -> tuple[PrefillResult, TextAttention]:
    """Run an unpruned plan; with nothing to reuse it computes what run_prompt does.

    prompt: causal, without guesses and padding.
    cache: holds the pass before of an equally long prompt wherever something is reused.
    reused: for each layer int64 [n], rows of the prompt; a layer's are among the next one's.
    """
    return _ReusingPass(decoder, prompt, plan, cache).run(reused)


class _ReusingPass:
    def __init__(
        self, decoder: PrunedDecoder, prompt: Prompt, plan: PruningStep, cache: KeyValueCache
    ) -> None:
        self.decoder, self.prompt, self.cache = decoder, prompt, cache
        self.attention = ActionAttention(prompt, plan)
        self._visual: list[Tensor] = []
        self._entropies: list[Tensor] = []

    def run(self, reused: Sequence[Tensor]) -> tuple[PrefillResult, TextAttention]:
        layers, prompt = self.decoder.layers, self.prompt
        self.cache.start([prompt.length + prompt.following] * len(layers))
        stream = self.decoder.stream_of(prompt)
        for index in range(len(layers)):
            stream = self._without(stream, reused[index])
            stream = self._run_layer(index, stream)
        self.attention.accept(prompt.read.size)
        hidden = self.decoder.norm(stream.hidden)
        result = PrefillResult(hidden, self.attention, cached=tuple(self.cache.lengths))
        return result, TextAttention(torch.stack(self._visual), torch.stack(self._entropies))

    def _without(self, stream: Stream, reused: Tensor) -> Stream:
        is_computed = torch.ones(self.prompt.length, dtype=torch.bool, device=reused.device)
        is_computed[reused] = False
        rows = is_computed.index_select(0, stream.numbers).nonzero()[:, 0]
        return stream if len(rows) == len(stream.numbers) else stream.rows(rows)

    def _run_layer(self, index: int, stream: Stream) -> Stream:
        """Store keys and values of these rows, and return the rows that the next layer gets."""
        layer = self.decoder.layers[index]
        normed = layer.input_layernorm(stream.hidden)
        own = project_key_value(layer.self_attn, normed, stream.cos, stream.sin)
        key, value = self.cache.place(index, stream.numbers, *own, self.prompt.length)
        is_last = index == len(self.decoder.layers) - 1
        queries = stream.rows(self._read_rows(stream)) if is_last else stream
        normed = normed.narrow(1, normed.shape[1] - len(queries.numbers), len(queries.numbers))
        query = project_query(layer.self_attn, normed, queries.cos, queries.sin)
        mask = self.decoder.positions[: self.prompt.length] <= queries.numbers[:, None]
        read = self.prompt.read.size
        self.attention.add(index, query[:, :, -read:], key, mask[-read:])
        if not is_last:
            self._watch(query, key, mask)
        queries.hidden = finish_layer(layer, queries.hidden, attend(query, key, value, mask))
        return queries

    def _read_rows(self, stream: Stream) -> Tensor:
        """The read rows end the prompt."""
        count = len(stream.numbers)
        return self.decoder.positions[count - self.prompt.read.size : count]

    def _watch(self, query: Tensor, key: Tensor, mask: Tensor) -> None:
        """The text ends the prompt too, and is never reused."""
        rows = self.prompt.text.size
        weights = attention_weights(query[:, :, -rows:], key, mask[-rows:]).mean(dim=0)
        self._visual.append(self.prompt.visual.of(weights).mean(dim=0))
        self._entropies.append(torch.special.entr(weights).sum(dim=-1).mean())
