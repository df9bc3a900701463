"""One self-contained HTML file from sections."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vla_pruner_ros.report.rendering import environment


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    html: Markup
    lead: str = ""


def section(title: str, *parts: Markup | str, lead: str = "") -> Section:
    """Return a section of parts, with a sentence about its content.

    A part that is no markup is escaped.
    """
    return Section(title, Markup("").join(parts), lead)


def page(title: str, sections: Sequence[Section], subtitle: str = "", badge: str = "") -> str:
    """Return a complete HTML document.

    Args:
        title: its heading.
        sections: in order; with three or more a table of contents is shown.
        subtitle: a line under the heading.
        badge: a short warning next to the title, for example "untrained weights".
    """
    template = environment().get_template("page.html")
    html = template.render(title=title, sections=sections, subtitle=subtitle, badge=badge)
    return html + "\n"


def write_page(path: Path, html: str) -> None:
    """Write the document completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(html, encoding="utf-8")
    os.replace(unfinished, path)
