"""openpi's protocol: the server speaks first, then request and reply as binary msgpack."""

from __future__ import annotations

import time
from typing import Any

import msgpack

from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.serving.handler import RequestHandler, report_fields
from vla_pruner_ros.serving.layout import openpi_layout
from vla_pruner_ros.serving.policy_thread import Answer, BusyError
from vla_pruner_ros.serving.session import Session
from vla_pruner_ros.serving.wire import arrays
from vla_pruner_ros.serving.wire.structure import WireError

OUR_SECTION = "vla_pruner"
"""Key of the metadata that holds what only this package's client reads."""
INTERNAL_ERROR, TRY_AGAIN_LATER = 1011, 1013


class Openpi:
    """Protocol of openpi on one client's connection.

    Beyond openpi, a request may hold:
        pruning: settings, kept until changed.
        reset: true clears the history.
        request: a number that the reply repeats.
        as_trained: true returns actions in the checkpoint's own numbers.

    openpi has no reset: the history is also cleared on a new connection, another prompt or a gap.
    """

    name = "openpi"
    layout = staticmethod(openpi_layout)

    async def converse(self, socket: Any, session: Session, handler: RequestHandler) -> None:
        """Serve one connection until it ends."""
        info = {OUR_SECTION: handler.info()}
        await socket.send(_pack(info))
        async for data in socket.messages():
            received = time.monotonic()
            try:
                fields, observation = await handler.receive(data, _refuse_vla_eval)
                answer = await self._answer(fields, observation, session, handler)
                reply = _reply(answer, session, handler, fields)
            except Exception as error:
                sentence = handler.refusal(error)
                await socket.send(sentence)
                is_busy = isinstance(error, BusyError)
                await socket.close(TRY_AGAIN_LATER if is_busy else INTERNAL_ERROR, sentence)
                return
            await socket.send(reply)
            handler.finish(session, answer, received)

    async def _answer(
        self,
        fields: dict[str, Any],
        observation: Observation,
        session: Session,
        handler: RequestHandler,
    ) -> Answer:
        if fields.get("pruning") is not None:
            handler.set_pruning(session, fields["pruning"])
        if type(fields.get("request", 0)) is not int:
            raise WireError("request must be a whole number")
        return await handler.act(session, observation, fields.get("reset") is True)


def _refuse_vla_eval(fields: dict[str, Any]) -> None:
    if {"type", "payload", "seq"} <= fields.keys():
        raise WireError(
            "this is a frame of vla-eval, the server talks openpi: start it with --protocol "
            "vla_eval"
        )


def _reply(
    answer: Answer, session: Session, handler: RequestHandler, fields: dict[str, Any]
) -> bytes:
    report = answer.chunk.pruning
    timing = {"infer_ms": 1e3 * answer.inference, "queue_ms": 1e3 * answer.waited}
    if session.last_total_ms is not None:
        timing["prev_total_ms"] = session.last_total_ms
    reply = {
        "actions": handler.actions(answer, fields.get("as_trained") is True),
        "server_timing": timing,
        "policy_timing": {f"{stage}_ms": 1e3 * s for stage, s in report.timings.items()},
        "pruning": report_fields(report, with_indices=True),
    }
    return _pack({**reply, "request": fields["request"]} if "request" in fields else reply)


def _pack(value: Any) -> bytes:
    return msgpack.packb(value, default=arrays.encode_openpi)
