"""Host -> device without waiting: page-locked buffers that are used again at every step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class PinnedUploader:
    """Uploads arrays by name. On CUDA each name has a page-locked buffer, so that the copy runs
    next to the host; elsewhere the array itself is wrapped, which costs nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._slots: dict[str, _Slot] = {}

    def upload(self, name: str, array: np.ndarray) -> Tensor:
        """Return a tensor of the same (any) shape and dtype on the device, without waiting.

        Args:
            name: of the slot; arrays of one step that share one wait for each other.
            array: any shape.
        """
        if self.device.type != "cuda":
            return torch.from_numpy(array).to(self.device)
        return self._slots.setdefault(name, _Slot()).send(array, self.device)


class _Slot:
    """One buffer, as large as the largest array so far, and the event of its last copy."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._sent: torch.cuda.Event | None = None

    def send(self, array: np.ndarray, device: torch.device) -> Tensor:
        if self._sent is not None:
            self._sent.synchronize()  # long over, unless the step before was broken off
        if len(self._buffer) < array.nbytes:
            self._buffer = torch.empty(array.nbytes, dtype=torch.uint8, pin_memory=True)
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        staged = self._buffer[: array.nbytes].view(dtype).view(array.shape)
        np.copyto(staged.numpy(), array)
        sent = staged.to(device, non_blocking=True)
        self._sent = torch.cuda.Event()
        self._sent.record()
        return sent
