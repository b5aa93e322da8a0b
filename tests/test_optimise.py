"""The search for regimens: closed forms of decision theory, limits that hold, one result whoever computes it."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_reader import read_report
from scipy.stats import norm
from test_figures import overlaps, words
from typer.testing import CliRunner

import mscrenal.scenarios
from mscrenal.app.cli import main
from mscrenal.app.console import text_tables
from mscrenal.app.report import render
from mscrenal.calibration import Draws, prior_draws
from mscrenal.calibration.studies import STUDY_FOLDER
from mscrenal.model import PRODUCTS
from mscrenal.scenarios import RunError, compare, load_scenario, optimise
from mscrenal.scenarios.decision import (
    FEWEST_DRAWS,
    expected_losses,
    pareto_front,
    prob_best,
    value_of_groups,
    value_of_parameters,
    value_of_perfect,
    value_of_study,
)
from mscrenal.scenarios.optimise import _Screen
from mscrenal.scenarios.optimise_result import OptimiseResult
from mscrenal.scenarios.regimens import Limits, Regimen, Space, limits_of, regimen_of, studied_in_people
from mscrenal.scenarios.results import to_json_text

SCENARIO = "uc-dn-weekly"
DRAWS = 48
runner = CliRunner()


# --------------------------------------------------------------------------- closed forms


def of_two(mean: float, sd: float) -> float:
    """E[max(0, X)] - max(0, E[X]) of a normal X: what it is worth to know X before choosing between it and nothing."""
    return float(sd * norm.pdf(mean / sd) - abs(mean) * norm.cdf(-abs(mean) / sd))


@cache
def two_options(n: int = 2000) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Nothing, or known + unknown + 0.3: a Gaussian choice between two."""
    rng = np.random.default_rng(0)
    known, unknown = rng.standard_normal((2, n))
    idle = {f"idle{i}": rng.standard_normal(n) for i in range(60)}
    return np.column_stack([np.zeros(n), 0.3 + known + 0.5 * unknown]), {
        "known": known,
        "unknown": unknown,
    } | idle


def test_perfect_information_of_a_gaussian_choice_is_the_closed_form():
    utility, _ = two_options()
    value, se = value_of_perfect(utility)
    assert value == pytest.approx(of_two(0.3, math.sqrt(1.25)), abs=3 * se)
    assert 0 < se < 0.02


def test_the_value_of_a_parameter_of_a_gaussian_choice_is_the_closed_form():
    utility, parameters = two_options()
    found = value_of_parameters(utility, parameters, seed=1)
    assert list(found)[:2] == ["known", "unknown"]
    for name, sd in (("known", 1.0), ("unknown", 0.5)):
        assert found[name].value == pytest.approx(of_two(0.3, sd), abs=3 * found[name].se)
        assert found[name].beyond_noise
    # Knowing it to be below -0.3 makes nothing the better choice.
    assert found["known"].prob_change == pytest.approx(norm.cdf(-0.3), abs=0.03)


def test_what_has_nothing_to_do_with_the_choice_is_worth_nothing(monkeypatch):
    monkeypatch.setattr("mscrenal.scenarios.decision.PERMUTATIONS", 1000)
    flagged, values, raw = 0, [], []
    for trial in range(40):
        rng = np.random.default_rng(trial)
        utility = np.column_stack([np.zeros(100), 0.3 + rng.standard_t(3, 100)])
        idle = {f"idle{i}": rng.standard_normal(100) for i in range(10)}
        found = value_of_parameters(utility, idle, seed=trial)
        flagged += any(i.beyond_noise for i in found.values())
        values += [i.value for i in found.values()]
        raw += [i.raw for i in found.values()]
    # One family in twenty, give or take: two of forty are expected.
    assert flagged <= 6
    # Chance is taken off: what is left is far below what the regressions alone would say.
    assert np.mean(values) < 0.6 * np.mean(raw)


@pytest.mark.parametrize("transform", [np.exp, lambda x: x**3, lambda x: -x])
def test_the_value_of_a_parameter_does_not_depend_on_its_scale(transform, monkeypatch):
    monkeypatch.setattr(
        "mscrenal.scenarios.decision.PERMUTATIONS", 100
    )  # it is the raw value that is compared
    utility, parameters = two_options()
    plain = value_of_parameters(utility[:500], {"x": parameters["known"][:500]}, seed=1)["x"]
    other = value_of_parameters(utility[:500], {"x": transform(parameters["known"][:500])}, seed=1)["x"]
    assert other.raw == pytest.approx(plain.raw, rel=1e-6)


