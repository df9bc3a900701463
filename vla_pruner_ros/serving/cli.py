"""vla_pruner_server: serve a policy to openpi and vla-eval clients."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_pruner_ros.models.loading import load_policy
from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.models.pruned_policy import PrunedPolicy
from vla_pruner_ros.pruning.config import PruningConfig
from vla_pruner_ros.robots import load_profile
from vla_pruner_ros.serving.settings import ServerSettings
from vla_pruner_ros.settings.assignments import with_changes
from vla_pruner_ros.settings.program import Program

PROGRAM = Program(
    "vla_pruner_server",
    "Serve a policy to openpi and vla-eval clients.",
    (
        "--checkpoint openvla_oft_small --robot metaworld",
        "--checkpoint DIR --robot droid --host 0.0.0.0 --api-key-file key --keep-ratio 0.25",
    ),
    errors=(PolicyError, ValueError, OSError, ImportError),
)
KEY_VARIABLE = "VLA_PRUNER_API_KEY"
FIRST_INSTRUCTION = "move to the target"


@PROGRAM.main
def main(args: list[str]) -> int:
    """Run the server until SIGINT or SIGTERM; return the exit status."""
    options = _parser().parse_args(args)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        return _serve(options)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed: pip install 'websockets>=13' msgpack prometheus-client"
        ) from error


def _serve(options: argparse.Namespace) -> int:
    from vla_pruner_ros.serving.openpi import Openpi
    from vla_pruner_ros.serving.server import PolicyServer
    from vla_pruner_ros.serving.vla_eval import VlaEval

    settings = _settings(options)
    protocol = {kind.name: kind for kind in (Openpi, VlaEval)}[options.protocol]()
    profile = load_profile(options.robot)
    layout = protocol.layout(profile)
    policy = _load(options, len(layout.cameras))
    if policy.state_dim not in (0, profile.state_dim):
        raise ValueError(
            f"the checkpoint takes a state of {policy.state_dim} numbers, the profile "
            f"{profile.name} gives {profile.state_dim}: use the profile it was trained with"
        )
    server = PolicyServer(policy, protocol, layout, settings)
    return asyncio.run(_run(server))


def _load(options: argparse.Namespace, num_cameras: int) -> PrunedPolicy:
    logging.info("Loading %s", options.checkpoint)
    policy = load_policy(
        options.checkpoint,
        device=options.device,
        dtype=options.dtype,
        unnorm_key=options.unnorm_key or None,
        pruning=_pruning(options.set, options.keep_ratio),
        num_cameras=num_cameras,
    )
    policy.capture_graphs(FIRST_INSTRUCTION)
    if not policy.trained:
        logging.warning("The weights are UNTRAINED: the actions mean nothing")
    return policy


async def _run(server: Any) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.request_stop)
    ready = asyncio.Event()
    running = asyncio.create_task(server.run(ready))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    if ready.is_set():
        host = server.settings.host
        print(f"Serving {server.protocol.name} on ws://{host}:{server.port}", flush=True)
    waiting.cancel()
    ended = await running
    logging.info("Drained" if ended else "An inference was still running at the end")
    return 0 if ended else 1


def _pruning(assignments: Sequence[str], keep_ratio: float | None) -> PruningConfig:
    """Settings from NAME=VALUE. Raises ValueError: an unknown name or a value out of range."""
    config = with_changes(PruningConfig(), assignments)
    return config if keep_ratio is None else replace(config, keep_ratio=keep_ratio)


def _settings(options: argparse.Namespace) -> ServerSettings:
    key = os.environ.get(KEY_VARIABLE) or None
    if options.api_key_file:
        key = Path(options.api_key_file).read_text(encoding="utf-8").strip()
        if not key:
            raise ValueError(f"{options.api_key_file} is empty: it must hold the API key")
    return ServerSettings(
        host=options.host,
        port=options.port,
        api_key=key,
        allow_anyone=options.allow_anyone,
        max_clients=options.max_clients,
        max_waiting=options.max_waiting,
        max_gap=options.max_gap,
        fixed_pruning=options.fixed_pruning,
        execute_steps=options.execute_steps,
    )


def _parser() -> argparse.ArgumentParser:
    """Options; the defaults of the server's stand in ServerSettings."""
    default = ServerSettings()
    parser = PROGRAM.parser()
    add = parser.add_argument
    add("--checkpoint", required=True, help="directory, bundled name or 'untrained'")
    add("--robot", required=True, help="robot profile: a bundled name or a YAML file")
    add("--protocol", choices=("openpi", "vla_eval"), default="openpi")
    add("--host", default=default.host, help="address to listen on (%(default)s)")
    add("--port", type=int, default=default.port, help="0 takes a free one (%(default)s)")
    add("--keep-ratio", type=float, help="share of visual tokens kept, until a client changes it")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a pruning setting")
    add("--fixed-pruning", action="store_true", help="clients cannot change pruning settings")
    add("--device", default="auto")
    add("--dtype", default="auto")
    add("--unnorm-key", default="")
    add("--execute-steps", type=int, default=0, help="vla_eval: actions played of a chunk; 0: all")
    add("--api-key-file", help=f"file with the API key; or set {KEY_VARIABLE}")
    add("--allow-anyone", action="store_true", help="listen beyond loopback without a key")
    add("--max-clients", type=int, default=default.max_clients)
    add("--max-waiting", type=int, default=default.max_waiting, help="requests in the queue")
    add("--max-gap", type=float, default=default.max_gap, help="pause that clears a history (s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
