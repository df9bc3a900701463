"""A prompt as the decoder runs it, and the relevances read from it for the methods."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vla_pruner_ros.models.decoder.attention import attention_weights
from vla_pruner_ros.pruning.method import Signals

CPU_ROWS = 64
"""Rows of an attention map made at a time on a CPU. The map of all rows takes tens of megabytes,
which the allocator returns to the system at every step and takes back, zeroed, at the next."""


@dataclass(frozen=True)
class Span:
    """Positions start .. start + size - 1."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        """Index after the last position."""
        return self.start + self.size

    def of(self, tensor: Tensor, dim: int = -1) -> Tensor:
        """Return this stretch of one dimension of a tensor of any shape, as a view."""
        return tensor.narrow(dim, self.start, self.size)

    def moved(self, offset: int) -> Span:
        """Return the span moved by an offset."""
        return Span(self.start + offset, self.size)


@dataclass(frozen=True)
class Prompt:
    """One sequence to run, batch size 1, positions 0 .. L-1.

    embeddings: [1, L, d].
    visual: the tokens that may be pruned. text: the instruction, up to the last prompt token.
    read: rows that predict actions, after `visual`: their final hidden states are returned and
        their attention is the action relevance.
    causal: False lets every token see every other.
    real: bool [L], False where padding stands, or None.
    following: most tokens that may follow in the cache.
    guesses: rows of embeddings behind the prompt itself that may turn out wrong (drafting.py). No
        row of the prompt sees them and no relevance counts them. `read` includes them.
    branches: bool [guesses, guesses], which guess sees which; None: all that stand before it. A
        guess's position is behind those it sees.
    positions: int64 [L], rotary positions; None: 0 .. L-1.
    visible: bool [L, L], which row sees which; None: as `causal` states.
    """

    embeddings: Tensor
    visual: Span
    text: Span
    read: Span
    causal: bool = True
    real: Tensor | None = None
    following: int = 0
    guesses: int = 0
    branches: Tensor | None = None
    positions: Tensor | None = None
    visible: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens without guesses."""
        return self.rows - self.guesses

    @property
    def rows(self) -> int:
        """Rows of the prompt, padding included."""
        return self.embeddings.shape[1]


ATTENTION = frozenset({"semantic", "last_row", "text", "current_action"})
"""Signals that are read from a layer's attention."""


class SignalReader:
    """Computes the signals a method asked for, from one layer's queries and keys."""

    def __init__(self, prompt: Prompt, signals: frozenset[str], semantic_queries: str) -> None:
        self.prompt, self.signals, self.semantic_queries = prompt, signals, semantic_queries

    @property
    def reads_attention(self) -> bool:
        """True if a signal comes from attention."""
        return bool(ATTENTION & self.signals)

    def before_layers(self) -> Signals:
        """Store the signals that follow from the embeddings alone."""
        return self._signals()

    def at_layer(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Signals:
        """query, key [1, heads, rows, h], none pruned yet; mask bool [rows, rows] or None."""
        rows = {
            "semantic": self._semantic(query, key, mask) if self._asks("semantic") else None,
            "last_row": self._last_row(query, key, mask) if self._asks("last_row") else None,
            "text": self._rows(query, key, mask, self.prompt.text) if self._asks("text") else None,
        }
        if self._asks("current_action"):
            rows["current_action"] = self._rows(query, key, mask, self.prompt.read).mean(dim=0)
        return self._signals(**rows)

    def _asks(self, name: str) -> bool:
        return name in self.signals

    def _signals(self, **rows: Tensor | None) -> Signals:
        embeddings, visual, text = self.prompt.embeddings[0], self.prompt.visual, self.prompt.text
        return Signals(
            num_visual=visual.size,
            features=visual.of(embeddings, 0) if self._asks("features") else None,
            text_features=text.of(embeddings, 0) if self._asks("text_features") else None,
            device=embeddings.device,
            **rows,
        )

    def _last_row(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """Head-mean attention of the last text token, padding not counted: float32 [M]."""
        text, real = self.prompt.text, self.prompt.real
        if real is None:
            return self._rows(query, key, mask, Span(text.stop - 1, 1))[0]
        last = text.start + text.of(real, 0).sum(dim=0, keepdim=True) - 1
        query = query.index_select(2, last)
        if mask is not None and mask.shape[0] > 1:
            mask = mask.index_select(0, last)
        return self._rows(query, key, mask, Span(0, 1))[0]

    def _semantic(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        if self.semantic_queries == "last":
            return self._last_row(query, key, mask)
        if self.semantic_queries == "text":
            return self._mean_of_text(query, key, mask)
        prompt = self._prompt_rows()
        sums = self._column_sums(query, key, mask, prompt)
        if self.prompt.real is not None and not self.prompt.causal:
            return sums / prompt.of(self.prompt.real, 0).sum()
        if self.semantic_queries == "all" or mask is None:
            return sums / prompt.size
        # Under a causal mask an early token is seen by more queries: count only those.
        seen = self.prompt.visual.of(self._of_rows(mask, prompt)).expand(prompt.size, -1)
        return sums / seen.sum(dim=0)

    def _prompt_rows(self) -> Span:
        """Every row but an action's placeholders and what follows them."""
        text, read = self.prompt.text, self.prompt.read
        before_actions = read.start + 1 if read.size else self.prompt.length
        return Span(0, max(text.stop, before_actions))

    def _mean_of_text(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """Mean over the text's rows, padding not counted: float32 [M]."""
        text, real = self.prompt.text, self.prompt.real
        rows = self._rows(query, key, mask, text)
        if real is None:
            return rows.mean(dim=0)
        real_text = text.of(real, 0)
        return rows.masked_fill(~real_text[:, None], 0.0).sum(dim=0) / real_text.sum()

    def _column_sums(self, query: Tensor, key: Tensor, mask: Tensor | None, rows: Span) -> Tensor:
        """Head-mean attention of these rows onto the visual tokens, summed up: float32 [M]."""
        step = CPU_ROWS if query.device.type == "cpu" else rows.size
        starts = range(rows.start, rows.stop, step)
        blocks = [Span(start, min(step, rows.stop - start)) for start in starts]
        return sum(self._sum_of(query, key, mask, block) for block in blocks)

    def _sum_of(self, query: Tensor, key: Tensor, mask: Tensor | None, rows: Span) -> Tensor:
        weights = self._rows(query, key, mask, rows)
        real = self.prompt.real
        if real is None or self.prompt.causal:
            return weights.sum(dim=0)
        return rows.of(real, 0).to(weights.dtype) @ weights  # padding asks nothing

    def _rows(self, query: Tensor, key: Tensor, mask: Tensor | None, rows: Span) -> Tensor:
        """Head-mean attention of some rows onto the visual tokens, float32 [rows, M]."""
        if mask is not None:
            mask = self._of_rows(mask, rows)
        weights = attention_weights(rows.of(query, 2), key, mask)
        return self.prompt.visual.of(weights).mean(dim=0)

    def _of_rows(self, mask: Tensor, rows: Span) -> Tensor:
        """A mask [1, keys] is the same for every row."""
        return rows.of(mask, 0) if mask.shape[0] > 1 else mask
