"""The result of one inference on the device, before it becomes actions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from vla_pruner_ros.models.decoder.pruned_decoder import ActionAttention
from vla_pruner_ros.pruning.token_selection import Selection


@dataclass(frozen=True)
class InferenceOutput:
    """The device's half of a step.

    raw: whatever the family turns into actions on the host.
    cached: see PrefillResult. reused: see PruningReport. drafted, accepted: guessed tokens, and
        those among them that held.
    """

    raw: Tensor
    attention: ActionAttention
    selection: Selection | None
    cached: tuple[int, ...] = ()
    reused: tuple[int, ...] = ()
    drafted: int = 0
    accepted: int = 0

    def fork(self) -> InferenceOutput:
        """Shares the tensors; what is done to it leaves this one as it is."""
        return replace(self, attention=self.attention.fork())
