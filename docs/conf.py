"""Sphinx settings. Pages are MyST Markdown; the API pages and the claim catalogue are generated from the code."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from generate_catalogue import write_catalogue  # noqa: E402

import theorykit  # noqa: E402

project = "theorykit"
author = "The theorykit founders"
release = version = theorykit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's Parameters sections have the types
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"theorykit {release}"


def setup(app):
    """Write the catalogue before Sphinx collects its pages."""
    app.connect("builder-inited", lambda _: write_catalogue(HERE / "api" / "claims.md"))
