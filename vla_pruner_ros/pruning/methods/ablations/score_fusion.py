"""The two relevances added up."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_pruner_ros.pruning.method import PruningMethod, Signals, semantic_selection
from vla_pruner_ros.pruning.token_selection import TINY, Selection, keep_best, top_k


class ScoreFusion(PruningMethod):
    """Top-k of the sum of both relevances, each scaled to sum 1."""

    name = "score_fusion"
    label = "score fusion"
    colour = "#5b4fc9"
    needs = frozenset({"semantic", "action"})
    needs_without_history = frozenset({"semantic"})

    def select(self, signals: Signals, keep: int) -> Selection:
        if signals.action is None:
            return semantic_selection(signals.semantic, keep)
        kept = keep_best(_shares(signals.semantic) + _shares(signals.action), keep)
        return Selection(kept, top_k(signals.semantic, keep), top_k(signals.action, keep))


def _shares(scores: Tensor) -> Tensor:
    scores = torch.nan_to_num(scores.float(), nan=0.0)
    return scores / scores.sum().clamp_min(TINY)
