"""Reads a report as a receiver's browser would, and asserts what holds of every one: sections, figures, tables, no network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

SECTIONS = ("answer", "extrapolated", "tables", "assumptions", "failed", "provenance", "cite")
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Elements of a report with their attributes, and the text inside of those that matter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data):
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def of(self, tag: str) -> list[dict[str, str]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def body(self) -> str:
        """What one reads, white space folded."""
        return " ".join(self.texts["body"][0].split())


def read_report(text: str, *, figures: int | None = None, sections: tuple[str, ...] = ()) -> Page:
    """The page, after asserting all that holds of every report; `figures`: how many, `sections`: others that it must have."""
    assert text.lstrip().startswith("<!DOCTYPE html>")
    page = Page(text)
    assert page._open == []
    assert page.of("html") == [{"lang": "en"}]
    _has_sections(page, (*SECTIONS, *sections))
    _has_headings_in_order(page)
    _loads_nothing(page)
    _says_what_figures_show(page, figures)
    _names_tables_and_columns(page)
    assert "@page" in text
    assert "counter(page)" in text
    assert "break-inside: avoid" in text
    assert "Research and teaching tool, not medical advice." in page.body
    return page


def _has_sections(page: Page, wanted: tuple[str, ...]) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert set(wanted) <= set(ids)
    assert {"header", "main", "nav", "footer"} <= {tag for tag, _ in page.elements}
    assert {a["href"][1:] for a in page.of("a") if a["href"].startswith("#")} <= set(ids)
    answer = page.texts["section"][0]
    assert len(answer.split()) > 10


def _has_headings_in_order(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def _loads_nothing(page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    assert "@import" not in page.source
    assert "url(" not in page.source
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")]
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "#").startswith(("#", "https://doi.org/10."))


def _says_what_figures_show(page: Page, figures: int | None) -> None:
    drawn = page.of("img")
    assert figures is None or len(drawn) == figures
    assert len(page.of("figure")) == len(page.texts.get("figcaption", ())) == len(drawn)
    assert all(len(image["alt"].split()) >= 6 for image in drawn)
    # Title and how to read it: a figure that nobody described would have its file name only.
    assert all(len(caption.split()) > 15 for caption in page.texts.get("figcaption", ()))


def _names_tables_and_columns(page: Page) -> None:
    assert len(page.of("table")) == len(page.of("caption")) > 0
    assert all(caption.strip() for caption in page.texts["caption"])
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in page.of("th"))
