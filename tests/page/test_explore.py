"""Explore in a real browser: what a slider does, knock-outs, files, addresses, two people at once."""

from __future__ import annotations

import json
import statistics
import tomllib

import pytest
from playwright.sync_api import Page, expect

from mscrenal.scenarios.schema import read_scenario

pytestmark = pytest.mark.browser

DONE = "#explore[data-stage=done]"
PHONE = {"width": 390, "height": 844}


def opened(page: Page, address: str, query: str = "") -> Page:
    page.goto(address + query)
    page.wait_for_selector(DONE)
    return page


def settled(page: Page) -> None:
    """Wait for the last band of the newest question."""
    page.wait_for_function("() => document.querySelector('#explore').dataset.stage !== 'done'", timeout=3000)
    page.wait_for_selector(DONE)


def curve(page: Page, panel: int, name: str) -> list[float]:
    """The points of a curve as they are drawn."""
    found = page.evaluate(
        "([k, n]) => document.querySelector(`#explore-panel-${k} .plot`).data.find((t) => t.name === n).y",
        [panel, name],
    )
    return [float(v) for v in found]


def set_number(page: Page, name: str, value: str) -> None:
    page.locator(f"#explore-{name}").fill(value)
    settled(page)


def test_every_curve_is_there_with_its_band_and_labelled_axes(page, address):
    opened(page, address)
    for k in range(9):
        plot = page.locator(f"#explore-panel-{k} .plot")
        expect(plot).to_have_attribute("role", "img")
        assert len(plot.get_attribute("aria-label")) > 60
        axes = plot.evaluate("e => [e.layout.xaxis.title.text, e.layout.yaxis.title.text]")
        assert all(axes), f"panel {k} has an axis without a title"
        filled = plot.evaluate("e => e.data.filter((t) => t.fill === 'tonexty').length")
        assert filled, f"panel {k} shows no band"
    # Everybody meets the same day 0.
    assert curve(page, 0, "A")[0] == pytest.approx(45.0) == curve(page, 0, "no cells")[0]


def test_a_slider_moved_by_the_keyboard_changes_the_numbers_of_the_curve(page, address):
    opened(page, address)
    before = curve(page, 1, "A")
    slider = page.locator("#explore-arms-0-dose-range")
    slider.focus()
    for _ in range(2):
        slider.press("PageUp")
    settled(page)
    after = curve(page, 1, "A")
    assert min(after) < min(before), "more cells lower UACR further"
    dose = page.locator("#explore-arms-0-dose").input_value()
    assert 2 < float(dose) < 20
    page.wait_for_url(f"**arm=UC,IV,{dose},3,7")


def test_switching_off_an_arm_of_action_shows_what_is_lost(page, address):
    opened(page, address)
    page.locator("#explore-arm0-antioxidant").uncheck()
    settled(page)
    table = page.locator("#explore-table")
    expect(table).to_contain_text("A: lost by switching off")
    without, whole = curve(page, 1, "A"), curve(page, 1, "A with all arms of action")
    assert min(whole) < min(without), "without the antioxidant arm less albuminuria is saved"


def test_all_arms_of_action_off_leaves_nothing(page, address):
    actions = "immunomodulation.antioxidant.cytoprotection.antifibrotic.angiogenic.metabolic"
    opened(page, address, f"?view=difference&arm=UC,IV,1,3,7,{actions}")
    assert max(map(abs, curve(page, 2, "A"))) < 1e-3


def test_four_arms_stand_side_by_side_and_a_fifth_is_not_offered(page, address):
    opened(page, address)
    for _ in range(3):
        page.get_by_role("button", name="Add an arm to compare").click()
    settled(page)
    expect(page.locator("#explore-legend li")).to_have_count(5)
    expect(page.get_by_role("button", name="Add an arm to compare")).to_have_count(0)
    page.get_by_role("button", name="Remove arm B").click()
    settled(page)
    expect(page.locator("#explore-legend li")).to_have_count(4)


def test_a_link_brings_the_same_set_up_and_numbers_to_another_page(page, context, address):
    opened(page, address, "?view=difference&egfr=30&arm=AD,IV,2,6,28,metabolic&arm=EV-UC,IV,20,3,7")
    page.wait_for_url("**egfr=30**")
    other = opened(context.new_page(), page.url)
    expect(other.locator("#explore-arms-0-dose")).to_have_value("2")
    expect(other.locator("#explore-egfr")).to_have_value("30")
    expect(other.locator("#explore-arm0-metabolic")).not_to_be_checked()
    assert curve(other, 0, "B") == curve(page, 0, "B")


