"""A published number becomes a value, a standard error and a functional of the model, on one scale."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mscrenal.calibration import evidence
from mscrenal.calibration.observations import CLASSES, Datum, class_of, convert, observe_study
from mscrenal.calibration.studies import read_studies
from mscrenal.model import OBSERVABLES

FILE = """\
[[study]]
id = "packham2016"
role = "fit"
reason = "Randomised against placebo."
[study.patient]
egfr = 45
[[study.arm]]
name = "placebo"
[[study.arm]]
name = "MSC"
product = "UC"
route = "IV"
dose = "1e6/kg"
days = [0]
n = 25
[[study.map]]
where = {}
"""
ROW = dict.fromkeys(evidence.COLUMNS, "") | {
    "study_id": "packham2016",
    "citation": "Packham, rexlemestrocel-L in DKD, EBioMedicine, 2016",
    "species": "human",
    "arm": "treated",
    "n": "16",
    "endpoint": "egfr",
    "unit": "mL/min/1.73m2",
    "time_week": "12",
    "value": "4.4",
    "locator": "table 2",
}


def observed(lines: str, *rows: dict[str, str], file: str = FILE) -> list[Datum]:
    """The rows as they are compared, under one map."""
    with tempfile.TemporaryDirectory() as folder:
        table, study = Path(folder) / "mine.csv", Path(folder) / "mine.toml"
        with table.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerows([evidence.COLUMNS, *((ROW | row).values() for row in rows)])
        study.write_text(f"{file}{lines}\n", encoding="utf-8")
        (found,) = read_studies(study, evidence.read_table(table))
    return observe_study(found)


def one(lines: str, **cells: str) -> Datum:
    (datum,) = observed(lines, cells)
    return datum


CHANGE = 'arm = "MSC"\nagainst = "placebo"\nobservable = "egfr"\nmeasure = "change"'
UACR = 'arm = "MSC"\nobservable = "uacr"\nmeasure = "level"'
UACR_RATIO = 'arm = "MSC"\nobservable = "uacr"\nmeasure = "ratio"'
SHARE = 'arm = "MSC"\nobservable = "hba1c"\nmeasure = "share"\nbelow = 7.0'


# --------------------------------------------------------------------------- units

CREATININE, GLUCOSE, NITROGEN = 113.12, 180.16, 28.014  # g/mol; of urea, its two nitrogens


@pytest.mark.parametrize(
    ("value", "unit", "observable", "expected"),
    [
        (100.0, "umol/L", "serum_creatinine", 100e-6 * CREATININE * 1e3 / 10),
        (1.2, "mg/dL", "serum_creatinine", 1.2),
        (7.0, "mmol/L", "fasting_glucose", 7e-3 * GLUCOSE * 1e3 / 10),
        (5.0, "mmol/L", "bun", 5e-3 * NITROGEN * 1e3 / 10),
        (1500.0, "mg/24h", "urine_protein_24h", 1.5),
        (1500.0, "mg/day", "urine_protein_24h", 1.5),
        (1.5, "g/d", "urine_protein_24h", 1.5),
        (0.9, "mg/mg", "uacr", 900.0),
        (900.0, "ug/mg", "uacr", 900.0),
        (7.8, "%", "hba1c", 7.8),
        (7.8, "percent", "hba1c", 7.8),
        (33.0, "mL/min/1.73m2", "egfr", 33.0),
        (33.0, "mL/min/1.73m2 over 2 yr", "egfr", 33.0),
        (12.0, "score", "sledai", 12.0),
        (3.0, "ng/L", "il6_serum", 3.0),
        (0.9, "g/L", "c3", 90.0),
    ],
)
def test_a_number_is_converted_to_the_unit_of_its_observable(value, unit, observable, expected):
    assert convert(value, unit, observable) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("unit", "observable"),
    [
        ("mg/L", "egfr"),
        ("mL/min", "egfr"),  # not per body surface
        ("mg/24h", "uacr"),
        ("mg/mmol", "uacr"),  # needs the creatinine's molar mass: not guessed
        ("uL/min/g clearance", "mgfr"),
        ("mg/dL", "hba1c"),
        ("bananas", "uacr"),
        ("", "uacr"),
    ],
)
def test_a_unit_of_another_kind_is_refused_with_what_is_wanted_and_the_mend(unit, observable):
    with pytest.raises(evidence.EvidenceError) as error:
        convert(1.0, unit, observable)
    message = str(error.value)
    wanted = {o.name: o.unit for o in OBSERVABLES}[observable]
    assert message.startswith(f"unit {unit!r} is not one of {observable} ({wanted}): ")
    assert "scale = 'study'" in message


def test_glycated_haemoglobin_in_mmol_per_mol_is_refused_as_its_scale_has_another_zero():
    with pytest.raises(evidence.EvidenceError, match="'mmol/mol' is not one of hba1c"):
        convert(53.0, "mmol/mol", "hba1c")


def test_a_fault_of_a_row_names_table_line_and_study():
    with pytest.raises(evidence.EvidenceError) as error:
        observed(UACR, {"unit": "mg/g", "value": "900"}, {"unit": "mg/24h", "value": "900"})
    assert ".csv:3: study 'packham2016': unit 'mg/24h' is not one of uacr (mg/g)" in str(error.value)


def test_where_only_contrasts_within_a_study_count_units_are_the_studys_own():
    datum = one(UACR + '\nscale = "study"', unit="ug/24h", value="80")
    assert datum.value == pytest.approx(math.log(80.0))
    assert datum.own_level > one(UACR, unit="mg/g", value="80").own_level > 0


# --------------------------------------------------------------------------- standard errors

Z = 1.959964
LEVEL, LOW, HIGH, N = 800.0, 500.0, 1300.0, 16
# On the scale of the unit (a change in eGFR) and of logarithms (a UACR).
ERRORS = {
    "SE": ({"spread": "2"}, 2.0, {"spread": "80"}, 80.0 / LEVEL),
    "SD": ({"spread": "8"}, 8.0 / 4.0, {"spread": "400"}, math.sqrt(math.log(1 + 0.5**2) / N)),
    "CI95": (
        {"spread": "-1;10"},
        11.0 / (2 * Z),
        {"spread": f"{LOW};{HIGH}"},
        math.log(HIGH / LOW) / (2 * Z),
    ),
    "IQR": (
        {"spread": "-1;10"},
        1.2533 * (11.0 / 1.349) / 4.0,
        {"spread": f"{LOW};{HIGH}"},
        1.2533 * (math.log(HIGH / LOW) / 1.349) / 4.0,
    ),
    "range": (
        {"spread": "-1;10"},
        1.2533 * (11.0 / (2 * math.sqrt(2 * math.log(16)))) / 4.0,
        {"spread": f"{LOW};{HIGH}"},
        1.2533 * (math.log(HIGH / LOW) / (2 * math.sqrt(2 * math.log(16)))) / 4.0,
    ),
    "GSD": ({"spread": "2.5"}, math.nan, {"spread": "2.5"}, math.log(2.5) / 4.0),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_the_standard_error_of_a_change_follows_from_the_spread_printed(kind):
    spread, expected, _, _ = ERRORS[kind]
    assert one(CHANGE, spread_type=kind, **spread).error == pytest.approx(expected, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("kind", ERRORS)
def test_the_standard_error_of_a_positive_level_is_that_of_its_logarithm(kind):
    _, _, spread, expected = ERRORS[kind]
    datum = one(UACR, unit="mg/g", value=str(LEVEL), spread_type=kind, **spread)
    assert datum.value == pytest.approx(math.log(LEVEL))
    assert datum.error == pytest.approx(expected, rel=1e-4)


def test_a_standard_error_is_converted_with_its_number():
    lines = 'arm = "MSC"\nobservable = "serum_creatinine"\nmeasure = "level"'
    micromolar = one(lines, unit="umol/L", value="132.6", spread="13.26", spread_type="SE")
    milligram = one(lines, unit="mg/dL", value="1.5", spread="0.15", spread_type="SE")
    assert micromolar.error == pytest.approx(milligram.error, rel=1e-9)
    assert micromolar.value == pytest.approx(milligram.value, abs=1e-3)


@pytest.mark.parametrize(
    "cells",
    [
        {"spread": "3"},  # unlabelled: nobody knows what it is
        {},
        {"spread": "-1;10", "spread_type": "IQR", "n": "1"},
        {"spread": "3", "spread_type": "upper bound"},
        {"spread": "0", "spread_type": "SE"},
        {"spread": "4;4", "spread_type": "CI95"},
    ],
)
def test_where_the_source_does_not_say_enough_there_is_no_standard_error(cells):
    datum = one(CHANGE, **cells)
    assert math.isnan(datum.error)
    assert datum.bias_scale > 0


def test_an_sd_of_nobody_knows_how_many_gives_no_standard_error():
    lines = 'arm = "placebo"\nobservable = "egfr"\nmeasure = "change"'
    assert math.isnan(one(lines, spread="3", spread_type="SD", n="").error)
    assert one(lines, spread="3", spread_type="SE", n="").error == 3.0


def test_a_geometric_sd_below_one_is_none():
    with pytest.raises(evidence.EvidenceError, match=r"'0\.5' as GSD. Allowed: 1 or more"):
        one(UACR, unit="mg/g", value="800", spread="0.5", spread_type="GSD")


def test_the_arm_says_how_many_were_studied_where_the_row_does_not():
    assert one(CHANGE, n="").n == 25
    assert one(CHANGE).n == 16
    assert one(CHANGE, n="", spread="3", spread_type="SD").error == pytest.approx(3 / 5)
    share = one(SHARE, unit="percent", value="40", n="")
    assert share.value == pytest.approx(math.log(10.5 / 15.5))


# --------------------------------------------------------------------------- ratios, shares


@pytest.mark.parametrize(
    ("cells", "lines", "ratio"),
    [
        ({"unit": "percent", "value": "-31", "effect_type": "percent_change"}, "", 0.69),
        ({"unit": "%", "value": "25"}, "", 1.25),
        ({"unit": "percent", "value": "69"}, '\npercent = "of"', 0.69),
        ({"unit": "ratio to baseline", "value": "0.69"}, "", 0.69),
        ({"unit": "fold of 4-week value", "value": "2.5"}, "", 2.5),
    ],
)
def test_a_percent_change_is_a_ratio(cells, lines, ratio):
    datum = one(UACR_RATIO + lines, **cells)
    assert datum.value == pytest.approx(math.log(ratio))
    assert datum.log


def test_the_limits_of_a_percent_change_are_ratios_too():
    datum = one(UACR_RATIO, unit="percent", value="-31", spread="-50;-5", spread_type="CI95")
    assert datum.error == pytest.approx(math.log(0.95 / 0.50) / (2 * Z), rel=1e-6)
    datum = one(UACR_RATIO, unit="percent", value="-20", spread="8", spread_type="SE")
    assert datum.error == pytest.approx(0.08 / 0.80)


@pytest.mark.parametrize(
    "cells", [{}, {"spread": "5", "spread_type": "SE"}, {"spread": "5", "spread_type": "SD"}]
)
@pytest.mark.parametrize("value", ["-100", "-120"])
def test_a_ratio_of_zero_or_less_has_no_logarithm_and_is_refused_with_the_mend(cells, value):
    with pytest.raises(evidence.EvidenceError, match=r"has no logarithm; use measure = 'change' or exclude"):
        one(UACR_RATIO, unit="percent", value=value, **cells)


@pytest.mark.parametrize(
    ("cells", "yes", "no"),
    [
        ({"unit": "percent", "value": "25", "n": "20"}, 5, 15),
        ({"unit": "%", "value": "0", "n": "16"}, 0, 16),
        ({"unit": "1", "value": "1", "n": "12"}, 12, 0),
        ({"unit": "patients of 16", "value": "4", "n": "16"}, 4, 12),
    ],
)
def test_a_share_is_a_logit_with_half_a_subject_on_both_sides(cells, yes, no):
    datum = one(SHARE, **cells)
    assert datum.value == pytest.approx(math.log((yes + 0.5) / (no + 0.5)))
    assert datum.error == pytest.approx(math.sqrt(1 / (yes + 0.5) + 1 / (no + 0.5)))
    assert (datum.limit, datum.above) == (7.0, False)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"unit": "percent", "value": "125"}, "1.25 lies outside 0 to 1"),
        ({"unit": "1", "value": "25"}, "25 lies outside 0 to 1"),
    ],
)
def test_a_share_that_is_none_is_refused(cells, says):
    with pytest.raises(evidence.EvidenceError, match=says):
        one(SHARE, **cells)


def test_a_share_of_nobody_knows_how_many_is_refused():
    with pytest.raises(evidence.EvidenceError, match="a share needs n, the number of subjects"):
        one(SHARE.replace("MSC", "placebo"), unit="percent", value="25", n="")


def test_a_share_of_levels_knows_the_printed_spread_of_its_covariate():
    printed = FILE.replace("[study.patient]", "[study.sd]\nhba1c = 1.1\nuacr_gsd = 2.5\n[study.patient]")
    cells = {"unit": "percent", "value": "40"}
    (level,) = observed(SHARE, cells, file=printed)
    assert level.spread == 1.1
    protein = 'arm = "MSC"\nobservable = "urine_protein_24h"\nmeasure = "share"\nbelow = 0.5'
    assert observed(protein, cells, file=printed)[0].spread == pytest.approx(math.log(2.5))
    assert observed(SHARE + '\nof = "change"', cells, file=printed)[0].spread == 0.0
    assert one(SHARE, **cells).spread == 0.0


def test_the_limit_of_a_share_of_ratios_is_on_the_scale_of_ratios():
    datum = one(
        'arm = "MSC"\nobservable = "uacr"\nmeasure = "share"\nof = "ratio"\nbelow = 0.5', unit="%", value="40"
    )
    assert datum.limit == pytest.approx(math.log(0.5))
    datum = one(
        'arm = "MSC"\nobservable = "egfr"\nmeasure = "share"\nof = "change"\nabove = -5', unit="%", value="40"
    )
    assert (datum.limit, datum.above) == (-5.0, True)


# --------------------------------------------------------------------------- functionals of a trajectory

Trajectory = Callable[[str, float], float]


def functional(datum: Datum, trajectory: Trajectory) -> float:
    """The prediction on a made-up trajectory of (arm, day)."""
    values = [trajectory(term.arm, term.day) for term in datum.terms]
    return sum(
        term.weight * (math.log(value) if term.log else value)
        for term, value in zip(datum.terms, values, strict=True)
    )


def made_up(arm: str, day: float) -> float:
    """50 and falling; the treated fall by half as much after a rise."""
    return {"placebo": 50.0 - 0.05 * day, "MSC": 54.0 - 0.025 * day}[arm]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ('measure = "change"', made_up("MSC", 84) - 54.0),
        ('measure = "change"\nagainst = "placebo"', 0.025 * 84),
        ('measure = "change"\nfrom = 14', -0.025 * 70),
        ('measure = "difference"\nagainst = "placebo"', 4.0 + 0.025 * 84),
        ('measure = "level"', made_up("MSC", 84)),
        ('measure = "level"\nday = 7', made_up("MSC", 7)),
        ('measure = "ratio"', math.log(made_up("MSC", 84) / 54.0)),
        (
            'measure = "ratio"\nagainst = "placebo"',
            math.log(made_up("MSC", 84) / 54.0 * 50.0 / made_up("placebo", 84)),
        ),
        ('measure = "fold"\nagainst = "placebo"', math.log(made_up("MSC", 84) / made_up("placebo", 84))),
        ('measure = "smd"\nagainst = "placebo"', 4.0 + 0.025 * 84),
        ('measure = "slope"\nfrom = 0\nto = 364', -0.025 * 365.25),
        ('measure = "slope"\nagainst = "placebo"\nfrom = 30\nto = 400', 0.025 * 365.25),
    ],
)
def test_a_measure_is_what_it_says_of_a_trajectory(measure, expected):
    ratio = "ratio" in measure or "fold" in measure
    cells = {"unit": "fold vs control", "value": "0.9"} if ratio else {}
    datum = one(f'arm = "MSC"\nobservable = "egfr"\n{measure}', **cells)
    assert functional(datum, made_up) == pytest.approx(expected, rel=1e-9)


def test_a_level_and_a_standardised_difference_of_albuminuria_are_logarithms():
    level = one(UACR, unit="mg/g", value="800")
    assert functional(level, made_up) == pytest.approx(math.log(made_up("MSC", 84)))
    smd = one(
        'arm = "MSC"\nagainst = "placebo"\nobservable = "uacr"\nmeasure = "smd"', unit="SMD", value="-1.2"
    )
    assert functional(smd, made_up) == pytest.approx(math.log(made_up("MSC", 84) / made_up("placebo", 84)))
    assert smd.value == -1.2
    assert not smd.log


@given(
    start=st.floats(0, 300), length=st.floats(1, 2000), level=st.floats(-100, 100), slope=st.floats(-20, 20)
)
def test_the_slope_of_a_straight_line_is_its_slope_whatever_the_days(start, length, level, slope):
    lines = f'arm = "MSC"\nobservable = "egfr"\nmeasure = "slope"\nfrom = {start}\nto = {start + length}'
    found = functional(one(lines), lambda _, day: level + slope * day / 365.25)
    # Weights of a short slope are large: what is left of the level is rounding.
    assert found == pytest.approx(slope, rel=1e-6, abs=1e-10 * (1 + abs(level)) * 365.25 / length)


@given(arms=st.lists(st.floats(1, 1000), min_size=4, max_size=4), factor=st.floats(0.01, 100))
def test_ratios_do_not_change_with_the_unit_of_the_observable(arms, factor):
    given_values = dict(
        zip([("MSC", 84.0), ("MSC", 0.0), ("placebo", 84.0), ("placebo", 0.0)], arms, strict=True)
    )
    datum = one(UACR_RATIO + '\nagainst = "placebo"', unit="ratio", value="0.8")
    found = functional(datum, lambda arm, day: given_values[arm, day])
    scaled = functional(datum, lambda arm, day: factor * given_values[arm, day])
    assert scaled == pytest.approx(found, abs=1e-9)
    assert found == pytest.approx(math.log(arms[0] / arms[1] * arms[3] / arms[2]), abs=1e-9)


def test_the_day_is_that_of_the_row_unless_the_map_says_one():
    assert one(CHANGE).day == 84.0
    assert one(CHANGE + "\nday = 90").day == 90.0
    assert one(CHANGE, time_week="0.5").day == 3.5


@pytest.mark.parametrize(
    ("week", "says"), [("", "no time_week"), ("-2", "time_week = -2 lies before the first dose")]
)
def test_a_row_without_a_day_after_the_first_dose_needs_one_from_its_map(week, says):
    with pytest.raises(evidence.EvidenceError, match=f"{says}.*give the map a day"):
        one(CHANGE, time_week=week)
    assert one(CHANGE + "\nday = 84", time_week=week).day == 84.0


@given(knot=st.floats(5, 100), length=st.floats(150, 2000), dip=st.floats(-5, 5), chronic=st.floats(-20, 20))
def test_a_slope_with_a_knot_is_the_mean_of_two_slopes_weighted_by_time(knot, length, dip, chronic):
    lines = f'arm = "MSC"\nobservable = "egfr"\nmeasure = "slope"\nfrom = 0\nto = {length}\nknot = {knot}'

    def course(_, day):
        return 50 + dip * min(day, knot) / knot + chronic * max(day - knot, 0.0) / 365.25

    total = (dip * 365.25 + chronic * (length - knot)) / length
    assert functional(one(lines), course) == pytest.approx(total, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('measure = "slope"\nfrom = 0\nto = 364\nknot = 400', "knot = 400 must lie between from and to"),
        ('measure = "change"\nday = 28\nknot = 14', "knot belongs to measure = 'slope', not 'change'"),
    ],
)
def test_a_knot_lies_within_a_slope(lines, words):
    with pytest.raises(evidence.EvidenceError, match=words):
        one(f'arm = "MSC"\nobservable = "egfr"\n{lines}')


def test_slopes_are_for_filtration_alone():
    with pytest.raises(evidence.EvidenceError, match="'slope' is for egfr and mgfr"):
        one('arm = "MSC"\nobservable = "uacr"\nmeasure = "slope"\nfrom = 0\nto = 364')


# --------------------------------------------------------------------------- what else a row says


def test_a_row_shows_an_effect_if_one_of_its_arms_was_treated_and_which_sign_is_better():
    assert one(CHANGE).treated
    assert one(CHANGE).benefit == 1
    assert one(UACR_RATIO, unit="ratio", value="0.8").benefit == -1
    assert not one('arm = "placebo"\nobservable = "egfr"\nmeasure = "change"').treated
    swapped = one(
        'arm = "placebo"\nagainst = "MSC"\nobservable = "uacr"\nmeasure = "smd"', unit="SMD", value="1.2"
    )
    assert swapped.treated
    assert swapped.benefit == 1  # more protein than in the treated: the cells did good


def test_animals_are_compared_otherwise_than_people():
    names = {o.name for o in OBSERVABLES}
    for name in names:
        assert class_of(name, "human") in CLASSES.values()
        assert class_of(name, "rat") == class_of(name, "mouse")
    assert not class_of("egfr", "human").log
    assert class_of("egfr", "rat").log
    assert class_of("egfr", "human", slope=True).name == "slope"


def test_rows_of_one_study_that_say_the_same_kind_of_thing_share_what_sets_it_apart():
    several = observed(CHANGE, {}, {"time_week": "24"})
    assert [d.own_level for d in several] == [several[0].kind.residual] * 2
    assert one(CHANGE).own_level == 0.0
    smd = 'arm = "MSC"\nagainst = "placebo"\nobservable = "uacr"\nmeasure = "smd"'
    pooled = observed(smd, {"unit": "SMD", "value": "-1"}, {"unit": "SMD", "value": "-2"})
    assert [d.own_level for d in pooled] == [0.0, 0.0]


def test_what_is_added_to_changes_of_protein_is_as_large_as_changes_of_protein_are():
    # Albuminuria is compared by logarithms; a change in g/day is not, and a relative residual needs a level.
    lines = 'arm = "MSC"\nobservable = "urine_protein_24h"\nmeasure = "change"'
    rows = [
        {"unit": "g/day", "value": value, "time_week": week}
        for value, week in (("-0.8", "12"), ("-1.1", "24"))
    ]
    for datum in observed(lines, *rows):
        assert datum.value < 0
        assert not datum.log
        assert datum.residual_scale == 2.0
        assert datum.own_level == pytest.approx(2.0 * datum.kind.residual)
    assert one(UACR, unit="mg/g", value="800").residual_scale == 1.0


def test_a_ratio_of_filtration_is_compared_by_logarithms_as_its_class_says():
    ratio = one('arm = "MSC"\nobservable = "egfr"\nmeasure = "ratio"', unit="percent", value="-10")
    assert ratio.kind.log
    assert ratio.kind.residual < 0.2 < one(CHANGE).kind.residual


def test_a_label_says_study_observable_measure_arms_and_day():
    assert one(CHANGE).label == "packham2016: egfr change, MSC vs placebo, day 84"


def test_without_a_spread_the_small_study_effect_grows_with_the_smallness_of_the_study():
    few, many = one(CHANGE, n="4").bias_scale, one(CHANGE, n="100").bias_scale
    assert few == pytest.approx(5 * many)
    assert one(CHANGE, spread="2", spread_type="SE").bias_scale == 2.0


def test_every_shipped_prediction_is_finite_and_has_a_functional():
    from mscrenal.calibration.observations import observe
    from mscrenal.calibration.studies import studies

    data = observe(studies().values())
    assert len(data) >= 100
    for datum in data:
        assert math.isfinite(datum.value), datum.label
        assert math.isnan(datum.error) or datum.error > 0, datum.label
        assert datum.terms, datum.label
        weights = sum(term.weight for term in datum.terms)
        # Levels (and shares of them) add up to one; contrasts and slopes are blind to a common level.
        assert np.isclose(weights, 1.0) or np.isclose(weights, 0.0, atol=1e-9), datum.label
