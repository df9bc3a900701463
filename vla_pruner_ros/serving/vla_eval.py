"""vla-eval's protocol, with this server as its model server: typed frames with sequence numbers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgpack

from vla_pruner_ros.serving.handler import RequestHandler, report_fields
from vla_pruner_ros.serving.layout import ObservationLayout, vla_eval_layout
from vla_pruner_ros.serving.session import Session
from vla_pruner_ros.serving.wire import arrays
from vla_pruner_ros.serving.wire.structure import WireError, unpack

PROTOCOL_VERSION = 1
HARNESS_VERSION = "0.8.0"
"""Version of vla-eval whose protocol is supported and tested."""
TYPES = ("hello", "observation", "action", "episode_start", "episode_end", "error")
MAX_ERRORS = 20
"""Refused frames in a row after which a connection is closed."""
POLICY_VIOLATION = 1008


@dataclass(frozen=True)
class Frame:
    """One message: type, payload, seq."""

    type: str
    payload: dict[str, Any]
    seq: int


class VlaEval:
    """Talks vla-eval to one connection: hello, episodes, one action for each observation.

    The harness plays one action a reply, so that the chunk is held here: an observation that
    finds actions of the last chunk left is answered from it without an inference.
    """

    name = "vla_eval"
    layout = staticmethod(vla_eval_layout)

    async def converse(self, socket: Any, session: Session, handler: RequestHandler) -> None:
        """Serve one connection until it ends."""
        conversation = _Conversation(socket, session, handler)
        answering = asyncio.create_task(conversation.answer_observations())
        try:
            async for data in socket.messages():
                await conversation.take(data)
                if conversation.errors >= MAX_ERRORS:
                    sentence = f"{MAX_ERRORS} frames in a row were refused"
                    await socket.close(POLICY_VIOLATION, sentence)
                    return
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await answering


class _Conversation:
    """One connection. The newest observation is answered; one that a newer overtakes in the
    queue is dropped, as a live clock sends them whether or not an answer came."""

    def __init__(self, socket: Any, session: Session, handler: RequestHandler) -> None:
        self._socket, self._session, self._handler = socket, session, handler
        self._pending: tuple[Frame, bytes, float, int] | None = None
        self._arrived = asyncio.Event()
        self._episode = 0
        self._reset = True
        self.errors = 0

    async def take(self, data: bytes) -> None:
        """Take one message in: reply at once, or leave an observation to the answering task."""
        received = time.monotonic()
        try:
            frame = read_frame(data, self._handler)
            await self._take_frame(frame, data, received)
        except WireError as error:
            await self._refuse(error, 0)

    async def _take_frame(self, frame: Frame, data: bytes, received: float) -> None:
        if frame.type == "hello":
            await self._send("hello", hello(self._handler), frame.seq)
        elif frame.type == "observation":
            self._drop_pending()
            self._pending = (frame, data, received, self._episode)
            self._arrived.set()
            return
        elif frame.type == "episode_start":
            self._start_episode()
        elif frame.type == "action":
            raise WireError("an action came from the client: the server sends them")
        self.errors = 0

    def _drop_pending(self) -> None:
        if self._pending is not None:
            self._handler.metrics.requests.labels("replaced").inc()
            self._pending = None

    def _start_episode(self) -> None:
        self._episode += 1
        self._reset, self._pending = True, None
        self._session.chunk.clear()

    async def answer_observations(self) -> None:
        """Answer the newest observation, again and again, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._pending is None:
                continue
            (frame, data, received, episode), self._pending = self._pending, None
            try:
                await self._answer(frame, data, received, episode)
                self.errors = 0
            except Exception as error:
                await self._refuse(error, frame.seq)

    async def _answer(self, frame: Frame, data: bytes, received: float, episode: int) -> None:
        session, handler = self._session, self._handler
        if session.chunk and not self._reset:
            await self._send("action", {"actions": session.chunk.popleft()}, frame.seq)
            return
        fields, observation = await handler.receive_fields(frame.payload, data)
        if fields.get("pruning") is not None:
            handler.set_pruning(session, fields["pruning"])
        reset, self._reset = self._reset, False
        answer = await handler.act(session, observation, reset)
        if episode != self._episode:
            return
        actions = handler.actions(answer)
        session.chunk.extend(actions[1 : handler.settings.execute_steps or None])
        report = report_fields(answer.chunk.pruning, with_indices=False)
        payload = {"actions": actions[0], "pruning": report}
        if session.chunk:  # the harness plays the newest answer: a second at once would undo this
            self._drop_pending()
        await self._send("action", payload, frame.seq)
        handler.finish(session, answer, received)

    async def _refuse(self, error: Exception, seq: int) -> None:
        self.errors += 1
        sentence = self._handler.refusal(error)
        await self._send("error", {"error": sentence}, seq)

    async def _send(self, kind: str, payload: dict[str, Any], seq: int) -> None:
        await self._socket.send(pack_frame(kind, payload, seq))


