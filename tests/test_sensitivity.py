"""Sensitivity: indices that agree with closed forms, a screen that says what it leaves out, one result whoever computes it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_reader import read_report
from scipy.special import ndtri
from test_figures import overlaps, words
from typer.testing import CliRunner

import mscrenal.scenarios
from mscrenal.app.cli import main
from mscrenal.app.console import text_tables
from mscrenal.app.report import render
from mscrenal.calibration import Draws, prior_draws
from mscrenal.model import sampled_parameters
from mscrenal.scenarios import RunError, load_scenario, sensitivity
from mscrenal.scenarios.results import to_json_text
from mscrenal.scenarios.sensitivity import active_parameters
from mscrenal.scenarios.sensitivity_result import MOST_LISTED, SensitivityResult, label_of
from mscrenal.scenarios.sobol import Marginal, joined, marginals, rows_needed, study

SCENARIO = "uc-dn-weekly"
ACTIVE = 239  # parameters that its two arms use, numbers of two products that are one counted once
runner = CliRunner()


@cache
def prior() -> Draws:
    """The priors, whatever posterior ships: what is expected below is worked out from them."""
    return prior_draws(1000, 1)


def few(**changes: Any) -> dict[str, Any]:
    """As little as shows how, changed."""
    return {"samples": 16, "parameters": 4, "workers": 1, "draws": prior(), **changes}


def uniform(low: float, high: float) -> Marginal:
    return Marginal(lambda u: low + (high - low) * u)


def normal(mean: float = 0.0) -> Marginal:
    return Marginal(lambda u: mean + ndtri(u))


class Function:
    """A function of parameters as `study` takes it; what is not named is at its median, and points are counted."""

    def __init__(self, formula: Callable[..., np.ndarray], parameters: Mapping[str, Marginal]) -> None:
        self.formula, self.parameters, self.points = formula, parameters, 0

    def __call__(self, stage: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        n = len(next(iter(values.values())))
        self.points += n
        full = {name: values.get(name, np.full(n, p.median)) for name, p in self.parameters.items()}
        found = np.asarray(self.formula(**full), dtype=float)
        return found if found.ndim == 2 else found[:, np.newaxis]


# --------------------------------------------------------------------------- closed forms

ISHIGAMI = {name: uniform(-math.pi, math.pi) for name in ("x1", "x2", "x3", "idle", "idler")}


def ishigami(x1, x2, x3, idle, idler):
    return np.sin(x1) + 7 * np.sin(x2) ** 2 + 0.1 * x3**4 * np.sin(x1)


def test_indices_of_the_ishigami_function_are_the_analytic_ones():
    # Ishigami & Homma 1990, with a = 7 and b = 0.1.
    of_1, of_2, both = 0.5 * (1 + 0.1 * math.pi**4 / 5) ** 2, 49 / 8, 0.01 * math.pi**8 * 8 / 225
    variance = of_1 + of_2 + both
    first = {"x1": of_1 / variance, "x2": of_2 / variance, "x3": 0.0}
    total = {"x1": (of_1 + both) / variance, "x2": of_2 / variance, "x3": both / variance}
    found = study(Function(ishigami, ISHIGAMI), ISHIGAMI, keep=5, samples=8192, seed=1)
    assert set(found.names) == {"x1", "x2", "x3"}
    for i, name in enumerate(found.names):
        assert found.indices.first[i] == pytest.approx(first[name], abs=0.02)
        assert found.indices.total[i] == pytest.approx(total[name], abs=0.02)
        assert found.indices.first_ci[i, 0] <= first[name] <= found.indices.first_ci[i, 1]
        assert found.indices.total_ci[i, 0] <= total[name] <= found.indices.total_ci[i, 1]
    assert found.sd_all == pytest.approx(math.sqrt(variance), rel=0.02)
    assert found.left_out == pytest.approx(0.0, abs=1e-12)


def test_parameters_come_with_the_largest_total_index_first_and_their_own_columns():
    found = study(Function(ishigami, ISHIGAMI), ISHIGAMI, keep=3, samples=1024, seed=1).indices
    assert list(found.total) == sorted(found.total, reverse=True)
    base, variance = found.values[:, 0], np.var(found.values[:, [0, -1]])
    for i, total in enumerate(found.total):  # Jansen's estimator, from the reordered columns
        assert np.mean((base - found.values[:, i + 1]) ** 2) / 2 / variance == pytest.approx(total, rel=1e-6)


LINEAR = {name: normal(10.0) for name in "abcd"}


def linear(a, b, c, d):
    return 3 * a - 2 * b + 0.5 * c + 0 * d


def test_the_share_that_the_screen_leaves_out_is_that_of_the_parameters_left_at_their_medians():
    found = study(Function(linear, LINEAR), LINEAR, keep=2, samples=4096, seed=3)
    assert found.names == ("a", "b")
    assert found.left_out == pytest.approx(0.25 / 13.25, rel=0.1)
    low, high = found.left_out_ci
    assert low < 0.25 / 13.25 < high
    assert found.sd_all == pytest.approx(math.sqrt(13.25), rel=0.03)
    assert found.indices.sd == pytest.approx(math.sqrt(13.0), rel=0.03)


def test_the_screen_ranks_all_parameters_and_finds_those_that_do_nothing():
    screen = study(Function(linear, LINEAR), LINEAR, keep=1, samples=1024, seed=3).screen
    assert list(screen) == ["a", "b", "c", "d"]
    assert screen["a"] == pytest.approx(9 / 13.25, rel=0.5)
    assert screen["d"] == 0.0


def test_the_tornado_shows_the_function_at_the_tails_of_one_parameter_at_a_time():
    found = study(Function(linear, LINEAR), LINEAR, keep=3, samples=64, seed=3)
    tornado, z = found.tornado, 1.6448536
    at = {name: (tornado.at_low[i], tornado.at_high[i]) for i, name in enumerate(found.names)}
    assert tornado.base == pytest.approx(15.0)
    assert at["a"] == pytest.approx((15 - 3 * z, 15 + 3 * z))
    assert at["b"] == pytest.approx((15 + 2 * z, 15 - 2 * z))
    assert tornado.low == pytest.approx(np.full(3, 10 - z))


def test_the_study_takes_as_many_points_as_it_said():
    function = Function(linear, LINEAR)
    study(function, LINEAR, keep=3, samples=64, seed=1)
    assert function.points == rows_needed(4, 3, 64)


def test_a_block_with_a_failed_point_is_dropped_and_counted_and_the_rest_still_agree():
    def sometimes(a, b, c, d):
        return np.where(np.random.default_rng(0).random(a.size) < 0.01, np.nan, linear(a, b, c, d))

    found = study(Function(sometimes, LINEAR), LINEAR, keep=2, samples=2048, seed=3)
    assert found.indices.dropped > 20
    assert found.dropped["sobol"] == (found.indices.dropped, 2048)
    assert len(found.indices.values) == 2048 - found.indices.dropped
    assert np.isfinite(found.indices.values).all()
    assert found.names == ("a", "b")
    assert found.indices.first == pytest.approx([9 / 13, 4 / 13], abs=0.05)


def test_a_patient_who_fails_somewhere_in_a_block_is_left_out_of_that_whole_block():
    def two(a, b, c, d):
        # The second patient is 100 higher: a mean over other patients in one row would be a jump.
        second = np.where(np.random.default_rng(0).random(a.size) < 0.1, np.nan, linear(a, b, c, d) + 100)
        return np.column_stack([linear(a, b, c, d), second])

    found = study(Function(two, LINEAR), LINEAR, keep=4, samples=1024, seed=3)
    assert found.indices.dropped == 0
    whole = study(Function(linear, LINEAR), LINEAR, keep=4, samples=1024, seed=3)
    jumps = np.abs(found.indices.values[:, 0] - found.indices.values[:, found.names.index("c") + 1])
    of_one = np.abs(whole.indices.values[:, 0] - whole.indices.values[:, whole.names.index("c") + 1])
    assert jumps == pytest.approx(of_one)


def test_nothing_to_attribute_is_said():
    with pytest.raises(RunError, match="does not vary: it is 1 whatever"):
        study(Function(lambda a, b, c, d: np.ones(a.size), LINEAR), LINEAR, keep=2, samples=16, seed=1)
    with pytest.raises(RunError, match="only 0 points could be simulated"):
        study(
            Function(lambda a, b, c, d: np.full(a.size, np.nan), LINEAR), LINEAR, keep=2, samples=16, seed=1
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_indices_and_another_seed_others(seed):
    first, again, other = (
        study(Function(ishigami, ISHIGAMI), ISHIGAMI, keep=3, samples=64, seed=s) for s in (seed, seed, 7)
    )
    assert np.array_equal(first.indices.total_ci, again.indices.total_ci)
    assert np.array_equal(first.indices.values, again.indices.values)
    assert not np.array_equal(first.indices.values, other.indices.values)


# --------------------------------------------------------------------------- distributions


def test_the_prior_is_exact_and_a_posterior_empirical():
    drawn = prior_draws(500, seed=1)
    exact = marginals(drawn)
    for name in ("memory_decay", "il6_spill", "species.human.translation", "ras_on_leak"):
        parameter = sampled_parameters()[name]
        expected = [parameter.at(z) for z in (-1.6448536269514729, 0.0, 1.6448536269514722)]
        assert exact[name].at(np.array([0.05, 0.5, 0.95])) == pytest.approx(expected)
        assert exact[name].median == pytest.approx(parameter.value)
    fitted = marginals(Draws(drawn.values, "posterior", 1, "x"))
    values = drawn.values["memory_decay"]
    assert fitted["memory_decay"].median == np.median(values)
    assert fitted["memory_decay"].at(np.array([0.9, 0.1])) == pytest.approx(np.quantile(values, [0.9, 0.1]))


def test_numbers_that_two_products_share_are_one_parameter():
    drawn = prior_draws(10, seed=1)
    shared = [
        (a, b)
        for a in drawn.values
        for b in drawn.values
        if a < b and np.array_equal(drawn.values[a], drawn.values[b])
    ]
    assert shared  # UC with microRNA borrows from UC
    first, second = shared[0]
    assert joined(drawn, {first, second, "memory_decay"}) == {
        first: (first, second),
        "memory_decay": ("memory_decay",),
    }


# --------------------------------------------------------------------------- scenarios


@pytest.fixture(scope="module")
def result() -> SensitivityResult:
    return sensitivity(SCENARIO, **few())


def test_parameters_of_absent_products_drugs_species_and_diseases_are_no_candidates(result):
    scenario = load_scenario(SCENARIO)
    names = active_parameters(scenario, scenario.arms[:2])
    assert "product.UC.homing" in names
    assert "memory_decay" in names
    assert "sglt2i_on_leak" in names
    assert "insult.diabetic.insulin_resistance" in names
    products = {name.split(".")[1] for name in names if name.startswith("product.")}
    assert products == {"UC"}
    assert not [
        n for n in names if n.startswith(("finerenone_on", "anti_tgfb_on", "species.rat", "insult.stz"))
    ]
    assert set(result.study.screen) == set(names)


def test_what_an_arm_adds_is_a_candidate():
    from mscrenal.model import DrugCourse

    scenario = load_scenario(SCENARIO)
    added = scenario.arms[1].replace(drugs_added=(DrugCourse("finerenone", 0.0, None),))
    assert "finerenone_on_leak" in active_parameters(scenario, (scenario.arms[0], added))


def test_cells_matter_for_the_difference_and_not_for_the_reference_itself():
    found = sensitivity(SCENARIO, arm="placebo", absolute=True, **few())
    assert not [name for name in found.study.screen if name.startswith("product.")]
    assert found.study.screen["memory_weight"] == 0.0
    assert found.to_json()["reference"] is None


def test_the_tornado_is_what_compare_computes_at_the_same_parameters(result):
    from mscrenal.scenarios import compare

    names = result.study.names
    values = {n: np.array([p.value] * 2) for n, p in sampled_parameters().items()}
    values[names[0]] = np.array([result.study.tornado.low[0], result.study.tornado.high[0]])
    scenario = load_scenario(SCENARIO)
    pair = scenario.replace(arms=scenario.arms[:2], endpoints=("egfr_change",))
    beside = compare(pair, draws=Draws(values, "prior", 1, "x"), workers=1)
    difference = beside.data["difference"].sel(endpoint="egfr_change", arm=result.arm).values
    assert difference == pytest.approx(
        [result.study.tornado.at_low[0], result.study.tornado.at_high[0]], rel=1e-6
    )


def test_the_same_seed_gives_the_same_document_whatever_the_workers(result):
    again = sensitivity(SCENARIO, **few(workers=3))
    assert to_json_text(again.to_json()) == to_json_text(result.to_json())


def test_a_posterior_gives_its_own_quantiles():
    drawn = prior_draws(50, seed=2)
    narrow = {name: np.full(50, sampled_parameters()[name].value) for name in drawn.values}
    narrow["memory_weight"] = drawn.values["memory_weight"]
    found = sensitivity(SCENARIO, **few(draws=Draws(narrow, "posterior", 2, "x")))
    assert found.origin == "posterior"
    assert found.study.names == ("memory_weight",)
    assert found.study.tornado.low[0] == pytest.approx(np.quantile(narrow["memory_weight"], 0.05))
    assert found.study.indices.total[0] == pytest.approx(1.0, abs=0.2)
    assert any("correlations of the posterior are lost" in note for note in found.assumptions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "uc-dn-weekli"}, "unknown scenario 'uc-dn-weekli'. Did you mean 'uc-dn-weekly'"),
        ({"endpoint": "egfr_chnge"}, "Unknown endpoint 'egfr_chnge'. Did you mean 'egfr_change'"),
        ({"endpoint": "insulin_percent_change"}, "not defined here: insulin_dose is zero at day 0"),
        ({"arm": "UC wekly x3"}, "unknown arm 'UC wekly x3'. Did you mean 'UC weekly x3'"),
        (
            {"arm": "placebo"},
            "is the reference, from which it differs by nothing. Choose one of UC weekly x3",
        ),
        (
            {"parameters": 0},
            f"parameters must be a whole number from 1 to {ACTIVE}, as many as can matter here, got 0",
        ),
        ({"parameters": 500}, f"from 1 to {ACTIVE}, as many as can matter here, got 500"),
        ({"samples": 100}, "samples must be a power of two from 16 to 16,384, got 100"),
        ({"samples": 8}, "got 8"),
        ({"samples": 100}, "The nearest are 64 and 128."),
        ({"patients": 0}, "patients must be a whole number"),
    ],
)
def test_bad_input_says_what_was_given_what_is_allowed_and_the_mend(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sensitivity(**{"scenario": SCENARIO, **few(), **options})


def test_a_scenario_without_a_treated_arm_is_refused():
    scenario = load_scenario(SCENARIO)
    with pytest.raises(RunError, match="no treated arm beside the reference"):
        sensitivity(scenario.replace(arms=scenario.arms[:1]), **few())


# --------------------------------------------------------------------------- documents and figures


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_the_document_has_the_fields_of_the_interface(result):
    document = json.loads(to_json_text(result.to_json()), parse_constant=_refuse)
    assert {"indices", "left_out", "screen", "provenance", "extrapolated", "failures", "origin"} <= set(
        document
    )
    assert (document["arm"], document["reference"]) == ("UC weekly x3", "placebo")
    assert (document["endpoint"], document["unit"]) == ("egfr_change", "mL/min/1.73 m²")
    assert len(document["indices"]) == 4
    for record in document["indices"]:
        assert {"parameter", "label", "first", "total", "ci"} <= set(record)
        for kind in ("first", "total"):
            low, high = record["ci"][kind]
            assert low <= high
    assert document["left_out"]["n_parameters"] == len(document["screen"]) - 4
    assert {"share", "ci"} <= set(document["left_out"])
    assert sum(record["kept"] for record in document["screen"]) == 4
    provenance = document["provenance"]
    assert (provenance["samples"], provenance["seed"]) == (16, 1)
    assert provenance["simulated_points"] == rows_needed(ACTIVE, 4, 16)


def test_labels_say_whose_parameter_it_is_in_words():
    assert label_of(["memory_decay"]) == "loss of reprogrammed phagocytes (half-life 4 weeks)"
    assert label_of(["product.UC.homing"]).startswith("UC: affinity for the injured kidney")
    assert label_of(["ras_on_leak"]).startswith("RAS blockade: ")


@pytest.fixture(scope="module")
def many() -> SensitivityResult:
    """The longest labels and as many rows as anybody shows."""
    return sensitivity("t2d-case-55y", endpoint="hba1c_change", **few(parameters=30))


@pytest.mark.parametrize("name", ["indices", "tornado"])
def test_no_words_overlap_and_all_lie_on_the_page(name, result, many):
    for made in (result, many):
        figure = made.plot()[name]
        assert overlaps(figure) == []
        width, height = figure.canvas.get_width_height()
        for text in words(figure):
            box = text.get_window_extent()
            assert min(box.x0, box.y0) >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text


def test_axes_carry_labels_and_units(result):
    made = result.plot()
    assert made["indices"].axes[0].get_xlabel() == "Sobol index [share of the variance]"
    assert made["tornado"].axes[0].get_xlabel() == "eGFR change, difference from placebo [mL/min/1.73 m²]"


def test_save_and_report_hold_tables_figures_and_what_was_left_out(result, tmp_path):
    folder = result.save(tmp_path / "r", report=render)
    names = {path.name for path in folder.iterdir()}
    assert {"sensitivity.csv", "sensitivity.parquet", "screen.csv", "result.json", "provenance.json"} <= names
    assert {"indices.svg", "indices.png", "tornado.svg", "tornado.png", "report.html"} <= names
    assert len(pd.read_csv(folder / "screen.csv")) == len(result.study.screen)
    page = read_report((folder / "report.html").read_text(), figures=2, sections=("scenario", "figures")).body
    for said in ("Sobol indices", "One parameter at a time", "of the variance", result.study.names[0]):
        assert said in page
    (table,) = text_tables(result)
    assert "parameters that the screen left at their medians carry" in table.note


# --------------------------------------------------------------------------- command line


def run(*arguments: str):
    return runner.invoke(main, ["sensitivity", *arguments])


def test_the_command_prints_the_document_of_the_function_and_nothing_else():
    found = run(SCENARIO, "--samples", "16", "--parameters", "4", "--seed", "3", "--workers", "1", "--json")
    assert found.exit_code == 0, found.stderr
    expected = sensitivity(SCENARIO, samples=16, parameters=4, seed=3, workers=1)
    assert json.loads(found.stdout) == json.loads(to_json_text(expected.to_json()))


def test_the_options_reach_the_function(result, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        mscrenal.scenarios, "sensitivity", lambda scenario, **given: asked.update(given) or result
    )
    options = ("--arm", "UC once", "--endpoint", "uacr_percent_change", "--absolute", "--parameters", "7")
    found = run(SCENARIO, *options, "--samples", "32", "--draws", "50", "--seed", "4", "--patients", "2")
    assert found.exit_code == 0, found.stderr
    assert {key: value for key, value in asked.items() if key != "progress"} == {
        "arm": "UC once", "endpoint": "uacr_percent_change", "absolute": True, "parameters": 7, "samples": 32,
        "draws": 50, "seed": 4, "source": "posterior", "patients": 2, "workers": None, "cluster": None,
    }  # fmt: skip


def test_the_terminal_names_parameters_in_words_and_what_was_left_out(result, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(mscrenal.scenarios, "sensitivity", lambda scenario, **given: result)
    found = run(SCENARIO)
    said = " ".join(found.stdout.split())
    assert "Total index" in said
    assert f"{ACTIVE - 4} parameters that the screen left at their medians carry" in said
    assert max(len(line) for line in found.stdout.splitlines()) <= 80


def test_failed_simulations_are_listed_with_their_stage_and_leave_with_3(monkeypatch):
    # HbA1c of 11 % is more than some draws of the model can have.
    scenario = load_scenario("t2d-case-55y")
    scenario = scenario.replace(patient=scenario.patient.replace(hba1c=11.0))
    failed = sensitivity(scenario, endpoint="hba1c_change", source="prior", **few())
    monkeypatch.setattr(mscrenal.scenarios, "sensitivity", lambda scenario, **given: failed)
    found = run("t2d-case-55y", "--json")
    assert found.exit_code == 3
    document = json.loads(found.stdout)
    assert len(document["failures"]) == min(document["n_failed"], MOST_LISTED) > 0
    assert {"arm", "stage", "draw", "patient", "status", "message"} == set(document["failures"][0])
    assert document["failures"][0]["status"] == "initial-state"
    assert "subjects failed" in found.stderr
    assert "stage screen" in found.stderr
    assert "failures" in failed.tables


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "unknown scenario 'nowhere'"),
        ((SCENARIO, "--endpoint", "egfr_chnge"), "Did you mean 'egfr_change'"),
        ((SCENARIO, "--arm", "UC wekly x3"), "Did you mean 'UC weekly x3'"),
        ((SCENARIO, "--parameters", "0"), "--parameters"),
        ((SCENARIO, "--samples", "100"), "The nearest are 64 and 128."),
    ],
)
def test_bad_input_leaves_with_2_and_one_message(arguments, message):
    found = run(*arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_the_help_has_a_worked_example(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    found = run("--help")
    assert found.exit_code == 0
    assert f"mscrenal sensitivity {SCENARIO}" in found.stdout.split("Example:")[1]
