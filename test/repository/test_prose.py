"""Checkable rules of CONTRIBUTING.md's plain prose, over docstrings, code and documents."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("vla_pruner_ros", "vla_pruner_lab")

FIRST_WORDS = re.compile(r"(What|Whatever|Whoever|Where|Of|Whether|How to)\b")
"""Openings of a docstring that leave out its verb (functions) or its noun (classes, modules)."""

FORBIDDEN = {
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "in vain": "without effect",
    "told apart": "distinguished",
    "lest": "so that ... not",
    "whoever": "anyone who",
    "in place of": "instead of",
    "beside": "next to",
}
"""Words that make a sentence hard to read, and their plain replacements."""

ANY_FORBIDDEN = re.compile(rf"\b({'|'.join(FORBIDDEN)})\b", re.IGNORECASE)

LONGEST = 40
"""Words of a sentence in a document; aim at 25."""

CODE = re.compile(r"```.*?```|~~~.*?~~~|`[^`\n]*`", re.DOTALL)


def python_files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def documents() -> list[Path]:
    names = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
    return [ROOT / name for name in names] + sorted((ROOT / "docs").rglob("*.md"))


def prose_of(path: Path) -> str:
    """Return the text of a document, or the strings and comments of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return CODE.sub(" ", text)
    strings = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    comments = re.findall(r"(?:^|\s)# ?(.*)$", text, re.MULTILINE)
    return "\n".join([*strings, *comments])


def docstrings(path: Path) -> list[tuple[str, str]]:
    """Return name and docstring of the module and of its public functions and classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [n for n in ast.walk(tree) if isinstance(n, kinds) and not n.name.startswith("_")]
    named = [("module", ast.get_docstring(tree))]
    named += [(node.name, ast.get_docstring(node)) for node in nodes]
    return [(name, text) for name, text in named if text]


def sentences(path: Path) -> list[str]:
    """Return the sentences of a document's paragraphs and items, tables and titles left out."""
    text = CODE.sub(" ", path.read_text(encoding="utf-8"))
    lines = [
        "" if re.match(r"\s*([|#<>]|!\[|\[.*\]:|---|\$\$)", line) else line
        for line in text.splitlines()
    ]
    joined = re.sub(r"^\s*([-*]|\d+\.)\s+", "\n\n", "\n".join(lines), flags=re.MULTILINE)
    joined = re.sub(r"\]\([^)]*\)", "]", joined)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", joined)]
    return [part for block in blocks for part in re.split(r"(?<=[.!?:;])\s+", block) if part]


def number_of_words(sentence: str) -> int:
    return sum(re.search(r"\w", word) is not None for word in sentence.split())


def is_generated(path: Path) -> bool:
    return "do not edit" in path.read_text(encoding="utf-8") or "benchmarks" in path.parts


def test_enough_files_are_read():
    read = len(python_files(*PACKAGES)) + len(documents())
    assert read > 200, f"the rules read {read} files only: check PACKAGES"


def test_docstrings_open_with_a_verb_or_a_noun():
    bad = [
        f"{path.relative_to(ROOT)}: {name}: {text.splitlines()[0]}"
        for path in python_files(*PACKAGES)
        for name, text in docstrings(path)
        if FIRST_WORDS.match(text)
    ]
    assert not bad, (
        "open a function's docstring with an imperative verb (Return ..., Write ...) and a class's "
        "or a module's with a noun:\n" + "\n".join(bad)
    )


def test_hard_words_are_replaced():
    read = [path for path in python_files(*PACKAGES, "test") if path != Path(__file__)]
    bad = [
        f"{path.relative_to(ROOT)}: {word}: write {FORBIDDEN[word.lower()]}"
        for path in [*read, *documents()]
        for word in ANY_FORBIDDEN.findall(prose_of(path))
    ]
    assert not bad, "replace these words by plain ones:\n" + "\n".join(bad)


def test_sentences_of_documents_are_short():
    bad = [
        f"{path.relative_to(ROOT)}: {one}"
        for path in documents()
        if not is_generated(path)
        for one in sentences(path)
        if number_of_words(one) > LONGEST
    ]
    assert not bad, f"split these sentences ({LONGEST} words at most):\n" + "\n".join(bad)


def test_the_rules_find_violations(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('def f():\n    """What it does."""  # beside the point\n')
    assert [FIRST_WORDS.match(text) is not None for _, text in docstrings(module)] == [True]
    assert ANY_FORBIDDEN.findall(prose_of(module)) == ["beside"]
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n" + "word " * 41 + "end.\n\n```\n" + "beside " * 50 + "\n```\n")
    assert [number_of_words(one) for one in sentences(page)] == [42]
    assert not ANY_FORBIDDEN.findall(prose_of(page))
