"""The documents as a site: built without a warning, and every link and anchor leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
SITE = ROOT / "docs" / "site"


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's titles, as GitHub and MyST make them."""
    titles = re.findall(r"^#{1,3} (.+)$", CODE.sub(" code ", path.read_text()), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def links(path: Path) -> list[str]:
    return LINK.findall(CODE.sub(" ", path.read_text()))


def test_links_were_found():
    assert sum(len(links(path)) for path in DOCUMENTS) > 100
    assert "check-the-cameras" in anchors(ROOT / "docs" / "how-to" / "run_on_a_robot.md")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(path):
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{path.name} links to {link}, and there is no title"


def test_the_generator_is_pinned_apart_from_the_package():
    pinned = (ROOT / "requirements-docs.txt").read_text()
    assert re.search(r"^Sphinx==", pinned, re.MULTILINE)
    assert "phinx" not in (ROOT / "requirements.txt").read_text()
    assert "phinx" not in (ROOT / "setup.cfg").read_text()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    if any(find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")):
        pytest.skip("Sphinx is not installed: make setup-extra")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", str(SITE)]
    done = subprocess.run(
        [*command, str(ROOT), str(tmp_path)], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "docs" / "README.html").is_file()
    assert len(list(tmp_path.rglob("*.html"))) >= len(DOCUMENTS)
    home = (tmp_path / "docs" / "README.html").read_text()
    sidebar = home.split('class="sidebar-tree"')[1].split("</aside>")[0]
    for path in DOCUMENTS[4:]:
        page = path.relative_to(ROOT / "docs").with_suffix(".html")
        if path.name != "README.md":  # that is the page itself
            assert f'href="{page}"' in sidebar, f"the sidebar does not lead to {page}"
