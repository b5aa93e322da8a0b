"""Mechanism in a real browser: boxes and arrows tell what they rest on, and can be knocked out."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

DONE = "#mechanism-course[data-stage=done]"


def opened(page: Page, address: str, query: str = "") -> Page:
    page.goto(f"{address}?tab=mechanism{query}")
    page.wait_for_selector("#mechanism-picture svg")
    return page


def test_an_arrow_tells_its_equation_numbers_verdicts_and_sources(page, address):
    opened(page, address, "&detail=states")
    page.locator("#mechanism-arrow").select_option(label="TGF-β1 kidney → pSmad2/3")
    told = page.locator("#mechanism-about")
    expect(told.locator("math").first).to_be_visible()
    expect(told).to_contain_text("psmad_tgfb")
    for word in ("Prior", "Verdict", "Source"):
        expect(told).to_contain_text(word)
    page.wait_for_url("**arrow=tgfb_kidney~psmad*")


def test_a_click_on_an_arrow_of_the_picture_chooses_it(page, address):
    opened(page, address, "&detail=states")
    page.locator('.edge[data-source="tgfb_kidney"][data-target="psmad"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#mechanism-about h2")).to_contain_text("pSmad2/3")
    assert page.locator("#mechanism-picture .edge.selected").count() == 1


def test_a_cut_arrow_shows_both_courses_and_can_be_put_back(page, address):
    opened(page, address, "&arrow=tgfb_kidney~psmad")
    page.get_by_role("button", name="Cut this arrow").click()
    page.wait_for_selector(DONE)
    courses = page.evaluate(
        """() => Object.fromEntries(document.querySelector('#mechanism-plot-fibrosis_area').data
            .filter((t) => t.name).map((t) => [t.name, [t.y[0], t.y.at(-1)]]))"""
    )
    assert courses["intact"][0] == pytest.approx(courses["without it"][0], rel=1e-4), (
        "both start where the patient is"
    )
    assert courses["without it"][1] < courses["intact"][1], "without Smad signalling less matrix is laid down"
    expect(page.locator("#mechanism-notes")).to_contain_text("psmad_tgfb")
    page.get_by_role("button", name="Put it back").click()
    expect(page.locator("#mechanism-plots")).to_have_count(0)


def test_an_arm_of_action_is_switched_off_from_the_overview(page, address):
    opened(page, address)
    page.locator('.node[data-name="effect_antioxidant"]').click()
    page.get_by_role("button", name="Switch this arm of action off").click()
    page.wait_for_selector(DONE)
    least = page.evaluate(
        """() => Object.fromEntries(document.querySelector('#mechanism-plot-uacr').data
            .filter((t) => t.name).map((t) => [t.name, Math.min(...t.y)]))"""
    )
    assert least["intact"] < least["without it"]


def test_on_the_overview_an_arrow_lists_the_arrows_that_it_stands_for(page, address):
    opened(page, address)
    page.locator('.edge[data-source="inflammation"][data-target="fibrosis"]').first.focus()
    page.keyboard.press("Enter")
    page.locator("#mechanism-about .arrows button").first.click()
    expect(page.locator("#mechanism-detail-states")).to_be_checked()
    expect(page.locator("#mechanism-about math").first).to_be_visible()


def test_an_arrow_that_there_is_not_is_said(page, address):
    page.goto(f"{address}?tab=mechanism&arrow=moon~sun")
    expect(page.locator("#mechanism-about")).to_contain_text("moon")
    page.goto(f"{address}?tab=mechanism&arrow=moon&shape=round")
    expect(page.locator("#complaints")).to_contain_text("source~target")
    expect(page.locator("#complaints")).to_contain_text("shape")
