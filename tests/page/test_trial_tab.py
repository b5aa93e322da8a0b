"""Trial in a real browser: a first curve that refines, a design that changes, single trials piling up, files, addresses."""

from __future__ import annotations

import csv
import io

import pytest
from playwright.sync_api import Page, expect

from mscrenal.scenarios.schema import read_scenario

pytestmark = pytest.mark.browser

SMALL = "?tab=trial&n=8&horizon=12w&visits=12w&endpoint=uacr_percent_change"
CURVE = "#trial[data-stage=curve], #trial[data-stage=done]"
PHONE = {"width": 390, "height": 844}


def opened(page: Page, address: str, query: str = SMALL) -> Page:
    page.goto(address + query)
    page.wait_for_selector(CURVE, timeout=120_000)  # on a new machine the model of a crowd is compiled first
    page.wait_for_selector("#trial-one[data-drawn]")
    return page


def drawn(page: Page, n: int) -> None:
    page.wait_for_function("n => Number(document.querySelector('#trial-one').dataset.drawn) >= n", arg=n)


def text_of(download) -> str:
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        return file.read()


def test_plots_are_labelled_and_the_curve_has_its_band(page, address):
    opened(page, address)
    for panel in ("curve", "data", "strip"):
        plot = page.locator(f"#trial-{panel} .plot")
        expect(plot).to_have_attribute("role", "img")
        assert len(plot.get_attribute("aria-label")) > 60
        assert all(plot.evaluate("e => [e.layout.xaxis.title.text, e.layout.yaxis.title.text]"))
    filled = page.locator("#trial-curve .plot").evaluate(
        "e => e.data.filter((t) => t.fill === 'tonexty').length"
    )
    assert filled == 1
    assert "95 % interval" in page.locator("#trial-figures").inner_text()


def test_every_control_has_a_label(page, address):
    opened(page, address)
    page.click("#trial-form details summary")
    nameless = page.evaluate(
        "() => [...document.querySelectorAll('#panel-trial input, #panel-trial select')]"
        ".filter((e) => !e.labels.length && !e.getAttribute('aria-label')).map((e) => e.id)"
    )
    assert nameless == []


def test_more_trials_come_while_one_watches(page, address):
    opened(page, address)
    done = "() => parseInt(document.querySelector('#trial-state').textContent)"
    first = page.evaluate(done)
    page.wait_for_function(f"first => ({done})() > first", arg=first)


def test_the_mark_moves_at_once_and_the_trials_follow(page, address):
    opened(page, address)
    page.locator("#trial-n").fill("40")
    shape = "() => document.querySelector('#trial-curve .plot').layout.shapes.at(-1).x0"
    assert page.evaluate(shape) == 40
    page.wait_for_function(
        "() => document.querySelector('#trial-data .plot').data.some((t) => (t.name || '').includes('(40)'))"
    )
    page.wait_for_function("() => location.search.includes('n=40')")


def test_trials_pile_up_and_are_counted(page, address):
    opened(page, address)
    drawn(page, 1)
    page.click("#trial-draw")
    drawn(page, 2)
    page.click("#trial-draw-more")
    drawn(page, 27)
    assert page.locator("#trial-tally").inner_text().startswith("Of 27 trials so far")
    dots = page.locator("#trial-strip .plot").evaluate(
        "e => e.data.filter((t) => t.mode === 'markers').reduce((n, t) => n + t.x.length, 0)"
    )
    assert dots == 27
    page.click("#trial-anew")
    page.wait_for_function(
        "() => document.querySelector('#trial-tally').textContent.startsWith('Of 1 trial ')"
    )


def test_again_and_again_until_paused(page, address):
    opened(page, address)
    page.click("#trial-play")
    expect(page.locator("#trial-play")).to_have_text("Pause")
    drawn(page, 3)
    page.click("#trial-play")
    expect(page.locator("#trial-play")).to_have_text("Again and again")
    page.wait_for_timeout(1500)
    held = page.locator("#trial-one").get_attribute("data-drawn")
    page.wait_for_timeout(2500)
    assert page.locator("#trial-one").get_attribute("data-drawn") == held


def test_nothing_plays_by_itself_for_who_wants_it_still(page, address):
    page.emulate_media(reduced_motion="reduce")
    opened(page, address)
    expect(page.locator("#trial-play")).to_be_hidden()
    expect(page.locator("#trial-draw")).to_be_visible()


def test_a_schedule_of_ones_own_goes_into_the_address_and_back(page, address):
    opened(page, address)
    page.locator("#trial-treatment").select_option("own schedule")
    page.locator("#trial-arm-n").fill("2")
    page.wait_for_function("() => location.search.includes('arm=UC,IV,1,2,7')")
    again = page.evaluate("() => location.search")
    opened(page, address, again)
    assert page.locator("#trial-arm-n").input_value() == "2"
    assert page.locator("#trial-n").input_value() == "8"


def test_what_is_set_up_on_explore_is_taken_over(page, address):
    page.goto(address + "?tab=explore&egfr=35&arm=UC,IV,2,2,28,antifibrotic")
    page.wait_for_selector("#explore[data-stage=done]")
    page.click("#tab-trial")
    page.click("#trial-take-0")
    page.wait_for_function("() => location.search.includes('egfr=35')")
    page.wait_for_function("() => location.search.includes('arm=UC,IV,2,2,28')")
    expect(page.locator("#trial-who")).to_contain_text("eGFR 35")
    expect(page.locator("#complaints")).to_contain_text("all act here")


def test_the_files_hold_the_design_and_its_numbers(page, address):
    opened(page, address)
    with page.expect_download() as file:
        page.click("#trial-file")
    found = read_scenario(text_of(file), name="trial", file="trial.toml")
    assert found.trial.sizes == (8, 8)
    assert (found.horizon_days, found.trial.endpoint) == (84, "uacr_percent_change")
    with page.expect_download() as file:
        page.click("#trial-csv")
    text = text_of(file)
    assert "seed 1" in text
    rows = list(csv.DictReader(io.StringIO("\n".join(t for t in text.splitlines() if not t.startswith("#")))))
    line = [r for r in rows if r["what"] == "assurance, expected"]
    assert len(line) > 30
    assert all(float(r["low95"]) <= float(r["share"]) <= float(r["high95"]) for r in line)


def test_what_the_address_says_wrongly_is_told(page, address):
    opened(page, address, SMALL.replace("n=8", "n=9999") + "&analysis=mixed")
    expect(page.locator("#complaints")).to_contain_text("less than or equal to 300")
    expect(page.locator("#complaints")).to_contain_text("Allowed for it: ancova")


def test_a_bad_number_is_told_at_its_field(page, address):
    opened(page, address)
    page.locator("#trial-n").fill("2")
    expect(page.locator("#trial-n-problem")).to_contain_text("greater than or equal to 4")
    expect(page.locator("#trial-n")).to_have_attribute("aria-invalid", "true")


def test_it_fits_a_phone(page, address):
    page.set_viewport_size(PHONE)
    opened(page, address)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
