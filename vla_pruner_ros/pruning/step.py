"""Plan of a step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PruningStep:
    """Plan of the model's work in one step.

    keep: visual tokens, all cameras, that run from prune_layer on; M if full.
    requested: the budget's wish, which full steps ignore.
    full: run unpruned: the budget is M, the history is incomplete, or the step is a refresh.
    prune_layer: first decoder layer on the pruned sequence; 0: prune before the first layer.
    signals: fields of Signals to compute (never `action`); empty if full.
    semantic_layer: decoder layer whose attention they are read from, K-1; 0 before the first layer.
    semantic_queries: see PruningConfig.
    action_layers: decoder layers whose rows update_history() expects, ascending; may be empty.
    uses_history: the action relevance takes part in select().
    tracks_history: select() works the action set out, if only for the statistics.
    history_incomplete: the action relevance is not complete yet.
    refresh: unpruned to see all tokens again.
    history_length: steps of action relevance held.
    token_reuse: see PruningConfig; off unless full.
    """

    keep: int
    requested: int
    full: bool
    prune_layer: int
    signals: frozenset[str]
    semantic_layer: int
    action_layers: tuple[int, ...]
    uses_history: bool
    tracks_history: bool
    history_incomplete: bool
    refresh: bool
    history_length: int
    semantic_queries: str = "all"
    token_reuse: str = "off"

    @property
    def shape_key(self) -> tuple:
        """Equal for two plans whose device work is the same: a captured graph serves both."""
        names = "keep full prune_layer signals semantic_queries action_layers uses_history"
        return (*(getattr(self, name) for name in names.split()), self.tracks_history)
