"""A pruned forward pass over the layers of a LLaMA-shaped decoder (LLaMA, Gemma).

The loop is ours; norms, projections and MLPs are the modules of transformers, called one by one.
Attention is scaled_dot_product_attention everywhere. Attention weights are computed only where
somebody reads them, and reduced on the spot: at layer K-1 for the relevances that the method
asks for (signals.py), and at the remembered layers for the rows that predict actions.

Pruning takes effect inside layer K-1: selection needs that layer's queries and keys only, so
already its attention output and MLP run on the kept tokens alone. Its keys and values, like those
of all layers below, stay complete; from layer K on there are only the kept ones. Every token keeps
its original position. In the last layer only the rows that are read run.

Nothing here waits for the device: shapes depend on the prompt length and the number of kept tokens,
both known before the pass, so that a whole step can be captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_pruner_ros.models.decoder.attention import (
    attend,
    attention_weights,
    project_key_value,
    project_query,
    rotary_tables,
)
from vla_pruner_ros.models.decoder.kv_cache import KeyValueCache
from vla_pruner_ros.models.decoder.signals import Prompt, SignalReader
from vla_pruner_ros.pruning.method import Signals
from vla_pruner_ros.pruning.state import PruningStep
from vla_pruner_ros.pruning.token_selection import Selection

Select = Callable[[Signals], Selection]


@dataclass
class PrefillResult:
    """Result of one pass over a prompt.

    hidden: [1, read.size, d] after the final norm. selection: None on an unpruned step.
    cached: tokens of the prompt that each layer's cache holds, in front of guesses.
    If there are guesses, `attention` awaits accept().
    """

    hidden: Tensor
    attention: ActionAttention
    selection: Selection | None = None
    cached: tuple[int, ...] = ()


class ActionAttention:
    """Attention that the action-predicting rows pay to each ORIGINAL visual token, by layer.

    Means over heads and rows; tokens that a layer no longer holds get exactly 0. The rows of a pass
    count once accepted: some of them may have been guesses that failed.
    """

    def __init__(self, prompt: Prompt, plan: PruningStep) -> None:
        self.visual, self.plan = prompt.visual, plan
        self.kept: Tensor | None = None
        self.rows = 0
        self._pending: dict[int, Tensor] = {}
        self._sums = prompt.embeddings.new_zeros(
            len(plan.action_layers), prompt.visual.size, dtype=torch.float32
        )

    def add(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None = None) -> None:
        """query: the rows [1, heads, n, h]; key: what this layer holds, [1, kv_heads, keys, h]."""
        if layer not in self.plan.action_layers:
            return
        weights = attention_weights(query, key, mask).mean(dim=0)
        held = self.visual.size if self._is_complete(layer) else len(self.kept)
        self._pending[layer] = weights.narrow(1, self.visual.start, held)

    def accept(self, count: int, rows: Tensor | None = None) -> None:
        """Count the last pass: its first `count` rows, or those of `rows`, int64 [count]."""
        self.rows += count
        for layer, weights in self._pending.items():
            chosen = weights[:count] if rows is None else weights.index_select(0, rows)
            slot = self._sums[self.plan.action_layers.index(layer)]
            if self._is_complete(layer):
                slot.add_(chosen.sum(dim=0))
            else:
                slot.index_add_(0, self.kept, chosen.sum(dim=0))
        self._pending.clear()

    @property
    def awaits(self) -> bool:
        """Rows are there that have not been accepted."""
        return bool(self._pending)

    def fork(self) -> ActionAttention:
        """Shares the tensors and goes on by itself."""
        other = copy(self)
        other._pending = dict(self._pending)
        return other

    def _is_complete(self, layer: int) -> bool:
        return self.kept is None or layer < self.plan.prune_layer

    def mean(self) -> Tensor:
        """float32 [len(plan.action_layers), M]."""
        return self._sums / max(self.rows, 1)


class PrunedDecoder:
    """Runs prompts and further tokens through decoder layers; holds no weights of its own."""

    def __init__(self, model: nn.Module, max_positions: int) -> None:
        """model: has layers, norm and rotary_emb as transformers' LlamaModel and GemmaModel."""
        self.layers = model.layers
        self.norm = model.norm
        weight = self.layers[0].self_attn.k_proj.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.positions = torch.arange(max_positions, device=self.device)
        self.cos, self.sin = rotary_tables(model.rotary_emb, self.positions, self.dtype)

    def new_cache(self, capacity: int = 0) -> KeyValueCache:
        """capacity: tokens that there is room for from the start."""
        attention = self.layers[0].self_attn
        heads = attention.k_proj.weight.shape[0] // attention.head_dim
        shape = (len(self.layers), heads, attention.head_dim)
        return KeyValueCache(*shape, self.device, self.dtype, capacity)

    @torch.no_grad()
    def run_prompt(
        self,
        prompt: Prompt,
        plan: PruningStep,
        select: Select,
        cache: KeyValueCache | None = None,
    ) -> PrefillResult:
        """One pass over a prompt, pruned as planned; fills the cache where one is given."""
        reader = SignalReader(prompt, plan.signals, plan.semantic_queries)
        return _PromptPass(self, prompt, plan, reader, select, cache).run()

    @torch.no_grad()
    def run_tokens(
        self,
        embeddings: Tensor,
        position: int,
        cache: KeyValueCache,
        attention: ActionAttention | None,
        causal: bool = True,
        verify: bool = False,
    ) -> Tensor:
        """Further tokens: [1, n, d] -> [1, n, d] after the final norm.

        position: of the first one, in the unpruned sequence. attention: None observes nothing.
        causal: False lets the new tokens see one another in both directions.
        verify: some may be wrong guesses; their attention awaits accept().
        """
        hidden, count = embeddings, embeddings.shape[1]
        stream = self._stream(embeddings, position, position + count)
        for index, layer in enumerate(self.layers):
            normed = layer.input_layernorm(hidden)
            query = project_query(layer.self_attn, normed, stream.cos, stream.sin)
            new = project_key_value(layer.self_attn, normed, stream.cos, stream.sin)
            key, value = cache.append(index, *new)
            mask = self._behind_cache(count, key.shape[2]) if causal else None
            if attention is not None:
                attention.add(index, query, key, mask)
            hidden = finish_layer(layer, hidden, attend(query, key, value, mask))
        if attention is not None and not verify:
            attention.accept(count)
        return self.norm(hidden)

    def _stream(self, hidden: Tensor, start: int, stop: int) -> Stream:
        return Stream(hidden, *(t[start:stop] for t in (self.positions, self.cos, self.sin)))

    def stream_of(self, prompt: Prompt) -> Stream:
        """The rows of a prompt, each with its number and its rotary tables."""
        if prompt.branches is not None:
            return self._branching_stream(prompt)
        if prompt.positions is None:
            return self._stream(prompt.embeddings, 0, prompt.rows)
        tables = (table.index_select(0, prompt.positions) for table in (self.cos, self.sin))
        return Stream(prompt.embeddings, self.positions[: prompt.rows], *tables)

    def _branching_stream(self, prompt: Prompt) -> Stream:
        """The prompt and guesses of which several may stand at one position."""
        depths = prompt.branches.sum(dim=1) - 1
        positions = torch.cat([self.positions[: prompt.length], depths + prompt.length])
        tables = (table.index_select(0, positions) for table in (self.cos, self.sin))
        return Stream(prompt.embeddings, self.positions[: prompt.rows], *tables)

    def _behind_cache(self, count: int, keys: int) -> Tensor | None:
        """bool [count, keys]: new token i sees the cache and the new tokens up to itself."""
        if count == 1:
            return None
        return self.positions[:keys] <= self.positions[keys - count : keys, None]


