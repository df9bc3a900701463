"""All hostile exchanges with running servers: outcomes, other clients, memory.

python -m vla_pruner_lab.serving.bad_input
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from vla_pruner_lab.common.markdown import markdown_table
from vla_pruner_lab.common.program import lab_program
from vla_pruner_lab.serving import bad_connections, bad_messages
from vla_pruner_lab.serving.attack import Attack, observation
from vla_pruner_lab.serving.server_process import ServerProcess, server_process
from vla_pruner_ros.models.policy import Observation
from vla_pruner_ros.serving.client.address import RemoteOptions
from vla_pruner_ros.serving.client.policy import RemotePolicy

PROGRAM = lab_program("serving.bad_input", __doc__, "")
SERVERS = {
    "openpi": {"settings": bad_connections.FAST},
    "vla_eval": {"protocol": "vla_eval", "settings": bad_connections.FAST},
    "guarded": {"settings": {**bad_connections.FAST, "api_key": bad_connections.KEY}},
    "flooded": {"settings": bad_connections.TIMEOUTS},
}


@dataclass
class Findings:
    """Outcomes of a run.

    failures: area and name -> outcome, where it was not the stated one. memory: MiB of each
    server, before and after. other_clients: server -> answers that its other client got.
    """

    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    other_clients: Counter[str] = field(default_factory=Counter)


class OtherClient:
    """A client of an openpi server that goes on with its work."""

    def __init__(self, server: ServerProcess, key: str | None) -> None:
        self._policy = RemotePolicy(server.url, RemoteOptions(timeout=10.0, api_key=key))
        seen = observation()
        images = [seen["observation/image"]] * 2
        self._task = Observation(images, seen["prompt"], seen["observation/state"])
        self.asks()

    def asks(self) -> None:
        """Ask for one inference. Raises PolicyError: it got none."""
        self._policy.act(self._task)

    def close(self) -> None:
        """Close the connection."""
        self._policy.close()


def all_attacks() -> list[Attack]:
    """Return all hostile exchanges."""
    return [*bad_messages.cases(), *bad_connections.cases()]


@contextmanager
def servers() -> Iterator[dict[str, ServerProcess]]:
    """Run the servers that the attacks go to."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(server_process(**how)) for name, how in SERVERS.items()}


def carry_out(attacks: list[Attack], running: dict[str, ServerProcess]) -> Findings:
    """Carry out attacks; after each, another client of the same server asks for an inference."""
    found = Findings()
    others = {
        name: OtherClient(running[name], bad_connections.KEY if name == "guarded" else None)
        for name, how in SERVERS.items()
        if how.get("protocol") != "vla_eval" and any(a.server == name for a in attacks)
    }
    before = {name: server.memory_mib() for name, server in running.items()}
    for attack in attacks:
        outcome = attack.failure(running[attack.server].port)
        if outcome:
            found.failures[attack.area, attack.name] = outcome
        if attack.server in others:
            others[attack.server].asks()
            found.other_clients[attack.server] += 1
    for name, server in running.items():
        found.memory[name] = before[name], server.memory_mib()
    for other in others.values():
        other.close()
    return found


def report(attacks: list[Attack], found: Findings) -> str:
    """Return the section of docs/explanation/reliability.md as Markdown."""
    rows = []
    for area in dict.fromkeys(attack.area for attack in attacks):
        own = [attack for attack in attacks if attack.area == area]
        failed = sum((attack.area, attack.name) in found.failures for attack in own)
        rows.append([area, str(len(own)), str(len(own) - failed)])
    rows.append(["**all**", str(len(attacks)), str(len(attacks) - len(found.failures))])
    lines = markdown_table(["input", "cases", "as stated"], rows)
    answers = sum(found.other_clients.values())
    lines += ["", f"Other clients of the same servers asked {answers} times, once after each case "
              "of an openpi server, and were answered every time.", ""]  # fmt: skip
    memory = [
        [name, f"{before:.0f} MiB", f"{after:.0f} MiB"]
        for name, (before, after) in found.memory.items()
    ]
    lines += markdown_table(["server", "memory before", "memory after"], memory)
    lines += [
        f"- {area}: {name}: {found_instead}"
        for (area, name), found_instead in found.failures.items()
    ]
    return "\n".join(lines)


@PROGRAM.main
def main(arguments: list[str]) -> int:
    PROGRAM.parser().parse_args(arguments)
    attacks = all_attacks()
    with servers() as running:
        found = carry_out(attacks, running)
        dead = [name for name, process in running.items() if not process.is_alive]
    print(report(attacks, found))
    for name in dead:
        print(f"- the server {name} died")
    return 1 if found.failures or dead else 0


if __name__ == "__main__":
    sys.exit(main())
