"""One client's own side of the policy: settings, history, place in the chunk, timings."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vla_pruner_ros.pruning.config import FIELD_NAMES, PruningConfig
from vla_pruner_ros.serving.wire.structure import WireError

MOST = {"temporal_window": 64}
"""Largest values of settings that cost memory."""


@dataclass(eq=False)
class Session:
    """State of one connection; the history is touched by the policy's thread alone.

    number: counts connections. pruning: settings of its next inference. history: what
    save_history() returned, None before the first inference or after a reset.
    chunk: actions still to be played, for protocols that send one action a reply.
    """

    number: int
    address: str
    pruning: PruningConfig
    history: Any = None
    instruction: str = ""
    last_start: float = float("-inf")
    chunk: deque[np.ndarray] = field(default_factory=deque)
    requests: int = 0
    last_total_ms: float | None = None

    def set_pruning(self, changes: Mapping[str, Any]) -> None:
        """Change pruning settings from the next inference on.

        Raises:
            WireError: an unknown name or a value that is not allowed; the old settings stay.
        """
        unknown = sorted(str(name)[:40] for name in changes if name not in FIELD_NAMES)
        if unknown:
            raise WireError(f"there is no pruning setting {', '.join(unknown)}")
        for name, most in MOST.items():
            value = changes.get(name, 0)
            if isinstance(value, int) and value > most:
                raise WireError(f"{name} must be at most {most}, got {value}")
        try:
            self.pruning = replace(self.pruning, **changes)
        except (ValueError, TypeError) as error:
            raise WireError(str(error)) from None
