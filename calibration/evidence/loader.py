"""The evidence tables: one observation a row, read through a checked schema.

The tables lie beside this file; what each column means and may hold is written in ``SCHEMA.md``, of
which `EvidenceRow` is the executable half. Shipped rows that step outside it are listed one by one,
with the reason, in ``exceptions.toml``: anything else is an error that names file, line, column, what
was found and what is allowed. Nothing is read until it is asked for.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mscrenal.model.declare import nearest

__all__ = [
    "ALLOWED",
    "COLUMNS",
    "EVIDENCE_FOLDER",
    "TABLES",
    "EvidenceError",
    "EvidenceRow",
    "evidence_hash",
    "find",
    "load",
    "read_table",
    "study_ids",
]

EVIDENCE_FOLDER = Path(__file__).parent
TABLES: tuple[str, ...] = (
    "animal_msc",
    "clinical_msc",
    "disease_progression",
    "msc_kinetics",
    "second_round",
)

# The closed vocabularies of SCHEMA.md. `cell_source` may also be engineered-<anything>.
ALLOWED: Mapping[str, frozenset[str]] = {
    "species": frozenset({"human", "rat", "mouse", "pig", "cell"}),
    "cell_source": frozenset(
        [
            "BM",
            "AD",
            "UC",
            "placenta",
            "amnion",
            "urine",
            "dental",
            "kidney",
            "UCB",
            "EV-UC",
            "EV-BM",
            "EV-AD",
            "EV-urine",
            "none",
        ]
    ),
    "route": frozenset({"IV", "IA-renal", "IP", "intraparenchymal", "intracardiac", "SC"}),
    "dose_unit": frozenset({"cells", "cells/kg", "ug EV protein", "particles"}),
    "statistic": frozenset(
        [
            "mean",
            "median",
            "geomean",
            "ls_mean",
            "proportion",
            "slope_per_year",
            "fold",
            "percent",
            "half_life",
            "ratio",
            "rate",
            "count",
            "p_value",
        ]
    ),
    "effect_type": frozenset(
        {
            "absolute",
            "change_from_baseline",
            "difference_vs_control",
            "ratio_vs_control",
            "ratio_to_baseline",
            "percent_change",
            "percent_vs_control",
        }
    ),
    "spread_type": frozenset({"SD", "SE", "CI95", "IQR", "range", "GSD", "upper bound", "lower bound"}),
}
PAIRED = frozenset({"CI95", "IQR", "range"})  # spreads that are an interval lo;hi
LEAST_SPREAD: Mapping[str, float] = {"SD": 0.0, "SE": 0.0, "GSD": 1.0}
# Two rows that agree in all of these say the same thing twice; one of them would be counted twice.
IDENTITY: tuple[str, ...] = (
    *("study_id", "species", "disease_model", "arm", "cell_source", "product", "route"),
    *("dose_value", "dose_unit", "n_doses", "dose_days", "endpoint", "unit", "time_week"),
    *("statistic", "effect_type", "value"),
)

# Shapes of the open columns: pattern, and what to say is allowed. Empty always means "not said".
PATTERNS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "study_id": (re.compile(r"[a-z0-9_]+"), "lower-case letters, digits and underscores, as packham2016"),
    "endpoint": (re.compile(r"[a-z][a-z0-9_]*"), "lower-case words joined by underscores, as mcp1_kidney"),
    "doi_or_pmid": (re.compile(r"10\.\d{4,}/\S+|PMID:\d+|NCT\d{8}"), "a DOI (10.…), PMID:…, or NCT…"),
    "source_url": (re.compile(r"https?://\S.*"), "an address that starts with http:// or https://"),
    "dose_days": (re.compile(r"\d+(\.\d+)?(;\d+(\.\d+)?)*"), "numbers joined by ';', as 0;7;14"),
    "spread": (re.compile(r"[^;]+(;[^;]+)?"), "a number, or lo;hi"),
}


class EvidenceError(ValueError):
    """An evidence table breaks the schema, or something was asked for that no table holds."""


def _optional_number(cell: object) -> object:
    return None if cell == "" else cell


Number = Annotated[
    Annotated[float, Field(allow_inf_nan=False)] | None,
    BeforeValidator(_optional_number),
    Field(default=None),
]
Count = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_optional_number), Field(default=None)]


class EvidenceRow(BaseModel):
    """One observation. Empty text and empty numbers both mean "the source does not say"."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    study_id: str = Field(min_length=1)
    citation: str = Field(min_length=1)
    doi_or_pmid: str
    species: str = Field(min_length=1)
    disease_model: str
    arm: str = Field(min_length=1)
    n: Count
    cell_source: str
    product: str
    route: str
    dose_value: Number
    dose_unit: str
    n_doses: Count
    dose_days: str
    start_week: Number
    endpoint: str = Field(min_length=1)
    unit: str = Field(min_length=1)
    time_week: Number
    statistic: str
    effect_type: str
    value: float = Field(allow_inf_nan=False)
    spread: str
    spread_type: str
    p_value: str
    locator: str = Field(min_length=1)
    source_url: str
    note: str

    @model_validator(mode="after")
    def _spread_fits_its_type(self) -> Self:
        numbers = _spread_numbers(self.spread)
        if numbers is None:
            raise ValueError(f"column 'spread': {self.spread!r} is neither a number nor lo;hi")
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            raise ValueError(
                f"column 'spread': {self.spread!r} is not in order. Allowed: lo;hi with lo <= hi"
            )
        paired = self.spread_type in PAIRED
        if numbers and self.spread_type and paired != (len(numbers) == 2):
            shape = "lo;hi" if paired else "one number"
            raise ValueError(f"column 'spread': {self.spread!r} as {self.spread_type}. Allowed: {shape}")
        return self

    @model_validator(mode="after")
    def _a_spread_is_not_negative(self) -> Self:
        least = LEAST_SPREAD.get(self.spread_type)
        numbers = _spread_numbers(self.spread)
        if least is not None and numbers and numbers[0] < least:
            raise ValueError(
                f"column 'spread': {self.spread!r} as {self.spread_type}. Allowed: {least:g} or more"
            )
        return self

    @model_validator(mode="after")
    def _p_value_statistic_lies_in_0_1(self) -> Self:
        if self.statistic == "p_value" and not 0 <= self.value <= 1:
            raise ValueError(f"column 'value': {self.value!r} as a p value. Allowed: 0 to 1")
        return self


