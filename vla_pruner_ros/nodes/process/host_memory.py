"""Host memory that stays flat: the C library's allocator kept from spreading over arenas."""

from __future__ import annotations

import ctypes
import gc
import os

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_ARENAS = 2
_MAPPED_BYTES = 4 * 2**20
"""Size from which a block is mapped by itself. Smaller, an inference takes longer: at 1 MiB, a
quarter more processor time, measured on the bundled policies."""


def limit_arenas() -> None:
    """Let glibc serve all threads from two arenas; does nothing with another C library.

    By default each of the node's 25 threads may get an arena of its own, and memory freed in one is
    not used by another: over lives of the node and changes of the token budget, resident memory
    grew by a quarter and kept growing. MALLOC_ARENA_MAX in the environment has precedence.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _call("mallopt", _M_ARENA_MAX, _ARENAS)


def map_large_blocks() -> None:
    """Let glibc keep large blocks out of the heap; does nothing with another C library.

    By default glibc raises its limit to 32 MiB as mapped blocks are freed. The weights of the next
    policy then lie in the heap among small blocks that stay, and resident memory grew with each
    configure. MALLOC_MMAP_THRESHOLD_ in the environment has precedence.
    """
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        _call("mallopt", _M_MMAP_THRESHOLD, _MAPPED_BYTES)


def return_free_memory() -> None:
    """Give what is free back to the system, after a policy was let go of."""
    _call("malloc_trim", 0)


def leave_out_of_collections() -> None:
    """Leave all objects that are there now out of Python's later garbage collections.

    A full collection walks through 400,000 objects of torch, transformers and the policy. It takes
    0.25 s of processor time, in which no thread of Python runs, not even the one that stops the
    arm: a second and more on a busy machine. What is left to collect afterwards takes 0.1 ms.
    """
    gc.collect()
    gc.freeze()


def take_into_collections() -> None:
    """Undo leave_out_of_collections(), so that a policy that was let go of can be collected."""
    gc.unfreeze()


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
