"""Independent pieces of work, shared among processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def run_in_processes(
    work: Callable[[Piece], Result],
    pieces: Iterable[Piece],
    processes: int,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Yield results as they come.

    Args:
        work: called with each piece, in another process.
        prepare: called once in each process.

    Raises:
        BrokenProcessPool: a process died. An exception of a piece is raised as it is. Pieces that
            have not begun are then cancelled. (multiprocessing.Pool waits for a dead process
            forever.)
    """
    context = multiprocessing.get_context("spawn")  # a forked child would share OpenGL and CUDA
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=prepare)
    try:
        for done in as_completed([executor.submit(work, piece) for piece in pieces]):
            yield done.result()
    finally:
        executor.shutdown(cancel_futures=True)