def test_a_group_is_worth_what_its_members_are_together():
    utility, parameters = two_options()
    groups = {
        "both": [parameters["known"], parameters["unknown"]],
        "idle": [parameters["idle0"], parameters["idle1"]],
        "flat": [np.ones(len(utility))],
        "large": [np.random.default_rng(i).standard_normal(len(utility)) for i in range(300)],
    }
    found = value_of_groups(utility, groups, seed=1)
    assert list(found) == ["both", "idle"]  # one without a say, one that is too large
    assert found["both"].value == pytest.approx(of_two(0.3, math.sqrt(1.25)), abs=3 * found["both"].se)
    assert found["both"].beyond_noise
    assert not found["idle"].beyond_noise


@pytest.mark.parametrize("se", [0.2, 1.0, 3.0])
def test_the_value_of_a_study_of_a_gaussian_choice_is_the_closed_form(se):
    # Draws at the quantiles of a normal: no sampling error of their own.
    truth = norm.ppf((np.arange(1000) + 0.5) / 1000, loc=0.3, scale=1.2)
    expected = of_two(0.3, 1.44 / math.sqrt(1.44 + se**2))
    assert value_of_study(np.column_stack([np.zeros(1000), truth]), truth, se) == pytest.approx(
        expected, rel=0.02
    )


def test_a_larger_study_is_worth_more_and_none_more_than_perfect_information():
    utility, _ = two_options(1000)
    values = [value_of_study(utility, utility[:, 1], se) for se in (10.0, 3.0, 1.0, 0.3, 0.1)]
    assert values == sorted(values)
    assert values[-1] <= value_of_perfect(utility)[0] + 1e-12
    assert values[0] < 0.05 * values[-1]


def test_a_study_without_an_error_is_refused():
    with pytest.raises(ValueError, match="se must be above 0"):
        value_of_study(np.zeros((4, 2)), np.zeros(4), 0.0)


utilities = st.integers(2, 6).flatmap(
    lambda k: st.lists(
        st.lists(st.floats(-10, 10), min_size=k, max_size=k),
        min_size=FEWEST_DRAWS,
        max_size=FEWEST_DRAWS + 20,
    )
)


@settings(max_examples=25)
@given(utilities, st.integers(0, 5))
def test_no_parameter_group_or_study_is_worth_more_than_perfect_information(values, seed):
    utility = np.array(values)
    rng = np.random.default_rng(seed)
    parameters = {"first": utility[:, 0], "noise": rng.standard_normal(len(utility))}
    most, _ = value_of_perfect(utility)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mscrenal.scenarios.decision.PERMUTATIONS", 500)
        found = list(value_of_parameters(utility, parameters, seed=seed).values())
    found += list(value_of_groups(utility, {"all": list(parameters.values())}, seed=seed).values())
    assert all(0 <= i.value <= most + 1e-12 for i in found)
    assert 0 <= value_of_study(utility, utility[:, 0], 1.0) <= most + 1e-12


@given(utilities)
def test_shares_of_being_best_sum_to_one_and_the_least_loss_is_perfect_information(values):
    utility = np.array(values)
    assert prob_best(utility).sum() == pytest.approx(1)
    assert expected_losses(utility).min() == pytest.approx(value_of_perfect(utility)[0], abs=1e-9)


def test_options_that_tie_share_the_draw():
    assert prob_best([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]).tolist() == [0.25, 0.5, 0.25]


def test_few_draws_say_nothing_of_parameters():
    assert value_of_parameters(np.zeros((10, 2)), {"a": np.arange(10)}, seed=1) == {}


points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=25)


@given(points)
def test_the_front_is_exactly_what_nothing_dominates(rows):
    table = np.array(rows, dtype=float)
    front = pareto_front(table[:, 0], table[:, 1], table[:, 2])

    def dominates(a, b):
        no_worse = a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2]
        return no_worse and tuple(a) != tuple(b)

    for i, row in enumerate(table):
        assert front[i] == (not any(dominates(other, row) for other in table))
    assert front.any()


def test_an_option_without_a_gain_is_not_on_the_front():
    assert pareto_front([np.nan, 1.0], [0.0, 1.0]).tolist() == [False, True]


# --------------------------------------------------------------------------- regimens within limits


@st.composite
def spaces(draw) -> Space:
    low = draw(st.floats(1e5, 1e6))
    limits = Limits(
        cells_per_kg=low * draw(st.floats(1, 30)),
        visits=draw(st.integers(1, 12)),
        interval_days=draw(st.one_of(st.sampled_from([7.0, 14.0, 28.0]), st.floats(0.5, 60))),
        horizon_days=draw(st.floats(70, 800)),
        doses={"cells": (low, low * draw(st.floats(1, 20))), "ev": (50.0, 200.0), "medium": (1e6, 2e6)},
    )
    infusions = {"IV": min(1 / 24, limits.interval_days), "IA-renal": 0.0}
    return Space((("UC", "IV"), ("BM", "IA-renal"), ("EV-UC", "IV"), ("CM-UC", "IV")), limits, infusions)