def test_a_wrong_address_says_what_is_wrong_and_shows_the_rest(page, address):
    opened(
        page,
        address,
        "?tab=explore&egfr=9999&disease=gout&arm=UC,IV,1,3,7&arm=XX,IV,1,3,7&colour=red&view=upside-down",
    )
    said = page.locator("#complaints").inner_text()
    for word in ("gout", "XX", "colour", "upside-down"):
        assert word in said, f"nothing said of {word}: {said}"
    expect(page.locator("#explore-legend li")).to_have_count(2)


def test_an_unknown_tab_is_said_and_explore_is_shown(page, address):
    opened(page, address, "?tab=moon")
    expect(page.locator("#complaints")).to_contain_text("moon")


def test_a_number_out_of_range_is_marked_at_its_field_and_a_good_one_clears_it(page, address):
    opened(page, address)
    page.locator("#explore-egfr").fill("900")
    problem = page.locator("#explore-egfr-problem")
    expect(problem).to_contain_text("5 to 150")
    expect(page.locator("#explore-egfr")).to_have_attribute("aria-invalid", "true")
    page.locator("#explore-egfr").fill("60")
    page.wait_for_selector(DONE)
    expect(problem).to_be_hidden()


def test_a_script_in_the_address_is_text(page, address):
    opened(page, address, "?disease=<img src=x onerror=alert(1)>")
    expect(page.locator("#complaints")).to_contain_text("<img src=x")
    assert page.locator("#complaints img").count() == 0


def test_data_scenario_and_picture_are_saved(page, address, tmp_path):
    opened(page, address, "?egfr=40&arm=UC,IV,1,3,7")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Data", exact=True).click()
    text = taken.value.path().read_text(encoding="utf-8")
    assert "# model_hash: " in text
    assert "not medical advice" in text
    assert "arm,what,day,observable,unit,median,q05,q95" in text
    assert len(text.splitlines()) > 1000
    with page.expect_download() as taken:
        page.get_by_role("button", name="Scenario file").click()
    scenario = taken.value.path().read_text(encoding="utf-8")
    assert tomllib.loads(scenario)["patient"]["egfr"] == 40
    assert len(read_scenario(scenario, name="page").arms) == 2
    with page.expect_download() as taken:
        page.get_by_role("button", name="Kidney function as PNG").click()
    assert taken.value.path().read_bytes().startswith(b"\x89PNG")


def test_the_report_of_what_is_set_up_is_saved(page, address):
    opened(page, address)
    with page.expect_download(timeout=120_000) as taken:
        page.get_by_role("button", name="Report").click()
    text = taken.value.path().read_text(encoding="utf-8")
    assert text.lstrip().lower().startswith("<!doctype html")
    assert "UC 1e6/kg x3 every 1w" in text


def test_two_people_at_once_do_not_disturb_each_other(browser, address):
    contexts = [browser.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for made, egfr in zip(pages, ("25", "70"), strict=True):
        made.goto(f"{address}?egfr={egfr}&arm=UC,IV,1,3,7")
    for made in pages:
        made.wait_for_selector(DONE)
    assert [curve(made, 0, "A")[0] for made in pages] == pytest.approx([25.0, 70.0])
    pages[0].locator("#explore-egfr").fill("35")
    pages[0].wait_for_function(
        "() => document.querySelector('#explore-panel-0 .plot').data.at(-1).y[0] === 35"
    )
    assert curve(pages[1], 0, "A")[0] == pytest.approx(70.0)
    for context in contexts:
        context.close()


def test_tabs_are_changed_by_arrow_keys(page, address):
    opened(page, address)
    page.locator("#tab-explore").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-mechanism")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#panel-mechanism")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#tab-lessons")).to_be_focused()


def test_every_control_has_a_name(page, address):
    opened(page, address)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button')].filter((e) =>
            !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map((e) => e.outerHTML)"""
    )
    assert not nameless


@pytest.mark.parametrize("tab", ["explore", "mechanism", "trial", "evidence", "lessons"])
def test_a_phone_scrolls_in_one_direction_only(page, address, tab):
    page.set_viewport_size(PHONE)
    page.goto(f"{address}?tab={tab}")
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_how_soon_curves_answer_a_slider(page, address, record_property):
    """The median over moves of a slider with one arm set up; measured from the move to the drawn curve."""
    opened(page, address)
    slider = page.locator("#explore-arms-0-dose-range")
    slider.focus()
    for _ in range(25):
        n = page.evaluate("window.mscrenal.timings.length")
        slider.press("ArrowRight")
        page.wait_for_function(f"window.mscrenal.timings.length > {n}")
    taken = [t["fromChange"] for t in page.evaluate("window.mscrenal.timings")][1:]
    record_property("explore_ms", json.dumps([round(t) for t in taken]))
    print(
        f"\nExplore: median {statistics.median(taken):.0f} ms from a slider's move to the curve ({len(taken)} moves)"
    )
