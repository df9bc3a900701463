"""Pages in Markdown: tables, the facts they begin with, and where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

DASH = "–"
"""Text of a cell for which nothing was run."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; every cell as given."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def fact_lines(facts: Mapping[str, str]) -> list[str]:
    """Return machine.facts as a list."""
    return [f"- {name}: {value}" for name, value in facts.items()]


def publish(text: str, path: Path | None) -> None:
    """Print a page, and write it if a path is given."""
    print(text)
    if path is not None:
        write(path, text)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
