"""Every cell of the fault matrix names tests that exist, or says why there is none."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "fault_matrix.md"
FAULTS = (
    "clock", "terminal", "signal", "camera", "state", "pose", "policy thread", "worker", "executor",
    "DDS", "disk", "memory",
)  # fmt: skip
PHASES = ["idle", "loading", "moving", "deactivating"]
NAMED = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def rows() -> dict[str, list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == PHASES
    return {name.strip("*"): rest for name, *rest in cells[2:]}


def test_every_fault_has_a_cell_for_every_phase():
    assert tuple(rows()) == FAULTS
    assert all(len(cells) == len(PHASES) for cells in rows().values())


def test_every_cell_names_a_test_or_says_why_it_has_none():
    for fault, cells in rows().items():
        for phase, cell in zip(PHASES, cells, strict=True):
            has_reason = re.match(r"no test: \w.{10,}", cell)
            assert NAMED.search(cell) or has_reason, f"{fault}, {phase}: {cell!r}"


def test_every_test_that_is_named_exists():
    for path, name in NAMED.findall(PAGE.read_text()):
        source = (ROOT / "test" / path).read_text()
        assert re.search(rf"^def {name}\(", source, re.M), f"{path} has no {name}"