def finish_layer(layer: nn.Module, hidden: Tensor, mixed: Tensor) -> Tensor:
    """Attention output, residuals and MLP of one layer: [1, n, d] -> [1, n, d]."""
    hidden = layer.self_attn.o_proj(mixed).add_(hidden)
    mlp, normed = layer.mlp, layer.post_attention_layernorm(hidden)
    gated = mlp.act_fn(mlp.gate_proj(normed)).mul_(mlp.up_proj(normed))
    return mlp.down_proj(gated).add_(hidden)


@dataclass
class Stream:
    """Tokens [1, n, d], their numbers in the unpruned sequence [n] and rotary tables [n, h]."""

    hidden: Tensor
    numbers: Tensor
    cos: Tensor
    sin: Tensor

    def rows(self, index: Tensor) -> Stream:
        """Return the rows at int64 [n] of this stream."""
        rest = (t.index_select(0, index) for t in (self.numbers, self.cos, self.sin))
        return Stream(self.hidden.index_select(1, index), *rest)


@dataclass
class _PromptPass:
    """The state of one pass over a prompt."""

    decoder: PrunedDecoder
    prompt: Prompt
    plan: PruningStep
    reader: SignalReader
    select: Select
    cache: KeyValueCache | None

    def __post_init__(self) -> None:
        self.attention = ActionAttention(self.prompt, self.plan)
        self.selection: Selection | None = None
        self.read = self.prompt.read  # where the read rows lie in the running sequence
        self.visible = self.prompt.visible
        if self.prompt.branches is not None:
            self.visible = self._visible_with_branches()

    def run(self) -> PrefillResult:
        if self.cache is not None:
            self.cache.start(self._capacities())
        stream = self.decoder.stream_of(self.prompt)
        if not self.plan.full and self.plan.prune_layer == 0:
            stream = stream.rows(self._choose(self._signals_before_layers(stream)))
        *layers, last = range(len(self.decoder.layers))
        for index in layers:
            stream = self._run_layer(index, stream)
        hidden = self.decoder.norm(self._run_last_layer(last, stream))
        if not self.prompt.guesses:
            self.attention.accept(self.prompt.read.size)
        return PrefillResult(hidden, self.attention, self.selection, self._cached())

    def _signals_before_layers(self, stream: Stream) -> Signals:
        """From the embeddings; attention is what layer 0 would pay to them."""
        if not self.reader.reads_attention:
            return self.reader.before_layers()
        layer = self.decoder.layers[0]
        normed = layer.input_layernorm(stream.hidden)
        query = project_query(layer.self_attn, normed, stream.cos, stream.sin)
        key, _ = project_key_value(layer.self_attn, normed, stream.cos, stream.sin)
        return self.reader.at_layer(query, key, self._mask(stream, stream))

    def _cached(self) -> tuple[int, ...]:
        lengths = self.cache.lengths if self.cache is not None else []
        return tuple(length - self.prompt.guesses for length in lengths)

    def _capacities(self) -> list[int]:
        """Tokens that each layer will hold, with room for those that may follow."""
        full = self.prompt.length + max(self.prompt.following, self.prompt.guesses)
        pruned = full if self.plan.full else full - self.prompt.visual.size + self.plan.keep
        layers = range(len(self.decoder.layers))
        return [full if index < self.plan.prune_layer else pruned for index in layers]

    def _run_layer(self, index: int, stream: Stream) -> Stream:
        layer = self.decoder.layers[index]
        normed = layer.input_layernorm(stream.hidden)
        query = project_query(layer.self_attn, normed, stream.cos, stream.sin)
        key, value = project_key_value(layer.self_attn, normed, stream.cos, stream.sin)
        self._keep(index, key, value)
        self._observe(index, self.read.of(query, 2), key, stream)
        if not self.plan.full and index == self.plan.prune_layer - 1:
            rows = self._choose(self.reader.at_layer(query, key, self._mask(stream, stream)))
            queries = stream.rows(rows)
            mixed = attend(query.index_select(2, rows), key, value, self._mask(queries, stream))
        else:
            queries = stream
            mixed = self._attend_whole(query, key, value, stream)
        queries.hidden = finish_layer(layer, queries.hidden, mixed)
        return queries

    def _run_last_layer(self, index: int, stream: Stream) -> Tensor:
        """Keys and values of every token, everything else for the read rows alone."""
        layer = self.decoder.layers[index]
        normed = layer.input_layernorm(stream.hidden)
        key, value = project_key_value(layer.self_attn, normed, stream.cos, stream.sin)
        self._keep(index, key, value)
        queries = self._read_rows(stream)
        if not self.read.size:
            return queries.hidden
        normed = self.read.of(normed, 1)
        query = project_query(layer.self_attn, normed, queries.cos, queries.sin)
        self._observe(index, query, key, stream)
        mixed = attend(query, key, value, self._mask(queries, stream))
        return finish_layer(layer, queries.hidden, mixed)

    def _choose(self, signals: Signals) -> Tensor:
        """Selects; from here on only the returned rows of the sequence go on."""
        self.selection = self.select(signals)
        self.attention.kept = self.selection.kept
        visual, numbers = self.prompt.visual, self.decoder.positions
        self.read = self.read.moved(self.plan.keep - visual.size)
        before, after = numbers[: visual.start], numbers[visual.stop : self.prompt.rows]
        return torch.cat([before, self.selection.kept + visual.start, after])

    def _keep(self, index: int, key: Tensor, value: Tensor) -> None:
        if self.cache is not None:
            self.cache.append(index, key, value)

    def _observe(self, index: int, query: Tensor, key: Tensor, keys: Stream) -> None:
        if self.read.size:
            self.attention.add(index, query, key, self._mask(self._read_rows(keys), keys))

    def _read_rows(self, stream: Stream) -> Stream:
        rest = (self.read.of(t, 0) for t in (stream.numbers, stream.cos, stream.sin))
        return Stream(self.read.of(stream.hidden, 1), *rest)

    def _attend_whole(self, query: Tensor, key: Tensor, value: Tensor, stream: Stream) -> Tensor:
        """True if all tokens are queries: then is_causal=True replaces a mask tensor."""
        if self.prompt.real is None and self.visible is None:
            return attend(query, key, value, triangle=self.prompt.causal)
        return attend(query, key, value, self._mask(stream, stream))

    def _mask(self, queries: Stream, keys: Stream) -> Tensor | None:
        """bool [queries, keys] ([1, keys] without causality), or None: all see all."""
        mask = None
        if self.visible is not None:
            mask = self.visible.index_select(0, queries.numbers).index_select(1, keys.numbers)
        elif self.prompt.causal:
            mask = keys.numbers <= queries.numbers[:, None]
        if self.prompt.real is not None:
            real = self.prompt.real.index_select(0, keys.numbers)[None]
            mask = real if mask is None else mask & real
        return mask

    def _visible_with_branches(self) -> Tensor:
        """bool [rows, rows]: causal, but a guess sees only those guesses that lead to it."""
        rows, length = self.prompt.rows, self.prompt.length
        visible = torch.ones(rows, rows, dtype=torch.bool, device=self.decoder.device).tril_()
        visible[length:, length:] = self.prompt.branches
        return visible
