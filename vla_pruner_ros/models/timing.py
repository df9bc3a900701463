"""Seconds per stage of one inference, without waiting for the device between stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StageClock:
    """Marks the end of each stage; on CUDA by events, elsewhere by the host's clock."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._started = time.perf_counter()
        self._last = self._now()
        self._spans: dict[str, tuple] = {}

    def mark(self, stage: str) -> None:
        """The stage since the last mark is over."""
        now = self._now()
        self._spans[stage] = (self._last, now)
        self._last = now

    @contextmanager
    def inside(self, stage: str) -> Iterator[None]:
        """A part of a stage, listed on its own."""
        start = self._now()
        yield
        self._spans[stage] = (start, self._now())

    def read(self) -> dict[str, float]:
        """Seconds per stage, and `total` up to this call; the device must have finished."""
        total = time.perf_counter() - self._started
        stages = {name: self._seconds(*span) for name, span in self._spans.items()}
        return {**stages, "total": total}

    def _now(self):
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, start, stop) -> float:
        return start.elapsed_time(stop) / 1e3 if self._on_cuda else stop - start
