"""The real node with a policy on a server that is lost, slow or lies, judged from outside.

    python -m vla_pruner_lab.reliability.network_faults --markdown docs/reference/reliability.md

Stop latency: from the moment a fault begins to the last message that moves the arm before the fault
is over. It may be an answer's actions and remote_timeout at most; then the arm has to move again.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.reliability.outside import ACTIVATE, CONFIGURE, Outside
from vla_pruner_lab.reliability.page import with_section
from vla_pruner_ros.bringup.processes import find_executable
from vla_pruner_ros.models.policy import PruningReport
from vla_pruner_ros.serving.handler import report_fields
from vla_pruner_ros.serving.wire import arrays

ROBOT = "widowx_bridge"  # one camera, no state
HEADING = "## A policy server that is lost, slow or lies"
TIMEOUT = 1.0
"""remote_timeout of the node (s), its default."""
CHUNKS = (1, 8)
"""Actions of an answer."""
PERIOD = 0.1
"""Seconds that an action lasts."""
LASTS = 3.0
"""Seconds that a fault lasts."""
SLACK = 0.2
"""Seconds that a message may be on its way."""


def greeting(chunk: int) -> bytes:
    """Return what the server says of a policy with so many actions an inference."""
    described = {
        "family": "openvla",
        "trained": True,
        "num_cameras": 1,
        "state_dim": 0,
        "chunk_size": chunk,
        "camera_keys": ["observation/image"],
        "state_keys": [],
        "state_sizes": [],
        "prompt_key": "prompt",
    }
    return _pack({"vla_pruner": described})


def answer(asked: dict[str, Any], chunk: int, **changes: Any) -> bytes:
    """Return an honest answer with some of its parts changed."""
    actions = np.tile(np.float32([0.005, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), (chunk, 1))
    kept = [np.arange(4, dtype=np.int32)]
    report = PruningReport(kept, (4, 4), 16, 4, 4, "vla_pruner", timings={"total": 0.001})
    honest = {"actions": actions, "pruning": report_fields(report, with_indices=True)}
    return _pack({**honest, "request": asked.get("request", 0), **changes})


def _pack(value: Any) -> bytes:
    return msgpack.packb(value, default=arrays.encode_openpi)


class FaultyServer:
    """A server of openpi's protocol whose answers the fault in force decides.

    fault: None, or request -> what to send; None as a result closes the connection.
    chunk: actions of an answer.
    """

    def __init__(self, chunk: int) -> None:
        self.fault: Callable[[dict[str, Any]], bytes | str | None] | None = None
        self.chunk, self.greeting = chunk, greeting(chunk)
        self.over = threading.Event()
        self.port = 0
        self._connections: set[ServerConnection] = set()
        self.listen()

    def listen(self) -> None:
        """Serve on the same port as before."""
        self._server = serve(self._converse, "127.0.0.1", self.port, compression=None)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def vanish(self) -> None:
        """End as a killed process does: connections are cut, nobody listens."""
        self._server.shutdown()
        self.cut()

    def cut(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.socket.shutdown(2)

    def honest(self, asked: dict[str, Any], **changes: Any) -> bytes:
        return answer(asked, self.chunk, **changes)

    def _converse(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        with suppress(ConnectionClosed):
            connection.send(self.greeting)
            for data in connection:
                request = msgpack.unpackb(data)
                made = self.honest(request) if self.fault is None else self.fault(request)
                if made is None:
                    break
                connection.send(made)
        self._connections.discard(connection)


@dataclass(frozen=True)
class Fault:
    """A fault by name: how it begins and how it ends, with a FaultyServer."""

    name: str
    begin: Callable[[FaultyServer], None]
    end: Callable[[FaultyServer], None] = lambda server: None


Made = Callable[[FaultyServer, dict[str, Any]], "bytes | str | None"]


def answering(name: str, made: Made) -> Fault:
    """Return a fault that consists in what is answered."""

    def begin(server: FaultyServer) -> None:
        server.fault = partial(made, server)

    return Fault(name, begin)


def _hang(server: FaultyServer, asked: dict[str, Any]) -> None:
    server.over.wait(60.0)


def _slow(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    server.over.wait(2.0 * TIMEOUT)
    return server.honest(asked)


def _another_policy(server: FaultyServer) -> None:
    server.greeting = greeting(server.chunk + 1)
    server.cut()


def _the_same_policy(server: FaultyServer) -> None:
    server.greeting = greeting(server.chunk)
    server.cut()


def _not_a_number(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    return server.honest(asked, actions=np.full((server.chunk, 7), np.nan, np.float32))


def _narrow(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    return server.honest(asked, actions=np.zeros((server.chunk, 5)))


def _of_before(server: FaultyServer, asked: dict[str, Any]) -> bytes:
    return server.honest(asked, request=asked["request"] - 1)


FAULTS = (
    Fault("lost: the server's process is killed", FaultyServer.vanish, FaultyServer.listen),
    answering("lost: every question closes the connection", lambda server, asked: None),
    answering("lost: no answer, the connection stays open", _hang),
    answering("slow: every answer takes twice remote_timeout", _slow),
    Fault("another policy after a restart", _another_policy, _the_same_policy),
    answering("lies: NaN", _not_a_number),
    answering("lies: five numbers instead of seven", _narrow),
    answering("lies: text instead of actions", lambda s, asked: s.honest(asked, actions="go")),
    answering("lies: the number of the question before", _of_before),
    answering("lies: no msgpack", lambda server, asked: b"\xc1\xc1"),
    answering("lies: an answer cut off", lambda server, asked: server.honest(asked)[:-9]),
    answering("lies: 20 MB", lambda server, asked: bytes(20 * 2**20)),
    answering("refuses with a sentence", lambda server, asked: "out of memory"),
)


@dataclass
class Found:
    """What came of one fault. latencies, recoveries: s. held: how often."""

    latencies: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    held: int = 0


def start_node(outside: Outside, port: int) -> subprocess.Popen:
    given = {"checkpoint": f"ws://127.0.0.1:{port}", "robot": ROBOT, "instruction": "lift the cup"}
    command = [find_executable("vla_pruner_node"), "--ros-args", "-r", f"__node:={outside.name}"]
    for name, value in given.items():
        command += ["-p", f"{name}:={value}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def inject(fault: Fault, server: FaultyServer, outside: Outside, found: Found) -> None:
    """Let one fault begin and end; judge what the node sends meanwhile and afterwards."""
    outside.until_moving()
    server.over.clear()
    began = time.monotonic()
    fault.begin(server)
    time.sleep(LASTS)
    server.fault = None
    ended = time.monotonic()
    moving = [seen.at for seen in list(outside.seen) if seen.moves and began < seen.at < ended]
    found.latencies.append(max(moving, default=began) - began)
    server.over.set()
    fault.end(server)
    found.held += _recover(outside, ended)
    found.recoveries.append(outside.motions(ended)[0].at - ended)


def _recover(outside: Outside, since: float) -> bool:
    """Wait for motion; reset the node if diagnostics show it as held. Return whether they did."""
    held = False

    def moves() -> bool:
        nonlocal held
        if outside.values.get("held") == "True" and not outside.motions(since):
            held = True
            outside.reset()
        return bool(outside.motions(since))

    outside.until(moves, "motion again")
    return held


def run(rounds: int, chunk: int) -> dict[str, Found]:
    """Inject every fault so many times, with so many actions an answer."""
    found = {fault.name: Found() for fault in FAULTS}
    server, outside = FaultyServer(chunk), Outside()
    process = start_node(outside, server.port)
    try:
        outside.start_camera(10.0)
        if not (outside.change_state(CONFIGURE) and outside.change_state(ACTIVATE)):
            raise RuntimeError("the node did not activate")
        for _ in range(rounds):
            for fault in FAULTS:
                inject(fault, server, outside, found[fault.name])
                print(chunk, fault.name, found[fault.name], flush=True)
    finally:
        process.terminate()
        process.wait(30)
        outside.close()
        server.vanish()
    return found


def section(found: dict[int, dict[str, Found]], command: str) -> str:
    """Return the section of docs/reference/reliability.md; found: by actions of an answer."""
    head = [
        "fault",
        *(f"stop after, {chunk} action{'s' * (chunk > 1)} an answer" for chunk in found),
        "held",
        "moves again after",
    ]
    rows = [[fault.name, *_cells([of[fault.name] for of in found.values()])] for fault in FAULTS]
    rounds = len(next(iter(next(iter(found.values())).values())).latencies)
    text = f"""\
{HEADING}

