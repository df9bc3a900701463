"""Checks of the computer: Python, torch, GPU, memory, shared memory, clock, load."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from vla_pruner_ros.doctor.finding import Finding, examine, green, red, yellow

AREA = "machine"
GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu")
"""Device files that an NVIDIA driver makes, on a computer and on Jetsons."""
LEAST_SHARED = 64 * 2**20
"""Bytes of /dev/shm below which raw images of several cameras get lost (docker's default)."""
STA_UNSYNC = 0x40
"""Bit of adjtimex: the clock is not synchronised."""
TIMEX_WORDS = 64
"""Room for struct timex, in longs: it has 208 bytes on 64-bit Linux."""


def machine_findings() -> Iterator[Finding]:
    """Yield what the computer offers."""
    yield from examine(AREA, (_python, _torch, _memory, _shared_memory, _clock, _load))


def _python() -> Iterator[Finding]:
    machine = f"{platform.system()} {platform.machine()}"
    yield green(AREA, f"Python {platform.python_version()} on {machine}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield red(AREA, f"torch cannot be imported: {error}", "pip install torch")
        return
    gpu = [path for path in GPU_FILES if Path(path).exists()]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            text = (
                f"{name}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free, torch {torch.__version__}"
            )
            yield green(AREA, text)
    elif gpu:
        yield red(
            AREA,
            f"{gpu[0]} shows a GPU, but torch {torch.__version__} does not use it",
            "install torch for CUDA (on a Jetson NVIDIA's own wheel), or repair the driver",
        )
    else:
        yield yellow(
            AREA,
            f"torch {torch.__version__} on the CPU: no GPU was found",
            "small policies run on a CPU; a 7B model takes many seconds for each step",
        )


def memory() -> tuple[int, int]:
    """Return available and total memory of the host (bytes), from /proc/meminfo."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    values = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
    return values["MemAvailable"], values["MemTotal"]


def _memory() -> Iterator[Finding]:
    available, total = memory()
    text = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB of host memory available"
    if available < 1e9:
        yield yellow(AREA, text, "end other programs: loading a policy may be killed")
    else:
        yield green(AREA, text)


def _shared_memory() -> Iterator[Finding]:
    usage = shutil.disk_usage("/dev/shm")
    text = f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB of /dev/shm free"
    if usage.free < LEAST_SHARED:
        yield yellow(
            AREA,
            text,
            "raw images may get lost: give a container more (docker run --shm-size 1g), or remove "
            "segments of programs that were killed (fastdds shm clean)",
        )
    else:
        yield green(AREA, text)


def is_synchronised() -> bool | None:
    """Return whether the kernel's clock is synchronised; None if it cannot be read."""
    adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    if adjtimex is None:
        return None
    words = (ctypes.c_long * TIMEX_WORDS)()  # modes 0: read only
    if adjtimex(ctypes.byref(words)) < 0:
        return None
    # struct timex: int modes (padded), long offset, freq, maxerror, esterror, int status, ...
    status = ctypes.c_int.from_buffer(words, 5 * ctypes.sizeof(ctypes.c_long)).value
    return not status & STA_UNSYNC


def _clock() -> Iterator[Finding]:
    synchronised = is_synchronised()
    if synchronised is None:
        yield yellow(AREA, "the clock's synchronisation cannot be read", "check it with chronyc")
    elif synchronised:
        yield green(AREA, "the clock is synchronised")
    else:
        yield yellow(
            AREA,
            "the clock is not synchronised",
            "if cameras or the arm hang on another computer: set up chrony or PTP; images whose "
            "stamps are older than max_image_age are dropped",
        )


def _load() -> Iterator[Finding]:
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    text = f"load {load:.1f} on {cores} cores"
    if load > cores:
        yield yellow(AREA, text, "other programs compete: latencies will be longer than alone")
    else:
        yield green(AREA, text)
