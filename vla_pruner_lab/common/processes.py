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
    """Results as they come. prepare: called once in each process.

    What a piece raises is raised here, and BrokenProcessPool where a process dies; pieces that
    have not begun are given up then. (multiprocessing.Pool waits for the dead for ever.)
    """
    context = multiprocessing.get_context("spawn")  # a forked child would share OpenGL and CUDA
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=prepare)
    try:
        for done in as_completed([executor.submit(work, piece) for piece in pieces]):
            yield done.result()
    finally:
        executor.shutdown(cancel_futures=True)
