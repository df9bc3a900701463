"""vla_pruner_dashboard: show a running node in the browser, and command it."""

from __future__ import annotations

from vla_pruner_ros.bringup.executables import missing_part
from vla_pruner_ros.dashboard.server import LOOPBACK, Dashboard
from vla_pruner_ros.settings.program import Program

PROGRAM = Program(
    "vla_pruner_dashboard",
    "Show a running vla_pruner node in the browser: overlay, tokens, latency; set keep_ratio,\n"
    "send an instruction, hold, reset. It listens on loopback only.",
    ("", "--port 8050", "--node /left/vla_pruner"),
    "Hold sends an empty instruction: motion stops until the next one. It is no emergency stop.",
)


@PROGRAM.main
def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    parser = PROGRAM.parser()
    parser.add_argument("--node", default="vla_pruner", help="name of the node")
    parser.add_argument("--port", type=int, default=8050, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--allow-anyone",
        action="store_true",
        help="listen beyond loopback",
    )
    given = parser.parse_args(arguments)
    if given.host not in LOOPBACK and not given.allow_anyone:
        raise ValueError(
            f"--host {given.host} is not loopback: anyone there could move the arm. Use ssh -L, or "
            "add --allow-anyone"
        )
    if missing := missing_part():
        raise ValueError(missing)
    from vla_pruner_ros.bringup.client import PolicyClient
    from vla_pruner_ros.dashboard.link import NodeLink
    from vla_pruner_ros.nodes.process.stop_signal import StopSignal

    ended = StopSignal()
    ended.listen()
    with (
        PolicyClient("vla_pruner_dashboard", given.node) as client,
        Dashboard(NodeLink(client, given.node), given.host, given.port) as dashboard,
    ):
        print(f"Open {dashboard.address} (Ctrl-C ends)", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
