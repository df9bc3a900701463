"""No pruning."""

from __future__ import annotations

import torch

from vla_pruner_ros.pruning.method import PruningMethod, Signals
from vla_pruner_ros.pruning.token_selection import Selection


class Full(PruningMethod):
    """Every token, whatever the budget."""

    name = "full"
    label = "full"
    colour = "#1c1f23"

    def select(self, signals: Signals, keep: int) -> Selection:
        return Selection(torch.arange(signals.num_visual, device=signals.target))
