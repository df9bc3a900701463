"""DART, duplication-aware reduction of tokens (arXiv 2502.11494), before layer 0."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_pruner_ros.pruning.diversity import cosine_distances
from vla_pruner_ros.pruning.method import PruningMethod, Signals, even_parts
from vla_pruner_ros.pruning.token_selection import Selection, top_k

PIVOTS = 4
"""Pivots of each camera; fewer if the camera's budget is smaller."""


class Dart(PruningMethod):
    """A few pivots and the tokens least like them, evenly shared by the cameras.

    Pivots are a camera's tokens with the largest L1 norm. One pivot after the other takes its
    share of the budget: the tokens least similar to it by cosine that nobody has taken yet.
    """

    name = "dart"
    label = "DART"
    colour = "#8a5a2b"
    needs = frozenset({"features"})
    prunes_before_first_layer = True

    def select(self, signals: Signals, keep: int) -> Selection:
        cameras = signals.features.unflatten(0, (self.num_cameras, -1))
        kept = [
            farthest_from_pivots(features, count) + camera * features.shape[0]
            for camera, (features, count) in enumerate(
                zip(cameras, even_parts(keep, self.num_cameras), strict=True)
            )
            if count
        ]
        return Selection(torch.cat(kept))


def farthest_from_pivots(features: Tensor, keep: int, pivots: int = PIVOTS) -> Tensor:
    """Return the pivots of features [n, d] and the tokens least like each: sorted int64 [keep]."""
    pivots = min(pivots, keep)
    chosen = top_k(features.float().abs().sum(dim=1), pivots)
    distances = cosine_distances(features)
    taken = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    taken.index_fill_(0, chosen, True)
    for pivot, count in zip(chosen.split(1), even_parts(keep - pivots, pivots), strict=True):
        free = distances.index_select(0, pivot)[0].masked_fill(taken, -torch.inf)
        taken.index_fill_(0, top_k(free, count), True)
    return torch.sort(~taken, stable=True).indices[:keep]