@given(spaces())
def test_every_regimen_of_the_grid_keeps_the_limits(space):
    grid = list(space.grid())
    assert grid
    assert {(r.product, r.route) for r in grid} == set(space.pairs)
    for regimen in grid:
        assert space.limits.keeps(regimen), regimen
        assert regimen.arm.total_cells_per_kg(70) <= space.limits.cells_per_kg * (1 + 1e-6)
        assert len(regimen.arm.dose_days) == regimen.n_doses <= space.limits.visits
        assert regimen.arm.end_day < space.limits.horizon_days


@given(spaces(), st.tuples(st.floats(-0.5, 1.5), st.floats(-2, 20), st.floats(-0.5, 1.5)))
def test_every_point_that_a_search_can_reach_keeps_the_limits(space, point):
    for pair in space.pairs:
        regimen = space.at(*pair, point)
        assert space.limits.keeps(regimen), regimen
        again = space.at(*pair, space.place(regimen))
        assert again.n_doses == regimen.n_doses
        assert again.dose == pytest.approx(regimen.dose, rel=0.11)  # one step of the second digit


@pytest.mark.parametrize("name", ["uc-dn-weekly", "ev-uc", "stz-rat-uc", "rexlemestrocel", "dose-frequency"])
def test_the_default_limits_hold_the_scenarios_own_regimens(name):
    scenario = load_scenario(name)
    limits = limits_of(scenario)
    own = [r for a in scenario.arms if (r := regimen_of(a, scenario.weight_kg)) is not None]
    assert own
    assert all(limits.keeps(r) for r in own if r.kind == "cells")


def test_a_regimen_gives_what_the_arm_gives_that_it_was_made_of():
    for name in ("uc-dn-weekly", "ev-uc", "nephstrom"):
        scenario = load_scenario(name)
        for arm in scenario.arms:
            regimen = regimen_of(arm, scenario.weight_kg)
            if regimen is None:
                assert arm.n_doses == 0
                continue
            mine, theirs = (a.doses(scenario.weight_kg) for a in (regimen.arm, arm))
            assert [d.day for d in mine] == [d.day for d in theirs]
            assert [d.amount for d in mine] == pytest.approx([d.amount for d in theirs])


def test_what_is_no_course_of_equal_doses_is_no_regimen():
    scenario = load_scenario("t2d-four-regimens")
    two = next(a for a in scenario.arms if len(a.courses) > 1)
    assert regimen_of(two, 70.0) is None


def test_what_people_were_given_is_that_of_the_maps_of_the_studies():
    found = studied_in_people()
    assert found["UC", "IV"].dose == 1.5e6  # lijx2016
    assert found["UC", "IV"].n_doses == 4
    assert found["AD", "IA-renal"].dose == 1.75e5  # saad2017
    text = "\n".join(p.read_text(encoding="utf-8") for p in STUDY_FOLDER.glob("*.toml"))
    assert all(f'"{study}"' in text for s in found.values() for study in s.studies)


# --------------------------------------------------------------------------- the search


class ToyBench:
    """A surface with one top: 1.3e6/kg three times, a month apart, of product UC; noise per draw, the same for all."""

    def __init__(self) -> None:
        self.asked = 0

    def screened(self, regimens: list[Regimen], n_draws: int, stage: str) -> np.ndarray:
        self.asked += len(regimens)
        level = np.random.default_rng(3).lognormal(0.0, 0.5, n_draws)
        return np.array([self.effect(r) * level for r in regimens])

    @staticmethod
    def effect(r: Regimen) -> float:
        far = math.log(r.dose / 1.3e6) ** 2 + 0.3 * (r.n_doses - 3) ** 2
        far += (math.log(r.interval_days / 30) ** 2 if r.n_doses > 1 else 3.0) + (
            0.5 if r.product != "UC" else 0.0
        )
        return math.exp(-far)


def test_the_search_finds_a_known_top_that_is_not_on_the_grid():
    scenario = load_scenario(SCENARIO)
    limits = limits_of(scenario, max_visits=6)
    space, bench = Space.of(scenario, limits, ["UC", "AD"], ["IV"]), ToyBench()
    screen = _Screen(bench, limits, 8)
    screen.add("grid", space.grid())
    of_grid = max(map(ToyBench.effect, screen.gains))
    screen.refine(space, seed=1)
    best = screen.ranked()[0]
    assert ToyBench.effect(best) > of_grid
    assert (best.product, best.n_doses) == ("UC", 3)
    assert best.dose == pytest.approx(1.3e6, rel=0.2)
    assert best.interval_days == pytest.approx(30, rel=0.25)
    assert all(limits.keeps(r) for r in screen.gains)
    assert bench.asked == len(screen.gains)  # nothing is simulated twice


