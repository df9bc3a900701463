"""A server with an artificial policy in a process of its own, and that process's memory."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAGE = 4096


class ServerProcess:
    """A running server. port: where it listens."""

    def __init__(self, **options: Any) -> None:
        """options: see serve(); settings is a map of ServerSettings' fields."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, json.dumps(options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline()
        if not line.startswith("port "):
            raise RuntimeError(f"the server did not start: {line}")
        self.port = int(line.split()[1])

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def memory_mib(self) -> float:
        """Return the resident memory of the process."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * PAGE / 2**20

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """Return the number of files and sockets that the process holds open."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def stop(self) -> int:
        """End it with SIGTERM; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()


@contextmanager
def server_process(**options: Any) -> Iterator[ServerProcess]:
    """Run a server until the block ends."""
    process = ServerProcess(**options)
    try:
        yield process
    finally:
        process.stop()


def serve(
    protocol: str = "openpi",
    robot: str = "franka_libero",
    settings: dict[str, Any] | None = None,
    **policy: Any,
) -> int:
    """Serve an ArtificialPolicy until SIGTERM. policy: arguments of ArtificialPolicy."""
    from vla_pruner_lab.serving.artificial_policy import ArtificialPolicy
    from vla_pruner_ros.robots import load_profile
    from vla_pruner_ros.serving.openpi import Openpi
    from vla_pruner_ros.serving.server import PolicyServer
    from vla_pruner_ros.serving.settings import ServerSettings
    from vla_pruner_ros.serving.vla_eval import VlaEval

    async def run() -> bool:
        kind = {"openpi": Openpi, "vla_eval": VlaEval}[protocol]()
        layout = kind.layout(load_profile(robot))
        chosen = ServerSettings(**{"port": 0, **(settings or {})})
        server = PolicyServer(ArtificialPolicy(**policy), kind, layout, chosen)
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, server.request_stop)
        running = asyncio.ensure_future(server.run(ready))
        await ready.wait()
        print("port", server.port, flush=True)
        return await running

    logging.basicConfig(level=logging.ERROR)
    return 0 if asyncio.run(run()) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("options", type=json.loads)
    sys.exit(serve(**parser.parse_args().options))