COLUMNS: tuple[str, ...] = tuple(EvidenceRow.model_fields)
_NUMERIC: tuple[str, ...] = ("n", "dose_value", "n_doses", "start_week", "time_week", "value")


def _spread_numbers(spread: str) -> tuple[float, ...] | None:
    """The numbers of a spread cell; None if it holds something else."""
    if not spread:
        return ()
    try:
        numbers = tuple(float(part) for part in spread.split(";"))
    except ValueError:
        return None
    return numbers if len(numbers) <= 2 and all(map(math.isfinite, numbers)) else None


@lru_cache(maxsize=1)
def _exceptions() -> frozenset[tuple[str, str, str, str]]:
    """(table, study_id, column, cell) of each shipped cell that may break the schema."""
    data = tomllib.loads((EVIDENCE_FOLDER / "exceptions.toml").read_text(encoding="utf-8"))
    return frozenset(
        (group["table"], study, group["column"], cell)
        for group in data["exception"]
        for cell, studies in group["cells"].items()
        for study in studies
    )


@lru_cache(maxsize=1)
def _repeats() -> frozenset[tuple[str, str, str]]:
    """(table, study_id, endpoint) of shipped rows that agree though they were measured apart."""
    data = tomllib.loads((EVIDENCE_FOLDER / "exceptions.toml").read_text(encoding="utf-8"))
    return frozenset(
        (group["table"], group["study_id"], endpoint)
        for group in data["repeated"]
        for endpoint in group["endpoints"]
    )


def _refuse_repeats(frame: pd.DataFrame, name: str, table: str) -> None:
    """Raise EvidenceError for a row that stands twice."""
    # A missing number equals a missing number here.
    twins = frame[frame.duplicated(list(IDENTITY), keep=False)]
    for _, group in twins.groupby(list(IDENTITY), dropna=False, sort=False):
        study, endpoint = group["study_id"].iloc[0], group["endpoint"].iloc[0]
        if (table, study, endpoint) not in _repeats():
            first, second = (int(line) for line in group["line"].iloc[:2])
            raise EvidenceError(
                f"{name}:{second}: the same observation as line {first} (study {study!r}, endpoint {endpoint!r}: same arm, "
                f"time, statistic, effect, dose and value). Delete one, or tell them apart in column 'arm'."
            )


def _column_fault(column: str, cell: str) -> str:
    """Why a cell is outside its column's vocabulary or pattern ('' if it is inside)."""
    if not cell:
        return ""
    if column in ALLOWED:
        engineered = column == "cell_source" and re.fullmatch(r"engineered-\S+", cell)
        return "" if cell in ALLOWED[column] or engineered else nearest(cell, ALLOWED[column]).strip()
    if column in PATTERNS:
        pattern, allowed = PATTERNS[column]
        return "" if pattern.fullmatch(cell) else f"Allowed: {allowed}."
    return ""


def _checked_row(cells: Mapping[str, str], where: str, table: str) -> EvidenceRow:
    """One row of text, validated. Raises EvidenceError at the first fault."""
    for column, raw in cells.items():
        cell = raw.strip()
        fault = _column_fault(column, cell)
        if fault and (table, cells["study_id"].strip(), column, cell) not in _exceptions():
            raise EvidenceError(f"{where}, column {column!r}: got {cell!r}. {fault}")
    try:
        return EvidenceRow.model_validate(cells)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise EvidenceError(f"{where}, {first['msg'].removeprefix('Value error, ')}.") from error
        column = str(first["loc"][0])
        raise EvidenceError(
            f"{where}, column {column!r}: got {cells.get(column, '')!r}. Allowed: {_expected(column)}."
        ) from error


def _expected(column: str) -> str:
    if column in ("n", "n_doses"):
        return "a whole number of 0 or more, or nothing"
    if column == "value":
        return "a finite number (a value that could not be read is no row)"
    return "a finite number, or nothing" if column in _NUMERIC else "text, not empty"


