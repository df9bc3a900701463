"""The semantic relevance alone."""

from __future__ import annotations

from vla_pruner_ros.pruning.method import PruningMethod, Signals, semantic_selection
from vla_pruner_ros.pruning.token_selection import Selection


class SemanticOnly(PruningMethod):
    """Top-k of the semantic relevance."""

    name = "semantic_only"
    label = "semantic only"
    colour = "#0f8f76"
    needs = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        return semantic_selection(signals.semantic, keep)