The node as a process, its policy on a server over loopback that turns faulty while the arm moves,
{rounds} times for {LASTS:g} s with each number of actions an answer. `remote_timeout` is
{TIMEOUT:g} s and actions come at 10 Hz. Stop after: from the fault's beginning to the last message
that moves the arm, median and largest. Actions that are there are played to their end if the server
does not answer; an answer that is refused stops motion at once. Held: how often so many inferences
in a row failed that the node waited for `~/reset`, which the test called. The last column is the
median.

    {command}

Machine: {os.cpu_count()}-core {platform.machine()}, Python {platform.python_version()}, load
{os.getloadavg()[0]:.1f}, {date.today().isoformat()}.
"""
    return "\n".join([text, *markdown_table(head, rows)])


def _cells(found: Sequence[Found]) -> list[str]:
    recoveries = [seconds for one in found for seconds in one.recoveries]
    return [
        *(f"{statistics.median(o.latencies):.2f} s, {max(o.latencies):.2f} s" for o in found),
        f"{sum(one.held for one in found)} of {len(recoveries)}",
        f"{statistics.median(recoveries):.2f} s",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 if a stop came too late."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="page whose section is replaced")
    options = parser.parse_args(arguments)
    found = {chunk: run(options.rounds, chunk) for chunk in CHUNKS}
    command = f"python -m vla_pruner_lab.reliability.network_faults --rounds {options.rounds}"
    made = section(found, command)
    print(made)
    if options.markdown:
        page = options.markdown.read_text(encoding="utf-8")
        options.markdown.write_text(with_section(page, HEADING, made), encoding="utf-8")
    late = [
        f"{name}, {chunk} actions: {max(one.latencies):.2f} s"
        for chunk, of in found.items()
        for name, one in of.items()
        if max(one.latencies) > TIMEOUT + PERIOD * chunk + SLACK
    ]
    print("\n".join(late))
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main())
