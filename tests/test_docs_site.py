"""The site is whole: every page can be reached, every public name is on it, and nothing on it needs a network."""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mscrenal.calibration
import mscrenal.model
import mscrenal.scenarios
from mscrenal.calibration import shipped_posterior
from mscrenal.model import ARMS_OF_ACTION, sampled_parameters
from mscrenal.scenarios.results import Result

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "generated" not in p.parts)
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"^```\{code-cell\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"https?://[^\s)>\"'`|\]]+")


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def script(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def children(page: Path) -> list[Path]:
    """The pages that a page's table of contents names."""
    found = []
    for block in TREE.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                target = re.search(r"<([^>]+)>$", line)
                found.append(page.parent / f"{target[1] if target else line}.md")
    return found


def test_every_page_is_reached_from_the_first_one_once():
    seen: list[Path] = []
    pending = [DOCS / "index.md"]
    while pending:
        page = pending.pop()
        assert page.exists(), f"a toctree names {page}, which is not there"
        seen.append(page)
        pending += children(page)
    assert sorted(seen) == PAGES


@pytest.mark.parametrize(
    "room", [mscrenal.model, mscrenal.calibration, mscrenal.scenarios], ids=lambda r: r.__name__
)
def test_every_public_name_stands_on_the_page_of_its_room(room):
    page = (DOCS / "api" / f"{room.__name__.split('.')[-1]}.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^   (\w+)$", page, re.MULTILINE)) | set(re.findall(r"`(\w+)`", page))
    assert sorted(set(room.__all__) - shown) == []


def test_every_kind_of_result_stands_on_its_page():
    def kinds(kind: type) -> set[str]:
        return {kind.__name__}.union(*(kinds(k) for k in kind.__subclasses__()))

    page = (DOCS / "api" / "results.md").read_text(encoding="utf-8")
    # Bases that nobody gets, and what only the lists of scenarios are made of.
    hidden = {"RunResult", "CompareSeries", "ScenariosResult"}
    shipped = {k for k in kinds(Result) if not k.startswith(("_", "Toy"))} - hidden
    assert sorted(k for k in shipped if not re.search(rf"\b{k}$", page, re.MULTILINE)) == []


TERMS = (
    "MSC", "UC", "AD", "BM", "EV", "secretome", "eGFR", "UACR", "slope", "arm", "arm of action", "regimen", "estimand", "assurance",
    "power", "type I error", "IIV", "residual error", "VPC", "PIT", "ELPD", "prior", "posterior", "credible band", "contraction",
    "class prior", "translation factor", "covariate", "observable", "endpoint", "dose", "route", "horizon", "draw", "SBC",
    "Sobol index", "Shapley share", "extrapolated", "held out", "R-hat",
)  # fmt: skip


def test_the_glossary_explains_the_words_of_the_tables():
    page = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = " ; ".join(re.findall(r"\*\*(.+?)\*\* \|", page))
    missing = [term for term in TERMS if not re.search(rf"(?<![\w-]){re.escape(term)}(?![\w-])", terms)]
    verdicts = {v["verdict"] for v in shipped_posterior().provenance["verdicts"].values()}
    missing += [v for v in verdicts if v.split(",")[0] not in terms]
    assert missing == []
    assert [arm for arm in ARMS_OF_ACTION if arm not in page] == []


def test_anchors_of_the_glossary_stand_once():
    anchors = re.findall(r'<a id="([^"]+)">', (DOCS / "glossary.md").read_text(encoding="utf-8"))
    assert len(anchors) == len(set(anchors)) > 50


# --------------------------------------------------------------------------- what the site needs


def test_the_site_is_made_and_viewed_without_a_network():
    text = (DOCS / "conf.py").read_text(encoding="utf-8")
    text += "".join(p.read_text(encoding="utf-8") for p in (DOCS / "_static").glob("*"))
    assert ADDRESS.findall(text) == []
    for forbidden in ("mathjax", "intersphinx", "cdn", "html_logo_url", "@import"):
        assert forbidden not in text, forbidden


def test_the_links_of_conf_lead_to_what_is_there():
    pytest.importorskip("sphinx", reason="docs/conf.py is read by Sphinx alone: the extra `docs`")
    conf = script("conf")
    assert doctest.testmod(conf).failed == 0
    for inside, page in conf.OUTSIDE.items():
        assert (DOCS / inside).exists(), inside
        assert (DOCS / page.split("#")[0]).exists(), page


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_pictures_have_words_and_are_there(page):
    for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        assert len(words) > 3, f"{page.name}: {target} has no description"
        assert (page.parent / target).exists(), f"{page.name}: {target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_addresses_have_the_form_of_what_they_cite(page):
    """Whether they answer needs a network: `.ci/docs links`."""
    for address in ADDRESS.findall(page.read_text(encoding="utf-8")):
        host, _, path = address.removeprefix("https://").removeprefix("http://").rstrip(".,;").partition("/")
        assert re.fullmatch(r"(127\.0\.0\.1|[a-z0-9-]+(\.[a-z0-9-]+)+)(:\d+)?", host), address
        if host == "doi.org":
            assert re.fullmatch(r"10\.\d{4,9}/[^\s\"<>]+", path), address
        if host == "pubmed.ncbi.nlm.nih.gov":
            assert re.fullmatch(r"\d{1,8}/", path), address
        if host == "clinicaltrials.gov":
            assert re.fullmatch(r"study/NCT\d{8}", path), address


# --------------------------------------------------------------------------- tutorials and generated pages


@pytest.mark.parametrize("page", sorted((DOCS / "tutorials").glob("*.md")), ids=name_of)
def test_a_tutorial_compiles_and_labels_its_axes(page):
    if page.name == "index.md":
        return
    text = page.read_text(encoding="utf-8")
    assert text.startswith("---\nfile_format: mystnb\n"), "Sphinx would not run it"
    cells = [cell for cell in CELL.findall(text) if ":tags: [remove-cell]" not in cell]
    assert len(cells) > 3
    for cell in cells:
        compile(cell, page.name, "exec")
        if "plt.subplots" in cell:
            assert "xlabel=" in cell
            assert "ylabel=" in cell or "yticklabels=" in cell


def test_what_is_known_of_each_parameter_is_of_the_posterior_that_ships():
    pages = script("build_pages")
    text = (DOCS / "model" / "knowledge.md").read_text(encoding="utf-8")
    assert text == pages.knowledge_page(shipped_posterior()), "run: python docs/build_pages.py knowledge"
    named = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(sampled_parameters())
