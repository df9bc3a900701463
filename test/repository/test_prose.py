"""Checkable rules of CONTRIBUTING.md's plain prose, over docstrings, code and documents."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("vla_pruner_ros", "vla_pruner_lab", "launch")
PLAIN = (
    "config/**/*.*",
    "msg/*.msg",
    "scripts/*",
    "cmake/*",
    "security/*",
    "Makefile",
    "setup.cfg",
)
"""Files whose comments are prose, and the setup scripts."""

FIRST_WORDS = re.compile(r"(What|Whatever|Whoever|Where|Of|Whether|How|Which|Why|Who|When)\b")
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
    "picture": "image",
    "pictures": "images",
    "forget": "clear",
    "forgets": "clears",
    "forgotten": "cleared",
}
"""Words that make a sentence hard to read, and their plain replacements."""

ANY_FORBIDDEN = re.compile(rf"\b({'|'.join(FORBIDDEN)})\b", re.IGNORECASE)

LONGEST = 30
"""Words of a sentence; aim at 25."""

CODE = re.compile(r"```.*?```|~~~.*?~~~|`[^`\n]*`", re.DOTALL)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def python_files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def documents() -> list[Path]:
    names = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
    return [ROOT / name for name in names] + sorted((ROOT / "docs").rglob("*.md"))


def plain_files() -> list[Path]:
    found = [path for pattern in PLAIN for path in ROOT.glob(pattern) if path.is_file()]
    return sorted(found)


def comments_of(path: Path) -> str:
    """Return a file's comments, without their marks; one after code begins a paragraph."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".xml":
        return "\n\n".join(re.findall(r"<!--(.*?)-->", text, re.DOTALL))
    found = [re.search(r"^(.*?)(?:^|\s)#+(?:\s(.*)|$)", line) for line in text.splitlines()]
    return "\n".join(
        ("\n\n" if one[1].strip() else "") + (one[2] or "") if one else "" for one in found
    )


def prose_of(path: Path) -> str:
    """Return the text of a document, a module's strings and comments, or a file's comments."""
    if path.suffix not in (".md", ".py"):
        return comments_of(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return CODE.sub(" ", text)
    strings = [
        node.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    comments = re.findall(r"(?:^|\s)# ?(.*)$", text, re.MULTILINE)
    return "\n".join([*strings, *comments])


def docstrings(path: Path) -> list[tuple[str, str]]:
    """Return name and docstring of the module and of its public functions and classes."""
    tree = tree_of(path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [n for n in ast.walk(tree) if isinstance(n, kinds) and not n.name.startswith("_")]
    named = [("module", ast.get_docstring(tree))]
    named += [(node.name, ast.get_docstring(node)) for node in nodes]
    return [(name, text) for name, text in named if text]


def sentences(text: str) -> list[str]:
    """Return the sentences of paragraphs and items, tables and titles left out."""
    text = CODE.sub(" code ", text)
    lines = [
        "" if re.match(r"\s*([|#<>]|!\[|\[.*\]:|---|\$\$)", line) else line
        for line in text.splitlines()
    ]
    joined = re.sub(r"^\s*([-*]|\d+\.)\s+", "\n\n", "\n".join(lines), flags=re.MULTILINE)
    joined = re.sub(r"\]\([^)]*\)", "]", joined)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", joined)]
    return [part for block in blocks for part in re.split(r"(?<=[.!?:;])\s+", block) if part]


def all_docstrings(path: Path) -> list[str]:
    """Return every docstring of a module; each field under Args, Returns and Raises by itself."""
    nodes = ast.walk(tree_of(path))
    values = [node.value for node in nodes if isinstance(node, ast.Expr)]
    texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return [re.sub(r"\n\s*(?=\w[\w ,*]*: )", "\n\n", text) for text in texts]


def number_of_words(sentence: str) -> int:
    return sum(re.search(r"\w", word) is not None for word in sentence.split())


def test_enough_files_are_read():
    read = {
        "modules": len(python_files(*PACKAGES)),
        "documents": len(documents()),
        "plain files": len(plain_files()),
        "sentences of documents": sum(len(sentences(prose_of(path))) for path in documents()),
        "sentences of docstrings": sum(
            len(sentences(text))
            for path in python_files(*PACKAGES)
            for text in all_docstrings(path)
        ),
        "sentences of comments": sum(len(sentences(comments_of(path))) for path in plain_files()),
    }
    least = {
        "modules": 300,
        "documents": 35,
        "plain files": 20,
        "sentences of documents": 1000,
        "sentences of docstrings": 3000,
        "sentences of comments": 80,
    }
    assert {name: count for name, count in read.items() if count < least[name]} == {}, (
        "the rules read fewer files than there are: check PACKAGES and PLAIN"
    )


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
        for path in [*read, *documents(), *plain_files()]
        for word in ANY_FORBIDDEN.findall(prose_of(path))
    ]
    assert not bad, "replace these words by plain ones:\n" + "\n".join(bad)


def test_sentences_are_short():
    """Generated pages included: there the generator is what to change."""
    texts = [(path, prose_of(path)) for path in [*documents(), *plain_files()]]
    texts += [(p, text) for p in python_files(*PACKAGES, "test") for text in all_docstrings(p)]
    bad = [
        f"{path.relative_to(ROOT)}: {one}"
        for path, text in texts
        for one in sentences(text)
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
    assert [number_of_words(one) for one in sentences(prose_of(page))] == [42]
    assert not ANY_FORBIDDEN.findall(prose_of(page))
    script = tmp_path / "script.sh"
    script.write_text("beside=1  # of no use\n# One\n# block.\n")
    assert sentences(prose_of(script)) == ["of no use One block."]
    settings = tmp_path / "settings.xml"
    settings.write_text("<a><!-- A\npicture. --></a>")
    assert ANY_FORBIDDEN.findall(prose_of(settings)) == ["picture"]
