"""The action relevance alone."""

from __future__ import annotations

from vla_pruner_ros.pruning.method import PruningMethod, Signals, semantic_selection
from vla_pruner_ros.pruning.token_selection import Selection, top_k


class ActionOnly(PruningMethod):
    """Top-k of the action relevance; of the semantic one while there is none."""

    name = "action_only"
    label = "action only"
    colour = "#b98900"
    needs = frozenset({"action"})
    needs_without_history = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        if signals.action is None:
            return semantic_selection(signals.semantic, keep)
        action_set = top_k(signals.action, keep)
        return Selection(action_set.sort().values, action_set=action_set)
