"""One finding of the doctor: a light, what was found, and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

GREEN, YELLOW, RED = "green", "yellow", "red"
COLOURS = {GREEN: "\033[32m", YELLOW: "\033[33m", RED: "\033[31m"}
PLAIN = "\033[0m"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    level: green works, yellow works with a loss, red does not work. remedy: empty if green.
    """

    area: str
    level: str
    text: str
    remedy: str = ""

    def line(self, colour: bool) -> str:
        """Return the finding for a terminal, its remedy below it."""
        word = f"{self.level:<6}"
        shown = f"{COLOURS[self.level]}{word}{PLAIN}" if colour else word
        below = f"\n{'':20}-> {self.remedy}" if self.remedy else ""
        return f"{shown}  {self.area:<10}  {self.text}{below}"

    def record(self) -> dict[str, str]:
        """Return the finding as a dict of texts, for JSON."""
        return asdict(self)


def green(area: str, text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(area, GREEN, text)


def yellow(area: str, text: str, remedy: str) -> Finding:
    """Return a finding to look at, with its remedy."""
    return Finding(area, YELLOW, text, remedy)


def red(area: str, text: str, remedy: str) -> Finding:
    """Return a finding that prevents running, with its remedy."""
    return Finding(area, RED, text, remedy)


def examine(area: str, checks: Iterable[Callable[[], Iterable[Finding]]]) -> Iterator[Finding]:
    """Yield the findings of checks; one that fails itself is a yellow finding."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            name = getattr(check, "__name__", "a check").strip("_")
            text = f"{name} could not be checked: {type(error).__name__}: {error}"
            yield yellow(area, " ".join(text.split()), "report this; the other checks hold")


def summary(findings: Iterable[Finding]) -> str:
    """Return the count of each light in words."""
    levels = [finding.level for finding in findings]
    return ", ".join(f"{levels.count(level)} {level}" for level in (RED, YELLOW, GREEN))
