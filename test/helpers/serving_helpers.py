"""Helpers of the server's tests: a policy they control, a server in a thread, raw clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="websockets is not installed: no server")
pytest.importorskip("msgpack", reason="msgpack is not installed: no server")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: no server")

from vla_pruner_ros.models.policy import ActionChunk, Observation, PruningReport
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.serving.openpi import Openpi
from vla_pruner_ros.serving.server import PolicyServer
from vla_pruner_ros.serving.settings import ServerSettings

WAIT = 20.0
"""Longest wait for anything (s); reached only where a test fails."""
TOKENS = 16


class SteppedPolicy:
    """A policy whose history is visible: an action is [steps since reset, brightness, keep_ratio].

    step_time: seconds an inference takes. fail: an exception raised once. proceed: cleared, it
    holds inferences. order: what each inference saw as the instruction.
    """

    family, trained, can_miss_cameras = "openvla_oft", True, False

    def __init__(
        self, num_cameras: int = 2, state_dim: int = 8, chunk_size: int = 4, action_dim: int = 7
    ) -> None:
        self.num_cameras, self.state_dim, self.chunk_size = num_cameras, state_dim, chunk_size
        self.action_dim = action_dim
        self.pruning = PruningConfig()
        self.step_time = 0.0
        self.fail: Exception | None = None
        self.spoil = lambda actions: actions
        self.proceed = threading.Event()
        self.proceed.set()
        self.started = threading.Event()
        self.order: list[str] = []
        self.observations: list[Observation] = []
        self._steps = 0

    def act(self, observation: Observation) -> ActionChunk:
        self.started.set()
        assert self.proceed.wait(WAIT)
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        if self.step_time:
            time.sleep(self.step_time)
        self.order.append(observation.instruction)
        self.observations = [observation]
        self._steps += 1
        row = np.zeros(self.action_dim, dtype=np.float32)
        row[:3] = self._steps, observation.images[0].mean() / 255.0, self.pruning.keep_ratio
        row[-1] = 1.0
        return ActionChunk(self.spoil(np.tile(row, (self.chunk_size, 1))), self._report())

    def _report(self) -> PruningReport:
        kept = max(1, round(TOKENS * self.pruning.keep_ratio))
        return PruningReport(
            [np.arange(kept, dtype=np.int32)] * self.num_cameras,
            (4, 4),
            TOKENS * self.num_cameras,
            kept * self.num_cameras,
            kept * self.num_cameras,
            "vla_pruner",
            history_length=self._steps,
            timings={"vision": 0.001, "total": 0.002},
        )

    def reset(self) -> None:
        self._steps = 0

    def preview(self, image: np.ndarray) -> np.ndarray:
        return image

    def save_history(self) -> int:
        return self._steps

    def restore_history(self, saved: int | None) -> None:
        self._steps = saved or 0


class Served:
    """A server on its own thread and event loop."""

    def __init__(self, server_kind: Any) -> None:
        self._make = server_kind
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.ended: bool | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        assert self._ready.wait(WAIT), "the server did not start"

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.server = self._make()
        ready = asyncio.Event()
        running = asyncio.ensure_future(self.server.run(ready))
        await ready.wait()
        self._ready.set()
        self.ended = await running

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.request_stop)
        self.thread.join(WAIT)
        assert not self.thread.is_alive(), "the server did not end"

    def until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}"
            time.sleep(0.005)


@contextmanager
def served(
    policy: Any,
    protocol: Any = None,
    robot: str = "franka_libero",
    **settings: Any,
) -> Iterator[Served]:
    """Serve a policy on a free loopback port until the block ends."""
    protocol = protocol or Openpi()
    layout = protocol.layout(load_profile(robot))
    made = Served(
        lambda: PolicyServer(policy, protocol, layout, ServerSettings(port=0, **settings))
    )
    try:
        yield made
    finally:
        if hasattr(policy, "proceed"):
            policy.proceed.set()
        made.stop()


def libero(brightness: int = 100, prompt: str = "pick up the bowl", side: int = 224) -> dict:
    """Return an observation as openpi's LIBERO client sends it."""
    image = np.full((side, side, 3), brightness, dtype=np.uint8)
    return {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(8, dtype=np.float32),
        "prompt": prompt,
    }


def droid(brightness: int = 100, prompt: str = "open the drawer") -> dict:
    image = np.full((224, 224, 3), brightness, dtype=np.uint8)
    return {
        "observation/exterior_image_1_left": image,
        "observation/wrist_image_left": image,
        "observation/joint_position": np.linspace(-1.0, 1.0, 7),
        "observation/gripper_position": np.array([0.5]),
        "prompt": prompt,
    }


def aloha(brightness: int = 100, prompt: str = "fold the towel") -> dict:
    names = ["cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist"]
    image = np.full((3, 224, 224), brightness, dtype=np.uint8)
    return {
        "images": dict.fromkeys(names, image),
        "state": np.linspace(-1.0, 1.0, 14, dtype=np.float32),
        "prompt": prompt,
    }