def _rows(path: Path, table: str) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            unknown = [name for name in header if name not in COLUMNS]
            missing = [name for name in COLUMNS if name not in header]
            hint = f" Unknown {unknown[0]!r}.{nearest(unknown[0], COLUMNS)}" if unknown else ""
            order = "" if unknown or missing else " The columns are there, in another order."
            raise EvidenceError(
                f"{path.name}:1: the header is not the schema's; missing {missing}.{hint}{order}"
            )
        for cells in reader:
            line = reader.line_num
            if len(cells) != len(COLUMNS):
                raise EvidenceError(
                    f"{path.name}:{line}: {len(cells)} cells. Allowed: {len(COLUMNS)}, as in the header."
                )
            row = _checked_row(dict(zip(COLUMNS, cells, strict=True)), f"{path.name}:{line}", table)
            numbers = _spread_numbers(row.spread) or ()
            yield {
                "table": table,
                "line": line,
                **row.model_dump(),
                "spread_value": numbers[0] if len(numbers) == 1 else math.nan,
                "spread_low": numbers[0] if len(numbers) == 2 else math.nan,
                "spread_high": numbers[1] if len(numbers) == 2 else math.nan,
            }


def read_table(path: str | Path, *, table: str = "") -> pd.DataFrame:
    """Read any CSV file in the evidence schema.

    Returns the schema's columns (numbers as float, NaN where the source does not say; text as str, empty
    where it does not say) and `table`, `line` (of the file), `spread_value` (a spread of one number),
    `spread_low` and `spread_high` (of two). `table` names the shipped table whose exceptions apply.
    Raises EvidenceError naming file, line, column, what was found and what is allowed; for a row that stands twice,
    both lines.
    """
    path = Path(path)
    if not path.is_file():
        raise EvidenceError(
            f"{path}: no such file. Give a CSV file with the columns of calibration/evidence/SCHEMA.md."
        )
    columns = ["table", "line", *COLUMNS, "spread_value", "spread_low", "spread_high"]
    try:
        frame = pd.DataFrame(list(_rows(path, table)), columns=columns)
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{path.name}: not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except csv.Error as error:
        raise EvidenceError(f"{path.name}: not a CSV table ({error}).") from error
    numeric = [*_NUMERIC, "spread_value", "spread_low", "spread_high"]
    frame = frame.astype({**dict.fromkeys(numeric, float), "line": int})
    _refuse_repeats(frame, path.name, table)
    return frame


@lru_cache(maxsize=len(TABLES))
def _shipped(table: str) -> pd.DataFrame:
    return read_table(EVIDENCE_FOLDER / f"{table}.csv", table=table)


def load(table: str | None = None) -> pd.DataFrame:
    """One shipped table, or all of them one below the other; a copy, the reader's to change.

    Columns as in `read_table`. Raises EvidenceError, with the nearest names, for an unknown table.
    >>> len(load("disease_progression"))
    442
    """
    if table is None:
        return pd.concat([_shipped(name) for name in TABLES], ignore_index=True)
    if table not in TABLES:
        raise EvidenceError(f"Unknown evidence table {table!r}.{nearest(table, TABLES)}")
    return _shipped(table).copy()


@lru_cache(maxsize=1)
def study_ids() -> frozenset[str]:
    """Every study of the shipped tables.

    >>> "goulooze2022" in study_ids()
    True
    """
    return frozenset(study for table in TABLES for study in _shipped(table)["study_id"])


@lru_cache(maxsize=1)
def evidence_hash() -> str:
    """SHA-256 (hex) over the names and contents of the shipped tables, sorted by name.

    Line ends count as one character, so that a checkout on another system has the same hash.
    """
    digest = hashlib.sha256()
    for path in sorted(EVIDENCE_FOLDER.glob("*.csv")):
        digest.update(path.name.encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def find(study_id: str, endpoint: str | None = None, **cells: object) -> pd.DataFrame:
    """The rows of one study, narrowed by endpoint and by any other columns; at least one.

    Raises EvidenceError for an unknown study, column or endpoint, and if nothing is left.
    >>> find("goulooze2022", "egfr_residual_prop_var")["value"].tolist()
    [0.0101]
    """
    if study_id not in study_ids():
        close = nearest(study_id, study_ids()).split(" Allowed:")[0]
        raise EvidenceError(f"Unknown study {study_id!r}.{close} See study_ids().")
    rows = load()
    rows = rows[rows["study_id"] == study_id]
    wanted = {**({} if endpoint is None else {"endpoint": endpoint}), **cells}
    for column, cell in wanted.items():
        if column not in rows.columns:
            raise EvidenceError(f"Unknown column {column!r}.{nearest(column, rows.columns)}")
        kept = rows[rows[column] == cell]
        if kept.empty:
            there = nearest(str(cell), {str(value) for value in rows[column]})
            raise EvidenceError(f"Study {study_id!r} has no row with {column} = {cell!r}.{there}")
        rows = kept
    return rows.reset_index(drop=True)
