"""GeoScaffold (arXiv 2609.36967): tokens spread over the regions of each image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vla_pruner_ros.pruning.method import PruningMethod, Signals
from vla_pruner_ros.pruning.token_selection import TINY, Selection, keep_best

REGIONS = 4
"""Regions along each side of an image."""
TEXT_SHARE = 0.2
"""Share of the text queries that vote: those whose attention varies most over the image."""


class GeoScaffold(PruningMethod):
    """At least one token in each of 4x4 regions, the rest where the text looks.

    A region's quota follows its share of the attention of the text queries with the highest
    variance (highest averages, so that quotas add up to the budget). Within a region tokens are
    taken by farthest-point sampling in two dimensions, starting at its centre. Reads layer K-1;
    with prune_layer 0 it drops the tokens before the first layer.
    """

    name = "geoscaffold"
    label = "GeoScaffold"
    colour = "#6f8f1e"
    needs = frozenset({"text"})

    def __init__(self, config, num_cameras: int = 1) -> None:
        super().__init__(config, num_cameras)
        self._layout: tuple[Tensor, Tensor] | None = None

    def select(self, signals: Signals, keep: int) -> Selection:
        region, order = self._regions(signals)
        scores = attention_of_voters(signals.text)
        shares = scores.new_zeros(int(self.num_cameras * REGIONS**2)).index_add(0, region, scores)
        shares = shares / shares.sum().clamp_min(TINY)
        # The j-th token of a region competes with share / j; every region's first one comes first.
        rank = shares.index_select(0, region) / (order + 1) + (order == 0)
        return Selection(keep_best(rank, keep))

    def _regions(self, signals: Signals) -> tuple[Tensor, Tensor]:
        """Return each token's region, and its place in the region's sampling order: int64 [M]."""
        target = signals.text.device
        if self._layout is None or self._layout[0].shape[0] != signals.num_visual:
            region, order = scaffold(signals.num_visual // self.num_cameras)
            offsets = [region + camera * REGIONS**2 for camera in range(self.num_cameras)]
            layout = torch.cat(offsets), order.repeat(self.num_cameras)
            self._layout = tuple(part.to(target) for part in layout)
        return self._layout


def attention_of_voters(text: Tensor) -> Tensor:
    """Return the mean row of the text queries with the highest variance: float32 [M].

    text: [N_text, M].
    """
    text = torch.nan_to_num(text.float(), nan=0.0)
    voters = max(1, math.ceil(TEXT_SHARE * len(text)))
    return text.index_select(0, text.var(dim=1, unbiased=False).topk(voters).indices).mean(dim=0)


def scaffold(patches: int) -> tuple[Tensor, Tensor]:
    """Return region and sampling order of each patch of one camera: int64 [patches].

    Patches that form no square are taken as one row.
    """
    side = math.isqrt(patches)
    rows, columns = (side, side) if side * side == patches else (1, patches)
    row = torch.arange(patches) // columns
    column = torch.arange(patches) % columns
    region = row * REGIONS // rows * REGIONS + column * REGIONS // columns
    places = torch.stack([row, column], dim=1).double()
    order = torch.zeros(patches, dtype=torch.int64)
    for number in region.unique():
        members = (region == number).nonzero()[:, 0]
        order[members[farthest_points(places[members])]] = torch.arange(len(members))
    return region, order


def farthest_points(places: Tensor) -> Tensor:
    """Return farthest-point sampling of all places [n, 2], from their centre: int64 [n].

    The first is the place nearest to the mean; equal distances: lowest index first.
    """
    distances = torch.cdist(places, places)
    first = (places - places.mean(dim=0)).norm(dim=1).argmin()
    order = [int(first)]
    nearest = distances[first].clone()
    nearest[first] = -1.0
    while len(order) < len(places):
        order.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distances[order[-1]])
        nearest[order] = -1.0
    return torch.tensor(order)
