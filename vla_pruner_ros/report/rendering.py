"""The templates of the reports: HTML, CSS and JavaScript are files in templates/."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def environment() -> Environment:
    """Return the templates' environment; every value is escaped unless it is Markup."""
    return Environment(
        loader=PackageLoader("vla_pruner_ros.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def part(name: str, *arguments: Any) -> Markup:
    """Return the markup of a macro of parts.html."""
    return Markup(getattr(environment().get_template("parts.html").module, name)(*arguments))
