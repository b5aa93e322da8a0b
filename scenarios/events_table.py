"""Event tables in the style of NONMEM, read as a scenario and written from one.

Columns, in any case and order: ``ID TIME AMT``, and as needed ``EVID CMT RATE DUR II ADDL SS PRODUCT ROUTE
UNIT ARM``, the patient's covariates (names of `PatientSpec`; ``WT`` for ``WEIGHT_KG``), ``HORIZON`` and
``REFERENCE``. Times, ``II`` and ``DUR`` are in days, ``RATE`` in amount per day. A blank or ``.`` is missing.

- ``AMT`` is read with ``UNIT`` as a dose of a scenario file is: ``cells/kg``, ``particles/kg``, ``ug/kg``,
  ``cells``… Without ``UNIT`` it is a total per subject, as in NONMEM, and a note says so.
- ``EVID`` 0 is an observation (its time becomes a visit), 1 a dose, 2 is ignored with a note. 3 resets the
  subject: it is again as on day 0, disease and memory of earlier doses included. Infusions in progress end, and
  additional doses still to come are cancelled. 4 is a reset and then a dose. Patients only: an animal starts
  in health, and a reset would put it back there.
- ``ADDL`` more doses follow, one each ``II``. Infusions may overlap; they add up.
- ``SS`` 1: the dose is the last of an endless row of equal doses, one each ``II``. The exposure (cells by organ, dying
  cells, vesicles, medium) is replaced by the steady state of that row, the host held meanwhile as it is that
  day: a kidney that declines, and a host that may become sensitised, have no steady state of their own. What
  was given before is forgotten, as by a reset. 2: that steady state is added to what is there. An infusion
  may be longer than ``II``. With ``AMT`` 0, ``RATE`` above 0 and ``II`` 0 it is that of a constant infusion, which
  ends with the record. `mscrenal.model.events` says more.
- ``CMT`` is a route by number, in the order of `mscrenal.model.ROUTES`; with ``ROUTE`` given it has to agree.

The order of the records does not matter: at one time an observation comes first, then a reset, then steady
states, then doses. So a dose with a record of its own at the time of a reset is given, and an additional
dose due at that time is cancelled. Each ID becomes an arm; all arms share one patient.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from mscrenal.model import COVARIATES, PRODUCTS, ROUTES, Trajectory, simulate
from mscrenal.model.declare import nearest
from mscrenal.model.text import DoseAmount, format_dose, format_duration, parse_dose
from mscrenal.scenarios.scenario import (
    MOST_DOSES,
    Arm,
    Course,
    PatientSpec,
    Scenario,
    ScenarioError,
    known,
    product_kind,
)

__all__ = ["EventTable", "read_events", "write_events"]

_TEXT_COVARIATES = ("SPECIES", "DISEASE", "SEX", "DRUGS")
_NUMBER_COVARIATES = (*(name.upper() for name in COVARIATES), "START_WEEK")
_ALIASES = {"WT": "WEIGHT_KG"}
_EVENT_COLUMNS = (
    "ID",
    "TIME",
    "AMT",
    "EVID",
    "CMT",
    "RATE",
    "DUR",
    "II",
    "ADDL",
    "SS",
    "PRODUCT",
    "ROUTE",
    "UNIT",
    "ARM",
    "HORIZON",
    "REFERENCE",
)
_MISSING = ("", ".", "NA")
_DEFAULT_HORIZON = 336.0  # days: 48 weeks, that of the DN trial protocol


@dataclass(frozen=True)
class EventTable:
    """What an event table says: an arm per ID, visits, the patient, and what was ignored or assumed."""

    name: str
    arms: tuple[Arm, ...]
    patient: PatientSpec
    visits: tuple[float, ...]
    horizon_days: float
    reference: str
    notes: tuple[str, ...] = ()
    file: str = ""

    def scenario(self, **changes: Any) -> Scenario:
        """The table as a scenario; `changes` replace fields (a title, another patient, endpoints)."""
        fields: dict[str, Any] = {
            "name": self.name,
            "title": f"Event table {self.name}",
            "horizon_days": self.horizon_days,
            "arms": self.arms,
            "reference": self.reference,
            "patient": self.patient,
            "visits": self.visits,
            "source": self.file,
            "notes": self.notes,
        }
        try:
            return Scenario(**{**fields, **changes})
        except ScenarioError as error:
            raise error.at(self.file) from None

    def simulate(
        self, theta: Mapping[str, float] | None = None, times: Sequence[float] | None = None
    ) -> dict[str, Trajectory]:
        """Every arm for the table's one patient, without the apparatus of a run.

        Parameters
        ----------
        theta
            Parameters by name; missing ones take their median.
        times
            Output days, increasing; by default those of the observations, or else the horizon.

        Raises
        ------
        ScenarioError
            As of `scenario`.
        """
        scenario = self.scenario()
        patient = scenario.subject.patient()
        days = times if times is not None else self.visits or (0.0, self.horizon_days)
        return {
            arm.name: simulate(
                patient, arm.doses(scenario.weight_kg), arm.drugs_added, theta, days, resets=arm.resets
            )
            for arm in scenario.arms
        }


# ------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Row:
    """One record: the line it stands on and its cells by column; missing cells are left out."""

    file: str
    line: int
    cells: Mapping[str, str]

    def error(self, column: str, message: str) -> ScenarioError:
        return ScenarioError(f"row {self.line}, column {column}: {message}", file=self.file, line=self.line)

    def text(self, column: str, default: str = "") -> str:
        return self.cells.get(column, default)

    def number(self, column: str, default: float | None = None) -> float:
        given = self.cells.get(column)
        if given is None:
            if default is None:
                raise self.error(column, "empty. Allowed: a number.")
            return default
        try:
            value = float(given)
        except ValueError:
            raise self.error(
                column, f"given {given!r}. Allowed: a number, or '.' where it is missing."
            ) from None
        if not math.isfinite(value):
            raise self.error(column, f"given {given!r}. Allowed: a finite number.")
        return value

    def whole(self, column: str, default: int, allowed: Sequence[int] | None = None) -> int:
        value = self.number(column, float(default))
        if value != int(value) or (allowed is not None and int(value) not in allowed):
            choices = "a whole number" if allowed is None else ", ".join(map(str, allowed))
            raise self.error(column, f"given {self.text(column)!r}. Allowed: {choices}.")
        return int(value)


@dataclass(frozen=True)
class _Dosing:
    """A dose record, with its additional doses written out.

    The first of `days` is that of the record, to which `steady_state` and `interval` belong.
    """

    row: _Row
    product: str
    route: str
    dose: str
    duration: float
    days: tuple[float, ...]
    steady_state: int
    interval: float


def read_events(text: str, *, name: str = "events", file: str = "") -> EventTable:
    """Read an event table (CSV text).

    Parameters
    ----------
    text
        The table with its header.
    name
        The scenario's name.
    file
        What messages call the file; `name` where empty.

    Raises
    ------
    ScenarioError
        Names file, row and column, what was given, what is allowed and the mend.
    """
    file = file or name
    rows, unknown = _rows(text, file)
    by_id: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        if "ID" not in row.cells:
            raise row.error("ID", "empty. Allowed: a number or a name; it tells the subjects apart.")
        by_id[row.cells["ID"]].append(row)
    notes = [f"columns not used: {', '.join(unknown)}."] if unknown else []
    labels = _arm_names(by_id)
    visits: set[float] = set()
    given = _constant(rows, "SPECIES")
    species = given[1] if given else "human"
    arms = []
    for subject in sorted(by_id, key=_id_order):
        dosings, resets = _dosings(by_id[subject], species, visits, notes)
        try:
            arms.append(Arm(labels[subject], _courses(dosings, file), resets=resets))
        except ScenarioError as error:
            # Only steady states can be at odds with each other here; each record by itself was found good.
            row = next((d.row for d in dosings if d.steady_state == 1), by_id[subject][0])
            raise error if error.file else row.error("SS", error.message) from None
    horizon = _horizon(rows, arms, visits, notes)
    return EventTable(
        name=name,
        arms=tuple(arms),
        patient=_patient(rows, notes, file),
        visits=tuple(sorted(day for day in visits if day <= horizon)),
        horizon_days=horizon,
        reference=_reference(rows, arms),
        notes=tuple(dict.fromkeys(notes)),
        file=file,
    )


def _rows(text: str, file: str) -> tuple[list[_Row], list[str]]:
    """The records, and the columns that mean nothing here."""
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff")))
    header: list[str] | None = None
    rows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if header is None:
                header = _header(cells, file, reader.line_num)
                continue
            if len(cells) != len(header):
                raise ScenarioError(
                    f"row {reader.line_num}: given {len(cells)} cells, but the header has {len(header)} "
                    "columns.",
                    file=file,
                    line=reader.line_num,
                )
            given = {
                name: cell for name, cell in zip(header, cells, strict=True) if cell.upper() not in _MISSING
            }
            rows.append(_Row(file, reader.line_num, given))
    except csv.Error as error:
        raise ScenarioError(
            f"row {reader.line_num}: not CSV ({error}).", file=file, line=reader.line_num
        ) from None
    if header is None or not rows:
        raise ScenarioError(
            "the event table is empty. Write a header (ID,TIME,AMT,EVID,PRODUCT,ROUTE,UNIT) and a record a "
            "row.",
            file=file,
        )
    used = {*_EVENT_COLUMNS, *_TEXT_COVARIATES, *_NUMBER_COVARIATES}
    return rows, [name for name in header if name not in used and name not in ("DV", "MDV")]


def _header(cells: Sequence[str], file: str, line: int) -> list[str]:
    header = [_ALIASES.get(cell.upper(), cell.upper()) for cell in cells]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ScenarioError(f"header: column {twice[0]} stands twice.", file=file, line=line)
    for needed in ("ID", "TIME", "AMT"):
        if needed not in header:
            raise ScenarioError(
                f"header: column {needed} is missing.{nearest(needed, header)}", file=file, line=line
            )
    return header


def _id_order(subject: str) -> tuple[int, float, str]:
    """1, 2, 10 as numbers; names after them."""
    try:
        return (0, float(subject), subject)
    except ValueError:
        return (1, 0.0, subject)


def _arm_names(by_id: Mapping[str, Sequence[_Row]]) -> dict[str, str]:
    names = {}
    for subject, rows in by_id.items():
        given = {row.text("ARM") for row in rows if "ARM" in row.cells}
        if len(given) > 1:
            raise rows[0].error(
                "ARM", f"ID {subject} is in {len(given)} arms ({', '.join(sorted(given))}). Allowed: one."
            )
        names[subject] = given.pop() if given else f"ID {subject}"
    repeated = {name for name, count in Counter(names.values()).items() if count > 1}
    return {
        subject: f"{name} (ID {subject})" if name in repeated else name for subject, name in names.items()
    }


def _dosings(
    rows: Sequence[_Row], species: str, visits: set[float], notes: list[str]
) -> tuple[list[_Dosing], tuple[float, ...]]:
    """The doses and the days of resets of one subject; fills in visits and notes."""
    dosings: list[_Dosing] = []
    resets: set[float] = set()
    for row in rows:
        day = row.number("TIME")
        if day < 0:
            raise row.error(
                "TIME",
                f"given {row.text('TIME')!r}. Allowed: zero or later; day 0 is the first possible dose.",
            )
        amount, steady = row.number("AMT", 0.0), row.whole("SS", 0, (0, 1, 2))
        evid = row.whole("EVID", 1 if amount or steady else 0, (0, 1, 2, 3, 4))
        if evid in (0, 2, 3):
            _refuse_dose(row, evid)
        if evid == 0:
            visits.add(day)
        elif evid == 2:
            notes.append(f"row {row.line}: EVID 2 (other event) is ignored.")
        if evid in (3, 4) and day > 0:
            _check_reset(row, species)
            resets.add(day)
            notes.append(f"row {row.line}: on day {day:g} the patient is again as on day 0.")
        if steady:
            notes.append(
                f"row {row.line}: on day {day:g} the exposure becomes that of a steady state, the patient held meanwhile."
            )
        if evid in (1, 4):
            dosings.append(_dosing(row, day, amount, notes))
    cuts = sorted({*resets, *(d.days[0] for d in dosings if d.steady_state == 1)})
    return [_cut(dosing, cuts) for dosing in dosings], tuple(sorted(resets))


def _refuse_dose(row: _Row, evid: int) -> None:
    for column in ("AMT", "SS"):
        if row.number(column, 0.0):
            raise row.error(
                column,
                f"given {row.text(column)!r} with EVID {evid}. Allowed: 0 or '.'; a dose has EVID 1, and one "
                "after a reset 4.",
            )


def _check_reset(row: _Row, species: str) -> None:
    if species != "human":
        raise row.error(
            "EVID",
            f"given {row.text('EVID')} for a {species} on day {row.text('TIME')}. Allowed there: 0, 1, 2. An animal "
            "starts in health, and a reset would put it back there; give what follows an ID of its own.",
        )


def _cut(dosing: _Dosing, cuts: Sequence[float]) -> _Dosing:
    """The record without the additional doses that a reset or a steady state cancels."""
    last = next((cut for cut in cuts if cut > dosing.days[0]), math.inf)
    return replace(dosing, days=tuple(day for day in dosing.days if day < last))


def _dosing(row: _Row, day: float, amount: float, notes: list[str]) -> _Dosing:
    steady, interval = row.whole("SS", 0, (0, 1, 2)), row.number("II", 0.0)
    constant = bool(steady and amount == 0 and row.number("RATE", 0.0) > 0 and not interval)
    if amount <= 0 and not constant:
        mend = " (0 with SS, a RATE above zero and II 0: a constant infusion)" if steady else ""
        raise row.error("AMT", f"given {row.text('AMT', '.')!r} in a dose record. Allowed: above zero{mend}.")
    product = row.text("PRODUCT")
    if not product:
        raise row.error("PRODUCT", f"empty in a dose record.{nearest('', PRODUCTS)}")
    route = _route(row)
    try:
        known(product, PRODUCTS, "product")
    except ScenarioError as error:
        raise row.error("PRODUCT", error.message) from None
    addl = row.whole("ADDL", 0)
    if not 0 <= addl < MOST_DOSES:
        raise row.error(
            "ADDL", f"given {row.text('ADDL')!r}. Allowed: 0 to {MOST_DOSES - 1} additional doses."
        )
    if (addl or steady) and interval <= 0 and not constant:
        reason = f"ADDL {addl}" if addl else f"SS {steady}"
        raise row.error(
            "II",
            f"given {row.text('II', '.')!r} with {reason}. Allowed: the days between doses, above zero.",
        )
    if constant:
        for column in ("ADDL", "DUR"):
            if row.number(column, 0.0):
                raise row.error(
                    column,
                    f"given {row.text(column)!r} at the steady state of a constant infusion (AMT 0, II 0), which ends "
                    "with the record. Allowed: 0 or '.'.",
                )
        # A constant infusion as its amount a day.
        return _Dosing(row, product, route, _dose(row, product, notes, "RATE"), 1.0, (day,), steady, 0.0)
    days = tuple(day + index * interval for index in range(addl + 1))
    dose, duration = _dose(row, product, notes), _duration(row, amount)
    return _Dosing(row, product, route, dose, duration, days, steady, interval if steady else 0.0)


def _route(row: _Row) -> str:
    routes = tuple(ROUTES)
    number = row.whole("CMT", 0, range(len(routes) + 1))
    by_number = routes[number - 1] if number else ""
    given = row.text("ROUTE")
    if given:
        try:
            known(given, routes, "route")
        except ScenarioError as error:
            raise row.error("ROUTE", error.message) from None
    if given and by_number and given != by_number:
        raise row.error(
            "CMT", f"given {number}, which is {by_number}, but ROUTE is {given}. Leave one of them out."
        )
    return given or by_number or routes[0]


def _dose(row: _Row, product: str, notes: list[str], column: str = "AMT") -> str:
    unit = row.text("UNIT")
    kind = product_kind(product)
    if not unit:
        unit = "particles" if kind == "ev" else ""
        notes.append(
            "AMT without UNIT is read as a total per subject (cells, or particles for EVs). Add a column "
            "UNIT with "
            "'cells/kg' or 'particles/kg' for doses per kg."
        )
    try:
        amount = parse_dose(f"{row.text(column)} {unit}".replace(" /", "/").strip())
    except ScenarioError as error:
        raise row.error("UNIT", error.message) from None
    try:
        amount.check_kind(kind, product)
    except ScenarioError as error:
        raise row.error("UNIT", error.message) from None
    # Cells are what a bare number counts: 1e6 cells/kg and 1e6/kg are one dose, and read as one.
    return format_dose(DoseAmount(amount.value, "", amount.per_kg) if amount.unit == "cells" else amount)


def _duration(row: _Row, amount: float) -> float:
    """Days of infusion from DUR or RATE; a bolus without either."""
    duration, rate = row.number("DUR", 0.0), row.number("RATE", 0.0)
    if duration < 0:
        raise row.error("DUR", f"given {row.text('DUR')!r}. Allowed: zero (a bolus) or more days.")
    if rate < 0:
        raise row.error(
            "RATE",
            f"given {row.text('RATE')!r}. Allowed: zero (a bolus) or more per day; there is no modelled "
            "rate.",
        )
    if not rate:
        return duration
    if duration and not math.isclose(amount / rate, duration, rel_tol=1e-6):
        raise row.error(
            "DUR", f"given {duration:g} days, but AMT / RATE is {amount / rate:g}. Leave one of them out."
        )
    return duration or amount / rate


def _courses(dosings: Sequence[_Dosing], file: str) -> tuple[Course, ...]:
    """Equal doses as one course; what overlaps (two bags on one day) as courses side by side."""
    alike: dict[tuple[str, str, str, float], list[tuple[float, _Row]]] = defaultdict(list)
    courses = []
    for item in dosings:
        days = item.days
        if item.steady_state:
            kind = (item.product, item.route, item.dose, item.days[:1], item.duration)
            courses.append(_course(item.row, *kind, item.steady_state, item.interval))
            days = days[1:]
        alike[item.product, item.route, item.dose, item.duration] += [(day, item.row) for day in days]
    for (product, route, dose, duration), given in sorted(alike.items(), key=lambda item: item[0]):
        given.sort(key=lambda entry: entry[0])
        lanes: list[list[float]] = []
        for day, _ in given:
            free = next((lane for lane in lanes if day > lane[-1] and day - lane[-1] >= duration), None)
            if free is None:
                lanes.append([day])
            else:
                free.append(day)
        for lane in lanes:
            courses.append(_course(given[0][1], product, route, dose, tuple(lane), duration))
    # By all that they say, so that the order of the records cannot show.
    return tuple(sorted(courses, key=lambda course: (course.days[0], *map(str, astuple(course)))))


def _course(row: _Row, *fields: Any) -> Course:
    try:
        return Course(*fields)
    except ScenarioError as error:
        column = error.key[0].upper() if error.key and isinstance(error.key[0], str) else "AMT"
        raise row.error(column, error.message) from None


def _constant(rows: Sequence[_Row], column: str) -> tuple[_Row, str] | None:
    """The one value of a column that holds for the whole table."""
    found = [(row, row.cells[column]) for row in rows if column in row.cells]
    for row, value in found:
        if value != found[0][1]:
            raise row.error(
                column,
                f"given {value!r}, but {found[0][1]!r} in row {found[0][0].line}. All arms share one "
                "patient: write one value, "
                "or a table for each patient.",
            )
    return found[0] if found else None


def _horizon(rows: Sequence[_Row], arms: Sequence[Arm], visits: set[float], notes: list[str]) -> float:
    given = _constant(rows, "HORIZON")
    if given is not None:
        return given[0].number("HORIZON")
    end = max(arm.end_day for arm in arms)
    if visits and max(visits) > end:
        return max(visits)
    horizon = max(_DEFAULT_HORIZON, end + _DEFAULT_HORIZON / 4)
    notes.append(
        f"no observation (EVID 0) after the last dose: the horizon is {format_duration(horizon)}. Add one "
        "at the day of "
        "the read-out, or a column HORIZON."
    )
    return horizon


def _reference(rows: Sequence[_Row], arms: Sequence[Arm]) -> str:
    given = _constant(rows, "REFERENCE")
    if given is not None:
        row, name = given
        try:
            known(name, (arm.name for arm in arms), "arm")
        except ScenarioError as error:
            raise row.error("REFERENCE", error.message) from None
        return name
    return next((arm.name for arm in arms if not arm.courses), arms[0].name)


def _patient(rows: Sequence[_Row], notes: list[str], file: str) -> PatientSpec:
    fields: dict[str, Any] = {}
    for column in (*_TEXT_COVARIATES, *_NUMBER_COVARIATES):
        given = _constant(rows, column)
        if given is None:
            continue
        row, value = given
        if column in _NUMBER_COVARIATES:
            fields[column.lower()] = row.number(column)
        elif column == "DRUGS":
            fields["drugs"] = tuple(part.strip() for part in value.split("+")) if value != "none" else ()
        else:
            fields[column.lower()] = value
    if not fields:
        notes.append("no covariates in the table: the typical patient with diabetic nephropathy is treated.")
    try:
        return PatientSpec(**fields)
    except ScenarioError as error:
        column = str(error.key[0]).upper() if error.key else "ID"
        found = _constant(rows, column)
        raise (found[0] if found else rows[0]).error(column, error.message) from None


# ------------------------------------------------------------------------------- writing

_WRITTEN = (
    "ID",
    "ARM",
    "TIME",
    "AMT",
    "UNIT",
    "RATE",
    "DUR",
    "EVID",
    "CMT",
    "II",
    "ADDL",
    "SS",
    "PRODUCT",
    "ROUTE",
    "HORIZON",
    "REFERENCE",
)


def write_events(scenario: Scenario) -> str:
    """Write the arms of a scenario as an event table; `read_events` reads the same doses.

    A population is written as its typical patient. Trial sizes and endpoints have no place in the table.

    Raises
    ------
    ScenarioError
        The scenario has what an event table cannot say (drugs added in an arm, random effects).
    """
    for arm in scenario.arms:
        if arm.drugs_added:
            raise ScenarioError(
                f"arm {arm.name!r} adds drugs ({', '.join(item.drug for item in arm.drugs_added)}), which "
                "an event table "
                "cannot say. Export it without drugs_added."
            )
    patient = scenario.subject
    if patient.eta:
        raise ScenarioError(
            "random effects (eta) of the patient have no place in an event table. Export it without them."
        )
    covariates = _covariate_cells(patient)
    constants = {"HORIZON": repr(float(scenario.horizon_days)), "REFERENCE": scenario.reference, **covariates}
    out = io.StringIO()
    writer = csv.DictWriter(out, (*_WRITTEN, *covariates), restval=".", lineterminator="\n")
    writer.writeheader()
    for number, arm in enumerate(scenario.arms, 1):
        records = [{"TIME": repr(float(day)), "EVID": "0"} for day in scenario.visits]
        records += [{"TIME": repr(day), "EVID": "3"} for day in arm.resets]
        cuts = (*arm.resets, *(course.days[0] for course in arm.courses if course.steady_state == 1))
        records += [record for course in arm.courses for record in _dose_records(course, cuts)]
        records.sort(key=lambda record: (float(record["TIME"]), _RANK[record["EVID"]]))
        for record in records:
            writer.writerow({"ID": str(number), "ARM": arm.name, **record, **constants})
    return out.getvalue()


def _covariate_cells(patient: PatientSpec) -> dict[str, str]:
    cells = {
        "SPECIES": patient.species,
        "DISEASE": patient.disease,
        "SEX": patient.sex,
        "DRUGS": "+".join(patient.drugs) or "none",
    }
    for column in _NUMBER_COVARIATES:
        value = getattr(patient, column.lower())
        if value is not None:
            cells[column] = repr(float(value))
    return cells


_COUNTED = {"cells": "cells", "medium": "cell-equivalents"}  # what a bare number counts


_RANK = {"0": 0, "3": 1, "1": 2}  # in the order in which they happen


def _dose_records(course: Course, cuts: Sequence[float]) -> list[dict[str, str]]:
    """One record with II and ADDL where that says the days exactly, else one a dose."""
    amount = course.amount
    common = {
        "AMT": repr(float(amount.value)),
        "UNIT": (amount.unit or _COUNTED[course.kind]) + ("/kg" if amount.per_kg else ""),
        "DUR": repr(float(course.infusion_days)),
        "EVID": "1",
        "CMT": str(1 + tuple(ROUTES).index(course.route)),
        "SS": str(course.steady_state),
        "PRODUCT": course.product,
        "ROUTE": course.route,
    }
    days = course.days
    if course.constant:
        rate = {"AMT": "0", "RATE": repr(float(amount.value) / course.infusion_days), "DUR": "0"}
        return [{**common, **rate, "TIME": repr(days[0]), "II": "0", "ADDL": "0"}]
    if course.steady_state:
        return [{**common, "TIME": repr(days[0]), "II": repr(course.steady_interval), "ADDL": "0"}]
    interval = days[1] - days[0] if len(days) > 1 else 0.0
    regular = len(days) > 1 and all(days[0] + index * interval == day for index, day in enumerate(days))
    # Additional doses behind a reset would be cancelled.
    if regular and not any(days[0] < cut <= days[-1] for cut in cuts):
        return [{**common, "TIME": repr(days[0]), "II": repr(interval), "ADDL": str(len(days) - 1)}]
    return [{**common, "TIME": repr(day), "II": "0", "ADDL": "0"} for day in days]
