"""Evidence in a real browser: filters, the list, one study, forest plots, the scatter, files, addresses."""

from __future__ import annotations

import csv

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

DONE = "#evidence[data-stage=done]"
PHONE = {"width": 390, "height": 844}


def opened(page: Page, address: str, query: str = "") -> Page:
    page.goto(f"{address}?tab=evidence{query}")
    page.wait_for_selector(DONE)
    return page


def overlapping(page: Page, selector: str) -> list[str]:
    """Pairs of texts of a plot of which one lies over the other."""
    return page.evaluate(
        """(selector) => {
          const boxes = [...document.querySelectorAll(`${selector} :is(.annotation-text, .legendtext)`)]
            .map((e) => [e.textContent, e.getBoundingClientRect()]).filter(([t]) => t);
          const out = [];
          boxes.forEach(([s, a], i) => boxes.slice(i + 1).forEach(([t, b]) => {
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 1 && down > 3) out.push(`${s} | ${t}`);
          }));
          return out;
        }""",
        selector,
    )


def test_filters_change_the_counts_the_list_and_the_address(page, address):
    opened(page, address)
    expect(page.locator("#evidence-state")).to_contain_text("291 of 291 studies, 1363 of 1363 rows")
    page.get_by_label("Role").select_option("validate")
    expect(page.locator("#evidence-state")).to_contain_text("13 of 291 studies, 43 of 1363 rows")
    expect(page.locator(".study-list li")).to_have_count(13)
    page.wait_for_url("**role=validate*")
    page.get_by_label("Search").fill("lupus no-such-word")
    expect(page.locator("#evidence-view")).to_contain_text("No study fits all filters")
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator("#evidence-state")).to_contain_text("1363 of 1363 rows")


def test_coverage_of_fitted_and_held_out_rows_stands_in_lines_of_its_own(page, address):
    opened(page, address)
    lines = page.locator("#evidence-coverage tbody tr")
    expect(lines).to_have_count(3)
    expect(lines.nth(0)).to_contain_text("held out, 34 rows of 12 studies")
    expect(lines.nth(1)).to_contain_text("fitted (in-sample), 161 rows of 47 studies")
    expect(lines.nth(2)).to_contain_text("compared only")


def test_excluded_studies_are_listed_with_their_reason(page, address):
    opened(page, address, "&role=excluded&search=acute+kidney+injury")
    items = page.locator(".study-list li")
    assert items.count() > 3
    for k in range(items.count()):
        assert len(items.nth(k).locator(".why").inner_text()) > 20


def test_a_study_opens_by_keyboard_with_arms_rows_and_a_forest_of_its_own(page, address):
    opened(page, address, "&search=zhou2020_meta")
    page.locator(".study-list .open").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#evidence-title")).to_have_text("zhou2020_meta")
    expect(page.locator("#evidence-title")).to_be_focused()
    expect(page.locator("#evidence-study")).to_contain_text("UC IV, 0.909 million cells/kg, day 0, 7")
    link = page.locator("#evidence-study a").first
    assert link.get_attribute("href") == "https://doi.org/10.1155/2020/6518508"
    assert "noreferrer" in link.get_attribute("rel")
    expect(page.locator("#evidence-study-forest")).to_have_attribute("role", "img")
    page.wait_for_url("**study=zhou2020_meta*")
    page.get_by_role("button", name="Close").last.click()
    expect(page.locator("#evidence-study")).to_be_hidden()


