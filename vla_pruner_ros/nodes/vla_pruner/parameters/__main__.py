"""Print docs/reference/parameters.md."""

from __future__ import annotations

from vla_pruner_ros.nodes.vla_pruner.parameters.settings import sections
from vla_pruner_ros.settings import Spec


def markdown() -> str:
    """Return docs/reference/parameters.md; run this package to print it."""
    lines = [
        "# Parameters of the vla_pruner node",
        "",
        "Live parameters change the very next inference. Those marked *(configure)* are read on",
        "configure and refused while the node is configured; *(start)* ones only the command line",
        "and a file can set. `auto` leaves a setting to the checkpoint or the preset.",
    ]
    for heading, specs in sections().items():
        lines += ["", f"## {heading}", "", "| parameter | default | allowed | meaning |"]
        lines += ["|---|---|---|---|", *map(_row, specs)]
    return "\n".join(lines)


def _row(spec: Spec) -> str:
    mark = "" if spec.when == "live" else f" *({spec.when})*"
    default = spec.written_default
    return f"| `{spec.name}` | `{default!r}` | {spec.allowed} | {spec.description}{mark} |"


if __name__ == "__main__":
    print(markdown())
