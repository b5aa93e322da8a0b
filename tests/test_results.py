"""Results: statistics over draws, failed subjects, JSON, files, attribution."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mscrenal.scenarios.endpoints import ENDPOINTS
from mscrenal.scenarios.results import (
    ExplainResult,
    OutputError,
    ResultError,
    check_output_folder,
    compare_result,
    compare_series,
    explain_result,
    prob_better,
    scenarios_result,
    shapley,
    simulate_result,
    to_json_text,
)

# --------------------------------------------------------------------------- a toy run
# Results need little of a run (results.RunLike); this one has closed forms, so that expected numbers can
# be worked out by hand: the statistics are tested here, not the biology.

UNITS = {
    "egfr": "mL/min/1.73m2",
    "mgfr": "mL/min/1.73m2",
    "uacr": "mg/g",
    "serum_creatinine": "mg/dL",
    "il6_serum": "pg/mL",
    "tnfa_serum": "pg/mL",
    "tgfb1_kidney": "fold of healthy",
    "psmad3_kidney": "fold of healthy",
    "fibrosis_area": "%",
    "m1m2_ratio": "1",
    "treg_percent": "%",
    "hba1c": "%",
    "insulin_dose": "% of baseline",
    "cells_blood": "cells/kg",
    "cells_lung": "cells/kg",
    "cells_liver": "cells/kg",
    "cells_kidney": "cells/kg",
    "cells_depot": "cells/kg",
}


@dataclass(frozen=True)
class ToyArm:
    """What results read of `mscrenal.scenarios.scenario.Arm`."""

    name: str
    product: str = "none"
    route: str = "none"
    dose: str = "none"
    cells: float = 0.0
    dose_days: tuple[float, ...] = ()
    drugs_added: tuple[Any, ...] = ()

    @property
    def n_doses(self) -> int:
        return len(self.dose_days)

    @property
    def courses(self) -> tuple[str, ...]:
        return ("course",) if self.dose_days else ()

    @property
    def interval_days(self) -> float | None:
        return self.dose_days[1] - self.dose_days[0] if len(self.dose_days) > 1 else None

    def doses(self, weight_kg: float) -> tuple[Any, ...]:
        return tuple(SimpleNamespace(day=day, amount=self.cells / 1e6) for day in self.dose_days)

    def total_cells_per_kg(self, weight_kg: float) -> float:
        return self.cells * self.n_doses


@dataclass(frozen=True)
class ToyRun:
    """A run with the layout that `results.RunLike` asks for."""

    data: xr.Dataset
    status: xr.DataArray
    scenario: Any
    provenance: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)


def toy_arm(name: str, product: str = "UC", cells: float = 1e6, days: tuple[float, ...] = (0.0,)) -> ToyArm:
    return ToyArm(name, product, "IV", f"{cells:.0e}/kg".replace("e+0", "e"), cells, days)


SEVEN_ARMS = (
    ToyArm("placebo"),
    toy_arm("UC weekly x3 (the protocol)", days=(0.0, 7.0, 14.0)),
    toy_arm("UC once"),
    toy_arm("UC monthly x3", days=(0.0, 28.0, 56.0)),
    toy_arm("UC six times, every four weeks", days=tuple(28.0 * i for i in range(6))),
    toy_arm("AD weekly x3, adipose tissue derived, allogeneic", "AD", days=(0.0, 7.0, 14.0)),
    toy_arm("BM weekly x3", "BM", days=(0.0, 7.0, 14.0)),
)


def toy_run(
    arms: tuple[ToyArm, ...] = SEVEN_ARMS[:2],
    *,
    draws: int = 40,
    patients: int = 1,
    horizon: float = 336.0,
    failed: tuple[tuple[int, int, int], ...] = (),
    seed: int = 1,
    endpoints: tuple[str, ...] = ("egfr_change", "uacr_percent_change", "il6_percent_change"),
) -> ToyRun:
    """Plausible trajectories: decline, slowed by cells; inflammation that dips after each dose."""
    rng = np.random.default_rng(seed)
    dose_times = np.array(
        [day + extra for arm in arms for day in arm.dose_days for extra in (0.02, 0.1, 0.5, 1, 2, 4)]
    )
    time = np.unique(
        np.concatenate([np.arange(0, horizon + 1, 7.0), dose_times[dose_times < horizon], [horizon]])
    )
    shape = (len(arms), draws, patients, time.size)
    slope = -4.5 + rng.normal(0, 0.8, (1, draws, 1, 1)) + rng.normal(0, 1.0, (1, 1, patients, 1))
    potency = rng.lognormal(np.log(0.12), 0.6, (1, draws, 1, 1))
    start = 45 + rng.normal(0, 4, (1, 1, patients, 1)) * (patients > 1)
    years = time / 365.25
    memory, cells = np.zeros((len(arms), 1, 1, time.size)), np.zeros((len(arms), 1, 1, time.size))
    for place, arm in enumerate(arms):
        for day in arm.dose_days:
            since = np.where(time > day, time - day, np.nan)
            memory[place] += np.nan_to_num(
                (arm.cells / 1e6) ** 0.5 * np.exp(-since / 60) * (1 - np.exp(-since / 5))
            )
            cells[place] += np.nan_to_num(arm.cells * np.exp(-since / 1.5))
    effect = np.tanh(potency * memory)
    gain = np.cumsum(effect * np.gradient(time), axis=-1) / 365.25
    egfr = start + slope * years + 9 * gain
    spread = rng.lognormal(0, 0.15, (1, draws, 1, 1)) * np.ones(shape)
    values = {
        "egfr": egfr,
        "mgfr": egfr * 1.05,
        "uacr": 900 * np.exp(0.12 * years - 0.8 * effect - gain),
        "serum_creatinine": 70 / egfr,
        "il6_serum": 6 * spread * (1 - 0.5 * effect),
        "tnfa_serum": 14 * spread * (1 - 0.4 * effect),
        "tgfb1_kidney": 2.4 * spread * (1 - 0.3 * effect),
        "psmad3_kidney": 2.0 * spread * (1 - 0.35 * effect),
        "fibrosis_area": 22 + 4 * years * spread - 6 * gain,
        "m1m2_ratio": 2.5 * (1 - 0.4 * effect),
        "treg_percent": 4 + 2 * effect,
        "hba1c": 7.8 - 0.5 * gain + 0.1 * years * spread,
        "insulin_dose": np.zeros(shape),
        "cells_blood": cells * 0.01 * spread,
        "cells_lung": cells * 0.8 * spread,
        "cells_liver": cells * 0.1 * spread,
        "cells_kidney": cells * 0.002 * spread,
        "cells_depot": np.zeros(shape),
    }
    names = [arm.name for arm in arms]
    data = xr.Dataset(
        {
            name: (
                ("arm", "draw", "patient", "time"),
                np.broadcast_to(v, shape).copy(),
                {"unit": UNITS[name], "label": name},
            )
            for name, v in values.items()
        },
        coords={"arm": names, "draw": range(draws), "patient": range(patients), "time": time},
    )
    status = xr.DataArray(
        np.full(shape[:3], "ok", dtype="<U16"),
        dims=("arm", "draw", "patient"),
        coords={k: data[k] for k in ("arm", "draw", "patient")},
    )
    failures = []
    for at in failed:
        status[at] = "step-underflow"
        # What a failed solve leaves behind may look like numbers: results must not believe it.
        data["egfr"][at] = 1e6
        failures.append(
            {
                "arm": names[at[0]],
                "draw": at[1],
                "patient": at[2],
                "status": "step-underflow",
                "message": "step size fell below 1e-10 d at day 14.2, one hour after dose 3",
            }
        )
    scenario = SimpleNamespace(
        name="toy",
        title="UC-MSC weekly x3 in diabetic nephropathy",
        source="toy trajectories with closed forms",
        question="Does a schedule of three weekly doses slow the loss of eGFR?",
        horizon_days=horizon,
        reference=names[0],
        arms=arms,
        weight_kg=72.0,
        visits=tuple(np.arange(0.0, horizon + 1, 28.0)),
        endpoints=endpoints,
        notes=(),
    )
    provenance = {
        "origin": "prior",
        "draws": draws,
        "seed": seed,
        "version": "0.1.0",
        "extrapolated": ["UC: class prior"],
    }
    return ToyRun(data, status, scenario, provenance, failures)


# --------------------------------------------------------------------------- statistics


def test_the_estimate_of_a_draw_is_the_mean_over_its_patients():
    run = toy_run(patients=5, draws=3)
    result = compare_result(run, ["egfr_change"])
    egfr = run.data["egfr"]
    expected = (egfr.isel(time=-1) - egfr.isel(time=0)).mean("patient").transpose("arm", "draw")
    assert result.data["estimate"].sel(endpoint="egfr_change").values == pytest.approx(expected.values)


def test_the_band_is_the_5_to_95_percent_range_over_draws():
    result = compare_result(toy_run(draws=60), ["egfr_change"])
    draws = result.data["estimate"].sel(endpoint="egfr_change", arm="placebo").values
    record = result.to_json()["arms"][0]["endpoints"]["egfr_change"]
    assert [record["ci90"][0], record["median"], record["ci90"][1]] == pytest.approx(
        list(np.quantile(draws, [0.05, 0.5, 0.95]))
    )


def test_a_failed_subject_is_left_out_together_with_its_partner_and_counted():
    clean = compare_result(toy_run(patients=4, draws=3), ["egfr_change"])
    failed = compare_result(toy_run(patients=4, draws=3, failed=((1, 2, 0),)), ["egfr_change"])
    value = clean.data["value"].sel(endpoint="egfr_change").values  # (arm, draw, patient)
    without = (value[1, 2, 1:] - value[0, 2, 1:]).mean()
    found = failed.data["difference"].sel(endpoint="egfr_change").values
    assert found[1, 2] == pytest.approx(without)
    assert failed.data["estimate"].sel(endpoint="egfr_change").values[0, 2] == pytest.approx(
        value[0, 2].mean()
    )
    document = failed.to_json()
    assert [arm["n_failed"] for arm in document["arms"]] == [0, 1]
    assert document["failures"] == [
        {
            "arm": "UC weekly x3 (the protocol)",
            "draw": 2,
            "patient": 0,
            "status": "step-underflow",
            "message": "step size fell below 1e-10 d at day 14.2, one hour after dose 3",
        }
    ]


def test_a_draw_without_any_patient_left_is_no_number_anywhere():
    result = compare_result(toy_run(draws=4, failed=((1, 0, 0),)), ["egfr_change"])
    part = result.data.sel(endpoint="egfr_change", draw=0)
    assert np.isnan(part["estimate"].sel(arm=SEVEN_ARMS[1].name))
    assert np.isnan(part["difference"].sel(arm=SEVEN_ARMS[1].name))
    assert result.to_json()["arms"][1]["endpoints"]["egfr_change"]["n_draws"] == 3


def test_when_the_reference_fails_everywhere_there_is_no_comparison_and_the_json_stays_strict():
    run = toy_run(draws=2, failed=((0, 0, 0), (0, 1, 0)))
    text = to_json_text(compare_result(run).to_json())
    beside = json.loads(text, parse_constant=_refuse)["arms"][1]["endpoints"]["egfr_change"]["vs_reference"]
    assert beside["median"] is None
    assert beside["ci90"] == [None, None]
    assert beside["prob_better"] is None


@pytest.mark.parametrize(("name", "expected"), [("egfr_change", 1.0), ("uacr_percent_change", 1.0)])
def test_prob_better_knows_in_which_direction_a_patient_gains(name, expected):
    result = compare_result(toy_run(), [name])  # cells raise eGFR and lower UACR in every toy draw
    assert result.to_json()["arms"][1]["endpoints"][name]["vs_reference"]["prob_better"] == expected


def test_an_arm_that_equals_the_reference_to_solver_tolerance_is_neither_better_nor_worse():
    difference = np.random.default_rng(0).normal(0, 1e-9, 100)
    assert prob_better(difference, np.full(100, -5.0), "higher") == 0.5


def test_the_reference_differs_from_itself_by_nothing():
    beside = compare_result(toy_run()).to_json()["arms"][0]["endpoints"]["egfr_change"]["vs_reference"]
    assert beside == {
        "median": 0.0,
        "ci90": [0.0, 0.0],
        "prob_better": 0.5,
        "unit": ENDPOINTS["egfr_change"].unit,
    }


def test_an_endpoint_that_the_design_does_not_give_is_null_with_its_reason():
    record = compare_result(toy_run(horizon=56), ["egfr_slope_chronic"]).to_json()["arms"][1]["endpoints"]
    assert record["egfr_slope_chronic"]["median"] is None
    assert "day 90" in record["egfr_slope_chronic"]["note"]


def test_kidney_failure_beyond_the_horizon_is_listed_as_extrapolated():
    document = compare_result(toy_run(), ["time_to_eskd"]).to_json()
    assert any(note.startswith("time_to_eskd: 100%") for note in document["extrapolated"])
    assert "UC: class prior" in document["extrapolated"]


# --------------------------------------------------------------------------- documents


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_compare_has_every_field_of_the_interface():
    document = json.loads(to_json_text(compare_result(toy_run()).to_json()), parse_constant=_refuse)
    assert {"arms", "provenance", "extrapolated", "failures", "origin"} <= set(document)
    assert document["origin"] == "prior"
    for arm in document["arms"]:
        fields = {
            "name",
            "product",
            "route",
            "n_doses",
            "dose",
            "interval_days",
            "total_cells_per_kg",
            "endpoints",
        }
        assert fields <= set(arm)
        for record in arm["endpoints"].values():
            assert {"unit", "median", "ci90", "vs_reference"} <= set(record)
            assert {"median", "ci90", "prob_better"} <= set(record["vs_reference"])
    treated = document["arms"][1]
    assert (treated["product"], treated["route"], treated["dose"]) == ("UC", "IV", "1e6/kg")
    assert (treated["n_doses"], treated["interval_days"], treated["total_cells_per_kg"]) == (3, 7, 3e6)
    placebo = document["arms"][0]
    assert (placebo["product"], placebo["route"], placebo["dose"], placebo["interval_days"]) == (
        "none",
        None,
        None,
        None,
    )


def test_simulate_gives_tidy_records_with_quantiles_in_order():
    result = simulate_result(toy_run())
    records = result.to_json()["records"]
    assert set(records[0]) == {"arm", "time_day", "name", "unit", "q05", "q50", "q95"}
    run = result.run
    assert len(records) == run.data.sizes["arm"] * run.data.sizes["time"] * len(run.data.data_vars)
    assert all(r["q05"] <= r["q50"] <= r["q95"] for r in records)
    one = next(r for r in records if r["name"] == "egfr" and r["time_day"] == 336 and r["arm"] == "placebo")
    assert one["q50"] == pytest.approx(float(run.data["egfr"].sel(arm="placebo").isel(time=-1).median()))


def test_a_population_also_gives_the_spread_between_patients():
    run = toy_run(patients=15, draws=8)
    table = simulate_result(run).table
    start = table[(table["name"] == "egfr") & (table["time_day"] == 0) & (table["arm"] == "placebo")].iloc[0]
    patients = (
        run.data["egfr"].sel(arm="placebo").isel(time=0, draw=0).values
    )  # the same in all draws at day 0
    expected = list(np.quantile(patients, [0.05, 0.5, 0.95]))
    assert list(start[["patients_q05", "patients_q50", "patients_q95"]]) == pytest.approx(expected)
    assert start["q95"] - start["q05"] < 1e-9  # what is not known does not move day 0


def test_several_scenarios_make_one_document_in_which_each_arm_names_its_scenario():
    one, two = compare_result(toy_run()), compare_result(toy_run(seed=2))
    two.run.scenario.name = "other"
    series = compare_series([one, two])
    document = series.to_json()
    assert [arm["scenario"] for arm in document["arms"]] == ["toy", "toy", "other", "other"]
    assert len(document["results"]) == 2
    assert set(series.table["scenario"]) == {"toy", "other"}
    assert compare_series([one]) is one


def test_a_run_that_does_not_say_where_its_draws_are_from_is_refused():
    run = toy_run()
    run.provenance["origin"] = "somewhere"
    with pytest.raises(ResultError, match="Allowed: 'prior', 'posterior'"):
        compare_result(run)


def test_a_run_without_the_observable_of_an_endpoint_is_refused_by_name():
    run = toy_run()
    del run.data["mgfr"]
    with pytest.raises(ResultError, match="'mgfr'"):
        compare_result(run, ["mgfr_change"])


def test_json_never_holds_nan_or_infinity():
    text = to_json_text(
        {"a": float("nan"), "b": [np.float64("inf")], "c": np.array([1.0, np.nan]), "d": np.bool_(True)}
    )
    assert json.loads(text, parse_constant=_refuse) == {"a": None, "b": [None], "c": [1.0, None], "d": True}


# --------------------------------------------------------------------------- files


def test_save_writes_tables_figures_documents_and_the_report(tmp_path):
    result = compare_result(toy_run(failed=((1, 0, 0),)))
    folder = result.save(tmp_path / "new" / "result", report=lambda r: f"<title>{r.title}</title>")
    names = {path.name for path in folder.iterdir()}
    assert {"result.json", "provenance.json", "report.html", "compare.csv", "compare.parquet"} <= names
    assert {
        "time_courses.svg",
        "time_courses.png",
        "forest.svg",
        "forest.png",
        "cells.png",
        "failures.csv",
    } <= names
    assert json.loads((folder / "result.json").read_text()) == json.loads(to_json_text(result.to_json()))
    parquet = pd.read_parquet(folder / "compare.parquet")
    pd.testing.assert_frame_equal(parquet, result.table, check_dtype=False)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]  # nothing left beside it


def test_the_same_result_gives_the_same_figure_files(tmp_path):
    for name in ("a", "b"):
        compare_result(toy_run()).save(tmp_path / name)
    assert (tmp_path / "a" / "forest.svg").read_bytes() == (tmp_path / "b" / "forest.svg").read_bytes()


def test_an_empty_folder_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    simulate_result(toy_run(draws=3)).save(tmp_path / "empty")
    assert (tmp_path / "empty" / "result.json").exists()


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        compare_result(toy_run(draws=3)).save(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        check_output_folder(tmp_path / "file" / "below")


def test_a_parent_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(*args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mscrenal.scenarios.results.tempfile.mkdtemp", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        check_output_folder(tmp_path / "result")


def test_checking_a_folder_leaves_no_trace(tmp_path):
    check_output_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_breaks_off_leaves_nothing_under_the_final_name(tmp_path):
    def broken(result: Any) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_result(toy_run(draws=3)).save(tmp_path / "result", report=broken)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------- Shapley

PLAYERS = ("immunomodulation", "antioxidant", "cytoprotection", "antifibrotic", "angiogenic", "metabolic")


def coalitions(players: tuple[str, ...] = PLAYERS) -> list[frozenset[str]]:
    return [frozenset(c) for size in range(len(players) + 1) for c in combinations(players, size)]


games = hnp.arrays(float, (64, 3), elements=st.floats(-100, 100)).map(
    lambda numbers: dict(zip(coalitions(), numbers, strict=True))
)


@given(games)
def test_the_shares_sum_to_what_all_arms_of_action_together_add(game):
    shares = shapley(game)
    assert sum(shares.values()) == pytest.approx(game[frozenset(PLAYERS)] - game[frozenset()], abs=1e-9)


@given(games)
def test_an_arm_of_action_that_never_changes_anything_gets_nothing(game):
    idle = {coalition: game[coalition - {"metabolic"}] for coalition in coalitions()}
    assert shapley(idle)["metabolic"] == pytest.approx(np.zeros(3), abs=1e-9)


@given(games)
def test_two_interchangeable_arms_of_action_get_the_same(game):
    swap = {"antioxidant": "angiogenic", "angiogenic": "antioxidant"}

    def swapped(coalition: frozenset[str]) -> frozenset[str]:
        return frozenset(swap.get(name, name) for name in coalition)

    alike = {coalition: game[coalition] + game[swapped(coalition)] for coalition in coalitions()}
    shares = shapley(alike)
    assert shares["antioxidant"] == pytest.approx(shares["angiogenic"], abs=1e-9)


@given(games, games)
def test_the_shares_of_a_sum_are_the_sums_of_the_shares(one, two):
    both = shapley({coalition: one[coalition] + two[coalition] for coalition in coalitions()})
    assert both["antifibrotic"] == pytest.approx(
        shapley(one)["antifibrotic"] + shapley(two)["antifibrotic"], abs=1e-9
    )


def test_shapley_averages_over_the_orders_of_joining():
    game = {frozenset(): 0.0, frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 5.0}
    assert shapley(game)["a"] == pytest.approx(((1 - 0) + (5 - 2)) / 2)


def test_a_missing_coalition_is_refused():
    game = {coalition: 1.0 for coalition in coalitions() if len(coalition) != 3}
    with pytest.raises(ResultError, match="all 64 coalitions, got 44"):
        shapley(game)


def toy_explanation(draws: int = 30) -> ExplainResult:
    rng = np.random.default_rng(3)
    strength = rng.lognormal(0, 0.3, (6, draws)) * np.array([0.5, 0.2, 0.1, 0.3, 0.0, 0.05])[:, np.newaxis]
    values = {}
    for coalition in coalitions():
        acting = sum((strength[PLAYERS.index(name)] for name in coalition), np.zeros(draws))
        values[coalition] = -5.0 + 3.0 * np.tanh(acting)
    run = toy_run()
    return explain_result(
        run.scenario,
        arm="UC once",
        endpoint_name="egfr_change",
        coalitions=values,
        reference=np.full(draws, -5.1),
        provenance=run.provenance,
    )


def test_explain_has_the_fields_of_the_interface_and_adds_up_draw_by_draw():
    result = toy_explanation()
    document = json.loads(to_json_text(result.to_json()), parse_constant=_refuse)
    assert set(document["attribution"]) == set(PLAYERS)
    assert {"attribution", "total", "residual", "provenance", "extrapolated", "failures", "origin"} <= set(
        document
    )
    assert set(document["attribution"]["metabolic"]) == {"median", "ci90"}
    total = sum(result.shares.values()) + result.residual
    assert total == pytest.approx(result.total)
    assert document["residual"]["median"] == pytest.approx(0.1)
    assert document["attribution"]["angiogenic"]["median"] == pytest.approx(0, abs=1e-12)


def test_explain_names_the_largest_share_first_and_ends_with_residual_and_total():
    names = list(toy_explanation().table["name"])
    assert names[0] == "immunomodulation"
    assert names[-2:] == ["residual", "total"]


def test_a_draw_in_which_one_knock_out_failed_is_left_out_as_a_whole():
    run, draws = toy_run(), 5
    values = {coalition: np.full(draws, float(len(coalition))) for coalition in coalitions()}
    values[frozenset({"metabolic"})][2] = np.nan
    result = explain_result(
        run.scenario,
        arm="x",
        endpoint_name="egfr_change",
        coalitions=values,
        reference=np.zeros(draws),
        provenance=run.provenance,
    )
    assert np.isnan(result.total).tolist() == [False, False, True, False, False]
    assert result.to_json()["n_draws"] == 4


def test_the_gallery_lists_name_title_source_and_arms():
    listed = scenarios_result([toy_run().scenario]).to_json()["scenarios"]
    assert listed[0]["name"] == "toy"
    assert listed[0]["arms"] == ["placebo", "UC weekly x3 (the protocol)"]
    assert listed[0]["source"] == "toy trajectories with closed forms"
