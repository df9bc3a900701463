"""Print docs/reference/parameters.md."""

from __future__ import annotations

from vla_pruner_ros.nodes.vla_pruner.parameters.settings import sections
from vla_pruner_ros.settings import Spec


def markdown() -> str:
    """Return docs/reference/parameters.md; run this package to print it."""
    lines = [
        "# Parameters of the vla_pruner node",
        "",
        "A change of a parameter takes effect with the next inference, with two exceptions.",
        "Parameters marked *(configure)* are read on configure, and a change is refused while the",
        "node is configured. Those marked *(start)* can be set on the command line and in a file",
        "alone. If a setting is `auto`, the checkpoint or the preset gives its value.",
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
