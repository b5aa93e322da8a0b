"""Who was studied, how they were treated, and what of each evidence row the model can predict.

The tables hold what was published; the files in ``evidence/studies`` say what to do with it: each study has a
patient (or an animal), arms, and maps from rows to a prediction; each row has a role and a reason. Adding a study
means adding its rows, and an entry here.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mscrenal.calibration.evidence import EVIDENCE_FOLDER, TABLES, EvidenceError, load
from mscrenal.model import DRUGS, OBSERVABLES, PRODUCTS, ROUTES, Dose, DrugCourse, Patient, PatientError
from mscrenal.model.declare import nearest
from mscrenal.model.patient import COVARIATES
from mscrenal.model.simulate import RegimenError
from mscrenal.model.text import ScenarioError, parse_dose, parse_duration

__all__ = [
    "MEASURES",
    "ROLES",
    "STUDY_FOLDER",
    "Arm",
    "MapEntry",
    "Study",
    "held_out",
    "maps_hash",
    "read_studies",
    "roles",
    "studies",
]

STUDY_FOLDER = EVIDENCE_FOLDER / "studies"
SPLIT_FILE = EVIDENCE_FOLDER / "held_out.toml"

# What becomes of a row. `fit` of a held-out study is `validate`.
ROLES: Mapping[str, str] = {
    "calibrate": "in the likelihood",
    "validate": "held out: compared with the prediction afterwards, never in a likelihood",
    "input": "describes who was studied, and places the simulated patient",
    "prior": "stands behind a prior of the model",
    "check": "overlaps rows of the likelihood, or pools them: only compared",
    "excluded": "not used",
}
Role = Literal["fit", "input", "prior", "check", "excluded"]
Measure = Literal["level", "change", "ratio", "slope", "difference", "fold", "smd", "share"]
MEASURES: Mapping[str, str] = {
    "level": "value on a day",
    "change": "value on a day minus that on day 0",
    "ratio": "value on a day over that on day 0",
    "slope": "least-squares slope between two days, per year",
    "difference": "value on a day minus that in the reference arm",
    "fold": "value on a day over that in the reference arm",
    "smd": "difference between two arms in units of the spread between subjects",
    "share": "share of subjects below or above a limit",
}
SLOPE_NODES = 7


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PatientEntry(_Entry):
    """Who is simulated; what is left out takes the typical value of the disease."""

    species: str = "human"
    disease: str = "diabetic"
    age: float | None = None
    sex: Literal["male", "female"] = "male"
    weight_kg: float | None = None
    egfr: float | None = None
    uacr: float | None = None
    hba1c: float | None = None
    duration_years: float | None = None
    sledai: float | None = None
    insulin_share: float = 0.0
    drugs: tuple[str, ...] = ()
    onset: str = "0d"
    assumed: tuple[str, ...] = ()
    assumed_reason: str = ""

    @model_validator(mode="after")
    def _assumptions_have_a_reason(self) -> Self:
        if self.assumed and not self.assumed_reason:
            raise ValueError(f"assumed = {list(self.assumed)} without assumed_reason. Say why these values")
        return self


class DrugEntry(_Entry):
    """A background drug that begins with the arm; it may stop again."""

    drug: str
    start: str = "0d"
    stop: str | None = None
    level: float = Field(default=1.0, ge=0, le=5)


class ArmEntry(_Entry):
    """How an arm is treated from day 0 on."""

    name: str
    product: str = ""
    route: str = ""
    dose: str = ""
    days: tuple[float, ...] = ()
    infusion: str = "bolus"
    drugs: tuple[str | DrugEntry, ...] = ()
    patient: PatientEntry = Field(default_factory=PatientEntry)
    n: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _a_product_has_a_regimen(self) -> Self:
        given = [k for k in ("route", "dose", "days") if getattr(self, k)]
        if self.product and len(given) < 3:
            raise ValueError(f"arm {self.name!r}: a product needs route, dose and days; got {given}")
        if given and not self.product:
            raise ValueError(f"arm {self.name!r}: {given[0]} without a product")
        return self


class MapEntry(_Entry):
    """Which rows of the study become which prediction, or why they do not."""

    where: dict[str, Any]
    role: Role = "fit"
    arm: str = ""
    against: str = ""
    observable: str = ""
    measure: Measure = "level"
    of: Literal["level", "ratio", "change"] = "level"
    below: float | None = None
    above: float | None = None
    day: float | None = None
    start: float | None = Field(default=None, alias="from")
    end: float | None = Field(default=None, alias="to")
    knot: float | None = None
    scale: Literal["absolute", "study"] = "absolute"
    percent: Literal["change", "of"] = "change"
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.role != "fit":
            if not self.reason:
                raise ValueError(f"a map to {self.role!r} needs a reason")
            return self
        if not (self.arm and self.observable):
            raise ValueError("a map to 'fit' needs arm and observable")
        if self.measure in ("difference", "fold", "smd") and not self.against:
            raise ValueError(f"measure = {self.measure!r} needs against = the reference arm")
        if self.measure == "slope" and (self.start is None or self.end is None or self.end <= self.start):
            raise ValueError("measure = 'slope' needs from and to (days), to after from")
        if self.knot is not None:
            if self.measure != "slope":
                raise ValueError(f"knot belongs to measure = 'slope', not {self.measure!r}")
            if not (self.start or 0.0) < self.knot < (self.end or 0.0):
                raise ValueError(f"knot = {self.knot:g} must lie between from and to (days)")
        if self.measure == "share" and (self.below is None) == (self.above is None):
            raise ValueError("measure = 'share' needs exactly one of below and above")
        if self.measure != "share" and not (self.below is None and self.above is None):
            raise ValueError(f"below and above belong to measure = 'share', not {self.measure!r}")
        if self.against and self.measure == "level":
            raise ValueError("measure = 'level' has no against; use 'difference' or 'fold'")
        if self.against == self.arm:
            raise ValueError(f"against = {self.against!r} is the arm itself; name the reference arm")
        return self


class StudyEntry(_Entry):
    id: str
    role: Role
    reason: str = Field(min_length=1)
    digest: Literal["calibrate", "hold out"] | None = None
    shares_patients_with: tuple[str, ...] = ()
    patient: PatientEntry | None = None
    sd: dict[str, float] = Field(default_factory=dict)
    limits: dict[str, tuple[float, float]] = Field(default_factory=dict)
    arm: tuple[ArmEntry, ...] = ()
    map: tuple[MapEntry, ...] = ()

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        names = [a.name for a in self.arm]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"arm {twice[0]!r} stands twice")
        for entry in self.map:
            for name in (entry.arm, entry.against):
                if name and name not in names:
                    raise ValueError(f"map: no arm {name!r}.{nearest(name, names)}")
        if self.arm and self.patient is None:
            raise ValueError("arms need [study.patient]")
        spreads = [*COVARIATES, *(f"{name}_gsd" for name in COVARIATES)]
        for name in self.sd:
            if name not in spreads:
                raise ValueError(f"sd: no covariate {name!r}.{nearest(name, spreads)}")
        for name, (low, high) in self.limits.items():
            if name not in COVARIATES:
                raise ValueError(f"limits: no covariate {name!r}.{nearest(name, COVARIATES)}")
            if not low < high:
                raise ValueError(f"limits: {name} = [{low:g}, {high:g}]. Give [lowest, highest]")
        return self


class _File(_Entry):
    study: tuple[StudyEntry, ...]


# --------------------------------------------------------------------------- what the model takes


@dataclass(frozen=True)
class Arm:
    """One arm as the model takes it."""

    name: str
    patient: Patient
    doses: tuple[Dose, ...]
    courses: tuple[DrugCourse, ...]
    n: int | None

    @property
    def product(self) -> str:
        """The product given; empty if none."""
        return self.doses[0].product if self.doses else ""


@dataclass(frozen=True)
class Study:
    """One study: who, how, and its rows with their maps.

    Attributes
    ----------
    rows : DataFrame
        The study's evidence rows.
    maps : tuple of (MapEntry or None)
        For each row the map that claims it.
    """

    entry: StudyEntry
    arms: Mapping[str, Arm]
    rows: pd.DataFrame
    maps: tuple[MapEntry | None, ...]

    @property
    def id(self) -> str:
        return self.entry.id

    def row_roles(self) -> Iterator[tuple[str, str]]:
        """Role and reason of each row, `fit` not yet resolved."""
        for entry in self.maps:
            if entry is None:
                yield self.entry.role, self.entry.reason
            else:
                yield entry.role, entry.reason or self.entry.reason


def read_studies(path: str | Path, rows: pd.DataFrame) -> list[Study]:
    """Read a file of studies and attach the evidence rows.

    Parameters
    ----------
    path
        A TOML file of ``[[study]]`` entries.
    rows : DataFrame
        Of `mscrenal.calibration.evidence.read_table` or `load`.

    Raises
    ------
    EvidenceError
        Naming file, line and study: a fault of the entry, an unknown arm, drug, product or observable, a map that
        claims no row, or a row that two maps claim.
    """
    path = Path(path)
    if not path.is_file():
        raise EvidenceError(f"{path}: no such file. Give a TOML file of [[study]] entries.")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{path.name}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise EvidenceError(f"{path.name}: not TOML ({error}).") from None
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise EvidenceError(_fault(path.name, text, data, error)) from None
    out: list[Study] = []
    for entry in file.study:
        try:
            if entry.id in {s.id for s in out}:
                raise EvidenceError("stands twice in this file. Give it one entry.")
            out.append(_study(entry, rows[rows["study_id"] == entry.id]))
        except (EvidenceError, ScenarioError, PatientError, RegimenError) as error:
            line = _line_of(text, entry.id)
            raise EvidenceError(f"{path.name}:{line}: study {entry.id!r}: {error}") from None
    return out


def _fault(name: str, text: str, data: Mapping[str, Any], error: ValidationError) -> str:
    # Of a union (a drug by name, or as a table) the last branch says most.
    first = next((e for e in error.errors() if e["loc"][-1] != "str"), error.errors()[0])
    place = [str(x) for x in first["loc"]]
    if len(place) < 2:
        return f"{name}:1: {'.'.join(place)}: {_complaint(first)} A file of studies holds [[study]] entries."
    entry = data["study"][int(place[1])]
    number = f"number {int(place[1]) + 1}"
    who = str(entry.get("id", number)) if isinstance(entry, Mapping) else number
    where = f" {'.'.join(place[2:])}:" if len(place) > 2 else ""
    return f"{name}:{_line_of(text, who)}: study {who!r}:{where} {_complaint(first)}"


def _complaint(fault: Any) -> str:
    """What was given, what is allowed, and the mend, of a fault that pydantic found."""
    kind, given = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        words = [str(x) for x in fault["loc"] if isinstance(x, str)]
        entry = _TABLES.get(words[-2] if len(words) > 1 else "", _File)
        allowed = [f.alias or n for n, f in entry.model_fields.items()]
        return f"no key {words[-1]!r}.{nearest(words[-1], allowed)}"
    if kind == "literal_error":
        return f"got {given!r}.{nearest(str(given), _quoted(fault['ctx']['expected']))}"
    message = fault["msg"].removeprefix("Value error, ").rstrip(".")
    if kind in ("missing", "value_error"):
        return f"{message}."
    return f"got {given if isinstance(given, str | int | float) else type(given).__name__!r}: {message}."


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


_TABLES: Mapping[str, type[_Entry]] = {
    "study": StudyEntry,
    "patient": PatientEntry,
    "arm": ArmEntry,
    "map": MapEntry,
    "DrugEntry": DrugEntry,
}


def _line_of(text: str, study: str) -> int:
    for number, line in enumerate(text.splitlines(), 1):
        if line.split("#")[0].replace(" ", "") == f'id="{study}"':
            return number
    return 1


def _study(entry: StudyEntry, rows: pd.DataFrame) -> Study:
    if rows.empty:
        raise EvidenceError("no row of the evidence has this study_id.")
    rows = rows.reset_index(drop=True)
    maps: list[MapEntry | None] = [None] * len(rows)
    for item in entry.map:
        claimed = [k for k in range(len(rows)) if _matches(rows.iloc[k], item.where)]
        if not claimed:
            fields = {c: sorted({str(v) for v in rows[c]}) for c in item.where}
            raise EvidenceError(f"map where = {item.where}: claims no row. The study's rows have: {fields}.")
        for k in claimed:
            if maps[k] is not None:
                raise EvidenceError(
                    f"line {int(rows['line'][k])}: two maps claim this row; narrow where = {item.where}."
                )
            maps[k] = item
        if item.role == "fit" and item.observable not in {o.name for o in OBSERVABLES}:
            names = [o.name for o in OBSERVABLES]
            raise EvidenceError(f"no observable {item.observable!r}.{nearest(item.observable, names)}")
    if entry.role == "fit" and None in maps:
        line = int(rows["line"][maps.index(None)])
        raise EvidenceError(
            f"line {line}: no map says how to predict this row. Add one, or give the study another role."
        )
    return Study(entry, {a.name: _arm(entry, a) for a in entry.arm}, rows, tuple(maps))


def _matches(row: pd.Series, where: Mapping[str, Any]) -> bool:
    for column, wanted in where.items():
        if column not in row.index:
            raise EvidenceError(f"where: no column {column!r}.{nearest(column, map(str, row.index))}")
        if not any(_equal(row[column], w) for w in (wanted if isinstance(wanted, list) else [wanted])):
            return False
    return True


def _equal(cell: Any, wanted: Any) -> bool:
    if isinstance(cell, str):
        return cell == str(wanted)
    missing = isinstance(cell, float) and math.isnan(cell)
    if wanted == "" or missing:
        return missing and wanted == ""
    return isinstance(wanted, int | float) and math.isclose(float(cell), float(wanted), rel_tol=1e-9)


def _arm(entry: StudyEntry, item: ArmEntry) -> Arm:
    assert entry.patient is not None  # the entry was validated
    given = entry.patient.model_dump(exclude={"assumed", "assumed_reason"}, exclude_none=True)
    own = item.patient.model_dump(exclude={"assumed", "assumed_reason"}, exclude_unset=True)
    given |= own
    if own.get("disease") == "healthy":
        for name in ("egfr", "uacr", "hba1c", "duration_years", "sledai"):
            if name not in own:
                given.pop(name, None)
    onset = parse_duration(given.pop("onset", "0d"), what="onset", zero=True)
    if given.get("species", "human") == "human":
        onset = 0.0
    added = [d if isinstance(d, DrugEntry) else DrugEntry(drug=d) for d in item.drugs]
    for drug in (*given.get("drugs", ()), *(d.drug for d in added)):
        if drug not in DRUGS:
            raise EvidenceError(f"arm {item.name!r}: no drug {drug!r}.{nearest(drug, DRUGS)}")
    try:
        patient = Patient(**given | {"drugs": tuple(given.get("drugs", ())), "onset_days": onset})
    except TypeError as error:
        raise EvidenceError(f"arm {item.name!r}: {error}.") from None
    return Arm(item.name, patient, _doses(item, patient), tuple(map(_course, added)), item.n)


def _course(item: DrugEntry) -> DrugCourse:
    # A drug of the arm begins just after day 0, so that what is read on day 0 comes before it.
    start = max(0.01, parse_duration(item.start, what="start", zero=True))
    stop = None if item.stop is None else parse_duration(item.stop, what="stop")
    return DrugCourse(item.drug, start, stop, item.level)


def _doses(item: ArmEntry, patient: Patient) -> tuple[Dose, ...]:
    if not item.product:
        return ()
    for what, name, allowed in (("product", item.product, PRODUCTS), ("route", item.route, ROUTES)):
        if name not in allowed:
            raise EvidenceError(f"arm {item.name!r}: no {what} {name!r}.{nearest(name, allowed)}")
    amount = parse_dose(item.dose)
    amount.check_kind(PRODUCTS[item.product].kind, item.product)
    per_kg = amount.model_amount(PRODUCTS[item.product].kind, float(patient.weight_kg or 1.0))
    length = 0.0 if item.infusion == "bolus" else parse_duration(item.infusion, what="infusion", zero=True)
    return tuple(Dose(day, per_kg, item.product, item.route, length) for day in item.days)


# --------------------------------------------------------------------------- what ships


@cache
def studies() -> Mapping[str, Study]:
    """Every study of the shipped tables, by its id (and its table, for a study that a second one holds too).

    Raises
    ------
    EvidenceError
        Beside the faults of `read_studies`: a study of the tables without an entry, or with two.
    """
    rows = load()
    found: dict[str, Study] = {}
    for path in sorted(STUDY_FOLDER.glob("*.toml")):
        # The name of a file begins with that of the table whose rows it speaks of.
        table = next((t for t in TABLES if path.stem.startswith(t)), "")
        for study in read_studies(path, rows[rows["table"] == table]):
            key = study.id if study.id not in found else f"{study.id}, {table}"
            if key in found or any(
                s.id == study.id and s.rows["table"].iloc[0] == table for s in found.values()
            ):
                raise EvidenceError(f"{path.name}: study {study.id!r} has two entries for {table}.csv.")
            found[key] = study
    spoken_of = {(s.id, t) for s in found.values() for t in s.rows["table"]}
    missing = sorted(set(zip(rows["study_id"], rows["table"], strict=True)) - spoken_of)
    if missing:
        names = ", ".join(f"{study} ({table}.csv)" for study, table in missing)
        raise EvidenceError(f"no entry in {STUDY_FOLDER.name}/ for: {names}. Give each a role and a reason.")
    return found


@cache
def held_out() -> Mapping[str, str]:
    """Studies kept out of every likelihood, chosen before anything was fitted, and why each."""
    data = tomllib.loads(SPLIT_FILE.read_text(encoding="utf-8"))
    unknown = sorted(set(data["held_out"]) - set(load()["study_id"]))
    if unknown:
        raise EvidenceError(f"{SPLIT_FILE.name}: no study {unknown[0]!r}.")
    return dict(data["held_out"])


@cache
def maps_hash() -> str:
    """SHA-256 over the study files and the choice of held-out studies; line ends count as one character."""
    digest = hashlib.sha256()
    for path in (*sorted(STUDY_FOLDER.glob("*.toml")), SPLIT_FILE):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def roles(given: Iterable[Study] | None = None) -> pd.DataFrame:
    """One line a row: table, line, study_id, endpoint, arm, time_week, role, reason."""
    out = []
    for study in studies().values() if given is None else given:
        for (_, row), (role, reason) in zip(study.rows.iterrows(), study.row_roles(), strict=True):
            if role == "fit":
                role = "validate" if study.id in held_out() else "calibrate"
            cells = {k: row[k] for k in ("table", "line", "study_id", "endpoint", "arm", "time_week")}
            out.append({**cells, "role": role, "reason": reason})
    return pd.DataFrame(out)
