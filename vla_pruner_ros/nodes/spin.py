"""Run of a node until a stop signal, and its orderly shutdown."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import rclpy
from rclpy.executors import (
    Executor,
    ExternalShutdownException,
    InvalidHandle,
    MultiThreadedExecutor,
)
from rclpy.signals import SignalHandlerOptions

from vla_pruner_ros.nodes.overrides import explain_unparsable, parameter_files
from vla_pruner_ros.nodes.process.host_memory import limit_arenas, map_large_blocks
from vla_pruner_ros.nodes.process.log_file import (
    LogFile,
    decides_on_file,
    log_directory,
    without_file_of_rcl,
)
from vla_pruner_ros.nodes.process.parent import end_with_launch
from vla_pruner_ros.nodes.process.stop_signal import STOP_SIGNALS, StopSignal
from vla_pruner_ros.nodes.process.terminal import OutputRelay

END_PATIENCE = 5.0
"""Longest wait (s) for callbacks under way once the node was closed. The stop was sent before."""


MAX_ERRORS, ERROR_WINDOW = 200, 10.0
"""Failed callbacks within so many seconds after which a node cannot go on."""


TAKE_QUIET = 10.0
"""Seconds for which a topic whose messages cannot be taken is not reported again."""


class UnreadableMessage(Exception):  # noqa: N818 - named by what came
    """A message, request or answer that rclpy could not take from the middleware."""


class EndNode(Exception):  # noqa: N818 - raised by a callback to end its node
    """The node cannot go on and must end; the message gives the reason."""


class _PatientPool(ThreadPoolExecutor):
    """Hands a callback over and waits until a thread has begun it."""

    def __init__(self, num_threads: int, on_error: Callable[[BaseException], None]) -> None:
        super().__init__(num_threads)
        self._on_error = on_error

    def submit(self, callback: Callable[[], Any]) -> Future:
        begun = threading.Event()

        def run() -> None:
            begun.set()
            try:
                callback()
            except BaseException as error:  # rclpy keeps Exceptions for spin(); a panic ends here
                self._on_error(error)

        future = super().submit(run)
        begun.wait()
        return future


class NodeExecutor(MultiThreadedExecutor):
    """rclpy's multi-threaded executor, handing each callback to its threads once.

    rclpy hands every callback that has not begun yet over again whenever anything happens: two to
    three times each as a rule, and without bound while all threads are occupied. With this pool the
    executor sleeps until the callback has begun.
    """

    def __init__(self, num_threads: int, context: Any = None) -> None:
        super().__init__(num_threads=num_threads, context=context)
        self._executor.shutdown()
        self._executor = _PatientPool(num_threads, self._on_panic)
        self._on_error: Callable[[BaseException], None] | None = None
        self._errors: deque[float] = deque(maxlen=MAX_ERRORS)
        self._unreadable_at: dict[str, float] = {}

    def add_node(self, node: Any) -> bool:
        """Add a node; its `on_callback_error` is called with what a callback raises."""
        if hasattr(node, "on_callback_error"):
            self._on_error = node.on_callback_error
        answer_always(node)
        return super().add_node(node)

    def survive(self, error: BaseException) -> bool:
        """Report what a callback raised; return whether the executor may go on."""
        self._errors.append(time.monotonic())
        full = len(self._errors) == MAX_ERRORS
        too_many = full and self._errors[-1] - self._errors[0] < ERROR_WINDOW
        if self._on_error is None or isinstance(error, EndNode) or too_many:
            return False
        self._on_error(error)
        return True

    def _make_handler(
        self, entity: Any, node: Any, take_from_wait_list: Callable[[Any], Any], *rest: Any
    ) -> Any:
        """Take nothing if taking fails.

        rclpy would leave the entity out of every later wait, and its callback group occupied: one
        message of another version of its type would silence all topics of the group for good.
        """

        def take(entity: Any) -> Any:
            try:
                return take_from_wait_list(entity)
            except BaseException as error:
                self._report_unreadable(entity, error)
                return None

        return super()._make_handler(entity, node, take, *rest)

    def _report_unreadable(self, entity: Any, error: BaseException) -> None:
        """Report once in a while: such a publisher sends on, and the node must outlive it."""
        name = getattr(entity, "topic_name", None) or getattr(entity, "srv_name", "a timer")
        now = time.monotonic()
        if now - self._unreadable_at.get(name, float("-inf")) < TAKE_QUIET:
            return
        self._unreadable_at[name] = now
        what = UnreadableMessage(f"a message on {name} cannot be read: {error!r}")
        what.__cause__ = error
        if self._on_error is None:
            print(what, file=sys.stderr)
        else:
            self._on_error(what)

    def _on_panic(self, error: BaseException) -> None:
        if not self.survive(error):
            print(f"A callback ended with {error!r}", file=sys.stderr)


def answer_always(node: Any) -> None:
    """Let every service of a node answer, rclpy's own included, though its handler fails.

    The answer is the response as it was made: success is false in it. A caller without an answer
    would wait for ever, and rclpy would end the executor.
    """

    def guarded(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @functools.wraps(handler)
        def answer(request: Any, response: Any) -> Any:
            try:
                return handler(request, response)
            except EndNode:
                raise
            except BaseException as error:
                node.on_callback_error(error)
                return response

        answer.is_guarded = True
        return answer

    if hasattr(node, "on_callback_error"):
        for service in node.services:
            if not getattr(service.callback, "is_guarded", False):
                service.callback = guarded(service.callback)


def init_rclpy(args: list[str] | None) -> StopSignal:
    """Initialise rclpy; return the event that STOP_SIGNALS set instead of ending it."""
    told_to_stop = StopSignal()
    told_to_stop.listen()
    end_with_launch()
    given = sys.argv if args is None else args
    OutputRelay(None if decides_on_file(given) else LogFile(log_directory())).start()
    limit_arenas()
    map_large_blocks()
    rclpy.init(args=without_file_of_rcl(given), signal_handler_options=SignalHandlerOptions.NO)
    return told_to_stop


def run_node(make_node: Callable[[], Any], args: list[str] | None = None, threads: int = 3) -> int:
    """Spin a node until one of STOP_SIGNALS; return the exit code.

    rclpy's own signal handlers shut the context down at once, and a stopping arm controller could
    no longer publish its stop. So signals only set an event here: the node's `close()` runs while
    publishing still works, then the executor is stopped and joined before the context goes (rclpy
    aborts the process when a thread still spins then).
    """
    try:
        told_to_stop = init_rclpy(args)
    except Exception as error:  # rcl's message about a parameter file fills 20 lines
        print(explain_unparsable(error, parameter_files(args)), file=sys.stderr)
        return 2
    try:
        node = make_node()
    except Exception as error:  # a refused parameter, a taken name: a sentence, not a traceback
        print(f"The node could not start: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    return _spin(node, told_to_stop, threads)


def spin_on(executor: Executor) -> None:
    """Spin until the executor or its context is shut down.

    Subscriptions and timers are destroyed while another thread waits on them (clean up, a new
    rate, shutdown); rclpy then lets an InvalidHandle escape, though the next wait is sound again.
    """
    while True:
        try:
            executor.spin()
            return
        except ExternalShutdownException:
            return
        except InvalidHandle:
            continue
        except Exception as error:
            # A callback that came due as the executor's threads were shut down.
            if isinstance(error, RuntimeError) and "after shutdown" in str(error):
                return
            if not isinstance(executor, NodeExecutor) or not executor.survive(error):
                raise


def _spin(node: Any, told_to_stop: StopSignal, threads: int) -> int:
    executor = NodeExecutor(threads)
    executor.add_node(node)
    failures: list[BaseException] = []

    def spin() -> None:
        try:
            spin_on(executor)
        except BaseException as error:
            failures.append(error)
            what = str(error) if isinstance(error, EndNode) else f"a callback failed: {error!r}"
            node.get_logger().fatal(f"Stopping because {what}")
        finally:
            told_to_stop.set()

    spinner = threading.Thread(target=spin, name="executor")
    spinner.start()
    told_to_stop.wait()
    # How long a node's close() may take: a recorder writes until it is done, however long.
    patience = getattr(node, "closing_patience", None)
    if patience is not None:
        _end_anyway(patience + END_PATIENCE)
    node.close()
    if patience is None:
        _end_anyway(END_PATIENCE)
    executor.shutdown()
    spinner.join()
    node.destroy_node()
    rclpy.try_shutdown()
    # Ctrl-C in a terminal reaches this process twice, from the terminal and from ros2 launch; the
    # second one may come while Python ends, when it would count as death by a signal.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    return 1 if failures else 0


def _end_anyway(patience: float) -> None:
    """End the process after `patience` seconds, though a callback still runs: a checkpoint that
    loads for minutes, or a driver that never answers, must not keep it."""

    def end() -> None:
        print("Ended without waiting for what was still running", file=sys.stderr)
        os._exit(1)

    timer = threading.Timer(patience, end)
    timer.daemon = True
    timer.start()
