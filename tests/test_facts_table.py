"""The table of published facts, the statistics behind it, and its evaluation on made-up trajectories."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_reader import read_report
from scipy.integrate import solve_ivp

from mscrenal.app.report import render
from mscrenal.calibration import evidence
from mscrenal.calibration.hard_endpoints import (
    event_share,
    expected_events,
    first_confirmed_day,
    person_years,
    visits,
)
from mscrenal.calibration.natural_history import (
    EGFR,
    ERROR_SHARES,
    ERROR_SIZES,
    drop_chance,
    egfr_correlation,
    egfr_error,
)
from mscrenal.model import DISEASES, DRUGS, OBSERVABLES
from mscrenal.model.readings import read
from mscrenal.scenarios.facts import (
    FACTS_FILE,
    Attrition,
    FactError,
    ModelSimulator,
    Response,
    concordance,
    facts,
    geometric_mean_ratio,
    line_r2,
    load_facts,
    nonlinear_probability,
    rank_correlation,
    reference_change_value,
    virtual_patients,
)

# By its full name: in the package the name stands for the function.
module = import_module("mscrenal.scenarios.facts")
YEAR = 365.25
TABLE = load_facts()
CHECKS = [(fact, check) for fact in TABLE.facts for check in fact.check]
BY_NAME = {f"{fact.number}/{check.id}": check for fact, check in CHECKS}


# --------------------------------------------------------------------------- a stand-in for the model


class StraightLines:
    """eGFR falls by theta['slope'] a year; the SGLT2 inhibitor dips by 2 and gains 1 a year, at once.

    UACR grows by 5 % a year, and is multiplied by 0.7 (SGLT2i) and 0.65 (finerenone) while they are taken.
    """

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, population, arms, times, theta_draws, seed):
        self.calls.append((population.name, len(theta_draws), population.size))
        people, t = virtual_patients(population, seed), times[None, :] / YEAR
        result = {}
        for arm in arms:
            slopes = [self._arm(people, arm, t, times, theta) for theta in theta_draws]
            result[arm.name] = {name: np.stack([one[name] for one in slopes]) for name in slopes[0]}
        return result

    def _arm(self, people, arm, t, times, theta):
        on = {add.drug: (times >= add.start_day) & (times <= (add.stop_day or np.inf)) for add in arm.add}
        none = np.zeros(times.shape, dtype=bool)
        sglt2i, finerenone = on.get("sglt2i", none), on.get("finerenone", none)
        egfr = people.egfr[:, None] + theta["slope"] * t + np.where(sglt2i & (times > 0), 1.0 * t - 2.0, 0.0)
        factor = np.where(sglt2i & (times > 0), 0.7, 1.0) * np.where(finerenone & (times > 0), 0.65, 1.0)
        uacr = people.uacr[:, None] * 1.05**t * factor
        egfr = np.maximum(egfr, 3.0)
        egfr[: self.failing] = np.nan
        return {
            "egfr": egfr,
            "uacr": uacr,
            "serum_creatinine": 100.0 / egfr,
            "urine_protein_24h": uacr * 0.0015,
            "fibrosis_area": np.broadcast_to(40.0 - 0.3 * people.egfr[:, None], egfr.shape),
        }


def evaluated(slopes=(-3.0,), **options):
    simulate = options.pop("simulate_population", None) or StraightLines()
    thetas = [{"slope": slope} for slope in slopes]
    return facts(
        simulate_population=simulate, theta_draws=thetas, patients=options.pop("patients", 32), **options
    )


def predicted(result, name):
    number, check = name.split("/")
    rows = result.table
    return rows[(rows["fact"] == int(number)) & (rows["check"] == check)].iloc[0]


# --------------------------------------------------------------------------- the table itself


def test_there_are_the_sixteen_facts_in_order():
    assert [fact.number for fact in TABLE.facts] == list(range(1, 17))
    assert all(fact.computed and fact.check for fact in TABLE.facts)


@pytest.mark.parametrize("fact", TABLE.facts, ids=lambda fact: fact.id)
def test_every_source_of_a_fact_is_in_the_evidence_tables(fact):
    named = {*fact.source, *(check.source for check in fact.check if check.source)}
    assert named <= evidence.study_ids()
    assert all(not check.source or check.source in fact.source for check in fact.check)


def test_sources_of_populations_endpoints_and_responses_are_in_the_evidence_tables():
    sources = {covariate.source for p in TABLE.populations.values() for covariate in p.covariates.values()}
    sources |= {endpoint.death.source for endpoint in TABLE.endpoints.values()}
    sources |= {rule.completion.source for rule in TABLE.responses.values() if rule.completion}
    assert sources - {""} <= evidence.study_ids()


def printed(studies):
    """Every number that the rows and notes of some studies print, without sign."""
    numbers: set[float] = set()
    for study in studies:
        rows = evidence.find(study)
        for column in ("value", "spread_value", "spread_low", "spread_high"):
            numbers |= set(rows[column].dropna().abs().round(6))
        for note in rows["note"]:
            numbers |= {float(found) for found in re.findall(r"\d+(?:\.\d+)?", note)}
    return numbers


@pytest.mark.parametrize(("fact", "check"), CHECKS, ids=[f"{f.number}-{c.id}" for f, c in CHECKS])
def test_a_target_is_printed_by_its_source_or_says_how_it_was_derived(fact, check):
    if check.derived:
        return
    numbers = printed([check.source] if check.source else fact.source)
    assert check.target is not None
    assert abs(check.target) in numbers
    if check.tolerance is not None:
        assert {round(abs(bound), 6) for bound in check.tolerance} <= numbers


@pytest.mark.parametrize("population", TABLE.populations.values(), ids=lambda population: population.name)
def test_a_covariate_is_printed_by_its_source_or_is_marked_as_derived_or_assumed(population):
    for name, covariate in population.covariates.items():
        assert covariate.source or covariate.derived or covariate.assumed, name
        if covariate.source and not covariate.derived:
            assert covariate.centre in printed([covariate.source]), name
        if covariate.spread is not None and not covariate.derived and not covariate.assumed:
            assert covariate.spread in printed([covariate.source]), name
        if (
            covariate.spread is not None
            and covariate.source
            and covariate.spread not in printed([covariate.source])
        ):
            assert covariate.assumed or covariate.derived, name


def test_drugs_diseases_and_observables_of_the_table_are_the_models():
    drugs = {add.drug for arm in TABLE.arms.values() for add in arm.add}
    drugs |= {drug for p in TABLE.populations.values() for drug in (*p.drugs, *p.drug_shares)}
    diseases = {d for p in TABLE.populations.values() for d in (p.disease, p.other_disease) if d}
    assert drugs <= set(DRUGS)
    assert diseases <= set(DISEASES)
    assert set(module.OBSERVABLES) <= {observable.name for observable in OBSERVABLES}


@pytest.mark.parametrize("attrition", [e.death for e in TABLE.endpoints.values()], ids=list(TABLE.endpoints))
def test_death_rates_are_those_of_the_evidence_rows(attrition):
    row = evidence.find(attrition.source, "death").iloc[0]
    assert (attrition.percent, attrition.weeks) == (row["value"], row["time_week"])


def goulooze(egfr0, uacr0, *, on_sglt2i=False, uacr_factor=1.0, years=3):
    """The published FIDELIO equations, integrated from readings at baseline: yearly true (eGFR, UACR).

    `uacr_factor` scales the UACR that drives the decline; an SGLT2 inhibitor's dip is constant, so that a decline shows
    smaller by it.
    """

    def number(endpoint):
        return float(evidence.find("goulooze2022", endpoint)["value"].iloc[0])

    typical, coupling = number("egfr_slope_typical"), number("uacr_to_egfr_slope_coupling")
    base, interaction = number("egfr_slope_exponent_on_baseline"), number("uacr_egfr_interaction_exponent")
    progression = number("uacr_progression_rate") - 0.00257 * (egfr0 - 43)
    pace = typical * (1.0 + (number("sglt2i_effect_on_slope") if on_sglt2i else 0.0)) * (egfr0 / 43) ** base
    stop, sharpness = math.exp(number("egfr_stabilisation_ln")), number("egfr_stabilisation_slope")
    start = [
        math.exp(number("egfr_baseline_typical_ln")) * (egfr0 / 43) ** 0.882,
        number("uacr_baseline_typical") * (uacr0 / 850) ** 0.877 * (egfr0 / 43) ** -0.124,
    ]

    def rates(_, state):
        egfr, uacr = state
        driven = 1 + coupling * (uacr_factor * uacr - 850) * (egfr0 / 43) ** interaction
        growth = progression - 7.20e-5 * uacr - 0.182 * math.log(uacr / start[1])
        return [-pace * (driven - math.exp(sharpness * (egfr - stop))), uacr * growth]

    solved = solve_ivp(rates, (0, years), start, rtol=1e-9, atol=1e-9, t_eval=range(years + 1))
    return solved.y.T * [1.0 + (number("sglt2i_acute_egfr") if on_sglt2i else 0.0), uacr_factor]


def test_the_targets_of_fact_1_are_the_published_equations_integrated():
    course = goulooze(43.0, 850.0)
    for year, (egfr, uacr) in enumerate(course):
        assert BY_NAME[f"1/egfr-year-{year}"].target == pytest.approx(egfr, abs=0.06)
        assert BY_NAME[f"1/uacr-year-{year}"].target == pytest.approx(uacr, abs=1.0)


@pytest.mark.parametrize(
    ("check", "egfr0", "uacr0", "options"),
    [
        ("uacr-300", 43.0, 300.0, {}),
        ("uacr-850", 43.0, 850.0, {}),
        ("uacr-2000", 43.0, 2000.0, {}),
        ("uacr-x0.69", 43.0, 850.0, {"uacr_factor": 0.69}),
        ("sglt2i-after-the-dip", 43.0, 850.0, {"on_sglt2i": True, "uacr_factor": math.exp(-0.212)}),
        ("egfr-60", 60.0, 850.0, {}),
        ("egfr-25", 25.0, 850.0, {}),
    ],
)
def test_the_targets_of_fact_10_are_the_published_equations_integrated(check, egfr0, uacr0, options):
    course = goulooze(egfr0, uacr0, **options)
    # 'UACR x 0.69 throughout' can be read in two ways, -7.4 and -7.6; the digest prints -7.5.
    close = 0.15 if check == "uacr-x0.69" else 0.06
    assert course[-1, 0] - course[0, 0] == pytest.approx(BY_NAME[f"10/{check}"].target, abs=close)


def test_the_patients_of_fact_10_start_where_the_published_equations_do():
    for name, readings in (
        ("goulooze-uacr-300", (43, 300)),
        ("goulooze-uacr-850", (43, 850)),
        ("goulooze-uacr-2000", (43, 2000)),
        ("goulooze-egfr-60", (60, 850)),
        ("goulooze-egfr-25", (25, 850)),
    ):
        who = TABLE.populations[name]
        assert (who.egfr.centre, who.uacr.centre) == pytest.approx(tuple(goulooze(*readings)[0]), rel=0.002)


def test_multiplicativity_target_is_the_ratio_of_the_printed_ratios():
    assert BY_NAME["7/near-multiplicative"].target == pytest.approx(0.48 / (0.68 * 0.71), abs=0.005)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (('population = "flow"', 'population = "flwo"'), "unknown population 'flwo'. Did you mean 'flow'"),
        (('arm = "glp1ra"', 'arm = "glp1"'), "unknown arm 'glp1'. Did you mean 'glp1ra'"),
        (('statistic = "slope_sd"', 'statistic = "slope_ds"'), "Did you mean 'slope_sd'"),
        (('endpoint = "renaal-eskd"', 'endpoint = "renal-eskd"'), "Did you mean 'renaal-eskd'"),
        (("threshold = 0.30\n", ""), "needs 'threshold'"),
        (("within = 0.7", "tolerance = [40.0, 39.0]"), "must rise"),
        (("within = 0.7", 'within = "wide"'), "within"),
        (("within = 0.7\n", ""), "exactly one of"),
        (("[defaults]", "[default]"), "unknown section 'default'. Did you mean 'defaults'"),
        (('title = "FLOW"', 'titel = "FLOW"'), "population 'flow'"),
        (("number = 2\n", "number = 1\n"), "fact numbers repeat"),
        (("number = 2\n", "number =\n"), "line"),
    ],
)
def test_a_fault_in_the_table_is_named(tmp_path, edit, says):
    text = FACTS_FILE.read_text(encoding="utf-8")
    assert edit[0] in text
    path = tmp_path / "facts.toml"
    path.write_text(text.replace(*edit), encoding="utf-8")
    with pytest.raises(FactError, match=re.escape(says)):
        load_facts(path)


# --------------------------------------------------------------------------- virtual populations


def sized(name, n):
    return replace(TABLE.populations[name], size=n)


def test_a_population_keeps_its_published_centres_after_truncation():
    people = virtual_patients(sized("fidelio", 2000), 3)
    assert people.egfr.mean() == pytest.approx(44.3, abs=0.05)
    assert np.median(people.uacr) == pytest.approx(852.0, rel=0.01)
    assert people.egfr.min() >= 25.0
    assert people.egfr.max() <= 75.0


def test_renaal_patients_have_the_published_mean_albuminuria():
    spread = math.exp(0.141 / 2)  # readings are log-normal about true values
    readings = virtual_patients(sized("renaal", 4000), 1).uacr.mean() * spread
    assert readings == pytest.approx(1808.0, rel=0.02)


def test_shares_of_sexes_diseases_and_drugs_are_met():
    people = virtual_patients(sized("dapa-ckd", 200), 1)
    assert people.diabetic.mean() == pytest.approx(0.675, abs=0.005)
    assert np.all(people.hba1c[~people.diabetic] == 5.4)
    taking = [("sglt2i" in drugs) for drugs in virtual_patients(sized("flow", 200), 1).drugs]
    assert np.mean(taking) == pytest.approx(0.15, abs=0.005)


def test_the_same_seed_gives_the_same_patients_and_another_seed_others():
    first, again, other = (virtual_patients(sized("fidelio", 16), seed) for seed in (5, 5, 6))
    assert np.array_equal(first.egfr, again.egfr)
    assert not np.array_equal(first.egfr, other.egfr)


def test_random_effects_have_their_sd_and_do_not_depend_on_each_other():
    people = virtual_patients(sized("fidelio", 500), 1)
    eta = people.eta("eta_nephron", 2.0)
    assert eta.mean() == pytest.approx(0.0, abs=1e-9)
    assert eta.std() == pytest.approx(2.0, rel=0.01)
    assert abs(np.corrcoef(eta, people.eta("eta_podocyte", 2.0))[0, 1]) < 0.15


def test_a_typical_patient_stands_at_the_centres_without_random_effects():
    person = virtual_patients(TABLE.populations["fidelio-typical"], 9)
    assert (person.egfr.item(), person.uacr.item()) == (43.4, 866.0)
    assert person.eta("eta_nephron", 3.0).item() == 0.0


# --------------------------------------------------------------------------- statistics, closed forms


def test_a_drop_of_exactly_the_threshold_is_a_coin_flip_and_noise_alone_is_symmetric():
    assert drop_chance([60.0], [54.0], 0.9, 0.3) == pytest.approx(0.5)
    assert drop_chance([60.0], [60.0], 1.0, 0.0) == pytest.approx(0.5)


@pytest.mark.parametrize("days", [0.5, 21.0, 400.0])
@pytest.mark.parametrize(("kept", "after"), [(0.9, 56.0), (0.7, 50.0)])
def test_the_chance_of_a_drop_agrees_with_counted_readings(days, kept, after):
    rng = np.random.default_rng(1)
    true = np.broadcast_to([56.0, after], (200_000, 2))
    readings = read(EGFR, true, [0.0, days], rng.standard_normal(true.shape), rng.standard_normal(len(true)))
    counted = np.mean(readings[:, 1] < kept * readings[:, 0])
    assert drop_chance([56.0], [after], kept, egfr_correlation(days)).item() == pytest.approx(
        counted, abs=0.004
    )


def test_reference_change_value_uses_the_exponent_of_each_side_of_kappa():
    both = reference_change_value([0.5, 2.0], [0.9, 0.9], ([-0.302, -0.302], -1.2), [5.2, 1.1])
    cv = math.hypot(5.2, 1.1) * 1.96 * math.sqrt(2)
    assert both == pytest.approx([0.302 * cv, 1.2 * cv])


@pytest.mark.parametrize(
    ("readings", "repeats", "decline", "floor", "day"),
    [
        ([50, 29, 50], [29, 50], 0.4, 15.0, 1.0),  # the repeat confirms it
        ([50, 29, 29], [50, 29], 0.4, 15.0, 2.0),  # the first repeat does not
        ([50, 29, 50], [50, 29], 0.4, 15.0, math.inf),  # never confirmed
        ([20, 16, 14], [14, 14], 0.0, 15.0, 2.0),  # the level only
        ([20, 13, 11], [11, 11], 0.0, 10.0, math.inf),  # decline is no part of the endpoint
        ([10, 12, 12], [12, 12], 0.0, 15.0, 1.0),
    ],
)
def test_an_event_is_the_first_visit_that_a_repeat_confirms(readings, repeats, decline, floor, day):
    assert first_confirmed_day([readings], [repeats], [0, 1, 2], decline, floor).tolist() == [day]


def test_patients_chosen_by_a_reading_are_nearer_to_the_typical_patient_than_it_says():
    people = virtual_patients(replace(TABLE.populations["fidelity-ckd4"], size=64), 1)
    assert people.reading is not None
    assert people.egfr == pytest.approx(43.4 * (people.reading / 43.0) ** 0.882)
    assert people.egfr.mean() == pytest.approx(people.reading.mean() + 1.8, abs=0.2)


def test_a_total_slope_of_two_slopes_counts_the_dip_in_full():
    """A dip of 2 at the knot, then 3 a year instead of 4 (`StraightLines`): -2/T + (1 - knot/T) against placebo."""
    row = predicted(evaluated(only=[5]), "5/total-slope-gain")
    assert row["statistic"] == "total_slope"
    years, knot = 840.0 / YEAR, 14.0 / YEAR
    assert row["predicted"] == pytest.approx((knot - 2.0) / years + 1.0 * (1 - knot / years), abs=0.01)


def test_death_competes_with_the_event_or_counts_as_one():
    rate, horizon = 0.001, 500.0
    never, at_once = np.full(10, np.inf), np.full(10, 0.0)
    assert event_share(never, rate, horizon, death_counts=False) == 0.0
    assert event_share(never, rate, horizon, death_counts=True) == pytest.approx(1 - math.exp(-0.5))
    assert event_share(at_once, rate, horizon, death_counts=False) == 1.0
    assert event_share([400.0], rate, horizon, death_counts=False) == pytest.approx(math.exp(-0.4))
    assert event_share([400.0], rate, horizon, death_counts=True) == 1.0


@pytest.mark.parametrize("whole", [False, True], ids=["plain errors", "errors that differ and last"])
def test_expected_events_are_those_of_many_sets_of_readings(whole):
    """Against 4,000 simulated sets of readings each, with and without death and a fall from baseline."""
    rng = np.random.default_rng(5)
    days = np.linspace(0.0, 952.0, 9)
    start, pace = rng.uniform(18, 60, 40), rng.uniform(0, 9, 40)
    true = start[:, None] - pace[:, None] * days / YEAR
    again = start[:, None] - pace[:, None] * (days[1:] + 30) / YEAR
    rest = (ERROR_SIZES, ERROR_SHARES, egfr_correlation(30.0)) if whole else ()
    observable = EGFR if whole else replace(EGFR, residual_iiv=(0.0, 1.0), residual_memory=0.0)
    for decline, floor, death in ((0.4, 15.0, 1e-4), (0.0, 10.0, 0.0)):
        share, rate = expected_events(true, again, days, egfr_error, decline, floor, death, *rest)
        both = np.broadcast_to(np.concatenate([true, again], axis=-1), (4000, 40, 17))
        at_days = np.concatenate([days, days[1:] + 30])
        noise, size = rng.standard_normal(both.shape), rng.standard_normal(both.shape[:2])
        readings = read(observable, both, at_days, noise, size)
        at = first_confirmed_day(readings[..., :9], readings[..., 9:], days, decline, floor)
        counted = event_share(at, death, 952.0, death_counts=False)
        assert share == pytest.approx(counted, rel=0.01)
        assert rate == pytest.approx(counted / person_years(at, death, 952.0), rel=0.01)


def test_spreads_of_baseline_readings_hold_the_error_of_a_reading():
    for name, who in TABLE.populations.items():
        if who.egfr.spread is None or who.regression is not None or who.egfr.true:
            continue
        wide = replace(who, size=512, egfr=replace(who.egfr, true=True), uacr=replace(who.uacr, true=True))
        narrow = virtual_patients(replace(who, size=512), 1)
        assert np.std(narrow.egfr) < np.std(virtual_patients(wide, 1).egfr), name
        assert np.std(np.log(narrow.uacr)) < np.std(np.log(virtual_patients(wide, 1).uacr)), name


def test_a_constant_hazard_gives_itself_back_as_events_per_person_time():
    rate, death, horizon = 0.002, 0.001, 300.0
    at = -np.log1p(-(np.arange(100_000) + 0.5) / 100_000) / rate
    share = event_share(at, death, horizon, death_counts=False)
    assert share / person_years(at, death, horizon) == pytest.approx(rate * YEAR, rel=1e-3)


def test_attrition_is_the_hazard_that_gives_the_printed_share():
    hazard = Attrition(percent=8.3, weeks=114.0, source="fried2013").per_day
    assert 1 - math.exp(-hazard * 114 * 7) == pytest.approx(0.083)


def test_completion_says_who_stays():
    stay = Attrition(percent=86.1, weeks=156.0, source="saxena2023")
    assert Response("r", "r", day=1092.0, completion=stay).completing == pytest.approx(0.861)
    assert Response("r", "r", day=546.0, completion=stay).completing == pytest.approx(math.sqrt(0.861))


def test_a_parabola_is_told_from_a_line_and_pure_noise_leans_to_the_line():
    days, rng = visits(0, 3 * YEAR, 182.0), np.random.default_rng(2)
    line, bend = 50 - 3 * days / YEAR, 50 - 3 * (days / YEAR) ** 2
    noise = 0.2 * rng.standard_normal((500, days.size))
    assert np.median(nonlinear_probability(days, bend + noise)) > 0.99
    assert np.median(nonlinear_probability(days, line + noise)) < 0.5


def test_nonlinear_probability_is_that_of_polynomial_fits():
    days = np.array([0.0, 100.0, 200.0, 300.0, 400.0])
    readings = np.array([50.0, 47.0, 46.0, 40.0, 41.0])
    rss = [np.sum((readings - np.polyval(np.polyfit(days, readings, d), days)) ** 2) for d in (1, 2)]
    bic = [5 * math.log(r / 5) + p * math.log(5) for r, p in zip(rss, (2, 3), strict=True)]
    expected = 1 / (1 + math.exp((bic[1] - bic[0]) / 2))
    assert nonlinear_probability(days, readings).item() == pytest.approx(expected)


def test_rank_correlation_of_a_falling_function_is_minus_one_and_of_a_constant_undefined():
    x = np.array([1.0, 2.0, 5.0, 9.0])
    assert rank_correlation(x, -(x**3)).item() == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(x, np.ones(4)))
    assert rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]).item() == pytest.approx(0.6)


def test_concordance_is_one_half_for_a_marker_without_information():
    assert concordance([3.0, 3.0, 3.0], [0.2, 0.7, 0.5]) == 0.5
    assert concordance([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0]) == 0.75
    assert math.isnan(concordance([1.0, 2.0], [0.0, 0.0]))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.floats(0.1, 10))
def test_a_geometric_mean_ratio_is_the_common_factor(values, factor):
    below = np.array(values)
    assert geometric_mean_ratio(factor * below, below) == pytest.approx(factor)


def test_the_r2_of_a_line_is_one_and_needs_three_points():
    assert line_r2([0, 1, 2, 3], [1, 3, 5, 7]) == pytest.approx(1.0)
    assert line_r2([0, 1, 2], [1.0, 0.0, 1.0]) == pytest.approx(0.0)
    assert math.isnan(line_r2([0, 1], [1, 3]))


# --------------------------------------------------------------------------- the evaluation


def test_predictions_on_straight_lines_are_the_closed_forms():
    result = evaluated()
    assert predicted(result, "1/egfr-year-3")["predicted"] == pytest.approx(43.4 - 9.0)
    assert predicted(result, "1/uacr-year-2")["predicted"] == pytest.approx(866 * 1.05**2)
    assert predicted(result, "3/placebo-chronic-slope")["predicted"] == pytest.approx(-3.0)
    assert predicted(result, "3/canagliflozin-chronic-slope")["predicted"] == pytest.approx(-2.0)
    assert predicted(result, "4/acute-dip")["predicted"] == pytest.approx(-2.0 + 61 / YEAR)
    assert predicted(result, "6/finerenone-month-4")["predicted"] == pytest.approx(-35.0)
    assert predicted(result, "7/near-multiplicative")["predicted"] == pytest.approx(1 / 1.05 ** (180 / YEAR))
    assert predicted(result, "7/both-rebound")["predicted"] == pytest.approx(
        1.05 ** (30 / YEAR) / (0.7 * 0.65)
    )
    assert predicted(result, "10/sglt2i-after-the-dip")["predicted"] == pytest.approx(-6.0)
    assert predicted(result, "14/pentoxifylline-gain")["predicted"] == pytest.approx(0.0)
    assert predicted(result, "15/mmf-egfr-2-years")["predicted"] == pytest.approx(-3.0 * 728 / YEAR)


def test_slopes_that_are_all_alike_have_no_spread_and_paths_are_straight():
    result = evaluated(only=[9])
    assert predicted(result, "9/slope-sd")["predicted"] == pytest.approx(0.0, abs=1e-9)
    assert predicted(result, "9/nonlinear-probability")["pass"] == "yes"


def test_baseline_fibrosis_that_follows_egfr_foretells_failure_and_not_the_common_slope():
    result = evaluated(only=[16], patients=64)
    assert predicted(result, "16/fibrosis-predicts-failure")["predicted"] > 0.9
    assert abs(predicted(result, "16/fibrosis-vs-slope")["predicted"]) < 0.15


def test_a_fact_passes_only_if_all_of_its_checks_do():
    result = evaluated(slopes=(-3.36,), only=[2])
    assert predicted(result, "2/placebo-slope")["pass"] == "yes"
    assert predicted(result, "2/difference")["pass"] == "no"
    assert result.passed == {2: False}
    assert evaluated(slopes=(-1.37,), only=[11]).passed == {11: False}


def regained(size):
    """What patients chosen by a low reading seem to gain, a year: they start from it, below their true eGFR."""
    people = virtual_patients(replace(TABLE.populations["fidelity-ckd4"], size=size), 1)
    return float(np.mean(people.egfr - people.reading)) / (952.0 / YEAR)


def test_a_fact_passes_when_every_check_is_inside():
    class Exact(StraightLines):
        def _arm(self, people, arm, t, times, theta):
            slope = (-1.6 if arm.name == "placebo" else -0.7) - regained(64)
            return super()._arm(people, replace(arm, add=()), t, times, {"slope": slope})

    assert evaluated(only=[11], simulate_population=Exact()).passed == {11: True}


def test_what_is_not_modelled_is_shown_and_not_counted():
    result = evaluated(only=[15])
    row = predicted(result, "15/voclosporin-egfr-2-years")
    assert row["pass"] == "not modelled"
    assert math.isnan(row["predicted"])
    record = result.to_json()["facts"][0]
    assert record["checks_counted"] == len(record["checks"]) - 1


def test_the_interval_of_a_typical_patient_is_that_of_the_draws():
    slopes = (-3.0, -2.0, -4.0, -2.5, -3.5)
    row = predicted(evaluated(slopes, only=[10]), "10/uacr-850")
    expected = np.quantile(np.array(slopes[1:]) * 3.0, (0.05, 0.95))
    assert [row["ci90_low"], row["ci90_high"]] == pytest.approx(expected.tolist())


def test_the_interval_of_a_population_is_the_change_from_the_medians_in_the_same_few_patients():
    simulate = StraightLines()
    row = predicted(
        evaluated((-3.0, -2.0, -4.0), only=[3], simulate_population=simulate), "3/placebo-chronic-slope"
    )
    assert row["predicted"] == pytest.approx(-3.0)
    assert (row["ci90_low"], row["ci90_high"]) == pytest.approx((-2.0, -2.0))  # half of two draws is one
    assert simulate.calls == [("credence-30-45", 1, 16), ("credence-30-45", 2, 16)]


def test_a_draw_in_which_other_patients_fail_is_compared_in_those_who_came_through_both():
    class Fragile(StraightLines):
        def _arm(self, people, arm, t, times, theta):
            one = super()._arm(people, arm, t, times, theta)
            steep = people.egfr > np.median(people.egfr)
            one["egfr"] = np.where(steep[:, None], one["egfr"] - 2.0 * t, one["egfr"])
            if theta["slope"] < -3.5:
                one["egfr"][steep] = np.nan
            return one

    table = evaluated((-3.0, -4.0), only=[11], simulate_population=Fragile())
    row = predicted(table, "11/placebo-slope")
    assert row["predicted"] == pytest.approx(-4.0 + regained(16))  # half of the patients lose 3, half 5
    assert row["ci90_low"] == pytest.approx(-5.0 + regained(16))  # one more, in the half that came through
    assert row["draws"] == 1


def test_without_draws_there_is_no_interval():
    row = predicted(evaluated(only=[1]), "1/egfr-year-1")
    assert math.isnan(row["ci90_low"])


def test_a_population_is_simulated_once_for_all_facts_that_need_it():
    simulate = StraightLines()
    evaluated(simulate_population=simulate)
    names = [name for name, _, _ in simulate.calls]
    assert len(names) == len(set(names)) == len(TABLE.populations)


def test_failed_patients_are_left_out_and_counted_and_more_than_one_in_twenty_fail_the_check():
    slope = -1.6 - regained(32)
    one = predicted(
        evaluated((slope,), only=[11], patients=64, simulate_population=StraightLines(1)), "11/placebo-slope"
    )
    assert (one["subjects"], one["failed"], one["pass"]) == (32, 1, "yes")
    assert one["predicted"] == pytest.approx(-1.6, abs=0.05)
    two = predicted(
        evaluated((slope,), only=[11], patients=64, simulate_population=StraightLines(2)), "11/placebo-slope"
    )
    assert (two["failed"], two["pass"]) == (2, "no")


def test_a_population_of_which_nobody_came_through_predicts_nothing_and_passes_nothing():
    result = evaluated(only=[1, 8, 12, 16], simulate_population=StraightLines(1000))
    assert result.table["predicted"].isna().all()
    assert result.passed == {1: False, 8: False, 12: False, 16: False}


def test_the_same_call_gives_the_same_numbers():
    first, again = (evaluated((-3.0, -3.5), only=[8, 9, 12, 15, 16]).table for _ in range(2))
    assert first.equals(again)


def test_json_is_strict_and_has_the_fields_of_the_interface():
    document = json.loads(json.dumps(evaluated((-3.0, -2.9)).to_json(), allow_nan=False))
    assert (document["of"], len(document["facts"])) == (16, 16)
    assert document["passed"] == sum(fact["pass"] for fact in document["facts"])
    for fact in document["facts"]:
        assert {"id", "source", "target", "tolerance", "predicted", "ci90", "pass", "checks"} <= set(fact)
        assert len(fact["tolerance"]) == len(fact["ci90"]) == 2
    assert len(document["provenance"]["evidence_hash"]) == 64


def test_data_table_and_figure_show_every_check():
    result = evaluated((-3.0, -2.9, -3.1))
    assert len(result.table) == result.data.sizes["check"] == len(CHECKS)
    assert len(result.summary) == 16
    figures = result.plot()
    assert list(figures) == ["facts", "facts_2"]
    texts = {text.get_text() for figure in figures.values() for axes in figure.axes for text in axes.texts}
    assert {check.id for _, check in CHECKS} <= texts
    page = read_report(render(result), figures=2, sections=("figures",)).body
    assert f"{sum(result.passed.values())} of 16 facts are reproduced" in page
    assert "used to set priors" in page


def test_saving_writes_tables_figure_and_json(tmp_path):
    folder = evaluated((-3.0, -2.9), only=[1]).save(tmp_path / "out", report=lambda result: "<p>facts</p>")
    names = {path.name for path in folder.iterdir()}
    assert {
        "facts.csv",
        "facts.parquet",
        "facts_summary.csv",
        "facts.svg",
        "facts.png",
        "result.json",
    } <= names


def test_progress_counts_the_populations():
    seen = []
    evaluated(only=[1, 2], progress=lambda done, of, title: seen.append((done, of, title)))
    assert seen == [(0, 2, "the typical FIDELIO patient on a RAS blocker"), (1, 2, "FLOW"), (2, 2, "")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"draws": -1}, "draws must be a whole number of 0 or more, got -1"),
        ({"patients": 1}, "patients must be a whole number of 2 or more, got 1"),
        ({"draws": 2.5}, "got 2.5"),
        ({"only": [17]}, "no fact 17. Allowed: 1, 2"),
    ],
)
def test_sizes_and_numbers_that_make_no_sense_are_refused(options, says):
    with pytest.raises(FactError, match=says):
        facts(simulate_population=StraightLines(), theta_draws=[{"slope": -3.0}], **options)


def test_the_model_simulator_lists_failures_and_leaves_them_nan(monkeypatch):
    def fake(batch):
        return [outcome(patient["egfr"], len(batch.arms), batch.times.size) for patient in batch.patients]

    def outcome(egfr, n_arms, n_times):
        ok = egfr > 40
        values = np.full((n_arms, len(module.OBSERVABLES), n_times), egfr if ok else np.nan)
        return values, [("ok", "") if ok else ("initial-state", "no such patient")] * n_arms

    monkeypatch.setattr(module, "_simulate_batch", fake)
    monkeypatch.setattr(
        ModelSimulator, "_people", lambda self, people: [{"egfr": float(e)} for e in people.egfr]
    )
    simulator, population = ModelSimulator(workers=1), sized("fidelio", 10)
    arms = [TABLE.arms["placebo"], TABLE.arms["sglt2i"]]
    result = simulator(population, arms, np.array([0.0, 10.0]), [{}, {}], 1)
    people = virtual_patients(population, 1)
    assert result["sglt2i"]["egfr"].shape == (2, 10, 2)
    assert np.array_equal(np.isnan(result["placebo"]["uacr"][1, :, 0]), people.egfr <= 40)
    assert len(simulator.failures) == 4 * (people.egfr <= 40).sum()
    assert simulator.failures[0]["status"] == "initial-state"


def test_the_model_meets_the_typical_patient_and_moves_as_the_arm_says():
    result = facts(theta_draws=[{}], only=[1, 10], workers=1)
    assert not result.failures
    assert result.table["predicted"].notna().all()
    assert predicted(result, "1/egfr-year-0")["predicted"] == pytest.approx(43.4)
    assert predicted(result, "1/uacr-year-0")["predicted"] == pytest.approx(866.0)
    untreated, treated = (
        predicted(result, f"10/{name}")["predicted"] for name in ("uacr-850", "sglt2i-after-the-dip")
    )
    assert untreated < treated < 0
