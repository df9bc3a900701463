"""Machine metadata that makes measurements comparable: what it is, and how fast it is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
COPY_BYTES = {"cpu": 2**26, "cuda": 2**31}
"""Size of the measured buffers: well above any cache."""
REPEATS = 8


def metadata(module: str, device: torch.device) -> dict[str, str]:
    """Return date, command, machine and software, name -> value."""
    found = {
        "date": date.today().isoformat(),
        "command": f"python -m {module} {shlex.join(sys.argv[1:])}".strip(),
        "CPU": f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}",
        "load average before the run": f"{os.getloadavg()[0]:.1f}",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = properties.total_memory / 2**30
        found["GPU"] = f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}"
    return found


def cpu_name() -> str:
    """Return the processor's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Measure matrix products of this dtype, and the faster of copying and reading memory."""
    side = MATRIX_SIDE[device.type]
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    flops = 2 * side**3 / _fastest(lambda: left @ right, device)
    source = torch.ones(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    size = source.numel() * 4
    copied = 2 * size / _fastest(lambda: target.copy_(source), device)
    read = size / _fastest(source.sum, device)
    return Rates(flops, max(copied, read))


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest repeat."""
    run()
    times = []
    for _ in range(REPEATS):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done its work; a CPU never has any left."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory(device: torch.device) -> None:
    """Return unreferenced memory to the system, so that it is not counted as the next model's."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)


class PeakMemory:
    """Peak memory (MB) of one of several policies in a process, shared weights included.

    Create it before any weights, and call weights_are_there() for each model. On a CPU it measures
    the
    growth of the resident set. That includes what the other policies hold, which is little: they
    share the weights. On Linux it resets the kernel's high-water mark, which every process may do
    for itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._on_cuda = device.type == "cuda"
        self._start = self.allocated() if self._on_cuda else _status_mb("VmRSS")
        self._weights = self._before = 0.0

    def weights_are_there(self) -> None:
        """Note that a model was built and the one before was freed."""
        self._weights = self.allocated() - self._start

    def restart(self) -> None:
        """Begin a new peak with what is allocated now."""
        if self._on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = self.allocated()
        else:
            _reset_high_water_mark()

    def peak(self, held_mb: float) -> float:
        """Return the peak (MB) since restart().

        Args:
            held_mb: size of the policy's buffers, counted on CUDA.
        """
        if not self._on_cuda:
            return _status_mb("VmHWM") - self._start
        highest = torch.cuda.max_memory_allocated(self.device) / 1e6
        return self._weights + held_mb + highest - self._before

    def allocated(self) -> float:
        """Return what tensors take now on CUDA (MB), elsewhere 0."""
        return torch.cuda.memory_allocated(self.device) / 1e6 if self._on_cuda else 0.0

    def reserved(self) -> float:
        """Return what tensors and captured graphs hold of a CUDA device (MB), elsewhere 0.

        Unused blocks are returned to the device first.
        """
        if not self._on_cuda:
            return 0.0
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(self.device) / 1e6


def _reset_high_water_mark() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the mark of the whole process is what remains


def _status_mb(field: str) -> float:
    """Read a field of the process status (MB); NaN if the system has none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    kilobytes = [line.split()[1] for line in lines if line.startswith(field + ":")]
    return 1024 * int(kilobytes[0]) / 1e6 if kilobytes else float("nan")


@dataclass(frozen=True)
class Rates:
    """Rates a device sustains: FLOP/s of matrix products and bytes/s of memory."""

    flops: float
    bytes: float
