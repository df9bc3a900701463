"""A random choice, the baseline that looks at nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.pruning.method import PruningMethod, Signals
from vla_pruner_ros.pruning.token_selection import Selection, keep_best


class Random(PruningMethod):
    """Another random set every step, the same sequence for the same seed on any device.

    Each token's score is a hash of seed, step and index, so that the draw needs no generator
    state and advances inside a captured graph. reset() starts the sequence anew.
    """

    name = "random"
    label = "random"
    colour = "#777f88"
    looks_at_nothing = True
    counts_steps = True

    def __init__(self, config: PruningConfig, num_cameras: int = 1) -> None:
        super().__init__(config, num_cameras)
        self._step: Tensor | None = None  # int64 [1], on the device

    def select(self, signals: Signals, keep: int) -> Selection:
        if self._step is None or self._step.device != signals.target:
            self._step = torch.zeros(1, dtype=torch.int64, device=signals.target)
        index = torch.arange(signals.num_visual, device=signals.target)
        scores = _hash(_hash(_hash(self._step) + self.config.seed) + index)
        self._step += 1
        # Of 63 random bits float32 holds 24: equal scores are possible and settled by index.
        return Selection(keep_best(scores, keep))

    def reset(self) -> None:
        if self._step is not None:
            self._step.zero_()

    def buffers(self) -> list[Tensor]:
        return [] if self._step is None else [self._step]

    def load(self, values: list[Tensor]) -> None:
        if self._step is None and values:
            self._step = torch.empty_like(values[0])
        for buffer, value in zip(self.buffers(), values, strict=False):
            buffer.copy_(value)


def _hash(values: Tensor) -> Tensor:
    """Return a bijective mix of int64 values (SplitMix64's finaliser, Steele et al. 2014)."""
    values = values + -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
    values = (values ^ _shift_right(values, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    values = (values ^ _shift_right(values, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return values ^ _shift_right(values, 31)


def _shift_right(values: Tensor, bits: int) -> Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)  # without copies of the sign
