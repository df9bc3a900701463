"""FastV (arXiv 2403.06764)."""

from __future__ import annotations

from vla_pruner_ros.pruning.method import PruningMethod, Signals, semantic_selection
from vla_pruner_ros.pruning.token_selection import Selection


class FastV(PruningMethod):
    """Top-k of the last prompt token's attention."""

    name = "fastv"
    label = "FastV"
    colour = "#d9590c"
    needs = frozenset({"last_row"})

    def select(self, signals: Signals, keep: int) -> Selection:
        return semantic_selection(signals.last_row, keep)
