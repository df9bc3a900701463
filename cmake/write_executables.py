"""Write one executable per console script of setup.cfg and print their paths for CMake.

Usage: write_executables.py SETUP_CFG DIRECTORY
"""

import configparser
import pathlib
import sys

SCRIPT = """#!/usr/bin/env python3
import sys

from {module} import {function}

sys.exit({function}())
"""


def console_scripts(setup_cfg: str) -> dict[str, tuple[str, str]]:
    """Return name -> (module, function) as declared under options.entry_points."""
    parser = configparser.ConfigParser()
    parser.read(setup_cfg)
    lines = parser["options.entry_points"]["console_scripts"].strip().splitlines()
    pairs = (line.split("=", 1) for line in lines)
    return {name.strip(): tuple(target.strip().split(":")) for name, target in pairs}


def main() -> None:
    setup_cfg, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (module, function) in console_scripts(setup_cfg).items():
        path = directory / name
        path.write_text(SCRIPT.format(module=module, function=function))
        path.chmod(0o755)
        paths.append(path.as_posix())
    print(";".join(paths))


if __name__ == "__main__":
    main()
