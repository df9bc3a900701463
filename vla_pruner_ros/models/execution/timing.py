"""Seconds per stage of one inference, without waiting for the device between stages."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CAN_RECORD = "external" in inspect.signature(torch.cuda.Event.__new__).parameters
"""Events inside a CUDA graph; older versions of torch lack them."""


class StageClock:
    """Marks the end of each stage; on CUDA by events, elsewhere by the host's clock.

    recorded: the marks become part of a CUDA graph and are set anew by each replay; the first one
        is then set by begin(), not here.
    """

    def __init__(self, device: torch.device, recorded: bool = False) -> None:
        self._on_cuda = device.type == "cuda"
        self._recorded = recorded
        self._started = time.perf_counter()
        self._last = None if recorded else self._now()
        self._spans: dict[str, tuple] = {}

    def begin(self) -> None:
        """The first stage starts now."""
        if self._last is None and self._ticks:
            self._last = self._now()

    def include(self, recorded: StageClock) -> None:
        """A graph has run: its stages are those since the last mark."""
        self._spans.update(recorded._spans)
        self._last = recorded._last or self._last

    def mark(self, stage: str) -> None:
        """The stage since the last mark is over."""
        if not self._ticks:
            return
        now = self._now()
        self._spans[stage] = (self._last, now)
        self._last = now

    @contextmanager
    def inside(self, stage: str) -> Iterator[None]:
        """A part of a stage, listed on its own."""
        if not self._ticks:
            yield
            return
        start = self._now()
        yield
        self._spans[stage] = (start, self._now())

    def read(self) -> dict[str, float]:
        """Seconds per stage, and `total` up to this call; the device must have finished."""
        total = time.perf_counter() - self._started
        stages = {name: self._seconds(*span) for name, span in self._spans.items()}
        return {**stages, "total": total}

    @property
    def _ticks(self) -> bool:
        return CAN_RECORD or not (self._recorded and self._on_cuda)

    def _now(self):
        if not self._on_cuda:
            return time.perf_counter()
        options = {"external": True} if self._recorded else {}
        event = torch.cuda.Event(enable_timing=True, **options)
        event.record()
        return event

    def _seconds(self, start, stop) -> float:
        return start.elapsed_time(stop) / 1e3 if self._on_cuda else stop - start
