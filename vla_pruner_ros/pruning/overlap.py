"""Overlap of each step's semantic and action set, for status messages and papers."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from vla_pruner_ros.pruning.token_selection import Selection


@dataclass(frozen=True)
class PruningStatistics:
    """Shares in 0..1; NaN where one of the sets does not exist.

    semantic_action_overlap: |C_vl and C_act| / k.
    action_overlap: |C_act and C_act of the previous pruned step| / the smaller of the two.
    semantic_share, action_share: share of the kept tokens that lies in C_vl, in C_act (both may).
    """

    semantic_action_overlap: float = nan
    action_overlap: float = nan
    semantic_share: float = nan
    action_share: float = nan


class StatisticsTracker:
    """Reduces every selection to four numbers on its device; read() alone waits for them.

    Needs no synchronisation and only fixed buffers, so that track() can be captured in a CUDA
    graph. num_visual: M.
    """

    def __init__(self, num_visual: int) -> None:
        self._num_visual = num_visual
        self._values: Tensor | None = None  # float32 [4]
        self._last_action: Tensor | None = None  # bool [M], all False before the first

    def track(self, selection: Selection) -> None:
        """Add the sets of a step; device work that does not wait."""
        self._allocate(selection.kept.device)
        kept = self._mask(selection.kept)
        semantic = self._mask(selection.semantic_set)
        action = self._mask(selection.action_set)
        overlaps = [
            _overlap(semantic, action),
            _overlap(action, self._last_action),
            _share(kept, semantic),
            _share(kept, action),
        ]
        missing = self._values.new_full((), nan)
        self._values.copy_(torch.stack([missing if o is None else o for o in overlaps]))
        if action is not None:
            self._last_action.copy_(action)

    def read(self) -> PruningStatistics:
        """The last tracked selection's numbers; waits for the device."""
        return (
            PruningStatistics()
            if self._values is None
            else PruningStatistics(*self._values.tolist())
        )

    def reset(self) -> None:
        """Clear the sets; the buffers stay where they are."""
        if self._values is not None:
            self._values.fill_(nan)
            self._last_action.zero_()

    def buffers(self) -> list[Tensor]:
        """Return the tensors (any shape) that hold the state, to save and restore it."""
        return [] if self._values is None else [self._values, self._last_action]

    def _allocate(self, device: torch.device) -> None:
        if self._values is None:
            self._values = torch.full((4,), nan, device=device)
            self._last_action = torch.zeros(self._num_visual, dtype=torch.bool, device=device)

    def _mask(self, indices: Tensor | None) -> Tensor | None:
        if indices is None:
            return None
        mask = torch.zeros(self._num_visual, dtype=torch.bool, device=indices.device)
        return mask.index_fill_(0, indices, True)


def _share(whole: Tensor | None, part: Tensor | None) -> Tensor | None:
    if whole is None or part is None:
        return None
    return (whole & part).sum() / whole.sum()


def _overlap(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Against the smaller set; 0 / 0, the first step, is NaN."""
    if one is None or other is None:
        return None
    return (one & other).sum() / torch.minimum(one.sum(), other.sum())