def test_the_shortlist_holds_the_best_of_each_product_the_scenarios_own_and_a_sparing_one():
    scenario = load_scenario(SCENARIO)
    limits = limits_of(scenario)
    space = Space.of(scenario, limits, ["UC", "AD"], ["IV"])
    own = [r for a in scenario.arms if (r := regimen_of(a, 72.0)) is not None and r.product == "UC"]
    screen = _Screen(ToyBench(), limits, 8)
    screen.add("grid", [*space.grid(), *own])
    short = screen.shortlist(space, own, 0.2)
    ranked = screen.ranked()
    assert short[0] == ranked[0]
    assert set(own) <= set(short)
    assert next(r for r in ranked if r.product == "AD") in short
    near = [r for r in ranked if screen.expected(r) >= 0.8 * screen.expected(ranked[0])]
    assert min(r.burden for r in near) == min(r.burden for r in short if r in near)
    assert len(short) == len(set(short)) <= 20


# --------------------------------------------------------------------------- the command's function


@cache
def prior() -> Draws:
    """The priors, whatever posterior ships."""
    return prior_draws(DRAWS, 1)


def few(**changes: Any) -> dict[str, Any]:
    """As little as shows how, changed."""
    return {"products": ["UC"], "max_visits": 2, "workers": 1, "draws": prior(), **changes}


@pytest.fixture(scope="module")
def result() -> OptimiseResult:
    return optimise(SCENARIO, **few())


def test_gains_are_the_differences_of_compare(result):
    scenario = load_scenario(SCENARIO)
    pair = scenario.replace(
        arms=(scenario.reference_arm, scenario.arm("UC once")),
        endpoints=("egfr_slope_total", "uacr_percent_change"),
    )
    beside = compare(pair, draws=prior(), workers=1).data["difference"].sel(arm="UC once")
    place = [r.label for r in result.regimens].index("UC IV 1e6/kg once")
    for name in pair.endpoints:
        expected = beside.sel(endpoint=name).values.ravel()
        assert result.endpoint_differences[name][place] == pytest.approx(expected, abs=1e-6)
    assert result.gains[place] == pytest.approx(
        beside.sel(endpoint="egfr_slope_total").values.ravel(), abs=1e-6
    )


def test_the_recommended_regimen_has_the_largest_expected_gain(result):
    assert result.choice == int(np.argmax(result.gains.mean(axis=1)))
    table = result.table
    assert table["expected_gain"].is_monotonic_decreasing
    assert table["recommended"].tolist() == [True] + [False] * (len(table) - 1)
    assert table["prob_best"].sum() + result.prob_best[-1] == pytest.approx(1)
    assert result.losses[result.choice] == pytest.approx(result.perfect[0], abs=1e-9)


def test_what_a_regimen_falls_short_of_the_best_is_told_draw_by_draw(result):
    last = result.records[-1]
    place = int(np.argsort(-result.expected)[-1])
    behind = result.gains[result.choice] - result.gains[place]
    assert last["short_of_best"]["mean"] == pytest.approx(behind.mean())
    assert last["short_of_best"]["se"] == pytest.approx(behind.std(ddof=1) / math.sqrt(DRAWS))
    assert result.records[0]["short_of_best"] == {"mean": 0.0, "se": 0.0}


def test_the_chance_of_a_gain_that_matters_is_counted_over_draws(result):
    assert result.relevant == 0.75
    for record, i in zip(result.records, np.argsort(-result.expected), strict=True):
        assert record["prob_relevant"] == pytest.approx(np.mean(result.gains[i] >= 0.75))


def test_an_endpoint_that_falls_for_the_better_gains_by_falling():
    found = optimise(SCENARIO, **few(objective="uacr_percent_change", max_visits=1))
    assert found.gains == pytest.approx(-found.endpoint_differences["uacr_percent_change"])
    assert found.relevant is None
    assert found.to_json()["pareto"][0]["prob_relevant"] is None
    assert found.expected[found.choice] > 0


def test_everything_tried_keeps_the_limits():
    found = optimise(
        SCENARIO,
        **few(
            max_cells="150e6",
            max_visits=3,
            min_interval="3w",
            products=["UC", "EV-UC"],
            draws=prior_draws(4, 1),
        ),
    )
    assert found.limits.cells_per_kg == pytest.approx(150e6 / 72)
    for regimen, _ in found.screened:
        assert regimen.cells_per_kg <= 150e6 / 72 * (1 + 1e-9)
        assert regimen.n_doses <= 3
        assert regimen.n_doses == 1 or regimen.interval_days >= 21
    assert {r.kind for r in found.regimens} == {"cells", "ev"}
    assert found.information == {}
    assert any("takes 40 draws at least" in note for note in found.assumptions)
    # Vesicles and cells have no common measure of burden: neither beats the other.
    front = [r for r in found.records if r["pareto"]]
    assert {r["burden"]["unit"] for r in front} == {"cells/kg", "particles/kg"}
    assert all(r["cells"] == 0 for r in front if r["burden"]["unit"] == "particles/kg")


