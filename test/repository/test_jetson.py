"""The memory table of the Jetson page, computed again from the predictions."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "how-to" / "jetson.md").read_text()
PREDICTIONS = (DOCS / "reference" / "benchmarks" / "predictions.md").read_text()
NAMES = {"OpenVLA": "openvla", "OpenVLA-OFT": "openvla_oft", "pi0": "pi0", "pi0.5": "pi05",
         "SmolVLA": "smolvla"}  # fmt: skip
PRECISIONS = ("16-bit", "int8", "int4")
MEMORY = (8.0, 16.0, 32.0)
SPARE, SYSTEM = 1.25, 4.0


def predicted() -> dict[tuple[str, str], float]:
    """Return (family, weights) -> GB of the weights alone, on the AGX Orin."""
    part = PREDICTIONS.partition("## Jetson AGX Orin")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([\w-]+) \| ([\d.]+)", part, re.MULTILINE)
    return {(family, weights): float(size) for family, weights, size in rows}


def table() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([^|]+) \|(.+)\|$", PAGE.partition("## Memory")[2], re.MULTILINE)
    cells = {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}
    return {name: cells[name] for name in NAMES}


def fitting(sizes: list[float], memory: float) -> str:
    """Return which precisions fit, as the page writes it."""
    words = ("bfloat16", "int8", "int4")
    fits = [w for w, gb in zip(words, sizes, strict=True) if SPARE * gb + SYSTEM <= memory]
    return "yes" if len(fits) == 3 else ", ".join(fits) or "no"


def test_every_size_is_the_predicted_one():
    sizes = predicted()
    assert len(sizes) >= 15
    for name, cells in table().items():
        assert [float(c) for c in cells[:3]] == [sizes[NAMES[name], p] for p in PRECISIONS], name


def test_what_fits_follows_from_the_stated_rule():
    assert "weights, a quarter more and 4 GB" in PAGE
    for name, cells in table().items():
        sizes = [float(cell) for cell in cells[:3]]
        assert cells[3:] == [fitting(sizes, memory) for memory in MEMORY], name


def test_the_statement_about_openvla_is_predicted():
    part = PREDICTIONS.partition("## Jetson AGX Orin")[2].partition("\n## ")[0]
    steps = re.findall(r"^\| openvla \| (16-bit|int8|int4) \|[^|]+\|[^|]+\| ([\d.]+)", part, re.M)
    assert len(steps) >= 12
    assert all(float(ms) > 100 for _, ms in steps)


def test_nothing_is_called_measured():
    assert "Nothing on this page was measured on a Jetson" in PAGE
