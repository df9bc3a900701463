"""Fields of dataclasses that users may set, and the check of their values.

A settings class is a frozen dataclass whose fields are made by setting(). ROS parameters, command
lines and the tables of the documentation are derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

AUTO = "auto"
"""Ways to write None, for a setting that the checkpoint or the preset decides."""

Choices = tuple[str, ...]

_ABOUT = "setting"
_KIND_NAMES = {
    float: "a number, such as 0.5",
    int: "an integer",
    str: "a string",
    bool: "a bool",
}


def setting(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Choices | Callable[[], Choices] = (),
    when: str = "live",
) -> Any:
    """Declare a field of a settings class.

    Args:
        default: value if nothing is given; None: checkpoint or preset decide, written AUTO.
        description: one or two sentences with the unit.
        low: smallest value allowed, inclusive.
        high: largest value allowed, inclusive.
        choices: allowed values of a string, or a function that returns them.
        when: live, or configure for what a running node does not take.
    """
    about = {
        "description": description,
        "low": low,
        "high": high,
        "choices": choices,
        "when": when,
    }
    return field(default=default, metadata={_ABOUT: about})


@dataclass(frozen=True)
class Spec:
    """Everything that is declared about one setting.

    Attributes:
        kind: bool, int, float or str; of the items if the setting is a list.
        is_optional: None is allowed, written AUTO.
    """

    name: str
    kind: type
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: Choices = ()
    when: str = "live"
    is_list: bool = False
    is_optional: bool = False

    @property
    def allowed(self) -> str:
        """The range or the choices as text, empty if every value of the type is allowed."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is None:
            return ""
        form = "d" if self.kind is int else "g"
        return f"{self.low:{form}} to {self.high:{form}}"

    @property
    def written_default(self) -> Any:
        """The default as a user writes it: AUTO for None, a list for a tuple."""
        if self.default is None:
            return AUTO
        return list(self.default) if self.is_list else self.default


@cache
def specs_of(cls: type) -> tuple[Spec, ...]:
    """Return the specs of a settings class in the order of its fields.

    Fields that setting() did not make are left out.
    """
    hints = get_type_hints(cls)
    return tuple(
        _spec(one.name, hints[one.name], one.default, dict(one.metadata[_ABOUT]))
        for one in fields(cls)
        if _ABOUT in one.metadata
    )


def _spec(name: str, hint: Any, default: Any, about: dict[str, Any]) -> Spec:
    is_optional = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    if is_optional:
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    is_list = get_origin(hint) is tuple
    kind = get_args(hint)[0] if is_list else hint
    if kind not in _KIND_NAMES:
        raise TypeError(f"{name} cannot be set by a user: {hint!r} is not a plain type")
    if callable(about["choices"]):
        about["choices"] = about["choices"]()
    return Spec(name, kind, default, is_list=is_list, is_optional=is_optional, **about)


def check_fields(settings: Any) -> None:
    """Check every declared field of a settings object; call it in __post_init__.

    Values are stored in the declared type: 1 becomes 1.0 if a float is declared.

    Raises:
        ValueError: a sentence that names the field, the value and what is allowed.
    """
    for spec in specs_of(type(settings)):
        checked = check_value(spec, getattr(settings, spec.name))
        object.__setattr__(settings, spec.name, checked)


def check_value(spec: Spec, value: Any) -> Any:
    """Return the value in the declared type.

    Raises:
        ValueError: wrong type, out of range or none of the choices.
    """
    if spec.is_optional and (value is None or value == AUTO):
        return None
    if spec.is_list:
        return _check_list(spec, value)
    return _check_scalar(spec, value)


def _check_scalar(spec: Spec, value: Any) -> Any:
    if spec.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not spec.kind:
        extra = f" or {AUTO}" if spec.is_optional else ""
        raise ValueError(f"{spec.name} must be {_KIND_NAMES[spec.kind]}{extra}, got {value!r}")
    if spec.kind is float and not math.isfinite(value):
        raise ValueError(f"{spec.name} must be finite, got {value}")
    if spec.choices and value not in spec.choices:
        raise ValueError(f"{spec.name} must be one of {', '.join(spec.choices)}, got '{value}'")
    if spec.low is not None and value < spec.low:
        raise ValueError(f"{spec.name} must be at least {spec.low:g}, got {value}")
    if spec.high is not None and value > spec.high:
        raise ValueError(f"{spec.name} must be at most {spec.high:g}, got {value}")
    return value


def _check_list(spec: Spec, value: Any) -> tuple:
    # An empty YAML list arrives without a type, as None or an empty list of anything.
    items = () if value is None else value
    if isinstance(items, (str, int, float)):
        raise ValueError(f"{spec.name} must be a list, got {value!r}")
    if spec.kind is str:
        if not all(isinstance(item, str) for item in items):
            raise ValueError(f"{spec.name} must be a list of strings, got {value!r}")
        return tuple(items)
    if not all(isinstance(item, (int, float)) and math.isfinite(item) for item in items):
        raise ValueError(f"{spec.name} must be a list of finite numbers, got {value!r}")
    return tuple(spec.kind(item) for item in items)
