"""Settings of the documents' site: sphinx-build -W -c docs/site . out/site."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

project = "vla_pruner_ros"
release = re.search(r"<version>([^<]+)</version>", (ROOT / "package.xml").read_text())[1]
author = "vla_pruner_ros maintainers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "docs/README"
include_patterns = ["docs/**.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
                    "CODE_OF_CONDUCT.md"]  # fmt: skip
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
suppress_warnings = ["toc.not_included", "misc.highlighting_failure"]
html_theme = "furo"
html_title = f"{project} {release}"
html_baseurl = ""
html_show_copyright = False

SIDEBAR = {
    "Project": ("/README", "/CHANGELOG", "/CONTRIBUTING", "/SECURITY", "/CODE_OF_CONDUCT"),
    "Get started": ("get-started/*",),
    "How-to": ("how-to/*",),
    "Reference": ("reference/*",),
    "Benchmarks": ("reference/benchmarks/*",),
    "Explanation": ("explanation/*",),
}


def add_sidebar(app, docname, source):
    """Add the pages of the sidebar to the root document; GitHub would show them as code."""
    if docname == root_doc:
        for title, pages in SIDEBAR.items():
            lines = [":hidden:", ":glob:", f":caption: {title}", "", *pages]
            source[0] += "\n```{toctree}\n" + "\n".join(lines) + "\n```\n"


def setup(app):
    """Connect add_sidebar."""
    app.connect("source-read", add_sidebar)
