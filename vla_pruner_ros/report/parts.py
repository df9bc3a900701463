"""Small pieces of a page; every function returns HTML and escapes the text it is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

Cell = str | float | int | None


def text(words: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(words)}</p>"


def note(words: str, kind: str = "info") -> str:
    """Return a highlighted remark; kind is info, warning or error."""
    return f'<p class="note {escape(kind)}">{escape(words)}</p>'


def tiles(facts: Iterable[tuple[str, Cell, str]]) -> str:
    """Return the headline figures: (label, value, unit or remark) each."""
    items = "".join(
        f"<div class='tile'><dt>{escape(label)}</dt><dd>{cell_text(value)}"
        f"<small>{escape(remark)}</small></dd></div>"
        for label, value, remark in facts
    )
    return f"<dl class='tiles'>{items}</dl>"


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "") -> str:
    """Return a table; numbers are aligned right, None and NaN show as a dash."""
    rows = [list(row) for row in rows]
    numeric = [all(_is_number(row[place]) for row in rows) for place in range(len(headers))]
    head = "".join(
        f"<th scope='col'{_number_class(right)}>{escape(header)}</th>"
        for header, right in zip(headers, numeric, strict=True)
    )
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f"<div class='scroll'><table>{title}<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Cell) -> str:
    return f"<td{_number_class(_is_number(value))}>{cell_text(value)}</td>"


def _is_number(value: Cell) -> bool:
    return value is None or isinstance(value, (int, float))


def _number_class(is_number: bool) -> str:
    return " class='number'" if is_number else ""


def cell_text(value: Cell) -> str:
    """Return a value as escaped text, floats with four significant digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))


def figure(html: str, caption: str = "") -> str:
    """Wrap a plot, picture or slider with a caption."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{words}{html}</figure>"


def columns(parts: Iterable[str], least_width: int = 340) -> str:
    """Set parts side by side, as many as fit; least_width in pixels."""
    inner = "".join(f"<div>{part}</div>" for part in parts)
    return f"<div class='columns' style='--least:{int(least_width)}px'>{inner}</div>"


def legend(names: Sequence[str]) -> str:
    """Return the key to the colours of series, in their order."""
    items = "".join(
        f"<span class='key'><i class='swatch s{place % 8}'></i>{escape(name)}</span>"
        for place, name in enumerate(names)
    )
    return f"<div class='legend'>{items}</div>"


def picture(address: str, alt: str) -> str:
    """Return a picture, its address from images.data_uri()."""
    return (
        f"<img class='picture' src='{escape(address, quote=True)}' alt='{escape(alt, quote=True)}'>"
    )
