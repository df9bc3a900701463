"""Compare this package with recordings of the official implementations.

    python -m vla_pruner_lab.conformance DIR

DIR holds any of openvla/, oft/, selection/, pruner_e2e/ (the last needs openvla/checkpoint), pi0/,
pi05/, smolvla/, each with any number of cases. Prints a table of quantity, largest error over the
cases, tolerance and verdict, then the recorded arrays of which a part or all has no counterpart.
Exit status: 0 all within tolerance, 1 something over, 2 nothing to compare.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vla_pruner_lab.common.markdown import text_table
from vla_pruner_lab.common.program import lab_program
from vla_pruner_lab.conformance import flow_models
from vla_pruner_lab.conformance import (
    oft as conformance_oft,
)
from vla_pruner_lab.conformance import (
    openvla as conformance_openvla,
)
from vla_pruner_lab.conformance import (
    selection as conformance_selection,
)
from vla_pruner_lab.conformance.recordings import Comparison
from vla_pruner_ros.models.policy import CheckpointError

PROGRAM = lab_program("conformance", __doc__, "../shared/golden")
SECTIONS = {
    "openvla": conformance_openvla.compare_model,
    "oft": conformance_oft.compare_model,
    "selection": conformance_selection.compare,
    "pruner_e2e": conformance_openvla.compare_pruned_runs,
    "pi0": flow_models.compare_model,
    "pi05": flow_models.compare_model,
    "smolvla": flow_models.compare_model,
}


def compare(directory: Path) -> Comparison:
    """Run every section that the directory holds."""
    comparison = Comparison()
    for name, run in SECTIONS.items():
        if (directory / name).is_dir():
            comparison.section = name
            run(directory, comparison)
    return comparison


def format_table(comparison: Comparison) -> str:
    """Plain text, one line a quantity."""
    headers = ("section", "quantity", "cases", "largest error", "tolerance", "verdict")
    return text_table(headers, [row.cells() for row in comparison.rows])


def format_remarks(comparison: Comparison) -> str:
    """Plain text: what is compared in part or not at all, and why."""
    parts = (("in part", comparison.notes), ("not", comparison.left_out))
    return "\n".join(
        f"{section}: {quantity} is compared {how}: {reason}"
        for how, remarks in parts
        for (section, quantity), reason in remarks.items()
    )


@PROGRAM.main
def main(arguments: list[str]) -> int:
    parser = PROGRAM.parser()
    parser.add_argument("directory", type=Path, help=f"holds any of {', '.join(SECTIONS)}")
    directory = parser.parse_args(arguments).directory
    try:
        comparison = compare(directory)
    except (CheckpointError, OSError, KeyError) as error:
        print(f"{directory} cannot be compared: {error}", file=sys.stderr)
        return 2
    if not comparison.rows:
        print(f"{directory} holds none of {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    print(format_table(comparison))
    if remarks := format_remarks(comparison):
        print(f"\n{remarks}")
    over = [row for row in comparison.rows if not row.passes]
    print(f"\n{len(comparison.rows) - len(over)} of {len(comparison.rows)} quantities conform")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