def test_the_front_of_the_result_is_not_dominated(result):
    records = result.records
    for on in (r for r in records if r["pareto"]):
        for other in records:
            better = (
                other["expected_gain"] >= on["expected_gain"]
                and other["cells"] <= on["cells"]
                and other["visits"] <= on["visits"]
            )
            assert not better or other["regimen"] == on["regimen"]


def test_the_same_seed_gives_the_same_document_whatever_the_workers(result):
    again = optimise(SCENARIO, **few(workers=3))
    assert to_json_text(again.to_json()) == to_json_text(result.to_json())


def test_cells_without_potency_recommend_no_treatment():
    drawn = prior_draws(DRAWS, 1)
    values = dict(drawn.values) | {
        "species.human.translation": np.zeros(DRAWS),
        "embolic_harm": np.zeros(DRAWS),
    }
    found = optimise(SCENARIO, **few(draws=Draws(values, "prior", 1, "x"), max_visits=1))
    assert found.choice is None
    assert found.to_json()["recommended"]["regimen"] is None
    assert "none is recommended" in found.to_json()["recommended"]["reason"]
    assert found.to_json()["pareto"] == []
    assert found.perfect[0] == 0
    assert not [name for name, i in found.information.items() if i.value > 0 or i.beyond_noise]
    assert found.prob_best == pytest.approx(np.full(len(found.prob_best), 1 / len(found.prob_best)))
    assert found.plot()


def test_repetition_sensitises_to_donor_cells_and_not_to_vesicles(result):
    table = result.tradeoff.table
    assert table["n_doses"].tolist() == [1, 2]
    assert table["last_dose_lost_median"][0] == 0
    assert table["last_dose_lost_median"][1] > 0.02
    assert table["rejection_median"][1] > table["rejection_median"][0] > 0
    assert (table["rejection_low"] < table["rejection_high"]).all()
    # What sensitisation takes: nothing from a first dose but what its own priming costs, more from a second.
    assert table["taken_by_sensitisation_median"][1] > table["taken_by_sensitisation_median"][0]
    vesicles = optimise(SCENARIO, **few(products=["EV-UC"], routes=["IV"], draws=prior_draws(4, 1)))
    assert vesicles.tradeoff is None
    assert (vesicles.rejection == 0).all()
    assert "sensitisation" not in vesicles.plot()


def test_rejection_is_the_models_own_memory(result):
    from mscrenal.model import simulate

    patient = load_scenario(SCENARIO).subject.patient()
    place = next(i for i, r in enumerate(result.regimens) if r.n_doses == 2)
    regimen = result.regimens[place]
    days = np.arange(0.0, regimen.last_day + 113.0)
    run = simulate(patient, regimen.arm.doses(72.0), theta=prior().at(3), times=days)
    memory = run.state("memory")
    # Read on some days only: the top is flat.
    assert result.rejection[place, 3] == pytest.approx(np.max(memory / (1 + memory)), rel=0.01)
    met = memory[days == regimen.last_day][0]
    share, theta = met / (1 + met), prior().at(3)
    kept = (1 - theta["sensitised_loss"] * share) / (1 + theta["sensitised_death"] * share)
    assert result.lost[place, 3] == pytest.approx(1 - kept, rel=1e-3)


def test_a_limit_on_risk_holds_and_what_cannot_be_is_said():
    drawn = prior_draws(12, 1)
    free = optimise(SCENARIO, **few(draws=drawn))
    limit = float(np.median(free.rejection[free.choice])) * 0.8
    held = optimise(SCENARIO, **few(draws=drawn, max_risk=limit))
    assert all(np.median(row) <= limit for row in held.rejection)
    assert held.expected[held.choice] < free.expected[free.choice]
    with pytest.raises(RunError, match="no regimen keeps the limits: the smallest median risk is"):
        optimise(SCENARIO, **few(draws=drawn, max_risk=1e-4))


