"""The layout of the house: folder sizes, import directions, circles. See CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT, LAB = "vla_pruner_ros", "vla_pruner_lab"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MOST_FILES, MOST_LINES, MOST_STATEMENT_LINES = 12, 400, 50
LOOSE_MODULES = {"__init__", "resources"}
FLOORS = (
    {"resources"},
    {"settings"},
    {"pruning", "report", "sim", "robots"},
    {"models"},
    {"conversions", "control"},
    {"bags"},
    {"serving"},
    {"replay"},
    {"nodes", "export"},
    {"bringup", "doctor"},
    {"dashboard"},
)
"""Rooms of the product from the ground up. A room imports from lower floors only."""
WITHOUT_RCLPY = [
    "pruning",
    "models",
    "robots",
    "conversions",
    "control",
    "bags",
    "replay",
    "report",
    "serving",
    "sim",
    "settings",
    "export",
    "resources",
]
LAB_FLOORS = (
    {"common"},
    {"rollout"},
    {"demonstrations", "latency", "conformance"},
    {"training"},
    {"serving"},
    {"closed_loop", "microbenchmarks", "reliability", "demo", "libero"},
)


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules that it imports anywhere, also in functions, but not for types alone.

    A package stands for its __init__.py.
    """
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in (PRODUCT, LAB)
        for path in (ROOT / top).rglob("*.py")
    }
    return {name: _imported(ast.parse(path.read_text()), files) for name, path in files.items()}


def _imported(tree: ast.Module, files: dict[str, Path]) -> set[str]:
    found: set[str] = set()
    for_types = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for one in node.body
        for part in ast.walk(one)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                found.add(module if module in files else node.module)
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def arrows(top: str) -> list[tuple[str, str]]:
    """Pairs (module, module of another room of the same package that it imports)."""
    return [
        (module, target)
        for module, targets in imports().items()
        for target in targets
        if module.startswith(f"{top}.")
        and target.startswith(f"{top}.")
        and room(module) != room(target)
    ]


def test_something_was_read():
    """A layout test that reads nothing stays green for ever."""
    assert len(imports()) > 200
    assert len(arrows(PRODUCT)) > 50
    assert len(arrows(LAB)) > 10


def folders() -> list[Path]:
    return sorted({path.parent for top in (PRODUCT, LAB) for path in (ROOT / top).rglob("*.py")})


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_no_folder_is_crowded(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, (
        f"{folder.relative_to(ROOT)} holds {len(files)} files, more than {MOST_FILES}: group those "
        "that belong together in a subfolder with a docstring in its __init__.py"
    )


def sources() -> list[Path]:
    """Return every Python file of product, lab, launch files and tests."""
    tops = (PRODUCT, LAB, "launch", "test")
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's own lines: docstring and nested functions are not counted."""
    inside = [part for part in function.body if isinstance(part, FUNCTIONS)]
    if ast.get_docstring(function) is not None:
        inside.append(function.body[0])
    return _lines(function) - sum(map(_lines, inside))


def _lines(node: ast.stmt) -> int:
    return node.end_lineno - node.lineno + 1


def test_no_file_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in sources()}
    assert len(lines) > 450
    long = {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > MOST_LINES}
    assert not long, f"split these files by idea ({MOST_LINES} lines at most): {long}"


def test_no_function_is_long():
    lengths = {
        f"{path.relative_to(ROOT)}: {node.name}": length(node)
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, FUNCTIONS)
    }
    assert len(lengths) > 4000
    long = {name: n for name, n in lengths.items() if n > MOST_STATEMENT_LINES}
    assert not long, (
        f"split these functions by idea ({MOST_STATEMENT_LINES} lines at most, without "
        f"docstring and nested functions): {long}"
    )


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_folder_has_a_door(folder):
    door = folder / "__init__.py"
    assert door.is_file(), f"{folder.relative_to(ROOT)} has no __init__.py"
    assert ast.get_docstring(ast.parse(door.read_text())), (
        f"{door.relative_to(ROOT)} has no docstring: say in a sentence what the folder holds"
    )


def test_no_module_lies_loose():
    loose = {path.stem for path in (ROOT / PRODUCT).glob("*.py")} - LOOSE_MODULES
    assert not loose, f"Move {', '.join(sorted(loose))} into one of the folders of {PRODUCT}"


@pytest.mark.parametrize(("top", "floors"), [(PRODUCT, FLOORS), (LAB, LAB_FLOORS)])
def test_imports_go_down(top, floors):
    level = {name: height for height, names in enumerate(floors) for name in names}
    for module, target in arrows(top):
        if room(target) == "msg":
            continue
        for name in (room(module), room(target)):
            assert name in level, f"{top}/{name} stands on no floor: add it in {__file__}"
        assert level[room(target)] < level[room(module)], (
            f"{module} imports {target}, from floor {level[room(module)]} to floor "
            f"{level[room(target)]}: move the shared part to a lower folder, or pass it in"
        )


def test_the_architecture_page_shows_these_floors():
    """The page had replay/ and serving/ on one floor, though one imports the other."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (`.*`) \|$", page, re.MULTILINE)
    shown = {int(floor): set(re.findall(r"`(\w+)(?:/|\.py)`", names)) for floor, names in rows}
    assert shown == dict(enumerate(FLOORS))


def test_the_product_knows_nothing_of_the_lab():
    for module, targets in imports().items():
        if module.startswith(PRODUCT):
            wrong = sorted(target for target in targets if target.startswith(LAB))
            assert not wrong, f"{module} imports {wrong[0]}: a robot does not install {LAB}"


@pytest.mark.parametrize("name", WITHOUT_RCLPY)
def test_rclpy_stays_in_the_nodes(name):
    for module, targets in imports().items():
        if module.startswith(PRODUCT) and room(module) == name:
            wrong = sorted(target for target in targets if target.split(".")[0] == "rclpy")
            assert not wrong, f"{module} imports {wrong[0]}: keep rclpy in nodes/ and bringup/"


def test_there_are_no_circles():
    graph = {module: targets & imports().keys() for module, targets in imports().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(
            f"These modules import each other: {' -> '.join(reversed(error.args[1]))}. Move what "
            "both need into a module below them; an import inside a function counts, too"
        )


def test_a_circle_through_the_door_of_a_folder_is_seen():
    """The names of methods, their settings and their base class once imported each other."""
    files = dict.fromkeys(["a", "a.b"], Path())
    assert _imported(ast.parse("from a import name"), files) == {"a"}
    assert _imported(ast.parse("from a import b"), files) == {"a.b"}
    assert _imported(ast.parse("def f():\n    from a.b import name"), files) == {"a.b"}
    types = "if TYPE_CHECKING:\n    from a import name\nelse:\n    import a.b"
    assert _imported(ast.parse(types), files) == {"a.b"}
    assert imports()["vla_pruner_ros.pruning.config"] >= {"vla_pruner_ros.pruning.methods"}
