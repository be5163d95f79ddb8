"""Sphinx settings. Pages are MyST Markdown; the API pages and the claim catalogue are generated from the code."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from docutils.nodes import SkipNode  # noqa: E402
from docutils.utils.math.latex2mathml import tex2mathml  # noqa: E402
from generate_catalogue import write_catalogue  # noqa: E402

import theorykit  # noqa: E402

project = "theorykit"
author = "The theorykit founders"
release = version = theorykit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's Parameters sections have the types
numpydoc_show_class_members = False
suppress_warnings = [
    "ref.python"
]  # numpydoc refers to properties by their bare names, of which several classes have some

html_theme = "furo"
html_show_copyright = False
html_math_renderer = "mathml"  # browsers draw it themselves: the pages need no network and no script
html_title = f"theorykit {release}"


def keep_bars(_app, _what, _name, _obj, _options, lines):
    """Escape vertical bars outside literals: in these docstrings |x| is a norm, and to Sphinx a substitution."""
    for k, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("``")
            lines[k] = "``".join(part if i % 2 else part.replace("|", r"\|") for i, part in enumerate(parts))


def mathml(node):
    """Return a formula as MathML, with a thin space after log, which docutils leaves out."""
    return tex2mathml(node.astext()).replace("<mi>log</mi>", '<mrow><mi>log</mi><mspace width="0.17em"/></mrow>')


def inline_math(translator, node):
    """Write a formula within a line."""
    translator.body.append(mathml(node))
    raise SkipNode


def display_math(translator, node):
    """Write a formula of its own."""
    formula = mathml(node).replace("<math ", '<math display="block" ', 1)
    translator.body.append(f'<div style="margin: 1em 0; overflow-x: auto">{formula}</div>')
    raise SkipNode


def setup(app):
    """Write the catalogue before Sphinx collects its pages."""
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("builder-inited", lambda _: write_catalogue(HERE / "api" / "claims.md"))
    app.connect("autodoc-process-docstring", keep_bars, priority=900)  # numpydoc first
