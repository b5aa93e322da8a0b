"""The evidence tables load through the schema, and the schema says where a bad cell is."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from mscrenal.calibration import evidence
from mscrenal.calibration.evidence import loader

GOOD = {
    "study_id": "packham2016",
    "citation": "Packham, rexlemestrocel-L in DKD, EBioMedicine, 2016",
    "doi_or_pmid": "10.1016/j.ebiom.2016.09.011",
    "species": "human",
    "disease_model": "T2D_DKD",
    "arm": "treated",
    "n": "10",
    "cell_source": "BM",
    "product": "rexlemestrocel-L",
    "route": "IV",
    "dose_value": "150e6",
    "dose_unit": "cells",
    "n_doses": "1",
    "dose_days": "0",
    "start_week": "",
    "endpoint": "egfr",
    "unit": "mL/min/1.73m2",
    "time_week": "12",
    "statistic": "ls_mean",
    "effect_type": "difference_vs_control",
    "value": "4.4",
    "spread": "-1.2;10",
    "spread_type": "CI95",
    "p_value": "",
    "locator": "table 2",
    "source_url": "https://example.org/packham",
    "note": "",
}


def written(folder: Path, *rows: dict[str, str], header: list[str] | None = None) -> Path:
    path = folder / "mine.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header or list(evidence.COLUMNS))
        writer.writerows([list(row.values()) for row in rows])
    return path


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("animal_msc", 251),
        ("clinical_msc", 263),
        ("disease_progression", 442),
        ("msc_kinetics", 292),
        ("second_round", 115),
    ],
)
def test_every_row_of_each_shipped_table_loads(table, rows):
    assert len(evidence.load(table)) == rows


def test_all_tables_together_keep_table_and_line_of_every_row():
    everything = evidence.load()
    assert len(everything) == 1363
    row = everything[(everything["table"] == "disease_progression") & (everything["line"] == 282)].iloc[0]
    assert (row["study_id"], row["endpoint"], row["value"]) == (
        "goulooze2022",
        "egfr_residual_prop_var",
        0.0101,
    )


def test_numbers_are_numbers_and_unknown_ones_are_nan():
    frame = evidence.load("disease_progression")
    for column in ("n", "time_week", "value", "spread_low", "spread_value"):
        assert frame[column].dtype == float
    assert frame["start_week"].isna().any()


def test_a_spread_is_read_as_one_number_or_as_an_interval():
    interval = evidence.find("perkovic2024", "egfr_slope", effect_type="difference_vs_control").iloc[0]
    assert (interval["spread_low"], interval["spread_high"]) == (0.86, 1.47)
    assert pd.isna(interval["spread_value"])
    single = evidence.find("rossing2023", "egfr").iloc[0]
    assert single["spread_value"] == 15.2
    assert pd.isna(single["spread_low"])


def test_every_listed_exception_is_still_in_its_table_and_has_a_reason():
    listed = tomllib.loads((evidence.EVIDENCE_FOLDER / "exceptions.toml").read_text(encoding="utf-8"))[
        "exception"
    ]
    for group in listed:
        assert len(group["reason"]) > 20
        frame = evidence.load(group["table"])
        for cell, studies in group["cells"].items():
            for study in studies:
                found = (frame["study_id"] == study) & (frame[group["column"]] == cell)
                assert found.any(), f"{group['table']}, {study}: {group['column']} no longer holds {cell!r}"


def test_an_exception_of_a_shipped_study_is_no_licence_for_another_study(tmp_path):
    path = written(tmp_path, GOOD | {"species": "monkey"})
    with pytest.raises(evidence.EvidenceError, match="column 'species': got 'monkey'"):
        evidence.read_table(path, table="disease_progression")


def test_a_table_of_the_reader_loads_without_any_exception(tmp_path):
    frame = evidence.read_table(written(tmp_path, GOOD))
    assert frame.loc[0, "dose_value"] == 150e6
    assert frame.loc[0, "table"] == ""


@pytest.mark.parametrize(
    ("column", "cell", "allowed"),
    [
        ("species", "humn", "Did you mean 'human'"),
        ("route", "iv", "Did you mean 'IV'"),
        ("statistic", "average", "Allowed: count, fold"),
        ("effect_type", "absolut", "Did you mean 'absolute'"),
        ("spread_type", "CI90", "Did you mean 'CI95'"),
        ("dose_unit", "mg", "cells/kg"),
        ("cell_source", "bone marrow", "Allowed: AD, BM"),
        ("value", "", "a finite number"),
        ("value", "nan", "a finite number"),
        ("value", "about 3", "a finite number"),
        ("n", "-3", "whole number"),
        ("n", "2.5", "whole number"),
        ("time_week", "inf", "a finite number, or nothing"),
        ("study_id", "Packham 2016", "lower-case"),
        ("study_id", "", "text, not empty"),
        ("endpoint", "eGFR", "lower-case"),
        ("doi_or_pmid", "doi:10.1/x", "a DOI"),
        ("source_url", "example.org", "http"),
        ("dose_days", "0,7", "joined by ';'"),
        ("spread", "1;2;3", "a number, or lo;hi"),
        ("spread", "10;-1.2", "lo <= hi"),
        ("spread", "3.4", "as CI95. Allowed: lo;hi"),
        ("spread", "small", "neither a number"),
    ],
)
def test_a_bad_cell_is_named_by_file_line_column_value_and_what_is_allowed(tmp_path, column, cell, allowed):
    path = written(tmp_path, GOOD, GOOD | {column: cell})
    with pytest.raises(evidence.EvidenceError) as error:
        evidence.read_table(path)
    message = str(error.value)
    assert "mine.csv:3" in message
    assert f"column {column!r}" in message
    assert repr(cell) in message
    assert allowed in message


def test_a_p_value_lies_between_0_and_1(tmp_path):
    path = written(tmp_path, GOOD | {"statistic": "p_value", "value": "1.2"})
    with pytest.raises(evidence.EvidenceError, match=r"column 'value'.*0 to 1"):
        evidence.read_table(path)


def test_a_wrong_header_names_the_nearest_column(tmp_path):
    header = ["end_point" if name == "endpoint" else name for name in evidence.COLUMNS]
    with pytest.raises(evidence.EvidenceError, match=r"mine.csv:1.*'end_point'. Did you mean 'endpoint'"):
        evidence.read_table(written(tmp_path, GOOD, header=header))


def test_a_short_row_is_an_error_with_its_line(tmp_path):
    path = written(tmp_path, GOOD, {"study_id": "packham2016"})
    with pytest.raises(evidence.EvidenceError, match=r"mine\.csv:3: 1 cells\. Allowed: 27"):
        evidence.read_table(path)


def test_a_missing_file_and_one_that_is_not_text_are_told(tmp_path):
    with pytest.raises(evidence.EvidenceError, match="no such file"):
        evidence.read_table(tmp_path / "none.csv")
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(evidence.EvidenceError, match="not UTF-8"):
        evidence.read_table(tmp_path / "mine.csv")


def test_the_loaded_frame_is_the_readers_to_change():
    first = evidence.load("clinical_msc")
    first.loc[0, "value"] = -999.0
    assert evidence.load("clinical_msc").loc[0, "value"] != -999.0


def test_the_hash_follows_the_contents_and_not_the_line_ends(tmp_path, monkeypatch):
    shipped = evidence.evidence_hash()
    assert len(shipped) == 64
    for name in evidence.TABLES:
        text = (evidence.EVIDENCE_FOLDER / f"{name}.csv").read_bytes().replace(b"\r\n", b"\n")
        (tmp_path / f"{name}.csv").write_bytes(text.replace(b"\n", b"\r\n"))
    monkeypatch.setattr(loader, "EVIDENCE_FOLDER", tmp_path)
    assert evidence.evidence_hash.__wrapped__() == shipped
    with (tmp_path / "clinical_msc.csv").open("ab") as file:
        file.write(b"x")
    assert evidence.evidence_hash.__wrapped__() != shipped


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: evidence.load("clinical"), "Did you mean 'clinical_msc'"),
        (lambda: evidence.find("packam2016"), "Did you mean 'packham2016'"),
        (lambda: evidence.find("goulooze2022", "egfr_slope_typicl"), "Did you mean 'egfr_slope_typical'"),
        (lambda: evidence.find("goulooze2022", endpont="x"), "Did you mean 'endpoint'"),
    ],
)
def test_asking_for_what_is_not_there_offers_the_nearest(ask, says):
    with pytest.raises(evidence.EvidenceError, match=says):
        ask()


def test_a_study_may_stand_in_several_tables():
    assert set(evidence.find("packham2016")["study_id"]) == {"packham2016"}
    assert evidence.study_ids() == frozenset(evidence.load()["study_id"])


@pytest.mark.parametrize(
    ("spread", "kind", "allowed"),
    [("-1", "SD", "0 or more"), ("-0.1", "SE", "0 or more"), ("0.8", "GSD", "1 or more")],
)
def test_a_spread_below_what_its_type_can_be_is_an_error(tmp_path, spread, kind, allowed):
    path = written(tmp_path, GOOD | {"spread": spread, "spread_type": kind})
    with pytest.raises(
        evidence.EvidenceError, match=f"mine.csv:2, column 'spread': '{spread}' as {kind}.*{allowed}"
    ):
        evidence.read_table(path)


def test_a_spread_without_a_type_is_read(tmp_path):
    row = evidence.read_table(written(tmp_path, GOOD | {"spread": "2.5", "spread_type": ""})).iloc[0]
    assert (row["spread_value"], row["spread_type"]) == (2.5, "")


def test_a_row_that_stands_twice_is_an_error_that_names_both_lines(tmp_path):
    path = written(tmp_path, GOOD, GOOD | {"time_week": "24"}, GOOD | {"locator": "figure 3"})
    with pytest.raises(
        evidence.EvidenceError, match=r"mine.csv:4: the same observation as line 2 .*'packham2016'.*egfr"
    ):
        evidence.read_table(path)


@pytest.mark.parametrize(
    "column", ["arm", "time_week", "endpoint", "statistic", "effect_type", "dose_value", "value"]
)
def test_rows_that_differ_in_what_was_measured_are_two(tmp_path, column):
    other = {"arm": "control", "endpoint": "mgfr", "statistic": "mean", "effect_type": "absolute"}.get(
        column, "7"
    )
    assert len(evidence.read_table(written(tmp_path, GOOD, GOOD | {column: other}))) == 2


def test_every_shipped_row_that_may_stand_twice_still_does():
    for group in tomllib.loads((evidence.EVIDENCE_FOLDER / "exceptions.toml").read_text(encoding="utf-8"))[
        "repeated"
    ]:
        rows = evidence.load(group["table"])
        mine = rows[
            (rows["study_id"] == group["study_id"]) & rows.duplicated(list(loader.IDENTITY), keep=False)
        ]
        assert set(mine["endpoint"]) == set(group["endpoints"])
        assert len(group["reason"]) > 40
