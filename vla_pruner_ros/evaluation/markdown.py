"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

DASH = "–"
"""In a cell for which nothing was run."""


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines; every cell as given."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
