"""Pages in Markdown: tables, the metadata at their top, and where they go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

DASH = "–"
"""Text of a cell for which nothing was run."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; every cell as given."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def text_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table for a terminal: names on the left, values on the right, None as a dash."""
    alignment = ["left", *["right"] * (len(headers) - 1)]
    # Cells are formatted already: an exponent or a trailing zero must stay as it is.
    return tabulate(list(rows), headers, disable_numparse=True, missingval="-", colalign=alignment)


def metadata_lines(metadata: Mapping[str, str]) -> list[str]:
    """Return machine.metadata as a list."""
    return [f"- {name}: {value}" for name, value in metadata.items()]


def publish(text: str, path: Path | None) -> None:
    """Print a page, and write it if a path is given."""
    print(text)
    if path is not None:
        write(path, text)


def write(path: Path, text: str) -> None:
    """Write a page; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
