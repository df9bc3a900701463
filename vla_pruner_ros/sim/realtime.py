"""Simulated robot in real time, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla_pruner_ros.sim.robot import SimState, SimulatedRobot

MAX_CATCH_UP = 0.25  # s of simulation that run at once after a delay; earlier time is dropped
STATE_RATE = 20.0  # Hz
STATUS_PERIOD = 1.0  # s


@dataclass(frozen=True)
class Episode:
    """State of the current episode. outcome: running, succeeded or timed_out."""

    number: int
    seed: int
    outcome: str
    time: float
    finished: int
    succeeded: int


class Listener(Protocol):
    """Receiver of events, called from the simulation's thread: every method must return quickly."""

    def on_frame(self, camera: str, image: np.ndarray) -> None: ...

    def on_state(self, state: SimState) -> None: ...

    def on_episode(self, episode: Episode) -> None: ...


class RealTimeSimulation:
    """Owner of a SimulatedRobot that steps it in real time; every method may be called at any time.

    The robot is built, stepped and rendered in one thread (OpenGL insists on it), so that an image
    being rendered holds up neither incoming actions nor the caller's executor.
    frame_rate (Hz), max_episode_time (s) and reset_pause (s, between an episode's end and the next
    one's start) may be changed while it runs. Episode n starts from seed + n.
    """

    def __init__(
        self,
        make_robot: Callable[[], SimulatedRobot],
        listener: Listener,
        seed: int = 0,
        frame_rate: float = 10.0,
        max_episode_time: float = 15.0,
        reset_pause: float = 1.0,
    ):
        self.frame_rate = frame_rate
        self.max_episode_time = max_episode_time
        self.reset_pause = reset_pause
        self.failure: BaseException | None = None
        self._make_robot, self._listener, self._seed = make_robot, listener, seed
        self._requests: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulation")

    def start(self) -> None:
        """Wait until the robot is ready; raise the error of its construction."""
        self._thread.start()
        self._ready.wait()
        if self.failure:
            self._thread.join()
            raise self.failure

    def command(self, action: np.ndarray, duration: float) -> None:
        """Start an action, float [7], see SimulatedRobot.command; ignored between two episodes."""
        self._request(lambda: self._obey(action, duration))

    def halt(self) -> None:
        """Hold still from the next control step on."""
        self._request(lambda: self._robot.halt())

    def reset(self, timeout: float = 5.0) -> Episode:
        """Start the next episode now.

        Raises:
            RuntimeError: the simulation has failed or does not respond in time.
        """
        begun: Future[Episode] = Future()
        self._request(lambda: begun.set_result(self._begin_episode()))
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            with suppress(TimeoutError):
                return begun.result(timeout=0.1)
        raise RuntimeError(f"the simulation did not reset: {self.failure or 'it does not respond'}")

    def close(self) -> None:
        """Stop and wait for the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _request(self, request: Callable[[], None]) -> None:
        with self._wake:
            self._requests.append(request)
            self._wake.notify()

    def _obey(self, action: np.ndarray, duration: float) -> None:
        if self._ended_at is None:  # what is still under way when an episode ends must not count
            self._robot.command(action, duration)

    def _run(self) -> None:
        try:
            self._robot = self._make_robot()
            self._number = -1
            self._finished = self._succeeded = 0
            self._begin_episode()
            self._ready.set()
            self._loop()
            self._robot.close()
        except BaseException as error:
            self.failure = error
        finally:
            self._ready.set()

    def _loop(self) -> None:
        next_step = next_frame = next_state = time.monotonic()
        while self._take_requests(next_step):
            now = time.monotonic()
            next_step = max(next_step, now - MAX_CATCH_UP)
            while next_step <= now:
                self._state = self._robot.tick()
                next_step += self._robot.control_period
            self._follow_episode(now)
            if now >= next_state:
                self._listener.on_state(self._state)
                next_state = _next_due(next_state, 1 / STATE_RATE, now)
            if now >= next_frame:
                for camera in self._robot.views:
                    self._listener.on_frame(camera, self._robot.render(camera))
                next_frame = _next_due(next_frame, 1 / self.frame_rate, now)

    def _take_requests(self, until: float) -> bool:
        """Wait for the time of the next step, then carry out the requests; return False to stop."""
        with self._wake:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._wake.wait(left)
            requests, self._requests = self._requests, deque()
        for request in requests:
            request()
        return not self._stopping

    def _begin_episode(self) -> Episode:
        self._number += 1
        self._state = self._robot.reset(self._seed + self._number)
        self._outcome, self._ended_at = "running", None
        self._announce(time.monotonic())
        return self._episode_now()

    def _follow_episode(self, now: float) -> None:
        if self._ended_at is None:
            if self._state.success:
                self._end_episode("succeeded", now)
            elif self._state.time >= self.max_episode_time:
                self._end_episode("timed_out", now)
        elif now - self._ended_at >= self.reset_pause:
            self._begin_episode()
        if now >= self._next_status:
            self._announce(now)

    def _end_episode(self, outcome: str, now: float) -> None:
        self._robot.halt()
        self._outcome, self._ended_at = outcome, now
        self._finished += 1
        self._succeeded += outcome == "succeeded"
        self._announce(now)

    def _announce(self, now: float) -> None:
        self._next_status = now + STATUS_PERIOD
        self._listener.on_episode(self._episode_now())

    def _episode_now(self) -> Episode:
        return Episode(
            self._number,
            self._seed + self._number,
            self._outcome,
            self._state.time,
            self._finished,
            self._succeeded,
        )


def _next_due(due: float, period: float, now: float) -> float:
    """Return the next multiple of the period; missed ones are skipped."""
    return max(due + period, now)
