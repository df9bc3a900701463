"""The first tokens of the image, the shortest method there is."""

from __future__ import annotations

import torch

from vla_pruner_ros.pruning import PruningMethod, Selection, Signals


class Corner(PruningMethod):
    """The tokens with the lowest indices."""

    name = "corner"
    label = "corner"
    colour = "#336699"
    looks_at_nothing = True

    def select(self, signals: Signals, keep: int) -> Selection:
        return Selection(torch.arange(keep, device=signals.target))
