"""One thread that owns the policy: clients take turns, each with a history of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vla_pruner_ros.models.policy import ActionChunk, Observation, PolicyError, VlaPolicy
from vla_pruner_ros.serving.session import Session

log = logging.getLogger(__name__)

SHUTTING_DOWN = "the server is shutting down"


class ServablePolicy(VlaPolicy, Protocol):
    """A policy whose temporal history can be taken out and put back."""

    def save_history(self) -> Any:
        """Return the history, to be given to restore_history; the policy is left as it is."""
        ...

    def restore_history(self, saved: Any) -> None:
        """Continue from a saved history, or from none at all (None)."""
        ...


class RefusedError(RuntimeError):
    """A request that is not carried out; the sentence names the reason."""


class BusyError(RefusedError):
    """Too many requests wait."""


@dataclass
class Answer:
    """A chunk and where its time went (s)."""

    chunk: ActionChunk
    waited: float
    inference: float


Deliver = Callable[["Answer | Exception"], None]


@dataclass
class Turn:
    """One request that waits for the policy.

    reset: clear the client's history first. deliver: called once, on the policy's thread.
    """

    session: Session
    observation: Observation
    reset: bool
    deliver: Deliver
    queued: float = field(default_factory=time.monotonic)


class PolicyThread:
    """Answers the requests of all clients, one after the other.

    A client has one request in the queue at most, so that first come, first served gives each
    the same share: a client that was just served goes to the end of the queue.

    max_waiting: requests in the queue. max_gap: a longer pause (s) between two inferences of a
    client clears its history. max_wait: a request that waited longer (s) is refused, because its
    images are old.
    """

    def __init__(
        self,
        policy: ServablePolicy,
        max_waiting: int = 64,
        max_gap: float = 2.0,
        max_wait: float = 10.0,
    ) -> None:
        self.policy = policy
        self._max_waiting, self._max_gap, self._max_wait = max_waiting, max_gap, max_wait
        self._queue: deque[Turn] = deque()
        self._condition = threading.Condition()
        self._refusing = self._stopping = False
        self._current: Session | None = None
        self._running: Session | None = None
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue and in the policy."""
        with self._condition:
            return len(self._queue) + (self._running is not None)

    def submit(self, turn: Turn) -> None:
        """Queue a request.

        Raises:
            BusyError: the queue is full, or the client has a request in it.
            RefusedError: the thread is stopping.
        """
        with self._condition:
            if self._refusing:
                raise RefusedError(SHUTTING_DOWN)
            if any(waiting.session is turn.session for waiting in self._queue):
                raise BusyError("the last request of this client still waits for its turn")
            if len(self._queue) >= self._max_waiting:
                raise BusyError(
                    f"the server is busy: {len(self._queue)} requests wait; try again later"
                )
            self._queue.append(turn)
            self._condition.notify_all()

    def withdraw(self, session: Session) -> None:
        """Drop a client's waiting request; one that runs is finished and delivered."""
        with self._condition:
            kept = [turn for turn in self._queue if turn.session is not session]
            self._queue = deque(kept)

    def refuse_new(self) -> None:
        """Take no further request; the ones that wait are still answered."""
        with self._condition:
            self._refusing = True

    def stop(self, timeout: float) -> bool:
        """End after the running inference; return whether it ended within timeout (s).

        What still waits is refused.
        """
        with self._condition:
            self._refusing = self._stopping = True
            left, self._queue = list(self._queue), deque()
            self._condition.notify_all()
        for turn in left:
            turn.deliver(RefusedError(SHUTTING_DOWN))
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (turn := self._next()) is not None:
            outcome = self._outcome(turn)
            with self._condition:
                self._running = None
            turn.deliver(outcome)

    def _next(self) -> Turn | None:
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._stopping)
            if not self._queue:
                return None
            turn = self._queue.popleft()
            self._running = turn.session
            return turn

    def _outcome(self, turn: Turn) -> Answer | Exception:
        try:
            return self._answer(turn)
        except (PolicyError, RefusedError, ValueError) as error:
            return error
        except Exception as error:  # whatever a policy raises must not end the thread
            log.exception("The policy failed")
            self._clear(turn.session)
            return RefusedError(
                f"the policy failed ({type(error).__name__}); the server's log has the details"
            )

    def _answer(self, turn: Turn) -> Answer:
        start = time.monotonic()
        waited = start - turn.queued
        if waited > self._max_wait:
            raise BusyError(f"the request waited {waited:.1f} s for its turn and is out of date")
        self._enter(turn, start)
        chunk = self.policy.act(turn.observation)
        check_actions(chunk.actions)
        turn.session.requests += 1
        return Answer(chunk, waited, time.monotonic() - start)

    def _enter(self, turn: Turn, now: float) -> None:
        """Put the client's history and settings into the policy."""
        session, instruction = turn.session, turn.observation.instruction
        is_new = (
            turn.reset
            or instruction != session.instruction
            or now - session.last_start > self._max_gap
        )
        if session is not self._current:
            self._leave()
            self.policy.restore_history(session.history)
            self._current = session
        if is_new:
            self.policy.reset()
        if self.policy.pruning != session.pruning:
            self.policy.pruning = session.pruning
        session.instruction, session.last_start = instruction, now

    def _leave(self) -> None:
        if self._current is not None:
            self._current.history = self.policy.save_history()
            self._current = None

    def _clear(self, session: Session) -> None:
        """Clear a client's history after a failure of unknown kind."""
        session.history, session.last_start = None, float("-inf")
        self._current = None


def check_actions(actions: np.ndarray) -> None:
    """Refuse what no robot should get.

    Raises:
        PolicyError: not [steps, n], or not finite.
    """
    if actions.ndim != 2 or not actions.size:
        raise PolicyError(
            f"the policy's actions have shape {list(actions.shape)} instead of [steps, n]"
        )
    if not np.isfinite(actions).all():
        raise PolicyError("the policy's actions are not finite; none is sent")
