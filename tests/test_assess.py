"""Published rows are set against the right distributions: coverage, densities, rivals, and rows that nobody mapped."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from report_reader import read_report
from scipy import stats
from typer.testing import CliRunner

pytest.importorskip("pymc")

from mscrenal.app.cli import main
from mscrenal.app.console import text_tables
from mscrenal.app.report import render
from mscrenal.calibration import Posterior, PosteriorError, draws, evidence
from mscrenal.calibration.assess import (
    AssessmentError,
    RowDistributions,
    belief_of,
    fitted_rows,
    held_out_studies,
    new_study_distributions,
    predictive_checks,
    references,
    relative_to_references,
    score,
)
from mscrenal.calibration.evidence import EvidenceError, read_table
from mscrenal.calibration.inference import Tangent
from mscrenal.calibration.observations import CLASSES, FREE_INTERCEPT, Datum, Term, observe
from mscrenal.calibration.probability import HYPER, TAIL, Problem, row_distributions, student_log
from mscrenal.calibration.rivals import (
    Fitted,
    Pooled,
    Rivals,
    _fit_pooled,
    der_simonian_laird,
    fit_rivals,
    loo,
    pool_effects,
    without_cells,
)
from mscrenal.calibration.sampling import POTENCY
from mscrenal.calibration.studies import held_out, studies
from mscrenal.calibration.unseen import disease_of, map_rows, product_of
from mscrenal.model.definition import model_hash
from mscrenal.scenarios import validate

runner = CliRunner()
SEED = 7
PARAMETERS = ("nephron_loss_rate", POTENCY, "product.UC.secretion")
N_DRAWS = 60


def datum(line: int, value: float, error: float = 1.0, **changes: Any) -> Datum:
    """A row of an untreated patient, changed."""
    made = Datum(
        study=f"study{line}", table="mine", line=line, endpoint="egfr", kind=CLASSES["gfr"], observable="egfr",
        measure="change", arm="placebo", against="", species="human", value=value, error=error,
        terms=(Term("placebo", 84.0, "egfr", False, 1.0),), limit=None, above=False, own_level=0.0, treated=False,
        benefit=1, n=20.0, day=84.0,
    )  # fmt: skip
    return replace(made, **changes)


@cache
def posterior() -> Posterior:
    """Draws around the prior's middle for two shipped studies, one with cells: what a posterior file holds, made by hand."""
    chosen = ["packham2016", "zang2023"]
    given = {s.id: s for s in studies().values() if s.id in chosen and s.arms}
    data = tuple(observe(given.values()))
    problem = Problem(data, given, PARAMETERS)
    rng = np.random.default_rng(SEED)
    wide = (2, N_DRAWS // 2)
    z = 0.3 * rng.standard_normal((*wide, len(PARAMETERS)))
    level = rng.standard_normal((*wide, len(problem.levels)))
    free = 0.3 * rng.standard_normal((*wide, len(problem.hyper)))
    hyper = np.stack(
        [HYPER[h].median * np.exp(HYPER[h].sigma * free[..., k]) for k, h in enumerate(problem.hyper)], -1
    )
    value = np.array([d.value for d in data])
    prediction = value + 0.2 * rng.standard_normal((*wide, len(data)))
    blocks = {"level": slice(0, level.shape[-1]), "hyper": slice(level.shape[-1], None)}
    mean, sigma = row_distributions(problem, np.concatenate([level, free], -1), prediction, blocks)
    dims = ("chain", "draw")
    found = xr.Dataset(
        {
            "z": ((*dims, "parameter"), z),
            "hyper": ((*dims, "hyper_name"), hyper),
            "study": ((*dims, "study_name"), rng.standard_normal((*wide, len(problem.potent)))),
            "level": ((*dims, "level_name"), level),
            "prediction": ((*dims, "row"), prediction),
            "log_likelihood": ((*dims, "row"), student_log(value, mean, sigma)),
            "offset": (("row",), np.zeros(len(data))),
        },
        coords={
            "parameter": list(PARAMETERS),
            "hyper_name": list(problem.hyper),
            "study_name": list(problem.potent),
            "level_name": [" | ".join(key) for key in problem.levels],
            "row": [f"{d.table}:{d.line}" for d in data],
        },
    )
    told = {
        "version": "0", "model_hash": model_hash(), "evidence_hash": evidence.evidence_hash(), "seed": SEED,
        "sampler": "by hand", "diagnostics": {}, "created": "2026-01-01", "rows": len(data), "studies": 2,
    }  # fmt: skip
    return Posterior(found, told)


@pytest.fixture(scope="module")
def posterior_file(tmp_path_factory) -> Path:
    return posterior().save(tmp_path_factory.mktemp("posterior") / "mine.nc")


# --------------------------------------------------------------------------- scores


def mixtures(rows: int, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values drawn from the predictive distributions that they are set against."""
    rng = np.random.default_rng(SEED)
    location = rng.normal(rng.normal(0, 5, rows), rng.uniform(0.1, 2, rows), (n, rows))
    scale = np.exp(rng.normal(0, 0.3, (n, rows)))
    picked = rng.integers(n, size=rows), np.arange(rows)
    return location[picked] + scale[picked] * rng.standard_t(TAIL, rows), location, scale


def test_values_drawn_from_the_predictive_are_covered_as_often_as_the_intervals_say():
    value, location, scale = mixtures(1500, 100)
    found = score(value, location, scale)
    assert found.inside50.mean() == pytest.approx(0.5, abs=0.04)
    assert found.inside90.mean() == pytest.approx(0.9, abs=0.025)
    assert math.sqrt((found.z**2).mean()) == pytest.approx(1.0, abs=0.06)
    assert stats.kstest(found.pit, "uniform").pvalue > 0.01


def test_predictions_half_as_wide_as_they_should_be_cover_too_little():
    value, location, scale = mixtures(600, 100)
    found = score(value, location.mean(0) + 0.5 * (location - location.mean(0)), 0.5 * scale)
    assert found.inside90.mean() < 0.8
    assert math.sqrt((found.z**2).mean()) > 1.4


def test_the_log_density_is_that_of_the_mixture_of_the_draws():
    value, location, scale = mixtures(20)
    direct = np.log(stats.t.pdf((value - location) / scale, TAIL) / scale).copy()
    expected = np.log(np.exp(direct).mean(axis=0))
    assert score(value, location, scale).log_density == pytest.approx(expected, rel=1e-9)


def test_quantiles_are_those_of_the_mixture_and_agree_with_what_counts_as_inside():
    value, location, scale = mixtures(200)
    found = score(value, location, scale)
    for k, p in enumerate((0.05, 0.25, 0.5, 0.75, 0.95)):
        below = stats.t.cdf((found.quantiles[:, k] - location) / scale, TAIL).mean(axis=0)
        assert below == pytest.approx(np.full(200, p), abs=1e-4)
    inside = (value >= found.quantiles[:, 0]) & (value <= found.quantiles[:, 4])
    assert (inside == found.inside90).mean() > 0.99


def test_a_row_of_which_under_half_of_the_draws_could_be_simulated_is_not_scored():
    value, location, scale = mixtures(2)
    location[: int(0.6 * len(location)), 1] = np.nan
    found = score(value, location, scale)
    assert np.isfinite(found.pit[0])
    assert math.isnan(found.pit[1])
    assert math.isnan(found.log_density[1])
    assert found.n_draws[1] == 120


# --------------------------------------------------------------------------- free levels


def free_level(line: int, value: float, **changes: Any) -> Datum:
    kind = CLASSES["animal albuminuria"]
    own = {
        "study": "rats",
        "measure": "level",
        "kind": kind,
        "own_level": FREE_INTERCEPT,
        "observable": "uacr",
    }
    return datum(line, value, **(own | {"species": "rat"} | changes))


def test_where_only_contrasts_count_an_untreated_row_sets_the_level_of_the_others():
    data = [free_level(1, 3.0, treated=True), free_level(2, 4.0), datum(3, 1.0)]
    assert references(data) == {0: 1, 1: 1}
    raw = RowDistributions(np.array([[0.5, 1.0, 2.0]]), np.array([[0.3, 0.4, 1.0]]))
    found, used_up = relative_to_references(data, np.array([3.0, 4.0, 1.0]), raw)
    # The untreated row lies 3 above its prediction, and so is the treated one expected to.
    assert found.location[0] == pytest.approx([3.5, 1.0, 2.0])
    assert found.scale[0] == pytest.approx([0.5, 0.4, 1.0])
    assert list(used_up) == [1]
    assert "sets the level" in used_up[1]


def test_a_single_row_whose_level_is_free_tests_nothing_and_says_so():
    raw = RowDistributions(np.zeros((1, 1)), np.ones((1, 1)))
    _, used_up = relative_to_references([free_level(1, 3.0)], np.array([3.0]), raw)
    assert "only row of its kind" in used_up[0]


# --------------------------------------------------------------------------- what is believed of a new study


def test_a_belief_carries_the_draws_that_results_use_and_what_surrounds_each_of_them():
    found = belief_of(posterior(), 40, SEED)
    drawn = draws(40, SEED, source=posterior())
    calibrated = posterior().natural()["nephron_loss_rate"]
    hyper = posterior().hyper("between_studies")
    for k in range(40):
        at = int(np.argmin(np.abs(calibrated - drawn.values["nephron_loss_rate"][k])))
        assert found.hyper["between_studies"][k] == pytest.approx(hyper[at])


def test_each_new_study_has_a_potency_of_its_own_and_shares_everything_else():
    found = belief_of(posterior(), 20, SEED)
    one, other = found.thetas("one", SEED), found.thetas("other", SEED)
    assert all(a[POTENCY] != b[POTENCY] for a, b in zip(one, other, strict=True))
    without = [{k: v for k, v in t.items() if k != POTENCY} for t in one]
    assert without == [{k: v for k, v in t.items() if k != POTENCY} for t in other]
    assert found.thetas("one", SEED) == one


@cache
def held_out_rows(name: str) -> tuple[tuple[Datum, ...], dict[str, Any]]:
    given = {name: held_out_studies()[name]}
    return tuple(observe(given.values())), given


def test_without_cells_an_untreated_study_is_predicted_the_same_to_the_last_bit():
    data, given = held_out_rows("kidneyint2000_pima")
    belief = belief_of(posterior(), 20, SEED)
    whole = new_study_distributions(data, given, belief, seed=SEED)
    bare = new_study_distributions(data, given, belief, simulated=without_cells(given), seed=SEED)
    assert np.array_equal(whole.location, bare.location)
    assert np.array_equal(whole.scale, bare.scale)


def test_without_cells_a_treated_row_is_predicted_as_its_control():
    data, given = held_out_rows("man2025")
    data = tuple(replace(d, benefit=0) for d in data)  # no small-study effect
    belief = belief_of(posterior(), 20, SEED)
    bare = new_study_distributions(data, without_cells(given), belief, seed=SEED)
    # No arm of these differs then: a standardised difference of nothing.
    assert np.abs(bare.location).max() < 1e-12
    whole = new_study_distributions(data, given, belief, seed=SEED, workers=1)
    assert np.median(np.abs(whole.location)) > 0.1


def test_the_number_of_threads_does_not_change_a_bit():
    data, given = held_out_rows("man2025")
    belief = belief_of(posterior(), 20, SEED)
    one = new_study_distributions(data, given, belief, seed=SEED, workers=1)
    two = new_study_distributions(data, given, belief, seed=SEED, workers=2)
    assert np.array_equal(one.location, two.location)


# --------------------------------------------------------------------------- pooling


def test_two_studies_pool_as_der_simonian_and_laird_work_it_out():
    # Q = 2 on one degree of freedom, scale 2 - 2/2 = 1: tau squared 1, weights 1/2 each.
    found = der_simonian_laird([0.0, 2.0], [1.0, 1.0])
    assert (found.mean, found.tau, found.n) == (1.0, 1.0, 2)
    assert found.error == pytest.approx(1.0)


def test_effects_without_heterogeneity_pool_by_inverse_variance():
    found = der_simonian_laird([1.0, 1.2], [0.25, 1.0])
    assert found.tau == 0.0
    assert found.mean == pytest.approx((4 * 1.0 + 1.2) / 5)
    assert found.error == pytest.approx(1 / math.sqrt(5))


def test_effects_count_benefit_as_positive_in_spreads_between_subjects_and_each_study_once():
    albuminuria = CLASSES["albuminuria"]
    fall = {"treated": True, "against": "placebo", "kind": albuminuria, "benefit": -1, "observable": "uacr"}
    data = [
        datum(1, 4.0, 1.0, treated=True, against="placebo"),
        datum(2, 4.0, 1.0, treated=True, against="placebo", study="study1"),
        datum(3, -0.4, 0.1, **fall),
        datum(4, 9.0, 1.0),
    ]
    found = pool_effects(data, np.zeros(4))
    assert found["gfr"].mean == pytest.approx(4.0 / CLASSES["gfr"].between)
    assert found["gfr"].n == 1
    assert found["albuminuria"].mean == pytest.approx(0.4 / albuminuria.between)
    assert found[""].n == 2


def test_the_level_at_which_a_patient_is_placed_is_no_prediction_and_is_not_scored():
    level = {"measure": "level", "observable": "uacr", "kind": CLASSES["albuminuria"], "own_level": 0.25}
    placed = datum(1, 5.0, day=0.0, **level)
    others = [datum(2, 5.0, day=84.0, **level), datum(3, 1.0, day=0.0, **(level | {"species": "rat"}))]
    raw = RowDistributions(np.zeros((1, 3)), np.ones((1, 3)))
    _, used_up = relative_to_references([placed, *others], np.array([5.0, 5.0, 1.0]), raw)
    assert list(used_up) == [0]
    assert "placed at it" in used_up[0]


def test_a_level_counts_against_the_untreated_rows_of_its_study_and_not_against_the_models_scale():
    data = [free_level(1, 7.0, benefit=-1), free_level(2, 6.0, benefit=-1, treated=True)]
    (effect,) = {k: v for k, v in pool_effects(data, np.zeros(2)).items() if k}.values()
    assert effect.mean == pytest.approx(1.0 / CLASSES["animal albuminuria"].between)


# --------------------------------------------------------------------------- rivals


def trial(shift: float) -> tuple[Problem, Tangent]:
    """Twelve controlled effects on GFR around `shift`, and a model that predicts none."""
    rng = np.random.default_rng(SEED)
    data = tuple(
        datum(k, shift + float(rng.normal(0, 0.5)), 0.5, treated=True, against="placebo") for k in range(12)
    )
    given: dict[str, Any] = {
        d.study: SimpleNamespace(arms={"placebo": SimpleNamespace(doses=())}) for d in data
    }
    problem = Problem(data, given, ("nephron_loss_rate",))
    return problem, Tangent(np.zeros(len(problem.vector)), np.zeros(12), np.zeros((12, len(problem.vector))))


def test_the_pooled_rival_predicts_the_pooled_effect_and_the_other_none():
    problem, line = trial(4.0)
    effects = pool_effects(problem.data, line.values)
    fitted = _fit_pooled(problem, line, effects, 200, SEED)
    nothing = Fitted(("nephron_loss_rate",), np.zeros((200, 1)), fitted.hyper, fitted.log_likelihood)
    rivals = Rivals(problem.data, ("nephron_loss_rate",), nothing, fitted, effects, SEED)
    shift = rivals._shift(datum(99, 4.0, treated=True, against="placebo"), 4000)
    assert shift.mean() == pytest.approx(4.0, abs=0.3)
    assert shift.std() == pytest.approx(
        CLASSES["gfr"].between * math.hypot(effects["gfr"].error, effects["gfr"].tau), rel=0.1
    )
    untreated = (datum(99, 4.0), datum(98, 4.0, treated=True, day=0.0))
    assert [np.abs(rivals._shift(d, 10)).max() for d in untreated] == [0.0, 0.0]
    # The rows that it was fitted to are likelier than if there were no effect.
    small = _fit_pooled(problem, line, {"": Pooled(0.0, 0.1, 0.0, 0)}, 200, SEED)
    assert fitted.log_likelihood.mean(0).sum() > small.log_likelihood.mean(0).sum() + 5


def test_leaving_one_out_is_the_harmonic_mean_of_the_likelihood_where_weights_are_tame():
    rng = np.random.default_rng(SEED)
    logs = -1.0 + 0.1 * rng.standard_normal((2, 1000, 8))
    found = loo(logs)
    direct = -np.log(np.exp(-logs).mean(axis=(0, 1)))
    assert found.pointwise == pytest.approx(direct, abs=0.005)
    assert found.elpd == pytest.approx(found.pointwise.sum())
    assert found.share_of_bad_k == 0.0


@pytest.mark.slow
def test_both_rivals_are_fitted_to_the_rows_of_a_posterior_and_predict_others():
    found = fit_rivals(posterior(), n=50, seed=SEED)
    assert found.nothing.log_likelihood.shape == (50, len(fitted_rows(posterior())[0]))
    data, given = held_out_rows("kidneyint2000_pima")
    predicted = found.predict(data, given)
    # Nobody is treated: both say the same of what they were not told apart by.
    assert set(predicted) == {"no_effect", "pooled"}
    assert np.isfinite(predicted["pooled"].location).all()
    again = fit_rivals(posterior(), n=50, seed=SEED).predict(data, given)
    assert np.array_equal(predicted["no_effect"].location, again["no_effect"].location)


# --------------------------------------------------------------------------- fitted rows


def test_predictive_checks_know_the_studies_own_levels_and_give_the_stored_densities():
    checks = predictive_checks(posterior())
    stored = posterior().flat("log_likelihood")
    assert checks.rows["elpd"].to_numpy() == pytest.approx(np.log(np.exp(stored).mean(axis=0)), abs=1e-5)
    by = checks.by("study")
    assert set(by["study"]) == {"packham2016", "zang2023"}
    assert by["rows"].sum() == len(checks.rows)


def test_a_posterior_of_rows_that_the_package_lacks_is_refused():
    data = posterior().data.assign_coords(row=["clinical_msc:99999", *posterior().data["row"].values[1:]])
    with pytest.raises(PosteriorError, match="clinical_msc:99999"):
        fitted_rows(Posterior(data, posterior().provenance))


# --------------------------------------------------------------------------- rows that nobody mapped

ROW = dict.fromkeys(evidence.COLUMNS, "") | {
    "study_id": "new2027",
    "citation": "New, cells in DKD, Journal, 2027",
    "species": "human",
    "disease_model": "T2D_DKD",
    "arm": "treated",
    "n": "20",
    "cell_source": "UC",
    "route": "IV",
    "dose_value": "1e6",
    "dose_unit": "cells/kg",
    "n_doses": "1",
    "dose_days": "0",
    "endpoint": "egfr",
    "unit": "mL/min/1.73m2",
    "time_week": "24",
    "statistic": "mean",
    "effect_type": "difference_vs_control",
    "value": "2",
    "locator": "table 2",
}
BASELINE = {"time_week": "0", "effect_type": "absolute", "cell_source": "none", "arm": "control"}


def written(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([evidence.COLUMNS, *((ROW | row).values() for row in rows)])
    return path


def mapped(folder: Path, *rows: dict[str, str]) -> Any:
    return map_rows(read_table(written(folder / "mine.csv", *rows)), studies().values())


def test_an_effect_against_control_becomes_two_arms_that_differ_by_the_cells(tmp_path):
    found = mapped(tmp_path, {})
    (row,) = found.data
    study = found.studies["new2027"]
    assert (row.measure, row.against, row.day, row.value) == ("difference", "untreated", 168.0, 2.0)
    (dose,) = study.arms[row.arm].doses
    assert (dose.product, dose.route, dose.amount, dose.day) == ("UC", "IV", 1.0, 0.0)
    assert dose.duration_days == pytest.approx(1 / 24)
    assert study.arms["untreated"].doses == ()
    assert study.arms[row.arm].patient == study.arms["untreated"].patient


def test_rows_of_week_0_place_the_patient_and_are_not_predicted(tmp_path):
    found = mapped(
        tmp_path,
        BASELINE | {"value": "40", "n": "10"},
        BASELINE | {"arm": "treated", "cell_source": "UC", "value": "46", "n": "20"},
        BASELINE | {"endpoint": "uacr", "unit": "mg/g", "value": "650"},
        {},
    )
    patient = found.studies["new2027"].arms["untreated"].patient
    assert (patient.egfr, patient.uacr) == (pytest.approx(44.0), 650.0)
    assert [s.row for s in found.skipped] == [2, 3, 4]
    assert all("places the simulated patient" in s.reason for s in found.skipped)
    assert any("typical patient" in note for note in found.assumptions)


@pytest.mark.parametrize(
    ("disease_model", "species", "disease"),
    [
        ("T2D_DKD", "human", "diabetic"), ("T2D", "human", "diabetic"), ("DM_CKD3-4", "human", "diabetic"),
        ("lupus_nephritis", "human", "lupus"), ("SLE", "human", "lupus"), ("ARVD", "human", "renovascular"),
        ("CKD_nonT2D", "human", "nondiabetic-ckd"), ("healthy", "rat", "healthy"), ("STZ_rat", "rat", "stz"),
        ("diabetic_nephropathy_rat", "rat", "stz"), ("db/db", "mouse", "db-db"), ("UUO", "mouse", "obstruction"),
        ("5/6_nephrectomy", "rat", "subtotal-nephrectomy"), ("2K1C_renovascular", "rat", "renovascular-model"),
        ("ARAS", "pig", "renovascular-model"), ("lupus_MRL_lpr", "mouse", "lupus-model"),
    ],
)  # fmt: skip
def test_a_disease_model_becomes_the_disease_of_its_species(disease_model, species, disease):
    assert disease_of(disease_model, species) == disease


@pytest.mark.parametrize(
    ("disease_model", "species"),
    [
        ("ADPKD", "human"), ("kidney_transplant", "human"), ("AKI_cardiac_surgery", "human"), ("STZ_UNX_rat", "rat"),
        ("db/db_uninephrectomized", "mouse"), ("5/6_nephrectomy_LNNA_salt", "rat"), ("DKD_animals_pooled", "rat"),
        ("UUO", "human"), ("gout", "human"),
    ],
)  # fmt: skip
def test_a_disease_that_the_model_lacks_is_refused(disease_model, species):
    with pytest.raises(ValueError, match=r"the model has no|no rule"):
        disease_of(disease_model, species)


@pytest.mark.parametrize(
    ("source", "product", "found"),
    [
        ("BM", "", "BM"), ("BM", "rexlemestrocel-L", "rexlemestrocel-L"), ("BM", "ORBCEL-M", "ORBCEL-M"),
        ("UC", "miR-146a-5p-modified", "UC-miR146a"), ("EV-urine", "", "EV-urine"), ("amnion", "", "amnion-MSC"),
        ("amnion", "epithelial cells", "amnion-epithelial"), ("UC", "hypoxic conditioned medium", "CM-UC"),
    ],
)  # fmt: skip
def test_a_cell_source_becomes_a_product(source, product, found):
    assert product_of({"cell_source": source, "product": product}) == found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"statistic": "p_value", "unit": "p value", "value": "0.03"}, "p value"),
        ({"statistic": "proportion", "value": "0.3"}, "rule has to be given"),
        ({"endpoint": "relapse"}, "no such observable"),
        ({"endpoint": "serum_creatinin"}, "Did you mean 'serum_creatinine'"),
        ({"unit": "bananas"}, "unit 'bananas'"),
        ({"dose_value": ""}, "no dose_value"),
        ({"dose_unit": "ug EV protein"}, "dosed as cells"),
        ({"n_doses": "3", "dose_days": ""}, "3 doses without dose_days"),
        ({"n_doses": "2"}, "dose_days names 1"),
        ({"route": "intracardiac"}, "route 'intracardiac'"),
        ({"cell_source": "engineered-IL10"}, "no such modified cells"),
        ({"cell_source": "", "product": ""}, "no cell_source"),
        ({"disease_model": "ADPKD"}, "polycystic"),
        ({"disease_model": ""}, "no disease_model"),
        ({"species": "cell"}, "species"),
        ({"time_week": ""}, "no time_week"),
        ({"time_week": "-1"}, "before the first dose"),
        ({"arm": "control", "cell_source": "none"}, "arm without treatment"),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(f"{k}={x}" for k, x in v.items()),
)
def test_what_cannot_be_predicted_is_skipped_with_the_reason(tmp_path, changes, reason):
    found = mapped(tmp_path, changes)
    assert found.data == ()
    (skipped,) = found.skipped
    assert reason in skipped.reason
    assert (skipped.row, skipped.study) == (2, "new2027")


@pytest.mark.parametrize(
    ("changes", "measure", "value"),
    [
        ({"effect_type": "change_from_baseline"}, "change", 2.0),
        ({"effect_type": "absolute", "value": "44"}, "level", 44.0),
        ({"endpoint": "uacr", "unit": "percent", "effect_type": "percent_change", "value": "-20"}, "ratio", math.log(0.8)),
        ({"endpoint": "uacr", "unit": "percent", "effect_type": "change_from_baseline", "value": "-20"}, "ratio", math.log(0.8)),
        ({"endpoint": "uacr", "unit": "ratio", "effect_type": "ratio_to_baseline", "value": "0.7"}, "ratio", math.log(0.7)),
        ({"endpoint": "uacr", "unit": "percent", "effect_type": "ratio_to_baseline", "value": "70"}, "ratio", math.log(0.7)),
        ({"endpoint": "uacr", "unit": "ratio", "effect_type": "ratio_vs_control", "value": "0.7"}, "fold", math.log(0.7)),
        ({"endpoint": "hba1c", "unit": "percent", "effect_type": "change_from_baseline", "value": "-0.5"}, "change", -0.5),
        ({"endpoint": "egfr_slope", "unit": "mL/min/1.73m2/yr", "effect_type": "absolute", "value": "-3"}, "slope", -3.0),
        ({"endpoint": "uacr", "unit": "SMD", "value": "-0.4"}, "smd", -0.4),
    ],
)  # fmt: skip
def test_statistic_effect_and_unit_say_what_a_number_is(tmp_path, changes, measure, value):
    (found,) = mapped(tmp_path, changes).data
    assert found.measure == measure
    assert found.value == pytest.approx(value)


def test_levels_of_animals_are_compared_within_the_study(tmp_path):
    rat = {
        "species": "rat", "disease_model": "STZ_rat", "start_week": "4", "endpoint": "urine_protein_24h",
        "unit": "mg/24h", "effect_type": "absolute", "dose_unit": "cells",
    }  # fmt: skip
    found = mapped(tmp_path, rat, rat | {"arm": "control", "cell_source": "none", "value": "45"})
    assert [d.measure for d in found.data] == ["level", "level"]
    assert {d.own_level for d in found.data} == {FREE_INTERCEPT}
    assert found.studies["new2027"].arms["untreated"].patient.onset_days == 28.0
    alone = mapped(tmp_path, rat)
    assert alone.data == ()
    assert "single level of an animal" in alone.skipped[0].reason


def test_rows_of_a_study_that_the_package_knows_follow_its_map_wherever_they_stand(tmp_path):
    name = "packham2016"
    known = studies()[name]
    expected = {(d.endpoint, d.arm, d.value, d.measure) for d in observe([known])}
    shipped = read_table(evidence.EVIDENCE_FOLDER / "clinical_msc.csv", table="clinical_msc")
    rows = shipped[shipped["study_id"] == name].assign(table="").reset_index(drop=True)
    found = map_rows(rows.assign(line=range(2, 2 + len(rows))), studies().values())
    assert found.source == {name: "shipped"}
    assert {(d.endpoint, d.arm, d.value, d.measure) for d in found.data} == expected
    assert len(found.skipped) == len(rows) - len(expected)
    assert all(s.reason.split(":")[0] in ("input", "check", "excluded", "prior") for s in found.skipped)


# --------------------------------------------------------------------------- the command


@pytest.fixture
def no_rivals(monkeypatch):
    """Fitting them takes gradients of the whole model, which has a test of its own."""
    monkeypatch.setattr(sys.modules["mscrenal.scenarios.validate"], "_rivals", lambda *_: (None, "none here"))


RAT_ROWS = (
    {},
    {"endpoint": "uacr", "unit": "percent", "effect_type": "percent_change", "value": "-20"},
    {"statistic": "p_value", "unit": "p value", "value": "0.04"},
)


@pytest.mark.usefixtures("no_rivals")
def test_the_document_has_the_fields_of_the_interface(tmp_path, posterior_file):
    path = written(tmp_path / "mine.csv", *RAT_ROWS)
    before = posterior_file.read_bytes()
    told = runner.invoke(
        main,
        ["validate", str(path), "--posterior", str(posterior_file), "--draws", "40", "--json", "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert (document["rows"], document["used"]) == (3, 2)
    assert document["skipped"] == [
        {"row": 4, "study": "new2027", "endpoint": "egfr", "reason": "a p value is no effect"}
    ]
    for key in ("coverage50", "coverage90", "z_rms", "elpd", "provenance", "extrapolated"):
        assert document[key] is not None
    assert document["elpd_no_effect"] is None
    assert document["elpd"] == pytest.approx(sum(row["elpd"] for row in document["per_row"]))
    row = document["per_row"][0]
    assert row["row"] == 2
    assert row["ci90"][0] < row["ci50"][0] < row["predicted"] < row["ci50"][1] < row["ci90"][1]
    assert document["provenance"]["origin"] == "posterior"
    assert posterior_file.read_bytes() == before
    for name in (
        "validate.csv",
        "skipped.csv",
        "pit.svg",
        "predicted_observed.png",
        "report.html",
        "result.json",
    ):
        assert (tmp_path / "out" / name).is_file(), name


@pytest.mark.usefixtures("no_rivals")
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path):
    path = written(tmp_path / "mine.csv", *RAT_ROWS)
    first, again, other = (
        validate(path, posterior=posterior(), draws=30, seed=s).table["predicted"].to_list()
        for s in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.usefixtures("no_rivals")
def test_products_that_no_study_of_the_fit_gave_are_named(tmp_path):
    path = written(tmp_path / "mine.csv", {"cell_source": "dental"}, {})
    result = validate(path, posterior=posterior(), draws=20)
    assert [note.split(":")[0] for note in result.extrapolated] == ["dental"]


@pytest.mark.usefixtures("no_rivals")
def test_a_file_of_studies_goes_before_the_rules(tmp_path):
    path = written(
        tmp_path / "mine.csv",
        {"statistic": "proportion", "unit": "percent", "value": "40", "effect_type": "absolute"},
    )
    own = tmp_path / "mine.toml"
    own.write_text(
        '[[study]]\nid = "new2027"\nrole = "fit"\nreason = "mine"\n[study.patient]\ndisease = "diabetic"\n'
        '[[study.arm]]\nname = "cells"\nproduct = "UC"\nroute = "IV"\ndose = "1e6/kg"\ndays = [0]\n'
        '[[study.map]]\nwhere = { line = 2 }\narm = "cells"\nobservable = "egfr"\nmeasure = "share"\nabove = 40\n',
        encoding="utf-8",
    )  # fmt: skip
    result = validate(path, studies_file=own, posterior=posterior(), draws=20)
    assert result.table["measure"].to_list() == ["share"]
    assert result.table["observed"].iloc[0] == pytest.approx(8.5 / 21, rel=1e-6)
    assert 0 < result.table["low90"].iloc[0] < result.table["high90"].iloc[0] < 1


@pytest.mark.usefixtures("no_rivals")
def test_a_file_without_a_row_to_predict_says_so_and_is_no_failure(tmp_path, posterior_file):
    path = written(tmp_path / "mine.csv", {"endpoint": "relapse"})
    told = runner.invoke(main, ["validate", str(path), "--posterior", str(posterior_file)])
    assert told.exit_code == 0, told.output
    assert "0 of 1" in told.stdout
    assert "no such observable" in " ".join(told.stdout.split())
    document = validate(path, posterior=posterior(), draws=20).to_json()
    assert (document["used"], document["coverage90"], document["elpd"]) == (0, None, None)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (({"value": "many"},), "mine.csv:2, column 'value'"),
        (({}, {}), "mine.csv:3: the same observation as line 2"),
        (({"spread": "-2", "spread_type": "SE"},), "'-2' as SE. Allowed: 0 or more"),
    ],
)
def test_a_file_that_breaks_the_schema_is_bad_input(tmp_path, posterior_file, rows, says):
    path = written(tmp_path / "mine.csv", *rows)
    told = runner.invoke(main, ["validate", str(path), "--posterior", str(posterior_file)])
    assert told.exit_code == 2
    assert says in " ".join(told.stderr.split())


def test_a_file_that_is_not_there_and_a_posterior_of_another_model_are_bad_input(tmp_path):
    with pytest.raises(EvidenceError, match="no such file"):
        validate(tmp_path / "none.csv", posterior=posterior())
    stale = Posterior(posterior().data, {**posterior().provenance, "model_hash": "0" * 64})
    with pytest.raises(PosteriorError, match="another model"):
        validate(posterior=stale.save(tmp_path / "stale.nc"))
    with pytest.raises(AssessmentError, match="20 or more"):
        validate(written(tmp_path / "mine.csv", {}), posterior=posterior(), draws=5, rivals=False)
    with pytest.raises(AssessmentError, match="--studies"):
        validate(studies_file=tmp_path / "mine.toml", posterior=posterior())


@pytest.mark.usefixtures("no_rivals")
def test_the_report_and_the_terminal_tell_the_worst_rows_and_why_others_were_skipped(tmp_path):
    result = validate(written(tmp_path / "mine.csv", *RAT_ROWS), posterior=posterior(), draws=20)
    tables = text_tables(result, brief=True)
    assert tables[0].rows[0] == ("Rows compared", "2 of 3")
    assert "The rivals are not computed." in tables[0].note
    assert ("a p value is no effect", "1", "4") in tables[-1].rows
    page = read_report(render(result), figures=3, sections=("figures",)).body
    assert "none here" in page
    assert "of 2 published values" in page


@pytest.mark.usefixtures("no_rivals")
def test_every_held_out_study_with_a_row_to_predict_is_validated_by_default():
    result = validate(posterior=posterior(), draws=20, seed=SEED)
    seen = set(result.table["study"]) | {s["study"] for s in result.skipped}
    expected = {d.study for d in observe(held_out_studies().values())}
    assert seen == expected
    assert expected <= set(held_out())
    assert not result.table["fitted"].any()
    assert set(result.plot()) == {"predicted_observed", "pit", "coverage"}
