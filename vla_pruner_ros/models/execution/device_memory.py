"""Memory of the accelerator, where there is one. Nothing here imports torch by itself."""

from __future__ import annotations

import gc
import sys


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that host or device memory is used up."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or bool(
        torch and isinstance(error, torch.cuda.OutOfMemoryError)
    )


def free_device_memory() -> None:
    """Collect garbage and hand the allocator's cache back."""
    torch = sys.modules.get("torch")
    gc.collect()
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()


def device_memory_mb() -> float:
    """Return the device memory that torch has allocated (MiB), 0 without a GPU."""
    torch = sys.modules.get("torch")
    used = torch.cuda.memory_allocated() if torch and torch.cuda.is_available() else 0
    return used / 2**20