def test_a_population_is_averaged_and_its_failures_are_counted_not_hidden():
    # HbA1c of 11 % is more than some draws of the model can have.
    scenario = load_scenario("t2d-case-55y")
    scenario = scenario.replace(patient=scenario.patient.replace(hba1c=11.0))
    found = optimise(scenario, **few(objective="hba1c_change", max_visits=1))
    assert found.n_failed == sum(found.failed.statuses.values()) > 0
    assert set(found.failed.statuses) == {"initial-state"}
    assert 0 < found.n_draws < DRAWS
    assert np.isfinite(found.expected).all()
    assert any("draws are left out" in note for note in found.assumptions)
    assert {"arm", "stage", "draw", "patient", "status", "message"} == set(found.failures[0])
    json.loads(to_json_text(found.to_json()), parse_constant=_refuse)


def test_a_shorter_horizon_leaves_out_the_arms_that_go_on_beyond_it():
    found = optimise(
        SCENARIO, **few(horizon="10w", draws=prior_draws(2, 1), objective="egfr_change", max_visits=6)
    )
    assert found.limits.horizon_days == 70
    assert all(r.last_day < 70 for r, _ in found.screened)
    assert {r.label for r in found.own} == {
        "UC IV 1e6/kg once",
        "UC IV 1e6/kg x3, every 1w",
        "UC IV 1e6/kg x3, every 4w",
    }
    assert found.relevant == pytest.approx(0.75 * 70 / 365.25)


def test_virtual_patients_are_averaged_within_a_draw():
    found = optimise(SCENARIO, **few(draws=prior_draws(3, 1), patients=4, max_visits=1))
    assert found.n_patients == 4
    assert found.gains.shape[1] == 3
    assert "mean over 4 patients" in found.band_note


