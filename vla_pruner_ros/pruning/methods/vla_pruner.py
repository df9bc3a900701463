"""VLA-Pruner (arXiv 2511.16449), with a share of the budget for coverage."""

from __future__ import annotations

from vla_pruner_ros.pruning.method import PruningMethod, Signals
from vla_pruner_ros.pruning.token_selection import Selection, select_with_coverage


class VlaPruner(PruningMethod):
    """Combine-then-filter; the semantic set alone while there is no action relevance.

    The setting `coverage` is the share of the budget that goes to tokens unlike those chosen so
    far, whatever their relevance; with 0 this is the paper's method.
    """

    name = "vla_pruner"
    label = "VLA-Pruner"
    colour = "#1f6feb"
    needs = frozenset({"semantic", "action", "features"})

    def __init__(self, config, num_cameras: int = 1) -> None:
        super().__init__(config, num_cameras)
        features = {"features"} if config.coverage > 0.0 else set()
        self.needs_without_history = frozenset({"semantic", *features})

    def select(self, signals: Signals, keep: int) -> Selection:
        return select_with_coverage(
            signals.features, signals.semantic, signals.action, keep, self.config.coverage
        )
