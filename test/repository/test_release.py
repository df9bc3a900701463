"""Needs of a release: one place for the address, tests that colcon runs, ROS's own lists."""

from __future__ import annotations

import importlib.util
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = "https://github.com/someone/vla_pruner_ros", "https://gitlab.com/others/pruner"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "set_repository.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path):
    for name in ("package.xml", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("addresses", [[FIRST], [FIRST + ".git"], [FIRST, SECOND]])
def test_one_command_fills_in_the_address(script, copy, addresses):
    for address in addresses:
        script.set_repository(copy, address)
    last = addresses[-1].removesuffix(".git")
    manifest = ElementTree.parse(copy / "package.xml").getroot()
    found = {url.get("type"): url.text for url in manifest.findall("url")}
    assert found == {"repository": last, "bugtracker": f"{last}/issues"}
    assert yaml.safe_load((copy / "CITATION.cff").read_text())["repository-code"] == last
    assert (copy / "README.md").read_text().count(f"git clone {last} vla_pruner_ros") == 1
    order = [child.tag for child in manifest]
    assert order.index("license") < order.index("url") < order.index("buildtool_depend")


def test_an_address_that_is_none_changes_nothing(script, copy):
    before = (copy / "package.xml").read_text()
    with pytest.raises(ValueError, match="no address of the form"):
        script.set_repository(copy, "github.com/someone")
    assert (copy / "package.xml").read_text() == before


def test_colcon_test_runs_folders_that_exist():
    text = (ROOT / "CMakeLists.txt").read_text()
    [folders] = re.findall(r"foreach\(folder ([^)]+)\)", text)
    assert len(folders.split()) >= 5
    for folder in folders.split():
        assert list((ROOT / "test" / folder).glob("test_*.py")), folder
    assert "find_package(ament_cmake_pytest QUIET)" in text
    assert "<test_depend>ament_cmake_pytest</test_depend>" in (ROOT / "package.xml").read_text()


def test_nobody_is_told_to_install_this_package_from_an_index():
    """It is on none so far: the command would fail, or bring a stranger's package of that name."""
    command = re.compile(r"pip install [^\n`|]*\bvla[-_]pruner[-_]ros\b(?!/)")
    tops = ("vla_pruner_ros", "vla_pruner_lab", "docs")
    paths = [path for top in tops for path in (ROOT / top).rglob("*.*")] + [ROOT / "README.md"]
    texts = {p: p.read_text("utf-8") for p in paths if p.suffix in (".py", ".md")}
    assert sum("pip install" in text for text in texts.values()) > 10
    assert not [str(p) for p, text in texts.items() if command.search(text)]
