"""DivPrune (arXiv 2503.02175)."""

from __future__ import annotations

from vla_pruner_ros.pruning.diversity import max_min_diversity
from vla_pruner_ros.pruning.method import PruningMethod, Signals
from vla_pruner_ros.pruning.token_selection import Selection


class DivPrune(PruningMethod):
    """Max-min diversity over all visual tokens, before layer 0."""

    name = "divprune"
    label = "DivPrune"
    colour = "#3b93b8"
    needs = frozenset({"features"})
    prunes_before_first_layer = True

    def select(self, signals: Signals, keep: int) -> Selection:
        return Selection(max_min_diversity(signals.features, keep).sort().values)
