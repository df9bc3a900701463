#!/usr/bin/env python3
"""Write the address of the public repository wherever it belongs, from one place.

    scripts/set_repository.py https://github.com/OWNER/vla_pruner_ros

Fills package.xml (repository and bug tracker), CITATION.cff and README.md. A second call with
another address replaces the first.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
URLS = re.compile(r'  <url type="(?:repository|bugtracker)">[^<]*</url>\n')
CITED = re.compile(r"^repository-code: .*\n", re.MULTILINE)
CLONED = re.compile(r"git clone (?:<this repository>|\S+) vla_pruner_ros")


def set_repository(root: Path, address: str) -> list[str]:
    """Write the address; return the names of the changed files.

    Raises:
        ValueError: it is no https address.
    """
    address = address.rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+/[\w./-]+", address):
        raise ValueError(f"{address!r} is no address of the form https://HOST/OWNER/NAME")
    urls = (
        f'  <url type="repository">{address}</url>\n'
        f'  <url type="bugtracker">{address}/issues</url>\n'
    )
    changes = {
        "package.xml": lambda text: _after(URLS.sub("", text), "</license>\n", urls),
        "CITATION.cff": lambda text: _after(
            CITED.sub("", text), "license: Apache-2.0\n", f"repository-code: {address}\n"
        ),
        "README.md": lambda text: CLONED.sub(f"git clone {address} vla_pruner_ros", text),
    }
    for name, change in changes.items():
        path = root / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")
    return list(changes)


def _after(text: str, place: str, added: str) -> str:
    if text.count(place) != 1:
        raise ValueError(f"{place.strip()!r} must stand once where {added.strip()!r} goes")
    return text.replace(place, place + added)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        changed = set_repository(ROOT, arguments[0])
    except ValueError as error:
        print(f"set_repository.py: {error}", file=sys.stderr)
        return 2
    print(f"Changed: {', '.join(changed)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
