"""The report: what a receiver sees who has never seen the project, and what it must never do."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from report_reader import read_report
from test_results import SEVEN_ARMS, toy_explanation, toy_run
from typer.testing import CliRunner

import mscrenal.scenarios
from mscrenal.app import report
from mscrenal.app.answers import answer, moment
from mscrenal.app.cli import main
from mscrenal.app.console import TextTable
from mscrenal.app.reading import FIGURES, figure_words, glossary
from mscrenal.app.report import render
from mscrenal.scenarios.results import compare_result, compare_series, scenarios_result, simulate_result

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>'


@pytest.fixture(scope="module")
def seven():
    return compare_result(toy_run(SEVEN_ARMS, failed=((1, 0, 0),)))


def test_a_comparison_has_every_section_and_stands_alone(seven):
    page = read_report(render(seven), figures=len(seven.plot()), sections=("scenario", "figures", "words"))
    assert "Does a schedule of three weekly doses slow the loss of eGFR?" in page.body
    assert "step-underflow" in page.body


@pytest.mark.parametrize(
    "result",
    [
        simulate_result(toy_run(draws=3)),
        simulate_result(toy_run(patients=4, draws=3)),
        toy_explanation(),
        compare_series([compare_result(toy_run(draws=3)), compare_result(toy_run(draws=3, seed=2))]),
        scenarios_result([toy_run(draws=2).scenario]),
    ],
    ids=["simulate", "population", "explain", "series", "scenarios"],
)
def test_other_results_have_every_section_and_stand_alone(result):
    if result.command == "compare":
        result.results[1].scenario.name = "other"
    read_report(render(result), figures=len(result.plot()))


# --------------------------------------------------------------------------- the answer


def test_the_answer_stands_at_the_top_with_its_band_and_what_it_rests_on(seven):
    text = render(seven)
    best = max(
        (arm for arm in seven.arms if not arm["is_reference"]),
        key=lambda arm: arm["endpoints"]["egfr_change"]["vs_reference"]["median"],
    )
    page = read_report(text)
    told = " ".join(page.texts["section"][0].split())
    assert f"{best['name']} does best in eGFR change by its median" in told
    assert re.search(r"\(90 % band -?[\d.]+ to -?[\d.]+\)", told)
    assert "The bands rest on priors" in told
    assert "extrapolated" in told
    assert text.index('id="answer"') < text.index('id="scenario"') < text.index('id="figures"')


def test_few_draws_and_failed_subjects_are_said_in_the_answer(seven):
    told = " ".join(answer(seven))
    assert f"Only {seven.run.data.sizes['draw']} draws stand behind these numbers" in told
    assert "1 simulated subjects failed" in told


def test_an_arm_that_does_no_better_is_not_called_better():
    run = toy_run(draws=3)
    reference = run.data.sel(arm=run.scenario.reference)
    same = run.data.copy(deep=True)
    for name in same.data_vars:
        for arm in same["arm"].values:
            same[name].loc[{"arm": arm}] = reference[name]
    run = replace(run, data=same)
    told = " ".join(answer(compare_result(run)))
    assert "no arm does better" in told
    assert "does best" not in told


def test_a_band_of_gains_alone_is_not_taken_for_evidence(seven):
    versus = [
        arm["endpoints"]["egfr_change"]["vs_reference"] for arm in seven.arms if not arm["is_reference"]
    ]
    assert max(versus, key=lambda v: v["median"])["ci90"][0] > 0
    assert "no evidence of benefit" in " ".join(answer(seven))


@pytest.mark.parametrize(
    ("days", "said"),
    [(336.0, "week 48"), (10.0, "day 10"), (15.0, "day 15"), (547.875, "month 18"), (1461.0, "year 4")],
)
def test_days_are_said_as_people_do(days, said):
    assert moment(days) == said


# --------------------------------------------------------------------------- what came from a user


def test_what_a_scenario_file_says_is_text_and_nothing_else():
    toy = toy_run(draws=3)
    for name in ("title", "question", "source", "name"):
        setattr(toy.scenario, name, HOSTILE)
    toy.scenario.notes = (HOSTILE,)
    page = read_report(render(compare_result(toy), command_line=f"mscrenal compare {HOSTILE}"))
    assert "<script" not in page.source
    assert "<img src=x" not in page.source
    assert HOSTILE in page.texts["h1"][0]
    assert HOSTILE in page.texts["code"][0]


def test_a_failures_message_is_text_too():
    toy = toy_run(draws=3, failed=((1, 0, 0),))
    toy.failures[0]["message"] = HOSTILE
    assert "<script" not in render(compare_result(toy))


def test_dois_are_links_and_nothing_else_is():
    parts = list(report._linked("see Inker 2019 (doi:10.1681/ASN.2019010007); http://elsewhere.org"))
    assert [target for _, target in parts if target] == ["https://doi.org/10.1681/ASN.2019010007"]
    assert (
        "".join(text for text, _ in parts)
        == "see Inker 2019 (doi:10.1681/ASN.2019010007); http://elsewhere.org"
    )


# --------------------------------------------------------------------------- figures and tables


def test_every_figure_that_is_drawn_has_words_of_its_own(seven):
    for name in seven.plot():
        assert figure_words(name).reading
    assert figure_words("stz-rat-uc_time_courses").title == FIGURES["time_courses"].title
    assert figure_words("forest_2").title == "Differences from the reference, continued"


def test_the_alternative_text_names_panels_and_axes(seven):
    made = report._figure("time_courses", seven.plot()["time_courses"])
    assert "Panels: eGFR; UACR" in made.alt
    assert "[mL/min/1.73 m²]" in made.alt


def test_a_figure_of_too_many_lines_goes_in_as_pixels(seven, monkeypatch):
    figure = seven.plot()["cells"]
    assert report._figure("cells", figure).data.startswith("data:image/svg+xml;base64,")
    monkeypatch.setattr(report, "MOST_SVG", 1000)
    assert report._figure("cells", figure).data.startswith("data:image/png;base64,")


def test_a_table_of_numbers_goes_on_below_and_one_of_words_turns_the_page():
    numbers = TextTable("t", ("Arm", *"abcdef"), tuple(("x", *["1" * 30] * 6) for _ in range(2)))
    blocks = report._blocks(numbers)
    assert [len(block.head) for block in blocks] == [5, 3]
    assert not any(block.wide for block in blocks)
    words = TextTable("t", ("Arm", *"abcdef"), (("x", *["word " * 9] * 6),), frozenset(range(7)))
    assert [block.wide for block in report._blocks(words)] == [True]


def test_the_comparison_of_the_main_job_stays_small(seven):
    assert len(render(seven)) < 3_000_000


# --------------------------------------------------------------------------- words, and getting it again


def test_only_the_words_that_occur_are_explained():
    terms = dict(glossary(["Assurance of a trial with 40 draws"], products=["UC", "none"]))
    assert {"assurance", "draw", "UC"} <= set(terms)
    assert "Sobol index" not in terms
    assert terms["UC"] == "Umbilical-cord MSC"


def test_the_report_of_a_command_tells_how_to_get_it_again(monkeypatch, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("", encoding="utf-8")
    monkeypatch.setattr(mscrenal.scenarios, "load_scenario", lambda name: toy_run().scenario, raising=False)
    monkeypatch.setattr(
        mscrenal.scenarios,
        "compare",
        lambda scenario, **options: compare_result(toy_run(draws=3)),
        raising=False,
    )
    out = tmp_path / "out"
    done = CliRunner().invoke(
        main, ["compare", str(mine), "--prior", "--draws", "3", "--workers", "2", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    page = read_report((out / "report.html").read_text(encoding="utf-8"))
    assert page.texts["code"] == ["mscrenal compare mine.toml --draws 3 --seed 1 --prior"]


def test_without_a_command_the_report_tells_none(seven):
    assert "This command gives" not in render(seven)


def test_what_scenarios_share_stands_once_in_the_provenance():
    told = report._provenance(
        {"a": {"seed": 1, "scenario_hash": "x"}, "b": {"seed": 1, "scenario_hash": "y"}}
    )
    assert told == [("seed", "1"), ("a: hash of the scenario", "x"), ("b: hash of the scenario", "y")]


def test_the_software_is_cited_as_in_the_citation_file(pytestconfig, seven):
    cited = (pytestconfig.rootpath / "CITATION.cff").read_text(encoding="utf-8")
    assert f'title: "{report.SOFTWARE}"' in cited
    assert report.SOFTWARE in render(seven)
