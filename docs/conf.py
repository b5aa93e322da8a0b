"""How Sphinx makes the site of these pages: `.ci/docs`, or `python -m sphinx -W --keep-going docs build/docs`.

The pages are plain Markdown that a code host shows as well. What differs there is put right here, as Sphinx reads: links
that lead out of docs/, anchors written in HTML, and mathematics, which is turned into MathML as the site is built.
Nothing is fetched when a page is viewed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers.configs import TOMLLexer
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = author
version = release = PROJECT["version"]

extensions = [
    "myst_nb",  # Markdown, and tutorials that are executed
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
]
exclude_patterns = ["build_pages.py", "figures", "_templates", "_static"]
templates_path = ["_templates"]

# --------------------------------------------------------------------------- Markdown and tutorials

myst_enable_extensions = ["attrs_inline", "dollarmath"]
myst_heading_anchors = 4  # links such as commands.md#trial, as on a code host
myst_number_code_blocks: list[str] = []
nb_execution_mode = "auto"  # the tutorials hold no outputs: each build computes them
nb_execution_timeout = 600  # seconds a cell; the first one may have to compile the model
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "warn"  # a warning of Python in a tutorial is one of the build
nb_render_markdown_format = "myst"
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

# --------------------------------------------------------------------------- API

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc shows the types that the docstring gives, in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # listed in the template, apart from what a class inherits from Python
numpydoc_xref_param_type = False

# --------------------------------------------------------------------------- HTML

html_theme = "pydata_sphinx_theme"
html_title = "mscrenal"
# Pages without pages below them need no bar for these.
html_sidebars: dict[str, list[str]] = {page: [] for page in ("index", "glossary", "limits", "extending")}
html_static_path = ["_static"]
html_css_files = ["mscrenal.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Sources are cited by DOI, PubMed or registry number, which only a network can follow: `-b linkcheck` does, where there is
# one. The form of every address is checked by tests/test_docs_site.py.
linkcheck_timeout = 20
linkcheck_anchors = False

# --------------------------------------------------------------------------- from a code host's Markdown to the site's

# Where a link out of docs/ leads on the site. A file that is not here, a table or a scenario, becomes a download.
OUTSIDE = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../calibration/evidence/": "evidence-tables.md",
    "../calibration/evidence/studies/": "evidence-tables.md#files",
    "../calibration/evidence/SCHEMA.md": "evidence-tables.md#columns",
    "../calibration/evidence/animal_msc.md": "evidence-tables.md#notes",
    "../calibration/evidence/clinical_msc.md": "evidence-tables.md#notes",
    "../calibration/evidence/disease_progression.md": "evidence-tables.md#notes",
    "../calibration/evidence/msc_kinetics.md": "evidence-tables.md#notes",
    "../calibration/evidence/second_round.md": "evidence-tables.md#notes",
    "model/": "model-book.md",
}
LINK = re.compile(r"\]\(([^)\s]+)\)")
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')


def on_the_site(text: str) -> str:
    """A page as Sphinx needs it: links out of docs/ lead to pages, and HTML anchors can be linked to.

    >>> on_the_site('see [how](../CONTRIBUTING.md#tests), <a id="x"></a>')
    'see [how](contributing.md#tests), []{#x}'
    """

    def there(link: re.Match[str]) -> str:
        target, mark, place = link[1].partition("#")
        page = OUTSIDE.get(target, target)
        return f"]({page})" if "#" in page else f"]({page}{mark}{place})"

    return ANCHOR.sub(r"[]{#\1}", LINK.sub(there, text))


def _read(_: Sphinx, __: str, content: list[str]) -> None:
    content[0] = on_the_site(content[0])


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext(), as_block=False))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="equation">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of what is special here."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_lexer("toml-error", TOMLLexer)
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
