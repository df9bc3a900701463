"""Steps recorded as CUDA graphs, and which of them are kept.

Launching a step's thousands of kernels one by one costs the host more than they cost the device. A
graph is recorded once for each shape of a step's work and replayed with one launch: the same
kernels on the same addresses, so all that changes between steps lies in buffers that stay in place.
"""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
MEGABYTE = 2**20


@dataclass(frozen=True)
class CapturedGraph:
    """result: what the recorded body returned; replay() fills its tensors anew."""

    result: Any
    replay: Callable[[], None]
    bytes: int = 0


Record = Callable[[Callable[[], Any]], CapturedGraph]
"""Records what a body does on the device. Nothing has to be computed while recording."""


def record_on_cuda(body: Callable[[], Any], device: torch.device) -> CapturedGraph:
    """Capture a CUDA graph with a memory pool of its own.

    Everything that is made on first use (buffers, compiled kernels) must exist already.

    Raises:
        RuntimeError: the body waits for the device, or memory does not suffice.
    """
    with torch.cuda.device(device):
        torch.cuda.synchronize()
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = body()
        return CapturedGraph(result, graph.replay, torch.cuda.memory_reserved() - before)


class StaticInputs:
    """Copies of a dataclass's tensors that stay in place; its other fields are left out of the
    copying."""

    def __init__(self, inputs: Any) -> None:
        self.inputs = replace(
            inputs, **{name: tensor.clone() for name, tensor in tensors_of(inputs).items()}
        )

    def fill(self, inputs: Any) -> None:
        """Take another step's values, of the same shapes; does not wait."""
        static = tensors_of(self.inputs)
        for name, tensor in tensors_of(inputs).items():
            static[name].copy_(tensor, non_blocking=True)


def tensors_of(inputs: Any) -> dict[str, Tensor]:
    """Return the fields of a dataclass that are tensors (any shape), by name."""
    values = ((field.name, getattr(inputs, field.name)) for field in fields(inputs))
    return {name: value for name, value in values if isinstance(value, Tensor)}


def shape_key(inputs: Any) -> Hashable:
    """Equal for two inputs that one recording serves."""
    return tuple((name, tuple(t.shape), t.dtype) for name, t in tensors_of(inputs).items())


class GraphStore:
    """Recorded steps by key, the least recently used ones dropped above `limit` bytes.

    A key that could not be recorded is remembered: it is logged once and not tried again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._refused: set[Hashable] = set()
        self._said = False

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Device memory of all graphs (bytes)."""
        return sum(size for _, size in self._kept.values())

    def find(self, key: Hashable) -> Any | None:
        """The recorded step, from now on the most recently used one."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def add(self, key: Hashable, record: Callable[[], tuple[Any, int]]) -> None:
        """Record a step unless it is known that it cannot be.

        record: gives the step and the bytes it holds; RuntimeError where recording fails.
        """
        if key in self._refused:
            return
        try:
            step, size = record()
        except RuntimeError as error:
            self._refuse(key, f"recording failed: {str(error).splitlines()[0]}")
            return
        if size > self.limit:
            needs, has = -(-size // MEGABYTE), self.limit // MEGABYTE
            self._refuse(key, f"one needs {needs} MB, graph_memory_mb allows {has}")
            return
        self._kept[key] = (step, size)
        while self.bytes > self.limit:
            self._kept.popitem(last=False)

    def _refuse(self, key: Hashable, reason: str) -> None:
        self._refused.add(key)
        if not self._said:
            logger.warning("A step runs without a CUDA graph, more slowly: %s", reason)
        self._said = True
