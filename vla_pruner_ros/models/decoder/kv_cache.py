"""Keys and values of a decoder, one buffer a layer, each with its own length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class KeyValueCache:
    """Buffers that stay in place from step to step, with room for `capacity` tokens in each layer.

    A longer prompt makes them grow and so move: `generation` counts that, for CUDA graphs hold
    addresses.

    After a pruned prompt the layers below K hold every token and the others the kept ones, so
    lengths differ by layer.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
        capacity: int = 0,
    ) -> None:
        shape = (2, 1, heads, capacity, head_dim)
        self._buffers = [torch.empty(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.generation = 0
        self.lengths = [0] * layers

    def start(self, capacities: Sequence[int]) -> None:
        """Clear the cache and make room for this many tokens in each layer."""
        self.rewind([0] * len(self.lengths))
        for layer, capacity in enumerate(capacities):
            buffer = self._buffers[layer]
            if buffer.shape[3] < capacity:
                shape = (*buffer.shape[:3], capacity, buffer.shape[4])
                self._buffers[layer] = buffer.new_empty(shape)
                self.generation += 1

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add [1, heads, n, head_dim] behind what the layer holds; returns views of all of it."""
        start = self.lengths[layer]
        stop = self.lengths[layer] = start + key.shape[2]
        keys, values = self._buffers[layer]
        keys[:, :, start:stop].copy_(key)
        values[:, :, start:stop].copy_(value)
        return keys[:, :, :stop], values[:, :, :stop]

    def place(
        self, layer: int, rows: Tensor, key: Tensor, value: Tensor, length: int
    ) -> tuple[Tensor, Tensor]:
        """Overwrite some rows and keep the others as an earlier pass left them.

        rows: int64 [n], below `length`. key, value: [1, heads, n, head_dim]. length: tokens that
        the layer holds from now on. Returns views of all of them.
        """
        self.lengths[layer] = length
        keys, values = self._buffers[layer]
        keys.index_copy_(2, rows, key)
        values.index_copy_(2, rows, value)
        return keys[:, :, :length], values[:, :, :length]

    def held(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return views of what a layer holds, keys and values [1, heads, n, head_dim]."""
        keys, values = self._buffers[layer]
        stop = self.lengths[layer]
        return keys[:, :, :stop], values[:, :, :stop]

    def move(self, layer_start: Sequence[int], rows: Tensor) -> None:
        """Bring tokens together and drop the others behind them.

        layer_start: for each layer, where the first of them is to stand. rows: int64 [n], their
        distances from there, ascending.
        """
        for (keys, values), start in zip(self._buffers, layer_start, strict=True):
            for buffer in (keys, values):
                moved = buffer.index_select(2, rows + start)
                buffer[:, :, start : start + len(rows)].copy_(moved)
        self.rewind([start + len(rows) for start in layer_start])

    def rewind(self, lengths: Sequence[int]) -> None:
        """Go back to earlier lengths, as read from `lengths`; what was added since is dropped."""
        self.lengths = list(lengths)
