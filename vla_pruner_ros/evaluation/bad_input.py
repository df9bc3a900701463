"""Malformed and hostile inputs, each with what must come of it.

Every case goes through the function the node uses. A refusal is one of the package's own errors
with a sentence that names the trouble; anything else that escapes is a failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.replay.bag_reader import BagError

REFUSALS = (ValueError, PolicyError, BagError)

REFUSED, HARMLESS = "refused", "harmless"


@dataclass(frozen=True)
class Case:
    """One input.

    attempt: called with an empty directory; for a harmless case it returns what came of the input.
    words: what the refusal must say. check: whether the result of a harmless case is as it must be.
    """

    area: str
    name: str
    attempt: Callable[[Path], Any]
    words: str = ""
    check: Callable[[Any], bool] | None = None

    @property
    def expected(self) -> str:
        return HARMLESS if self.check else REFUSED


def outcome(case: Case, directory: Path) -> str:
    """Return "" where a case ends as expected, else what happened instead."""
    try:
        result = case.attempt(directory)
    except REFUSALS as error:
        if case.expected == HARMLESS:
            return f"refused: {error}"
        return "" if case.words in str(error) else f"refused with other words: {error}"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    if case.expected == REFUSED:
        return "was accepted"
    return "" if case.check(result) else f"gave {result!r}"


def all_cases() -> Iterator[Case]:
    from vla_pruner_ros.evaluation import bad_files, bad_messages

    yield from bad_messages.cases()
    yield from bad_files.cases()


def table(cases: list[Case], failures: dict[str, str]) -> str:
    """Return a Markdown table: area, cases, refused by name, harmless, failed."""
    lines = ["| input | cases | refused by name | taken without harm | failed |"]
    lines.append("|---|---:|---:|---:|---:|")
    areas = list(dict.fromkeys(case.area for case in cases))
    for area in areas:
        own = [case for case in cases if case.area == area]
        expected = Counter(case.expected for case in own)
        failed = sum(case.name in failures for case in own)
        counts = (len(own), expected[REFUSED], expected[HARMLESS], failed)
        lines.append(f"| {area} | {' | '.join(map(str, counts))} |")
    expected = Counter(case.expected for case in cases)
    total = (len(cases), expected[REFUSED], expected[HARMLESS], len(failures))
    lines.append(f"| **all** | {' | '.join(map(str, total))} |")
    return "\n".join(lines)
