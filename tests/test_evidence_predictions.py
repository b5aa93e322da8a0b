"""Published rows beside their predictions: the file that ships says what the package computes, and of what."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from mscrenal.calibration.evidence import load
from mscrenal.calibration.studies import held_out, roles
from mscrenal.scenarios.evidence import (
    COLUMNS,
    NO_CELLS,
    PREDICTED_FILE,
    EvidenceFileError,
    address_of,
    compared_only,
    evidence_rows,
    predict_rows,
    read_predictions,
    shipped_predictions,
    stamp,
    write_predictions,
)

ROOT = Path(__file__).resolve().parent.parent
# A held-out study with a printed interval, one of a level of its own, a fitted one, and one that is only compared.
FEW = ("zheng2022", "vankoppen2012bmc", "lee2006", "elixcyte_ph12")


def named(table) -> dict[tuple[str, int], dict]:
    return {(r["table"], r["row"]): r for r in table.to_dict("records")}


def test_the_file_that_ships_belongs_to_this_model_posterior_and_evidence():
    assert shipped_predictions().stamp == stamp()


def test_rows_of_the_file_are_what_the_package_computes_now():
    now, shipped = predict_rows(only=FEW), named(shipped_predictions().rows)
    assert set(roles().set_index("study_id").loc[list(FEW), "role"]) >= {"validate", "calibrate", "check"}
    assert len(now.rows) >= 7
    for key, row in named(now.rows).items():
        for name in COLUMNS:
            there = shipped[key][name]
            if isinstance(there, float):
                assert there == pytest.approx(row[name], rel=1e-4, abs=1e-9, nan_ok=True), (key, name)
            else:
                assert there == row[name], (key, name)


def test_every_row_of_the_likelihood_and_of_the_held_out_studies_is_told():
    rows = evidence_rows()
    assert len(rows) == len(load()) == len(set(rows.index))
    predicted = rows["predicted"].notna()
    assert predicted[rows["role"] == "calibrate"].all()
    told = predicted | (rows["unscored"] != "")
    assert told[rows["role"] == "validate"].all()
    assert not (predicted & (rows["unscored"] != "")).any()
    assert not predicted[rows["role"].isin(["excluded", "prior", "input"])].any()


def test_held_out_rows_are_held_out_and_rows_that_are_only_compared_are_nowhere_else():
    rows = evidence_rows()
    assert set(rows.loc[rows["role"] == "validate", "study_id"]) <= set(held_out())
    assert not set(rows.loc[rows["role"] == "calibrate", "study_id"]) & set(held_out())
    _, lines = compared_only()
    checked = rows.loc[[f"{t}:{n}" for t, n in lines]]
    assert set(checked["role"]) == {"check"}
    assert (checked["predicted"].notna() | (checked["unscored"] != "")).all()


def test_coverage_is_that_of_the_page_of_validation():
    page = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    rows = evidence_rows()
    n, share90, share50 = map(
        int,
        re.search(
            r"Of (\d+) rows \*\*(\d+)% lie inside the 90 % interval\*\* and (\d+)% inside", page
        ).groups(),
    )
    unseen = rows[(rows["role"] == "validate") & rows["predicted"].notna()]
    assert len(unseen) == n
    assert round(100 * unseen["inside90"].astype(bool).mean()) == share90
    assert round(100 * unseen["inside50"].astype(bool).mean()) == share50
    share90, n = map(int, re.search(r"potency: (\d+)% of (\d+) rows inside 90 %", page).groups())
    fitted = rows[rows["role"] == "calibrate"]
    assert len(fitted) == n
    assert round(100 * fitted["inside90"].astype(bool).mean()) == share90


def test_intervals_enclose_each_other_and_coverage_is_what_they_say():
    rows = shipped_predictions().rows
    assert (rows["low90"] <= rows["low50"]).all()
    assert (rows["low50"] <= rows["predicted"]).all()
    assert (rows["predicted"] <= rows["high50"]).all()
    assert (rows["high50"] <= rows["high90"]).all()
    inside = (rows["observed"] >= rows["low90"]) & (rows["observed"] <= rows["high90"])
    assert (inside == rows["inside90"]).all()


def test_a_printed_confidence_interval_comes_back_as_a_narrower_90_percent_interval():
    row = evidence_rows().loc["clinical_msc:147"]  # zhou2020_meta: -0.92 (CI95 -1.05 to -0.79) g/day
    half = (1.05 - 0.79) / 2 * 1.6449 / 1.96
    assert row["observed_low"] == pytest.approx(-0.92 - half, rel=1e-3)
    assert row["observed_high"] == pytest.approx(-0.92 + half, rel=1e-3)


def test_a_row_says_which_product_it_is_of():
    rows = evidence_rows()
    assert rows.loc["clinical_msc:147", "given"] == "UC"
    assert (rows.loc[rows["key"] == "goulooze2022", "given"] == NO_CELLS).all()
    assert rows.loc["clinical_msc:147", "simulated"] == "lupus"


@pytest.mark.parametrize(
    ("identifier", "address"),
    [
        ("10.1155/2020/6518508", "https://doi.org/10.1155/2020/6518508"),
        ("NCT02008851", "https://clinicaltrials.gov/study/NCT02008851"),
        ("personal communication", ""),
    ],
)
def test_an_identifier_leads_somewhere_or_nowhere(identifier, address):
    assert address_of(identifier) == address


def test_predictions_survive_their_file(tmp_path):
    found = shipped_predictions()
    again = read_predictions(write_predictions(found, tmp_path / "predictions.json"))
    assert again.rows.equals(found.rows)
    assert again.unscored.equals(found.unscored)
    assert (tmp_path / "predictions.json").read_bytes() == PREDICTED_FILE.read_bytes()


@pytest.mark.parametrize("name", ["model", "posterior", "evidence", "maps", "draws", "seed"])
def test_a_file_of_something_else_is_refused_with_the_mend(tmp_path, name):
    told = json.loads(PREDICTED_FILE.read_text(encoding="utf-8"))
    told["stamp"][name] = "0" * 64
    path = tmp_path / "stale.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(
        EvidenceFileError, match=rf"computed with {name} 0+; installed is .*build_pages.py predictions"
    ):
        read_predictions(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such file"), ("{", "damaged"), ('{"rows": []}', "damaged"), ('{"stamp": {}, "columns": ["row"], "rows": [], "unscored": []}', "lacks the column 'table'")],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_the_mend(tmp_path, text, said):
    path = tmp_path / "predictions.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(EvidenceFileError, match=rf"{said}.*build_pages.py predictions"):
        read_predictions(path)


def test_a_row_without_a_standard_error_has_no_interval_of_its_own():
    row = evidence_rows().loc["clinical_msc:172"]  # zang2022: printed without a spread
    assert row["spread"] == "" or not row["spread_type"]
    assert math.isnan(row["observed_low"])
    assert math.isnan(row["observed_high"])
