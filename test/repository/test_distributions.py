"""docs/reference/distributions.md lists the rclpy names that the code uses, and no others."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "reference" / "distributions.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PRODUCT = sorted([*(ROOT / "vla_pruner_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")])


def section(title: str) -> str:
    return DOCUMENT.split(f"## {title}")[1].split("\n## ")[0]


def rows(title: str) -> dict[str, list[str]]:
    """Return the cells by the name in the first one."""
    found = {}
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_all_tests_that_import_ros_run_on_jazzy():
    """A new folder of such tests would be left out unnoticed."""
    listed = re.search(r"^JAZZY_TESTS := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1]
    paths = [ROOT / name for name in listed.replace("\\\n", " ").split()]
    assert all(path.exists() for path in paths)
    of_ros = r"rclpy|\w+_msgs|(?:node|process|recorder)_helpers"
    imports = re.compile(rf"\s*(?:from|import) (?:{of_ros})\b")
    touching = {
        path
        for path in (ROOT / "test").rglob("test_*.py")
        if any(map(imports.match, path.read_text("utf-8").splitlines()))
    }
    assert len(touching) > 25
    assert not [one for one in touching if not {one, one.parent} & set(paths)]


def trees(paths=PRODUCT):
    return [(path, ast.parse(path.read_text("utf-8"))) for path in paths]


def imported() -> set[str]:
    names = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rclpy":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names |= {f"rclpy.{node.attr}"} if node.value.id == "rclpy" else set()
    return names


def test_every_imported_name_is_listed():
    assert rows("Names that are imported").keys() == imported()


def test_a_name_that_a_distribution_lacks_has_one_that_replaces_it():
    listed = rows("Names that are imported")
    for name, cells in listed.items():
        assert len(cells) == 4, name
        for cell in cells:
            other = re.fullmatch(r"(?:no|deprecated), `(rclpy[\w.]+)`", cell)
            assert cell == "yes" or other, (name, cell)
            if other:
                module = other[1]
                assert f"{module}.{name.rpartition('.')[2]}" in listed


def test_the_running_distribution_has_what_is_said_of_it():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    import importlib
    import importlib.metadata

    version = importlib.metadata.version("ros-rclpy").split(".")[0]
    column = {"7": 1, "9": 2}.get(version)
    if column is None:
        pytest.skip(f"rclpy {version} has no column of its own")
    for name, cells in rows("Names that are imported").items():
        module, _, attribute = name.rpartition(".")
        try:
            found = hasattr(importlib.import_module(module), attribute)
        except ImportError:
            found = False
        assert found == (not cells[column].startswith("no")), name


def rclpy_names() -> tuple[set[str], set[str]]:
    """Return public and private names of the rclpy classes that nodes are made of."""
    from rclpy.clock import Clock
    from rclpy.executors import MultiThreadedExecutor
    from rclpy.lifecycle import LifecycleNode

    classes = (LifecycleNode, MultiThreadedExecutor, Clock)
    public = {name for cls in classes for name in dir(cls) if not name.startswith("_")}
    sources = {
        inspect.getsourcefile(base)
        for cls in classes
        for base in cls.__mro__
        if base.__module__.startswith("rclpy")
    }
    private = {
        name
        for source in sources
        for name in re.findall(r"self\.(_[a-z]\w*)", Path(source).read_text("utf-8"))
    }
    return public, private


def test_every_method_is_listed():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    public, _ = rclpy_names()
    used = set()
    for path, tree in trees():
        if not {"nodes", "bringup"} & set(path.parts):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in public:
                used.add(node.attr)
            elif isinstance(node, ast.FunctionDef) and node.name in public:
                used.add(node.name)
    listed = set(re.findall(r"`(\w+)`", section("Methods and properties that are used")))
    assert used == listed


def test_every_private_name_is_listed():
    """Also finds an attribute of ours that would overwrite one of rclpy's."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    _, private = rclpy_names()
    used = set()
    for path, tree in trees():
        if "nodes" not in path.parts:
            continue
        for cls in ast.walk(tree):
            if isinstance(cls, ast.ClassDef) and {
                "Node",
                "LifecycleNode",
                "MultiThreadedExecutor",
            } & {ast.unparse(base) for base in cls.bases}:
                for node in ast.walk(cls):
                    if isinstance(node, ast.Attribute) and node.attr in private:
                        used.add(node.attr)
        constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
        used |= private & {value for value in constants if isinstance(value, str)}
    assert used == {name.rpartition(".")[2] for name in rows("Private names")}