def test_doses_beyond_those_of_people_are_called_extrapolated(result):
    said = " ".join(result.extrapolated)
    assert "UC IV: single doses up to" in said
    assert "people got 1.5e6/kg at most" in said
    arterial = optimise(SCENARIO, **few(routes=["IA-renal"], max_visits=1, draws=prior_draws(2, 1)))
    said = " ".join(arterial.extrapolated)
    assert "UC IA-renal: no study of the evidence gave it to people" in said
    assert "By this route people got AD up to 1.8e5/kg" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "uc-dn-weekli"}, "Did you mean 'uc-dn-weekly'"),
        (
            {"objective": "egfr_slop_total"},
            "Unknown endpoint 'egfr_slop_total'. Did you mean 'egfr_slope_total'",
        ),
        ({"products": ["UCC"]}, "unknown product 'UCC'. Did you mean 'UC'"),
        ({"routes": ["iv"]}, "unknown route 'iv'. Did you mean 'IV'"),
        (
            {"products": ["ORBCEL-M"], "routes": ["SC"]},
            "no product can be given this way: products ORBCEL-M, routes SC. Allowed: ORBCEL-M: IV, IA-renal.",
        ),
        (
            {"max_cells": "1e5/kg"},
            "--max-cells: given 1e5 cells/kg at 72 kg in all, below the smallest single dose of 3e5 cells/kg. Allow more",
        ),
        (
            {"max_cells": "100 ug/kg"},
            "dose: given '100 ug EV protein/kg' for '--max-cells', which is dosed as cells",
        ),
        ({"max_cells": "many"}, "--max-cells"),
        ({"min_interval": "49w"}, "--min-interval: given 49w, not shorter than the horizon of 48w"),
        ({"min_interval": "7"}, "--min-interval: given '7', without a unit. Write 7d"),
        ({"max_visits": 0}, "--max-visits must be a whole number from 1 to 100, got 0"),
        ({"max_visits": 101}, "got 101"),
        (
            {"max_dose": "100e6/kg"},
            "--max-dose: given 100e6/kg, that is 100e6 cells/kg at 72 kg. Allowed: up to 50e6",
        ),
        (
            {"min_dose": "3e6/kg", "max_dose": "1e6/kg"},
            "--min-dose: given 3e6/kg, above --max-dose of 1e6/kg",
        ),
        ({"max_risk": 0.0}, "--max-risk must be above 0 and at most 1"),
        ({"max_risk": 1.5}, "got 1.5"),
        ({"gain": -1.0}, "--gain must be a number above 0, in mL/min/1.73 m²/year, got -1.0"),
        ({"margin": 1.0}, "--margin must be from 0 to below 1"),
        ({"objective": "insulin_percent_change"}, "not defined here: insulin_dose is zero at day 0"),
        ({"patients": 0}, "patients must be a whole number"),
    ],
)
def test_bad_input_says_what_was_given_what_is_allowed_and_the_mend(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        optimise(**{"scenario": SCENARIO, **few(draws=prior_draws(2, 1)), **options})


def test_a_scenario_without_products_asks_for_some():
    scenario = load_scenario(SCENARIO)
    empty = scenario.replace(arms=scenario.arms[:1])
    with pytest.raises(RunError, match="gives no product"):
        optimise(empty, workers=1, draws=prior_draws(2, 1))


# --------------------------------------------------------------------------- documents and figures


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_the_document_has_the_fields_of_the_interface(result):
    document = json.loads(to_json_text(result.to_json()), parse_constant=_refuse)
    assert {"pareto", "recommended", "value_of_information", "provenance", "extrapolated", "failures"} <= set(
        document
    )
    assert document["objective"] == "egfr_slope_total"
    for record in document["pareto"]:
        assert {"regimen", "endpoints", "cells", "visits"} <= set(record)
        assert {"product", "route", "dose", "n_doses", "interval_days"} <= set(record["regimen"])
        own = record["endpoints"]["egfr_slope_total"]
        assert {"median", "ci90", "prob_better"} <= set(own["vs_reference"])
        assert own["unit"] == "mL/min/1.73 m²/year"
    assert document["recommended"]["regimen"]["product"] == "UC"
    assert {"least_burden", "fewest_visits"} == set(document["recommended"]["sparing"])
    assert document["recommended"]["expected_gain_unseen_draws"] == pytest.approx(
        result.gains[result.choice, 40:].mean()
    )
    kinds = [r["kind"] for r in document["value_of_information"]]
    assert kinds[0] == "EVPI"
    assert {"EVPPI", "EVPPI of a group", "EVSI"} <= set(kinds)
    assert all("unit" in r and r["value"] >= 0 for r in document["value_of_information"])
    assert document["provenance"]["limits"]["visits"] == 2
    assert document["provenance"]["screened"]["draws"] == 40
    assert document["n_draws"] == DRAWS


def test_parameters_without_a_say_in_this_patient_are_not_asked(result):
    # Immune complexes are of lupus.
    assert "slit_complex" in result.factors
    assert "slit_complex" not in result.information
    assert {"memory_decay", "species.human.translation", "product.UC.secretion"} <= set(result.information)
    told = result.provenance["parameters"]
    assert told["with_a_say"] == len(result.information) < told["in_use"] == len(result.factors)


def test_a_larger_next_study_is_worth_more(result):
    first = [s for s in result.studies if s.study == result.studies[0].study]
    values = [s.value for s in first]
    assert values == sorted(values)
    assert [s.n_per_arm for s in first] == [19, 25, 50, 100, 200, 500]  # 19 of the scenario's own trial
    assert 1 < result.residual_sd < 20


def test_the_response_surface_holds_the_grid_and_nothing_beyond_the_limits(result):
    surface = result.surface.gains
    assert surface.dims == ("pair", "dose", "n_doses", "interval_days", "draw")
    table = result.surface.table(0.75)
    assert len(table) == int(np.isfinite(surface.values).any(axis=-1).sum())
    assert (table["dose"] * table["n_doses"] <= 6e6 * (1 + 1e-9)).all()
    one = table[(table["n_doses"] == 1)].sort_values("dose")
    assert one["expected_gain"].is_monotonic_increasing  # far from where crowding would turn it
    assert set(result.data.data_vars) >= {"gain", "rejection", "surface"}


@pytest.fixture(scope="module")
def wide() -> OptimiseResult:
    """Several kinds of products with long names."""
    products = ["amnion-epithelial", "AD-GLP1-FGF21", "EV-UC", "CM-UC"]
    return optimise(SCENARIO, **few(products=products, max_visits=4, draws=prior_draws(3, 1)))


@pytest.mark.parametrize(
    "name", ["shortlist", "pareto", "response_surface", "sensitisation", "value_of_information"]
)
def test_no_words_overlap_and_all_lie_on_the_page(name, result, wide):
    for made in (result, wide):
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
    assert made["pareto"].axes[0].get_xlabel() == "all doses together [cells/kg]"
    assert "[mL/min/1.73 m²/year]" in made["pareto"].axes[0].get_ylabel()
    assert "mL/min/1.73 m²/year" in made["shortlist"].axes[0].get_xlabel()
    assert "[cells/kg]" in made["response_surface"].axes[0].get_ylabel()


def test_save_and_report_hold_tables_figures_and_the_recommendation(result, tmp_path):
    folder = result.save(tmp_path / "r", report=render)
    names = {path.name for path in folder.iterdir()}
    for stem in ("optimise", "response_surface", "sensitisation", "value_of_information"):
        assert {f"{stem}.csv", f"{stem}.parquet"} <= names
    for stem in ("shortlist", "pareto", "response_surface", "sensitisation", "value_of_information"):
        assert {f"{stem}.svg", f"{stem}.png"} <= names
    assert len(pd.read_csv(folder / "optimise.csv")) == len(result.regimens)
    page = read_report((folder / "report.html").read_text(), figures=5, sections=("scenario", "figures")).body
    for said in ("Gain against burden", "What knowing more is worth", result.regimens[result.choice].label):
        assert said in page
    assert f"{result.recommended['regimen']['name']} has the largest expected gain" in page
    assert "Harm, cost and preference are no part of it." in page
    shortlist, information = text_tables(result)
    assert len(shortlist.rows) == len(result.regimens)
    assert "Largest expected gain of" in shortlist.note
    assert information.rows[0][0] == "everything"


# --------------------------------------------------------------------------- command line


def run(*arguments: str):
    return runner.invoke(main, ["optimise", *arguments])


def test_the_command_prints_the_document_of_the_function_and_nothing_else():
    options = ("--products", "UC", "--max-visits", "1", "--draws", "4", "--seed", "3", "--workers", "1")
    found = run(*options, "--json")
    assert found.exit_code == 0, found.stderr
    expected = optimise(SCENARIO, products=["UC"], max_visits=1, draws=4, seed=3, workers=1)
    assert json.loads(found.stdout) == json.loads(to_json_text(expected.to_json()))


def test_the_options_reach_the_function(result, monkeypatch):
    asked: dict[str, Any] = {}

    def stand_in(scenario, **given):
        asked.update(given)
        return result

    monkeypatch.setattr(mscrenal.scenarios, "optimise", stand_in)
    found = run(
        SCENARIO, "--products", "UC, BM", "--products", "AD", "--routes", "IV", "--objective", "egfr_change", "--gain", "1.5",
        "--max-cells", "3e6/kg", "--max-visits", "4", "--min-interval", "2w", "--min-dose", "5e5/kg", "--max-dose", "2e6/kg",
        "--max-risk", "0.3", "--margin", "0.2", "--horizon", "26w", "--draws", "50", "--seed", "4", "--patients", "2",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert {key: value for key, value in asked.items() if key != "progress"} == {
        "products": ("UC", "BM", "AD"), "routes": ("IV",), "objective": "egfr_change", "gain": 1.5, "max_cells": "3e6/kg",
        "max_visits": 4, "min_interval": "2w", "min_dose": "5e5/kg", "max_dose": "2e6/kg", "max_risk": 0.3, "margin": 0.2,
        "horizon": "26w", "draws": 50, "seed": 4, "patients": 2, "source": "posterior", "workers": None, "cluster": None,
    }  # fmt: skip


def test_the_terminal_shows_the_choice_within_its_width(result, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(mscrenal.scenarios, "optimise", lambda scenario, **given: result)
    found = run()
    said = " ".join(found.stdout.split())
    assert "Expected gain" in said
    assert "*: recommended" in said
    assert "What knowing more is worth" in said
    assert max(len(line) for line in found.stdout.splitlines()) <= 80


def test_no_recommendation_is_said_on_the_terminal(result, monkeypatch):
    from dataclasses import replace

    none = replace(result, choice=None)
    monkeypatch.setattr(mscrenal.scenarios, "optimise", lambda scenario, **given: none)
    found = run()
    assert found.exit_code == 0, found.stderr
    assert "none is recommended" in " ".join(found.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "unknown scenario 'nowhere'"),
        (("--objective", "egfr_chnge"), "Did you mean 'egfr_change'"),
        (("--products", "UCX"), "unknown product 'UCX'"),
        (("--max-cells", "1e5/kg"), "below the smallest single dose"),
        (("--min-interval", "60w"), "not shorter than the horizon of 48w"),
        (("--horizon", "6w", "--min-interval", "6w"), "not shorter than the horizon of 6w"),
        (("--horizon", "6"), "without a unit"),
        (("--max-visits", "0"), "--max-visits"),
        (("--posterior", "a.nc", "--prior"), "choose one"),
    ],
)
def test_bad_input_leaves_with_2_and_one_message(arguments, message):
    found = run(*arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_failed_simulations_leave_with_3(result, monkeypatch):
    from dataclasses import replace

    from mscrenal.scenarios.optimise_result import Failures

    lost = Failures()
    lost.add({"arm": "a", "stage": "grid", "draw": 0, "patient": 0, "status": "budget", "message": "spent"})
    monkeypatch.setattr(
        mscrenal.scenarios, "optimise", lambda scenario, **given: replace(result, failed=lost)
    )
    found = run("--json")
    assert found.exit_code == 3
    document = json.loads(found.stdout)
    assert document["failed_by_status"] == {"budget": 1}
    assert "stage grid" in found.stderr


def test_every_product_can_be_searched_for():
    scenario = load_scenario(SCENARIO)
    space = Space.of(scenario, limits_of(scenario), sorted(PRODUCTS), ["IV"])
    assert len(space.pairs) == len(PRODUCTS)
    assert all(space.limits.keeps(r) for r in space.grid())