@pytest.mark.parametrize("by", ["product", "species", "disease", "endpoint"])
@pytest.mark.parametrize("size", [None, PHONE], ids=["desk", "phone"])
def test_forest_plots_are_paged_and_no_label_lies_over_another(page, address, by, size):
    if size:
        page.set_viewport_size(size)
    opened(page, address, f"&show=forest&by={by}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    pages = int(page.locator(".pager span").inner_text().split()[-1])
    assert pages >= 5
    seen = 0
    for number in range(1, pages + 1):
        expect(page.locator(".pager span")).to_have_text(f"Page {number} of {pages}")
        expect(page.locator("#evidence-forest .annotation-text").first).to_be_visible()
        assert overlapping(page, "#evidence-forest") == []
        seen += page.locator("#evidence-forest").evaluate(
            "e => e.data.filter((t) => t.mode === 'markers').reduce((n, t) => n + t.x.length, 0)"
        )
        assert (
            page.locator("#evidence-forest").evaluate("e => e.layout.xaxis.title.text").startswith("Distance")
        )
        if number < pages:
            page.get_by_role("button", name="Next").click()
    assert seen == 216


def test_a_mark_of_a_forest_lies_where_the_table_says(page, address):
    opened(page, address, "&show=forest&search=stavas2022&role=validate")
    outside = page.locator("#evidence-forest").evaluate(
        "e => e.data.filter((t) => t.mode === 'markers' && t.name === 'held out, outside 90 %').map((t) => [t.x[0], t.customdata[0]])"
    )
    assert len(outside) == 1
    assert outside[0][1] == "stavas2022"
    assert outside[0][0] < -1
    page.locator("#evidence-view summary").click()
    expect(page.locator("#evidence-view tbody tr")).to_have_count(1)
    expect(page.locator("#evidence-view tbody")).to_contain_text("-4.63")


def test_the_scatter_tells_coverage_for_each_kind_and_changes_its_axis(page, address):
    opened(page, address, "&show=scatter")
    expect(page.locator("#evidence-view tbody").first).to_contain_text("fitted (in-sample)")
    page.get_by_label("Rows that share a unit").select_option("smd")
    plot = page.locator("#evidence-scatter")
    expect(plot).to_have_attribute("role", "img")
    assert plot.evaluate("e => [e.layout.xaxis.type, e.layout.xaxis.title.text, e.layout.yaxis.title.text]") == [
        "linear", "Predicted median", "Published",
    ]  # fmt: skip


def test_the_data_and_the_picture_are_those_of_the_filters(page, address, tmp_path):
    opened(page, address, "&show=forest&role=validate")
    with page.expect_download() as download:
        page.get_by_role("button", name="Data").click()
    download.value.save_as(tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert "not medical advice" in text
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("# ")))
    assert len(rows) == 43
    assert {r["role"] for r in rows} == {"validate"}
    with page.expect_download() as download:
        page.get_by_role("button", name="The plot as PNG").click()
    download.value.save_as(tmp_path / "forest.png")
    assert (tmp_path / "forest.png").read_bytes()[:4] == b"\x89PNG"


def test_a_wrong_address_is_said_and_the_rest_of_it_kept(page, address):
    opened(page, address, "&role=validated&species=rat")
    expect(page.locator("#complaints")).to_contain_text("validate")
    expect(page.locator("#evidence-species")).to_have_value("rat")
    expect(page.locator("#evidence-role")).to_have_value("")


def test_every_control_has_a_label(page, address):
    opened(page, address, "&show=forest")
    bare = page.evaluate(
        """() => [...document.querySelectorAll('#panel-evidence :is(input, select, button)')]
          .filter((e) => !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map((e) => e.outerHTML)"""
    )
    assert bare == []


def test_a_filter_changes_what_is_counted(page, address):
    opened(page, address, "&show=forest")
    state = page.locator("#evidence-state")
    before = state.inner_text()
    took = page.evaluate(
        """async () => {
          const state = document.querySelector('#evidence-state');
          const start = performance.now();
          const changed = new Promise((done) => new MutationObserver(() => done(performance.now() - start)).observe(state, { childList: true }));
          const select = document.querySelector('#evidence-species');
          select.value = 'rat';
          select.dispatchEvent(new Event('change'));
          return changed;
        }"""
    )
    expect(state).not_to_have_text(before)
    print(f"\nEvidence: {took:.0f} ms from a filter to its counts")
