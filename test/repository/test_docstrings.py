"""Docstrings: everything public has one, arrays have shapes, errors are named."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("vla_pruner_ros", "vla_pruner_lab")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ARRAY = re.compile(r"\b(Tensor|ndarray)\b")
SHAPE = re.compile(r"\[[^\]]*\]|\bany shape\b|\bscalar\b")
"""A shape: dimensions in brackets, or the statement that it does not matter."""


class Public(NamedTuple):
    """A public function, method or class, with the class that holds it."""

    file: str
    owner: ast.ClassDef | None
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

    @property
    def name(self) -> str:
        return f"{self.file}: {f'{self.owner.name}.' if self.owner else ''}{self.node.name}"


def public_of(file: str, tree: ast.Module) -> list[Public]:
    """Return what others may call: no private names, no setters, no stubs of a Protocol."""
    found = []
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            found.append(Public(file, None, node))
            if isinstance(node, ast.ClassDef):
                methods = [part for part in node.body if isinstance(part, FUNCTIONS)]
                found += [
                    Public(file, node, method)
                    for method in methods
                    if not (method.name.startswith("_") or is_setter(method) or is_stub(method))
                ]
    return found


def is_setter(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(one).endswith(".setter") for one in function.decorator_list)


def is_stub(function: ast.FunctionDef) -> bool:
    (*_, last) = function.body
    return isinstance(last, ast.Expr) and ast.unparse(last) == "..."


@cache
def everything() -> list[Public]:
    return [
        public
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for public in public_of(str(path.relative_to(ROOT)), ast.parse(path.read_text()))
    ]


@cache
def classes() -> dict[str, ast.ClassDef]:
    return {one.node.name: one.node for one in everything() if isinstance(one.node, ast.ClassDef)}


def docstring(public: Public) -> str:
    """Return the docstring, or that of the method which it overrides."""
    own = ast.get_docstring(public.node)
    return own or _inherited(public.owner, public.node.name)


def _inherited(owner: ast.ClassDef | None, name: str) -> str:
    for base in owner.bases if owner else ():
        words = re.findall(r"\w+", ast.unparse(base))
        parent = next((classes()[word] for word in words if word in classes()), None)
        for method in parent.body if parent else ():
            if isinstance(method, FUNCTIONS) and method.name == name:
                return ast.get_docstring(method) or ""
        if parent and (found := _inherited(parent, name)):
            return found
    return ""


def takes_arrays(public: Public) -> bool:
    if isinstance(public.node, ast.ClassDef):
        return False
    arguments = public.node.args
    annotations = [one.annotation for one in (*arguments.args, *arguments.kwonlyargs)]
    written = [ast.unparse(one) for one in (*annotations, public.node.returns) if one]
    return any(ARRAY.search(text) for text in written)


def gives_shapes(public: Public) -> bool:
    about = ast.get_docstring(public.owner) if public.owner else ""
    return SHAPE.search(f"{docstring(public)} {about or ''}") is not None


def raised(public: Public) -> set[str]:
    """Return the errors that the function raises by name, outside of a try that catches them."""
    if isinstance(public.node, ast.ClassDef):
        return set()
    caught = {
        inner
        for node in ast.walk(public.node)
        if isinstance(node, ast.Try) and node.handlers
        for part in node.body
        for inner in ast.walk(part)
    }
    nodes = [node for node in ast.walk(public.node) if node not in caught]
    raises = [node.exc for node in nodes if isinstance(node, ast.Raise)]
    calls = [one.func for one in raises if isinstance(one, ast.Call)]
    return {one.id for one in calls if isinstance(one, ast.Name) and one.id.endswith("Error")}


def unnamed_errors(public: Public) -> set[str]:
    about = ast.get_docstring(public.owner) if public.owner else ""
    text = f"{docstring(public)} {about or ''}"
    return {name for name in raised(public) if name not in text}


def test_enough_is_read():
    assert len(everything()) > 1700
    assert sum(takes_arrays(one) for one in everything()) > 300
    assert sum(bool(raised(one)) for one in everything()) > 70
    assert {one.file.split("/")[0] for one in everything()} == set(PACKAGES)


def test_everything_public_has_a_docstring():
    bad = [one.name for one in everything() if one.node.name != "main" and not docstring(one)]
    assert not bad, "write a docstring, see CONTRIBUTING.md:\n" + "\n".join(bad)


def test_arrays_have_shapes():
    bad = [one.name for one in everything() if takes_arrays(one) and not gives_shapes(one)]
    assert not bad, (
        "give dtype and shape of arrays, such as float32 [M, D], or write that any shape goes:\n"
        + "\n".join(bad)
    )


def test_errors_are_named():
    found = {one.name: unnamed_errors(one) for one in everything() if one.node.name != "main"}
    bad = [f"{name}: {', '.join(errors)}" for name, errors in found.items() if errors]
    assert not bad, "name the error and its cause under Raises:\n" + "\n".join(bad)


def test_the_rules_find_violations():
    text = """
def bare(): pass
def shapeless(a: Tensor): "Take it."; raise ValueError("no")
def fine(a: np.ndarray) -> Tensor: "float [M] -> [k]. Raises ValueError."; raise ValueError("no")
class Stub(Protocol):
    "Interface."
    def of(self) -> Tensor: ...
"""
    found = {one.node.name: one for one in public_of("file.py", ast.parse(text))}
    assert found.keys() == {"bare", "shapeless", "fine", "Stub"}
    assert [name for name, one in found.items() if not docstring(one)] == ["bare"]
    arrays = [name for name, one in found.items() if takes_arrays(one)]
    assert arrays == ["shapeless", "fine"]
    assert [name for name in arrays if not gives_shapes(found[name])] == ["shapeless"]
    assert [name for name, one in found.items() if unnamed_errors(one)] == ["shapeless"]
