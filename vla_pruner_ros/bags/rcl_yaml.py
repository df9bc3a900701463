"""YAML as rcl reads parameters: 5e-1 and 0x10 are numbers, yes is true, quoted values are strings.

PyYAML follows YAML 1.1, in which 5e-1 is a string. Rules: rcl_yaml_param_parser/src/parse.c.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TRUE = ("Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.?(inf|nan)", re.IGNORECASE)


def rcl_value(text: str) -> Any:
    """Return the value of a plain (unquoted) scalar."""
    if text in ("", "~", "null"):
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" and digits != "0" else 10
        return int(text, base)
    special = _SPECIAL.fullmatch(text)
    if special:
        return float(special[1] + special[2])
    return float(text) if _FLOAT.fullmatch(text) else text


class RclLoader(yaml.SafeLoader):
    """A safe loader with rcl's rules for scalars."""

    yaml_implicit_resolvers: dict[str, list] = {}  # noqa: RUF012 - PyYAML's own attribute


def _scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    return rcl_value(text) if node.style is None else text


RclLoader.add_constructor("tag:yaml.org,2002:str", _scalar)
# launch_ros writes lists with this tag, which rcl passes over.
RclLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node)
)
