"""Sphinx's settings for `make docs`. The source is the whole repository, so README.md and its links are checked too."""

from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[1]

project = "ojai"
author = "the ojai contributors"
version = release = version_of("ojai")

root_doc = "docs/index"
include_patterns = ["*.md", "docs/**"]
exclude_patterns = [".*", "build", "CLAUDE.md", "AGENTS.md"]
extensions = ["myst_parser", "sphinx_click", "sphinxcontrib.mermaid"]

html_theme = "furo"
html_title = f"ojai {release}"
html_copy_source = False
html_show_copyright = False
smartquotes = False  # an option stays --option
templates_path = ["_templates"]
html_additional_pages = {"index": "index.html"}  # leads to docs/index.html

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]


class RepositoryPaths(SphinxTransform):
    """Shows a link to a file or folder that is not a page of the site as plain text. One that leads nowhere stays a
    link, which the build then refuses.
    """

    default_priority = 5

    def apply(self) -> None:
        """Replace such links in one page."""
        folder = (ROOT / self.env.docname).parent
        for link in [*self.document.findall(pending_xref), *self.document.findall(download_reference)]:
            target = folder / str(link["reftarget"]).partition("#")[0]
            if link["reftype"] == "myst" and link["reftarget"] and target.exists():
                link.replace_self(nodes.inline("", "", *link.children))


def setup(app: Sphinx) -> None:
    """Register the transform."""
    app.add_transform(RepositoryPaths)
