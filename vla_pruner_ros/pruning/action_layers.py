"""The decoder layers whose action attention is remembered, and their mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.token_selection import TINY, combine


@dataclass(frozen=True)
class ActionLayers:
    """Layers that give the action relevance.

    late: the decoder's second half, or the one layer that action_layer names.
    early: layers that still see dropped tokens, if token_recovery reads them; else empty.
    """

    late: range
    early: range

    @classmethod
    def of(cls, settings: PruningConfig, num_layers: int, prune_layer: int) -> ActionLayers:
        """Choose the layers.

        Args:
            settings: with everything filled in that is left to the preset.
            num_layers: decoder layers L.
            prune_layer: K, first layer on the kept tokens.
        """
        layer = settings.action_layer
        late = range(layer, layer + 1) if layer >= 0 else range(num_layers // 2, num_layers)
        unpruned = range(prune_layer)
        starts = {"early_layers": 0, "last_full_layer": max(len(unpruned) - 1, 0)}
        return cls(late, unpruned[starts.get(settings.token_recovery, len(unpruned)) :])

    @property
    def all(self) -> tuple[int, ...]:
        """All of these layers, ascending."""
        return tuple(sorted({*self.early, *self.late}))

    def reduce(self, rows: Tensor, layers: tuple[int, ...], kept: Tensor | None) -> Tensor:
        """Reduce the rows of these layers to one action relevance.

        With early layers a dropped token takes its relevance from below layer K, scaled so that the
        kept tokens' relevance has the same sum there and in the late layers.

        Args:
            rows: float32 [len(layers), M], attention of the action's queries onto visual tokens.
            layers: decoder layer of each row, ascending.
            kept: int64 [k], kept tokens; None if the step ran full.

        Returns:
            Float32 [M].
        """
        late = _mean_of(rows, layers, self.late)
        if kept is None or not self.early:
            return late
        early = _mean_of(rows, layers, self.early)
        kept = combine(rows.shape[1], kept)
        scale = (late * kept).sum() / (early * kept).sum().clamp_min(TINY)
        return torch.where(kept, late, early * scale)


def _mean_of(rows: Tensor, layers: tuple[int, ...], chosen: range) -> Tensor:
    """Return the mean over the chosen layers, which lie next to one another in layers."""
    first = layers.index(chosen[0])
    return rows[first : first + len(chosen)].mean(dim=0)
