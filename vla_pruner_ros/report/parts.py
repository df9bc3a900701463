"""Small pieces of a page; every function returns markup and escapes the text it is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from vla_pruner_ros.report.rendering import part

Cell = str | float | int | None
BELOW = 1e-5
"""Numbers closer to zero than this are rounding of float32, and are written as 0."""


def text(message: str) -> Markup:
    """Return a paragraph."""
    return part("text", message)


def code(command: str) -> Markup:
    """Return a command to copy, in lines of its own."""
    return part("code", command)


def note(message: str, kind: str = "info") -> Markup:
    """Return a highlighted remark; kind is info, warning or error."""
    return part("note", message, kind)


def tiles(figures: Iterable[tuple[str, Cell, str]]) -> Markup:
    """Return the headline figures: (label, value, unit or remark) each."""
    return part("tiles", [(label, cell_text(value), remark) for label, value, remark in figures])


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "", wrap: bool = False
) -> Markup:
    """Return a table; numbers are aligned right, None and NaN show as a dash.

    wrap: break long texts instead of letting the table scroll sideways.
    """
    rows = [list(row) for row in rows]
    numeric = [all(_is_number(row[place]) for row in rows) for place in range(len(headers))]
    cells = [[(cell_text(value), _is_number(value)) for value in row] for row in rows]
    return part("table", list(zip(headers, numeric, strict=True)), cells, caption, wrap)


def _is_number(value: Cell) -> bool:
    return value is None or isinstance(value, (int, float))


def cell_text(value: Cell) -> str:
    """Return a value as text, floats with four significant digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return "0" if abs(value) < BELOW else f"{value:.4g}"
    return str(value)


def figure(html: Markup, caption: str = "") -> Markup:
    """Wrap a plot, image or slider with a caption."""
    return part("figure", html, caption)


def columns(parts: Iterable[Markup], least_width: int = 340) -> Markup:
    """Set parts side by side, as many as fit; least_width in pixels."""
    return part("columns", list(parts), int(least_width))


def legend(names: Sequence[str]) -> Markup:
    """Return the key to the colours of series, in their order."""
    return part("legend", names)


def image(address: str, alt: str) -> Markup:
    """Return an image, its address from images.data_uri()."""
    return part("image", address, alt)