def read_frame(data: bytes, handler: RequestHandler) -> Frame:
    """Unpack a frame, its arrays left as they came.

    Raises:
        WireError: no frame of vla-eval.
    """
    fields = unpack(data, handler.settings.limits)
    if not isinstance(fields, dict) or not {"type", "payload", "seq", "timestamp"} <= set(fields):
        hint = ""
        if isinstance(fields, dict) and any("prompt" in str(key) for key in fields):
            hint = "; an openpi client needs --protocol openpi"
        raise WireError(f"a frame is a map of type, payload, seq and timestamp{hint}")
    kind, payload, seq = fields["type"], fields["payload"], fields["seq"]
    if kind not in TYPES:
        raise WireError(f"the frame's type must be one of {', '.join(TYPES)}")
    if not isinstance(payload, dict):
        raise WireError("a frame's payload must be a map")
    if type(seq) is not int or not 0 <= seq < 2**63:
        raise WireError("a frame's seq must be a whole number of 0 or more")
    return Frame(kind, payload, seq)


def pack_frame(kind: str, payload: dict[str, Any], seq: int) -> bytes:
    """Return a frame of vla-eval's protocol, packed."""
    fields = {"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()}
    return msgpack.packb(fields, default=arrays.encode_vla_eval)


def hello(handler: RequestHandler) -> dict[str, Any]:
    """Return the payload of the reply to hello: this server, and the observations it takes."""
    policy, layout = handler.policy, handler.layout
    return {
        "harness_version": HARNESS_VERSION,
        "protocol_version": PROTOCOL_VERSION,
        "model_server": "vla_pruner_server",
        "capabilities": {},
        "observation_params": {
            "env_seed": 0,
            "quat_no_antipodal": True,
            "send_wrist_image": policy.num_cameras > 1,
            "send_state": policy.state_dim > 0,
        },
        "action_spec": _action_spec(layout),
        "observation_spec": _observation_spec(handler),
        "vla_pruner": handler.info(),
    }


def _action_spec(layout: ObservationLayout) -> dict[str, Any]:
    gripper = _dim("gripper", 1, "raw")
    if layout.name.startswith("franka_libero"):
        gripper = _dim("gripper", 1, "binary_close_positive", (-1, 1))
    return {
        "position": _dim("position", 3, "delta_xyz", (-1, 1)),
        "rotation": _dim("rotation", 3, "axis_angle", (-3.15, 3.15)),
        "gripper": gripper,
    }


def _observation_spec(handler: RequestHandler) -> dict[str, Any]:
    policy, layout = handler.policy, handler.layout
    cameras = [key.rpartition("/")[2] for key in layout.cameras[: policy.num_cameras]]
    spec = {name: _dim("image", 0, "rgb_hwc_uint8") for name in cameras}
    spec["language"] = _dim("language", 0, "language")
    if policy.state_dim:
        spec["state"] = _dim("state", policy.state_dim, "eef_pos3_axisangle3_gripper2")
    return spec


def _dim(
    name: str, dims: int, form: str, span: tuple[float, float] | None = None
) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": name, "dims": dims, "format": form}
    return spec if span is None else {**spec, "range": list(span)}
