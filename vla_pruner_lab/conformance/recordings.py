"""Recordings of official runs, hooks on our own modules, and the table of errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

FEATURES, HIDDEN, ATTENTION, OFT_ACTIONS, EXACT = 2e-5, 2e-4, 2e-5, 5e-5, 0.0
"""Tolerances; a float32 run of the official code itself moves by a tenth of these."""


@dataclass
class ComparisonRow:
    """One quantity; error is the largest over all its cases."""

    section: str
    quantity: str
    tolerance: float
    error: float = 0.0
    cases: int = 0

    @property
    def passes(self) -> bool:
        """True if it was compared and is within tolerance; an error of NaN is not."""
        return self.cases > 0 and self.error <= self.tolerance

    def cells(self) -> tuple[str, ...]:
        """Return the cells of this row of the table."""
        tolerance = "exact" if self.tolerance == EXACT else f"{self.tolerance:.0e}"
        verdict = "ok" if self.passes else "OVER" if self.cases else "NOT COMPARED"
        return self.section, self.quantity, str(self.cases), f"{self.error:.1e}", tolerance, verdict


@dataclass
class Comparison:
    """Rows in the order in which their quantities first came up."""

    section: str = ""
    _rows: dict[tuple[str, str], ComparisonRow] = field(default_factory=dict)
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def rows(self) -> list[ComparisonRow]:
        """Quantities in the order in which they were compared first."""
        return list(self._rows.values())

    def add(self, quantity: str, ours, official, tolerance: float) -> None:
        """Note the largest absolute difference; arrays of different shapes are infinitely far
        apart.
        """
        ours, official = as_array(ours), as_array(official)
        if ours.shape != official.shape:
            self.add_error(quantity, float("inf"), tolerance)
        else:
            difference = np.abs(ours.astype(np.float64) - official.astype(np.float64))
            self.add_error(quantity, float(difference.max(initial=0.0)), tolerance)

    def leave_out(self, quantity: str, reason: str) -> None:
        """Note that a recorded array is not compared, and why."""
        self.left_out[self.section, quantity] = reason

    def note(self, quantity: str, remark: str) -> None:
        """Note which part of a recorded array is not compared."""
        self.notes[self.section, quantity] = remark

    def add_error(self, quantity: str, error: float, tolerance: float) -> None:
        """Add the largest error of a case to a quantity."""
        key = (self.section, quantity)
        row = self._rows.setdefault(key, ComparisonRow(*key, tolerance))
        row.tolerance = tolerance
        row.error = float(np.maximum(row.error, error))  # keeps NaN
        row.cases += 1

    def expect(self, *quantities: str) -> None:
        """Note that the recordings hold these: one that is never compared fails."""
        for quantity in quantities:
            key = (self.section, quantity)
            self._rows.setdefault(key, ComparisonRow(*key, EXACT))


def as_array(values) -> np.ndarray:
    """Return an array on the host, of any shape; values may be a tensor on any device."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


@contextmanager
def watched(modules: dict[str, nn.Module], inputs: bool = False) -> Iterator[dict[str, list]]:
    """Collect what the modules give (or are given), call by call, under the names handed in."""
    seen: dict[str, list] = {name: [] for name in modules}
    handles = []
    for name, module in modules.items():
        hook = _collector(seen[name], inputs)
        handles.append(module.register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _collector(calls: list, inputs: bool):
    def hook(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        calls.append((arguments[0] if inputs else output).detach().clone())

    return hook
