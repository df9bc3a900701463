"""Frame of a command line: help with examples, outputs that are kept, errors in one sentence."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from vla_pruner_ros.resources import package_version

WRONG = 2
"""Exit status of a program that did nothing because of its arguments or files."""
TRACEBACK = "VLA_PRUNER_TRACEBACK"
"""Environment variable that asks for a traceback instead of a sentence."""


@dataclass(frozen=True)
class Program:
    """A program as its user meets it.

    name: how it is called, such as "vla_pruner_replay". description: of the help. examples: lines
    of arguments. errors: exceptions that are the user's to fix; their text is the sentence.
    """

    name: str
    description: str
    examples: tuple[str, ...] = ()
    epilog: str = ""
    errors: tuple[type[Exception], ...] = (ValueError, OSError, ImportError)

    def parser(self, **options: Any) -> ProgramParser:
        """Return a parser with --version, the examples and the epilog."""
        lines = [f"  {self.name} {example}".rstrip() for example in self.examples]
        examples = ["examples:\n" + "\n".join(lines)] if lines else []
        parser = ProgramParser(
            self.name,
            description=self.description,
            epilog="\n\n".join([*([self.epilog.strip()] if self.epilog else []), *examples]),
            formatter_class=_Formatter,
            **options,
        )
        version = f"vla_pruner_ros {package_version()}"
        parser.add_argument("--version", action="version", version=version)
        return parser

    def main(self, function: Callable[[list[str]], int]) -> Callable[..., int]:
        """Decorate the main function: it gets the arguments; its errors become one sentence."""

        @wraps(function)
        def run(arguments: Sequence[str] | None = None) -> int:
            given = sys.argv[1:] if arguments is None else arguments
            try:
                return function(list(given))
            except KeyboardInterrupt:
                print(f"{self.name}: interrupted", file=sys.stderr)
                return 130
            except self.errors as error:
                if os.environ.get(TRACEBACK):
                    raise
                print(f"{self.name}: {sentence(error)}", file=sys.stderr)
                return WRONG

        return run


class ProgramParser(argparse.ArgumentParser):
    """Parser that keeps what an earlier run wrote, unless --overwrite is given."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._outputs: dict[str, tuple[str, ...]] = {}

    def add_output(self, *flags: str, holds: Sequence[str] = (), **options: Any) -> None:
        """Add an argument that names a file to write.

        Args:
            flags: as of add_argument.
            holds: names of the files in it, if it is a folder.
            options: as of add_argument.
        """
        action = self.add_argument(*flags, type=Path, **options)
        if not self._outputs:
            self.add_argument(
                "--overwrite", action="store_true", help="replace the results of an earlier run"
            )
        self._outputs[action.dest] = tuple(holds)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parse; end the program if an output exists and --overwrite is not given."""
        given = super().parse_args(args, namespace)
        for dest, holds in self._outputs.items():
            path = getattr(given, dest)
            if path is not None:
                self._check_output(f"--{dest.replace('_', '-')}", path, holds, given.overwrite)
        return given

    def _check_output(self, flag: str, path: Path, holds: Sequence[str], overwrite: bool) -> None:
        if holds and path.exists() and not path.is_dir():
            self.error(f"{flag} {path} is a file; give a folder")
        if not holds and path.is_dir():
            self.error(f"{flag} {path} is a folder; give a file")
        found = [name for name in (path / part for part in holds or ("",)) if name.exists()]
        if found and not overwrite:
            self.error(
                f"{found[0]} exists already: add --overwrite to replace it, or give another {flag}"
            )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Paragraphs as they are written, and each default that is worth a word."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        is_plain = action.default in (None, argparse.SUPPRESS, False, "", [], ())
        if not text or is_plain or "default" in text or not action.option_strings:
            return text
        if isinstance(action.default, (list, tuple)):
            shown = " ".join(map(str, action.default))
            return f"{text} (default: {shown})" if len(shown) < 60 else text
        return f"{text} (default: %(default)s)"


def sentence(error: BaseException) -> str:
    """Return an exception's text in one line; the file and the reason of an OSError."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and str(error).startswith("No module named"):
        return f"{error.name} is not installed: make setup installs what a clone needs"
    return " ".join(str(error).split()) or type(error).__name__
