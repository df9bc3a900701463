"""Resolution of package.xml's keys with the public rosdep data in rosdep_keys.yaml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = (ROOT / "package.xml").read_text()
DATA = yaml.safe_load((Path(__file__).parent / "rosdep_keys.yaml").read_text())
DISTRIBUTIONS = ("humble", "jazzy", "kilted")


def keys() -> set[str]:
    return set(re.findall(r"<(?:exec_|test_|buildtool_)?depend>([^<]+)<", MANIFEST))


def pip_keys() -> set[str]:
    """Keys that rosdep installs with pip, which Ubuntu 24.04 refuses outside of an environment."""
    return {key for key, entry in DATA["system"].items() if "pip" in entry["ubuntu"]}


def test_every_key_resolves():
    assert len(keys()) > 20
    unknown = keys() - DATA["system"].keys() - DATA["packages"].keys()
    assert not unknown, f"add these to rosdep_keys.yaml, from ros/rosdistro: {unknown}"
    for key in keys() & DATA["system"].keys():
        assert DATA["system"][key]["ubuntu"], f"{key} has no rule for Ubuntu"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_ros_package_is_released(distribution):
    for key in keys() & DATA["packages"].keys():
        assert distribution in DATA["packages"][key], f"{key} is not released in {distribution}"


def test_the_documented_way_skips_exactly_the_keys_that_pip_would_install():
    assert len(pip_keys()) == 3
    page = (ROOT / "docs" / "how-to" / "run_on_a_robot.md").read_text()
    [skipped] = re.findall(r'--skip-keys "([^"]+)"', page)
    assert set(skipped.split()) == pip_keys() & keys()
    installed = re.findall(r"pip install ([a-z .]+)$", page, re.MULTILINE)
    packages = {
        name for key in pip_keys() for name in DATA["system"][key]["ubuntu"]["pip"]["packages"]
    }
    assert packages - {"torchvision"} <= set(" ".join(installed).split())
