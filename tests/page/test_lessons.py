"""Lessons in a real browser: each experiment answers its controls, each answer has its numbers, addresses, a phone."""

from __future__ import annotations

import csv
import statistics

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

DONE = "#lessons[data-stage=done]"
ANSWERED = "#lessons[data-answers=done]"
PLOTS = {1: ("cells", "effect"), 2: ("effect", "factor"), 3: ("course", "wins"), 4: ("bars", "sum"), 5: ("trials", "width"), 6: ("draws", "patients")}  # fmt: skip
LONG = 120_000  # the fifth lesson runs a hundred trials


def opened(page: Page, address: str, query: str) -> Page:
    page.goto(f"{address}?tab=lessons&{query}")
    page.wait_for_selector(DONE, timeout=LONG)
    return page


def settled(page: Page) -> None:
    page.wait_for_selector(DONE, timeout=LONG)


def drawn(page: Page, plot: str, name: str, axis: str = "y") -> list[float]:
    """What a plot shows under a name, along an axis."""
    return page.evaluate(
        "([p, n, a]) => Array.from(document.querySelector(`#lessons-plot-${p} .plot`).data.find((t) => t.name === n)[a])",
        [plot, name, axis],
    )


@pytest.mark.parametrize("number", sorted(PLOTS))
def test_a_lesson_shows_labelled_plots_its_numbers_and_its_answers(page, address, number):
    opened(page, address, f"lesson={number}")
    for plot in PLOTS[number]:
        shown = page.locator(f"#lessons-plot-{plot} .plot")
        expect(shown).to_have_attribute("role", "img")
        assert len(shown.get_attribute("aria-label")) > 60
        titles = shown.evaluate("e => [e.layout.xaxis.title.text, e.layout.yaxis.title.text]")
        assert titles[0]
        assert titles[1] or plot == "bars"
    assert page.locator("#lessons-tables table tbody tr").count() >= 2
    page.wait_for_selector(ANSWERED, timeout=LONG)
    answers = page.locator(".answer")
    assert 2 <= answers.count() <= 4
    for k in range(answers.count()):
        expect(answers.nth(k).locator("div").first).to_be_hidden()
        answers.nth(k).locator("summary").click()
        expect(answers.nth(k)).to_contain_text("Assumed by the model")
        assert any(c.isdigit() for c in answers.nth(k).inner_text())


def test_memory_switched_off_takes_most_of_the_effect_by_the_keyboard(page, address):
    opened(page, address, "lesson=1")
    before = min(drawn(page, "effect", "UACR"))
    page.locator("#lessons-memory").focus()
    page.keyboard.press("ArrowDown")
    settled(page)
    assert abs(min(drawn(page, "effect", "UACR"))) < abs(before) / 4
    page.wait_for_url("**memory=off**")


def test_a_slider_is_answered_soon(page, address):
    opened(page, address, "lesson=3")
    for _ in range(8):
        page.locator("#lessons-total-range").press("ArrowRight")
        page.wait_for_timeout(350)
    settled(page)
    times = [t["fromChange"] for t in page.evaluate("window.mscrenal.timings")][1:]
    assert len(times) >= 5
    print(f"\nLessons: median {statistics.median(times):.0f} ms from a slider's move to the plot")


def test_drawing_again_changes_the_trials_and_more_patients_narrow_them(page, address):
    opened(page, address, "lesson=5")
    before = page.locator("#lessons-plot-trials .plot-note").inner_text()
    first = drawn(page, "trials", "not significant", "x")
    page.locator("#lessons-again").click()
    page.wait_for_function(
        "(x) => document.querySelector('#lessons-plot-trials .plot').data[0].x[0] !== x", arg=first[0]
    )
    assert "in the long run" in before
    half = drawn(page, "width", "19 in each arm")[0]
    page.locator("#lessons-n").fill("76")
    page.wait_for_function(
        "() => document.querySelector('#lessons-plot-width .plot').data.some((t) => t.name === '76 in each arm')"
    )
    assert drawn(page, "width", "76 in each arm")[0] == pytest.approx(half / 2, rel=0.05)


def test_an_address_brings_lesson_and_controls_back_and_says_what_is_wrong(page, address):
    opened(page, address, "lesson=4&read=egfr&how=sideways&colour=red")
    expect(page.locator("#lessons-read")).to_have_value("egfr")
    expect(page.locator("#lessons-how")).to_have_value("off")
    expect(page.locator("#complaints")).to_contain_text("left out")
    expect(page.locator("#complaints")).to_contain_text("how")
    expect(page.locator("#complaints")).to_contain_text("colour")
    page.wait_for_function(
        "() => location.search.includes('read=egfr') && !location.search.includes('colour')"
    )


def test_a_number_out_of_bounds_is_said_on_the_page_and_mended(page, address):
    opened(page, address, "lesson=3")
    page.locator("#lessons-total").fill("99")
    expect(page.locator("#complaints")).to_contain_text("12")
    page.locator("#lessons-total").fill("6")
    expect(page.locator("#complaints")).to_be_hidden()
    settled(page)
    expect(page.locator("#lessons-plot-course .plot-note")).to_contain_text("Extrapolated")


def test_next_lesson_and_the_same_set_up_on_explore(page, address):
    opened(page, address, "lesson=2&dose=4")
    page.get_by_role("button", name="The rat on Explore").click()
    page.wait_for_selector("#explore[data-stage=done]")
    expect(page.locator("#explore-disease")).to_have_value("rat/stz")
    expect(page.locator("#explore-arms-0-dose")).to_have_value("4")
    page.locator("#tab-lessons").click()
    page.get_by_role("button", name="Next: Dose or frequency").click()
    settled(page)
    expect(page.locator("#lessons-title")).to_be_focused()
    expect(page.locator("#lessons-pick-3")).to_have_attribute("aria-current", "true")


def test_the_data_are_those_of_the_plots(page, address):
    opened(page, address, "lesson=1")
    with page.expect_download() as loaded:
        page.locator("#lessons-data").click()
    text = loaded.value.path().read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    ys = [float(r["y"]) for r in rows if r["name"] == "UACR"]
    assert min(ys) == pytest.approx(min(drawn(page, "effect", "UACR")))
    with page.expect_download() as picture:
        page.locator("#lessons-plot-cells").get_by_role("button", name="PNG").click()
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", sorted(PLOTS))
def test_a_lesson_is_legible_on_a_phone(page, address, number):
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, address, f"lesson={number}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for plot in PLOTS[number]:
        box = page.locator(f"#lessons-plot-{plot} .plot").bounding_box()
        assert box["width"] > 300
