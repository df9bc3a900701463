"""Independent pieces of work, shared among processes."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class WorkError(RuntimeError):
    """Error of a piece of work in another process; the text is the original's."""


@dataclass(frozen=True)
class _Reported(Generic[Piece, Result]):
    """A function whose exceptions cross to the caller's process, whatever they hold.

    An exception that cannot be pickled, or that cannot be made again from its arguments, would
    break the pool and hide the reason.
    """

    work: Callable[[Piece], Result]

    def __call__(self, piece: Piece) -> tuple[Result | None, str, str]:
        try:
            return self.work(piece), "", ""
        except Exception as error:
            return None, str(error) or type(error).__name__, traceback.format_exc()


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
        BrokenProcessPool: a process died. (multiprocessing.Pool waits for a dead process forever.)
        WorkError: a piece failed; the other process's traceback is its cause. Pieces that have not
            begun are then cancelled.
    """
    context = multiprocessing.get_context("spawn")  # a forked child would share OpenGL and CUDA
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=prepare)
    try:
        reported = _Reported(work)
        for done in as_completed([executor.submit(reported, piece) for piece in pieces]):
            result, reason, trace = done.result()
            if reason:
                raise WorkError(reason) from RuntimeError(f"in another process:\n{trace}")
            yield result
    finally:
        executor.shutdown(cancel_futures=True)
