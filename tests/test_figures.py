"""Figures: readable in grey, with units, without overlapping words, and honest about their bands."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_results import SEVEN_ARMS, ToyArm, toy_arm, toy_explanation, toy_run

from mscrenal.scenarios.results import compare_result, simulate_result
from mscrenal.scenarios.style import DIVERGING, arm_styles, nice_unit

GRID_ARMS = (
    ToyArm("placebo"),
    *(
        toy_arm(
            f"UC {cells:.0e}/kg, {n} doses every {step} days",
            cells=cells,
            days=tuple(float(step * i) for i in range(n)),
        )
        for cells in (3e5, 1e6, 3e6, 1e7)
        for n, step in ((1, 7), (3, 7), (6, 7), (3, 28), (6, 28), (12, 28))
    ),
)
ENDPOINTS = ("egfr_change", "uacr_percent_change", "insulin_percent_change")


def figures_of(arms: tuple[ToyArm, ...], **options: Any) -> dict[str, Figure]:
    return compare_result(toy_run(arms, draws=8, endpoints=ENDPOINTS, **options)).plot()


@pytest.fixture(scope="module")
def two() -> dict[str, Figure]:
    return figures_of(SEVEN_ARMS[:2])


@pytest.fixture(scope="module")
def seven() -> dict[str, Figure]:
    return figures_of(SEVEN_ARMS)


@pytest.fixture(scope="module")
def many() -> dict[str, Figure]:
    return figures_of(GRID_ARMS)


def words(figure: Figure) -> list[Text]:
    """Every text that is drawn: of the page, and of its axes with their tick labels within the limits."""
    FigureCanvasAgg(figure).draw()
    found = list(figure.texts)
    for axes in figure.axes:
        found += [child for child in axes.get_children() if isinstance(child, Text)]
        if not axes.axison:
            continue
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            found += [axis.label, axis.get_offset_text()]
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if min(limits) <= tick.get_loc() <= max(limits):
                    found.append(tick.label1)
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of which one runs into the other by more than a pixel."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in words(figure)]
    found = []
    for place, (one, a) in enumerate(boxes):
        for other, b in boxes[place + 1 :]:
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            if wide > 1 and high > 1:
                found.append((one, other))
    return found


@pytest.mark.parametrize("size", ["two", "seven", "many"])
@pytest.mark.parametrize("name", ["time_courses", "cells", "forest"])
def test_no_words_overlap_whatever_the_number_of_arms(size, name, request):
    assert overlaps(request.getfixturevalue(size)[name]) == []


def test_no_words_overlap_in_the_dose_grid_and_the_attribution(many):
    assert overlaps(many["dose_frequency"]) == []
    assert overlaps(toy_explanation().plot()["attribution"]) == []


@pytest.mark.parametrize("size", ["two", "seven", "many"])
def test_every_word_lies_on_the_page(size, request):
    for figure in request.getfixturevalue(size).values():
        drawn = words(figure)
        width, height = figure.canvas.get_width_height()
        for text in drawn:
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text


def test_time_courses_show_kidney_inflammation_fibrosis_and_cells(two):
    assert titles(two["time_courses"]) == [
        "eGFR",
        "UACR",
        "Fibrosis area",
        "Serum IL-6",
        "Serum TNF-α",
        "Kidney TGF-β1",
        "Kidney pSmad3",
        "HbA1c",
        "Cells in the kidney",
    ]


def test_every_panel_has_its_unit_and_its_time_axis(two):
    panels = [axes for axes in two["time_courses"].axes if axes.get_title(loc="left")]
    assert all(axes.get_ylabel().startswith("[") for axes in panels)
    assert all(axes.get_xlabel() == "time since the first dose [weeks]" for axes in panels)


def test_uacr_and_cells_are_on_log_axes_and_egfr_is_not(two):
    scales = {axes.get_title(loc="left"): axes.get_yscale() for axes in two["time_courses"].axes}
    assert (scales["UACR"], scales["Cells in the kidney"], scales["eGFR"]) == ("log", "log", "linear")


def test_the_subtitle_says_honestly_what_the_bands_are(two):
    for name in ("time_courses", "cells", "forest"):
        subtitle = two[name].texts[1].get_text()
        assert "bands: 90 % of prior draws (n=8)" in " ".join(subtitle.split())


def test_a_population_is_told_apart_from_one_patient():
    made = simulate_result(toy_run(patients=6, draws=4)).plot()
    assert "mean over 6 patients" in " ".join(made["time_courses"].texts[1].get_text().split())
    assert "5 to 95 % of the 6 patients" in " ".join(made["patients"].texts[1].get_text().split())


def test_doses_are_marked_on_their_days(two):
    calendar = two["time_courses"].axes[0]
    weeks = [list(line.get_xdata()) for line in calendar.get_lines()]
    assert weeks == [[], [0.0, 1.0, 2.0]]


def test_arms_differ_without_colour():
    styles = arm_styles([f"arm {i}" for i in range(25)], "arm 0")
    looks = [(str(style.line), style.marker) for style in styles.values()]
    assert len(set(looks)) == 25
    assert styles["arm 0"].colour == "#222222"


def test_the_ends_of_the_heat_map_are_equally_light_so_that_neither_side_shouts():
    def lightness(colour: tuple[float, ...]) -> float:
        return float(np.dot(colour[:3], (0.2126, 0.7152, 0.0722)))

    assert lightness(DIVERGING(0.0)) == pytest.approx(lightness(DIVERGING(1.0)), abs=0.12)
    assert lightness(DIVERGING(0.5)) > 0.9


def test_a_dose_grid_gets_a_heat_map_and_other_scenarios_do_not(two, seven, many):
    assert "dose_frequency" in many
    assert "dose_frequency" not in two
    assert "dose_frequency" not in seven


def test_the_heat_map_prints_sign_and_probability_in_each_cell(many):
    cells = [text.get_text() for text in many["dose_frequency"].axes[0].texts]
    assert len(cells) == 24
    assert all("P " in cell and cell[0] in "+-" for cell in cells)


def test_with_many_arms_the_best_stay_in_colour(many):
    panel = next(axes for axes in many["time_courses"].axes if axes.get_title(loc="left") == "eGFR")
    colours = [line.get_color() for line in panel.get_lines()[:25]]
    assert sum(colour == "#b5b5b5" for colour in colours) == 25 - 6
    assert "in grey: the rest" in " ".join(many["time_courses"].texts[1].get_text().split())


def test_an_endpoint_without_a_value_says_why_in_its_panel(seven):
    shown = " ".join(" ".join(text.get_text().split()) for text in words(seven["forest"]))
    assert "not defined here: insulin_dose is zero at day 0" in shown


def test_figures_leave_the_settings_of_others_alone(two):
    before = dict(matplotlib.rcParams)
    figures_of(SEVEN_ARMS[:2])["forest"].savefig(io.BytesIO(), format="svg")
    assert dict(matplotlib.rcParams) == before


def test_units_are_printed_as_journals_do():
    assert nice_unit("mL/min/1.73m2") == "mL/min/1.73 m²"
    assert nice_unit("1") == ""
