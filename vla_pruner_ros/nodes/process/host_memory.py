"""Host memory that stays flat: the C library's allocator kept from spreading over arenas."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8
_ARENAS = 2


def limit_arenas() -> None:
    """Let glibc serve all threads from two arenas; does nothing with another C library.

    By default each of the node's 25 threads may get an arena of its own, and memory freed in one is
    not used by another: over lives of the node and changes of the token budget, resident memory
    grew by a quarter and kept growing. MALLOC_ARENA_MAX in the environment has precedence.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        _call("mallopt", _M_ARENA_MAX, _ARENAS)


def return_free_memory() -> None:
    """Give what is free back to the system, after a policy was let go of."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
