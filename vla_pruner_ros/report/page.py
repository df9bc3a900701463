"""One self-contained HTML file from sections."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from vla_pruner_ros.report.script import SCRIPT
from vla_pruner_ros.report.style import STYLE


@dataclass(frozen=True)
class Section:
    """A titled part of a page; `html` is taken as it is."""

    title: str
    html: str
    lead: str = ""


def section(title: str, *parts: str, lead: str = "") -> Section:
    """Return a section of HTML parts, with a sentence that says what it shows."""
    return Section(title, "".join(parts), lead)


def page(title: str, sections: Sequence[Section], subtitle: str = "", badge: str = "") -> str:
    """Return a whole HTML document.

    Args:
        title, subtitle: its heading.
        sections: in order; with three or more a table of contents is shown.
        badge: a short warning beside the title, for example "untrained weights".
    """
    badge_html = f"<span class='badge'>{escape(badge)}</span>" if badge else ""
    subtitle_html = f"<p class='subtitle'>{escape(subtitle)}</p>" if subtitle else ""
    body = "".join(_section_html(place, part) for place, part in enumerate(sections))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}{badge_html}</h1>{subtitle_html}</header>"
        f"{_contents(sections)}{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 3:
        return ""
    links = "".join(
        f"<a href='#s{place}'>{escape(part.title)}</a>" for place, part in enumerate(sections)
    )
    return f"<nav>{links}</nav>"


def _section_html(place: int, part: Section) -> str:
    lead = f"<p class='lead'>{escape(part.lead)}</p>" if part.lead else ""
    return f"<section id='s{place}'><h2>{escape(part.title)}</h2>{lead}{part.html}</section>"


def write_page(path: Path, html: str) -> None:
    """Write the document whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(html, encoding="utf-8")
    os.replace(unfinished, path)
