"""Malformed input, and its expected outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_pruner_ros.bags.reader import BagError
from vla_pruner_ros.models.policy import PolicyError

REFUSALS = (ValueError, PolicyError, BagError)


REFUSED, HARMLESS = "refused", "harmless"


@dataclass(frozen=True)
class BadInput:
    """One input.

    attempt: called with an empty directory; for a harmless case it returns what came of the input.
    text: what the refusal must contain. check: whether the result of a harmless case is as it must
    be.
    """

    area: str
    name: str
    attempt: Callable[[Path], Any]
    text: str = ""
    check: Callable[[Any], bool] | None = None

    @property
    def expected(self) -> str:
        """Outcome that is right for this input."""
        return HARMLESS if self.check else REFUSED


def outcome(case: BadInput, directory: Path) -> str:
    """Return "" if a case ends as expected, else the actual outcome."""
    try:
        result = case.attempt(directory)
    except REFUSALS as error:
        if case.expected == HARMLESS:
            return f"refused: {error}"
        return "" if case.text in str(error) else f"refused with another message: {error}"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    if case.expected == REFUSED:
        return "was accepted"
    return "" if case.check(result) else f"gave {result!r}"
