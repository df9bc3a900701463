"""Programs of the laboratory: python -m vla_pruner_lab.NAME, with one form of help and errors."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from pathlib import Path

from vla_pruner_lab.common.processes import WorkError
from vla_pruner_ros.bags.reader import BagError
from vla_pruner_ros.models.loading import checkpoint_directory
from vla_pruner_ros.models.policy import PolicyError
from vla_pruner_ros.settings.program import Program
from vla_pruner_ros.sim.tasks import task_name

ERRORS = (ValueError, OSError, ImportError, PolicyError, BagError, WorkError)


def lab_program(module: str, description: str, *examples: str) -> Program:
    """Return the program that `python -m vla_pruner_lab.<module>` runs."""
    return Program(
        f"python -m vla_pruner_lab.{module}", description.strip(), examples, errors=ERRORS
    )


def start(module: str) -> int:
    """Import a module of the laboratory and run its main(): a missing library is one sentence."""
    name = module.removesuffix(".cli")
    program = Program(f"python -m {name}", "", errors=ERRORS)
    return program.main(lambda arguments: importlib.import_module(module).main(arguments))()


def checkpoint(text: str) -> Path:
    """Read a checkpoint from the command line: a folder or a bundled name.

    Raises:
        argparse.ArgumentTypeError: there is none; the sentence gives what is allowed.
    """
    try:
        return checkpoint_directory(text)
    except (PolicyError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def task(text: str) -> str:
    """Read a task of the simulated robot.

    Raises:
        argparse.ArgumentTypeError: there is none; the sentence gives what is allowed.
    """
    try:
        return task_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number(
    kind: Callable[[str], float], low: float, high: float = math.inf, above: bool = False
) -> Callable[[str], float]:
    """Return a reader of numbers between low and high; above: low itself is not allowed."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not (low < value if above else low <= value) or not value <= high:
            allowed = f"above {low:g}" if above else f"at least {low:g}"
            upper = "" if high == math.inf else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"must be {allowed}{upper}, got {text}")
        return value

    return read


COUNT = number(int, 1)
"""Reader of a number of things, 1 or more."""
NATURAL = number(int, 0)
"""Reader of a number of things, 0 or more."""
POSITIVE = number(float, 0.0, above=True)
"""Reader of a positive number."""
SHARE = number(float, 0.0, 1.0, above=True)
"""Reader of a share: above 0 and at most 1."""
