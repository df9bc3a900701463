"""Malformed and hostile inputs, each with its expected outcome.

Every case goes through the function the node uses. A refusal is one of the package's own errors
with a sentence that names the trouble; anything else that escapes is a failure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from vla_pruner_lab.reliability.case import HARMLESS, REFUSED, BadInput


def all_cases() -> Iterator[BadInput]:
    """Yield all cases: messages, files and robot profiles."""
    from vla_pruner_lab.reliability import bad_files, bad_messages
    from vla_pruner_lab.reliability.joints import bad_input as bad_robots

    yield from bad_messages.cases()
    yield from bad_files.cases()
    yield from bad_robots.cases()


def table(cases: list[BadInput], failures: dict[str, str]) -> str:
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
