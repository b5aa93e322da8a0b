"""The scenario file: TOML text into a checked `Scenario`, or one message that says where and how to mend it.

Shapes and types are read by pydantic here; what a regimen, a patient or a scenario must satisfy is
checked by the dataclasses of `mscrenal.scenarios.scenario`, for files and for Python callers alike.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mscrenal.model import COVARIATES, DrugCourse, RegimenError
from mscrenal.model.declare import nearest
from mscrenal.model.text import DoseAmount, format_dose, format_duration, parse_dose, parse_duration
from mscrenal.scenarios.scenario import (
    ENDPOINT_NAMES,
    MOST_DOSES,
    Arm,
    Correlation,
    Course,
    Distribution,
    PatientSpec,
    PopulationSpec,
    Scenario,
    ScenarioError,
    Target,
    inside,
    regular_visits,
)
from mscrenal.scenarios.trial_spec import Rate, TrialSpec

__all__ = ["read_scenario"]

DEFAULT_INFUSION = {"IV": "60min"}  # as in the DN trial protocol; other routes are injections
LARGEST_GRID = 500  # arms


# ------------------------------------------------------------------------------- tables of the file


def _positive_duration(value: object) -> float:
    return parse_duration(value)


def _duration(value: object) -> float:
    return parse_duration(value, zero=True)


def _day(value: object) -> float:
    """A day is a number, or a text such as "4w"."""
    if isinstance(value, str):
        return parse_duration(value, what="day", zero=True)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScenarioError(f'day: given {value!r}. Allowed: a number of days, or a text such as "4w".')
    return float(value)


def _distribution(value: object) -> object:
    """A plain number is the same for all."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"mean": value, "sd": 0.0}
    return value


def _drug_added(value: object) -> object:
    return {"drug": value} if isinstance(value, str) else value


def _dose_text(value: object) -> str:
    return format_dose(parse_dose(value))


Duration = Annotated[float, BeforeValidator(_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_positive_duration)]
Day = Annotated[float, BeforeValidator(_day)]
DoseText = Annotated[str, BeforeValidator(_dose_text)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class PatientTable(_Table):
    """``[patient]``"""

    species: str = "human"
    disease: str = "diabetic"
    age: float | None = None
    sex: str = "male"
    weight_kg: float | None = None
    egfr: float | None = None
    uacr: float | None = None
    hba1c: float | None = None
    duration_years: float | None = None
    drugs: list[str] = []
    sledai: float | None = None
    insulin_share: float | None = None
    start_week: float | None = None
    eta: dict[str, float] = {}


class DistributionTable(_Table):
    """``{ mean, sd }`` or ``{ median, gsd }``, with ``min`` and ``max`` as eligibility limits"""

    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    gsd: float | None = None
    min: float | None = None
    max: float | None = None


class CorrelationTable(_Table):
    """``{ between = ["egfr", "uacr"], value = -0.2 }``"""

    between: Annotated[list[str], Field(min_length=2, max_length=2)]
    value: float


Covariate = Annotated[DistributionTable, BeforeValidator(_distribution)] | None


class TargetTable(_Table):
    """``{ mean, sd }`` or ``{ median, gsd }`` of a baseline table; the spread may be left out"""

    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    gsd: float | None = None


class PopulationTable(_Table):
    """``[population]``"""

    n: int = 1
    species: str = "human"
    disease: str = "diabetic"
    male_share: float = 0.5
    drugs: list[str] = []
    age: Covariate = None
    weight_kg: Covariate = None
    egfr: Covariate = None
    uacr: Covariate = None
    hba1c: Covariate = None
    duration_years: Covariate = None
    sledai: Covariate = None
    insulin_share: Covariate = None
    correlations: list[CorrelationTable] = []
    match: dict[str, TargetTable] = {}


class CourseTable(_Table):
    """``[[arm.course]]``, or the same keys in ``[[arm]]``"""

    product: str | None = None
    route: str | None = None
    dose: DoseText | None = None
    days: list[Day] | None = None
    every: PositiveDuration | None = None
    n_doses: int | None = None
    start: Duration | None = None
    infusion: Duration | None = None


class DrugAddedTable(_Table):
    """``drugs_added``: the name alone, or ``{ drug, start, stop, level }``"""

    drug: str
    start: Duration = 0.0
    stop: PositiveDuration | None = None
    level: float = 1.0


class ArmTable(CourseTable):
    """``[[arm]]``"""

    name: str
    n: int | None = None
    course: list[CourseTable] = []
    drugs_added: list[Annotated[DrugAddedTable, BeforeValidator(_drug_added)]] = []


class GridTable(_Table):
    """``[dose_grid]``: every dose (or total) × number × interval becomes an arm"""

    product: str
    route: str = "IV"
    infusion: Duration | None = None
    doses: list[DoseText] = []
    totals: list[DoseText] = []
    numbers: Annotated[list[int], Field(min_length=1)]
    intervals: Annotated[list[PositiveDuration], Field(min_length=1)]


class VisitsTable(_Table):
    """``visits = { every = "4w" }``"""

    every: PositiveDuration


class RateTable(_Table):
    """``{ share = 0.07, by = "1y" }``"""

    share: float
    by: PositiveDuration


class TrialTable(_Table):
    """``[trial]``: the design of a virtual trial"""

    arms: list[str] = []
    n: list[int] = []
    endpoint: str = ""
    analysis: str = ""
    alpha: float = 0.05
    block: int = 0
    missed: float | None = None
    dropout: RateTable | None = None
    death: RateTable | None = None
    looks: list[float] = []
    at: PositiveDuration | None = None
    population: PopulationTable | None = None


class ScenarioTable(_Table):
    """The whole file"""

    title: str
    horizon: PositiveDuration
    reference: str | None = None
    source: str = ""
    question: str = ""
    patient: PatientTable | None = None
    population: PopulationTable | None = None
    visits: list[Day] | VisitsTable | None = None
    endpoints: list[str] = list(ENDPOINT_NAMES)
    arm: list[ArmTable] = []
    dose_grid: GridTable | None = None
    trial: TrialTable | None = None


_TABLES: Mapping[tuple[str, ...], type[_Table]] = {
    (): ScenarioTable,
    ("patient",): PatientTable,
    ("population",): PopulationTable,
    ("population", "correlations"): CorrelationTable,
    **{("population", name): DistributionTable for name in COVARIATES},
    ("arm",): ArmTable,
    ("arm", "course"): CourseTable,
    ("arm", "drugs_added"): DrugAddedTable,
    ("dose_grid",): GridTable,
    ("visits",): VisitsTable,
    ("trial",): TrialTable,
    ("trial", "dropout"): RateTable,
    ("trial", "death"): RateTable,
    ("trial", "population"): PopulationTable,
    ("trial", "population", "correlations"): CorrelationTable,
    **{("population", "match", name): TargetTable for name in COVARIATES},
    **{("trial", "population", "match", name): TargetTable for name in COVARIATES},
    **{("trial", "population", name): DistributionTable for name in COVARIATES},
}


# ------------------------------------------------------------------------------- from tables to values


def read_scenario(text: str, *, name: str, file: str = "") -> Scenario:
    """Read the text of a scenario file.

    Parameters
    ----------
    text
        TOML.
    name
        The scenario's name, as a rule the file's name without its ending.
    file
        What messages call the file; `name` where empty.

    Raises
    ------
    ScenarioError
        With file, line, what was given, what is allowed and the mend.
    """
    file = file or name
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _raise_syntax(error, text, file)
    lines = _line_numbers(text)
    try:
        table = ScenarioTable.model_validate(data)
    except ValidationError as error:
        _raise_shape(error, data, lines, file)
    try:
        return _scenario(table, name)
    except ScenarioError as error:
        key = error.key
        if len(key) > 1 and key[0] == "arm" and isinstance(key[1], int) and key[1] >= len(table.arm):
            key = ("dose_grid",)
        raise ScenarioError(
            _label(key, data) + error.message, key=key, file=file, line=_line_of(key, lines)
        ) from None


def _scenario(table: ScenarioTable, name: str) -> Scenario:
    arms = []
    for index, arm in enumerate(table.arm):
        with inside("arm", index):
            arms.append(_arm(arm))
    if table.dose_grid is not None:
        with inside("dose_grid"):
            arms += _grid_arms(table.dose_grid)
    if not arms:
        raise ScenarioError("arm: given none. Write at least one [[arm]] with a name.")
    made = Scenario(
        name=name,
        title=table.title,
        source=table.source,
        question=table.question,
        horizon_days=table.horizon,
        reference=table.reference if table.reference is not None else arms[0].name,
        patient=_patient(table.patient, table.population is None),
        population=_population(table.population),
        arms=tuple(arms),
        visits=_visits(table.visits, table.horizon),
        endpoints=tuple(table.endpoints),
        trial=_trial(table.trial),
    )
    if made.trial is not None:
        with inside("trial"):
            made.trial.read_at(made)
    return made


def _trial(table: TrialTable | None) -> TrialSpec | None:
    if table is None:
        return None
    with inside("trial"):
        given: dict[str, Any] = {}
        for name in ("dropout", "death"):
            rate = getattr(table, name)
            if rate is not None:
                with inside(name):
                    given[name] = Rate(rate.share, rate.by)
        if table.missed is not None:
            given["missed"] = table.missed
        return TrialSpec(
            arms=tuple(table.arms),
            sizes=tuple(table.n),
            endpoint=table.endpoint,
            analysis=table.analysis,
            alpha=table.alpha,
            block=table.block,
            looks=tuple(table.looks),
            at_days=table.at or 0.0,
            population=_population(table.population),
            **given,
        )


def _patient(table: PatientTable | None, needed: bool) -> PatientSpec | None:
    if table is None:
        if needed:
            raise ScenarioError("patient: who is treated? Write a [patient] or a [population] table.")
        return None
    with inside("patient"):
        return PatientSpec(**{**dict(table), "drugs": tuple(table.drugs)})


def _population(table: PopulationTable | None) -> PopulationSpec | None:
    if table is None:
        return None
    with inside("population"):
        covariates = {}
        for name in COVARIATES:
            distribution = getattr(table, name)
            if distribution is not None:
                with inside(name):
                    covariates[name] = _distribution_of(distribution)
        return PopulationSpec(
            covariates=covariates,
            n=table.n,
            species=table.species,
            disease=table.disease,
            male_share=table.male_share,
            drugs=tuple(table.drugs),
            correlations=tuple(
                Correlation(item.between[0], item.between[1], item.value) for item in table.correlations
            ),
            targets=_targets(table.match),
        )


def _targets(tables: Mapping[str, TargetTable]) -> dict[str, Target]:
    out = {}
    for name, item in tables.items():
        with inside("match", name):
            given = {key for key in TargetTable.model_fields if getattr(item, key) is not None}
            if given in ({"mean"}, {"mean", "sd"}):
                out[name] = Target("normal", item.mean or 0.0, item.sd)
            elif given in ({"median"}, {"median", "gsd"}):
                out[name] = Target("lognormal", item.median or 0.0, item.gsd)
            else:
                raise ScenarioError(
                    f"given {' and '.join(sorted(given)) or 'nothing'}. Allowed: mean, or median, each with its spread (sd, gsd) or "
                    "without."
                )
    return out


def _distribution_of(table: DistributionTable) -> Distribution:
    low = table.min if table.min is not None else -math.inf
    high = table.max if table.max is not None else math.inf
    given = {name for name in ("mean", "sd", "median", "gsd") if getattr(table, name) is not None}
    if given == {"mean", "sd"}:
        return Distribution("normal", table.mean or 0.0, table.sd or 0.0, low, high)
    if given == {"median", "gsd"}:
        return Distribution("lognormal", table.median or 0.0, table.gsd or 0.0, low, high)
    raise ScenarioError(
        f"given {' and '.join(sorted(given)) or 'neither centre nor spread'}. Allowed: mean and sd, or "
        "median and gsd, "
        "or a plain number where all are alike."
    )


def _arm(table: ArmTable) -> Arm:
    flat = {name for name in CourseTable.model_fields if getattr(table, name) is not None}
    courses: list[Course] = []
    if table.course:
        if flat:
            raise ScenarioError(
                f"given both [[arm.course]] and {', '.join(sorted(flat))} in the arm itself. Move all into "
                "[[arm.course]] tables.",
                key=(sorted(flat)[0],),
            )
        for index, course in enumerate(table.course):
            with inside("course", index):
                courses.append(_course(course))
    elif flat:
        courses.append(_course(table))
    drugs = []
    for index, item in enumerate(table.drugs_added):
        try:
            drugs.append(DrugCourse(item.drug, item.start, item.stop, item.level))
        except RegimenError as error:
            raise ScenarioError(f"drugs_added: {error}", key=("drugs_added", index)) from None
    return Arm(table.name, tuple(courses), tuple(drugs), table.n)


def _course(table: CourseTable) -> Course:
    missing = [name for name in ("product", "route", "dose") if getattr(table, name) is None]
    if missing or table.product is None or table.route is None or table.dose is None:
        raise ScenarioError(
            f"{' and '.join(missing)}: not given. A course needs product, route and dose; an arm without "
            "any of them "
            "is the placebo arm."
        )
    return Course(
        table.product, table.route, table.dose, _days(table), _infusion(table.infusion, table.route)
    )


def _infusion(given: float | None, route: str) -> float:
    return given if given is not None else parse_duration(DEFAULT_INFUSION.get(route, "0min"), zero=True)


def _days(table: CourseTable) -> tuple[float, ...]:
    regular = {name for name in ("every", "n_doses", "start") if getattr(table, name) is not None}
    if table.days is not None:
        if regular:
            raise ScenarioError(
                f"given both days and {', '.join(sorted(regular))}. Write one: days = [0, 7, 14], or every "
                '= "1w" '
                "and n_doses = 3.",
                key=("days",),
            )
        return tuple(table.days)
    if table.every is None or table.n_doses is None:
        raise ScenarioError(
            'days: not given. Write days = [0, 7, 14], or every = "1w" and n_doses = 3 (with start = "2w" '
            "if not at "
            "day 0)."
        )
    if not 1 <= table.n_doses <= MOST_DOSES:
        raise ScenarioError(
            f"n_doses: given {table.n_doses}. Allowed: a whole number from 1 to {MOST_DOSES}.",
            key=("n_doses",),
        )
    start = table.start or 0.0
    return tuple(start + index * table.every for index in range(table.n_doses))


def _visits(given: Sequence[float] | VisitsTable | None, horizon: float) -> tuple[float, ...]:
    if given is None:
        return ()
    if isinstance(given, VisitsTable):
        count = horizon / given.every
        if count > 5000:
            raise ScenarioError(
                f"visits: every {format_duration(given.every)} makes {count:.0f} visits. Allowed: up to "
                "5000.",
                key=("visits",),
            )
        return regular_visits(given.every, horizon)
    if not given:
        raise ScenarioError(
            "visits: given an empty list. Leave it out for a visit each four weeks.", key=("visits",)
        )
    return tuple(given)


def _grid_arms(table: GridTable) -> list[Arm]:
    """Doses × numbers × intervals (free burden), totals / number × interval (fixed); equal ones once."""
    if not table.doses and not table.totals:
        raise ScenarioError(
            'give doses = ["1e6/kg"] (free burden), totals = ["6e6/kg"] (fixed burden), or both.'
        )
    for number in table.numbers:
        if not 1 <= number <= MOST_DOSES:
            raise ScenarioError(f"numbers: given {number}. Allowed: 1 to {MOST_DOSES}.", key=("numbers",))
    infusion = _infusion(table.infusion, table.route)
    arms: dict[Course, Arm] = {}
    doses: list[tuple[DoseAmount, bool]] = [(parse_dose(dose), False) for dose in table.doses]
    doses += [(parse_dose(total), True) for total in table.totals]
    if len(doses) * len(table.numbers) * len(table.intervals) > LARGEST_GRID:
        raise ScenarioError(
            f"the grid has more than {LARGEST_GRID} arms. Take fewer doses, numbers or intervals."
        )
    for dose, is_total in doses:
        for number in table.numbers:
            each = DoseAmount(dose.value / number, dose.unit, dose.per_kg) if is_total else dose
            # One dose has no interval: the whole row of the grid is one arm.
            for interval in table.intervals if number > 1 else table.intervals[:1]:
                days = tuple(index * interval for index in range(number))
                course = Course(table.product, table.route, format_dose(each), days, infusion)
                schedule = "once" if number == 1 else f"x{number} every {format_duration(interval)}"
                arms.setdefault(course, Arm(f"{table.product} {_short(each)} {schedule}", (course,)))
    return list(arms.values())


def _short(dose: DoseAmount) -> str:
    """A dose to four digits, for names: 6e6/kg in seven parts is 857100/kg, not sixteen digits."""
    return format_dose(DoseAmount(float(f"{dose.value:.4g}"), dose.unit, dose.per_kg))


# ------------------------------------------------------------------------------- where it went wrong


def _raise_syntax(error: tomllib.TOMLDecodeError, text: str, file: str) -> NoReturn:
    found = re.search(r"\(at line (\d+), column \d+\)", str(error))
    line = int(found[1]) if found else max(1, len(text.rstrip("\n").split("\n")))
    reason = re.sub(r"\s*\(at .*\)$", "", str(error))
    lines = text.split("\n")  # as tomllib counts them
    given = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    raise ScenarioError(
        f"this is not TOML: {reason}. Given: {given!r}. Text stands in quotes, lists in brackets, one key "
        "= value a "
        "line; `mscrenal scenarios uc-dn-weekly` prints a file to start from.",
        file=file,
        line=line,
    ) from None


def _raise_shape(error: ValidationError, data: Mapping[str, Any], lines: _Lines, file: str) -> NoReturn:
    complaints = []
    for item in error.errors(include_url=False):
        # In `visits` pydantic names the branch of the union it tried; the file knows no such key.
        key = tuple(
            part
            for part in item["loc"]
            if not ((isinstance(part, str) and "[" in part) or part == "VisitsTable")
        )
        complaint = _label(key, data) + _complaint(item, key)
        complaints.append((complaint, key, _line_of(key, lines)))
    first, key, line = complaints[0]
    others = [f"{file}:{at}: {text}" for text, _, at in complaints[1:6]]
    raise ScenarioError("\n".join([first, *others]), key=key, file=file, line=line) from None


def _complaint(item: Mapping[str, Any], key: tuple[str | int, ...]) -> str:
    kind, given = item["type"], item.get("input")
    last = key[-1] if key else ""
    if kind == "value_error":
        inner = item["ctx"]["error"]
        # The reader of a duration does not know the key that it stands under.
        message = inner.message if isinstance(inner, ScenarioError) else str(inner)
        return re.sub(r"^duration:", f"{_name_of(key)}:", message)
    table = _TABLES.get(tuple(part for part in key[:-1] if isinstance(part, str)))
    if kind == "extra_forbidden" and table is not None:
        return f"unknown key {str(last)!r}.{nearest(str(last), table.model_fields)}"
    if kind == "missing":
        return f"{last!r} is missing. Add a line {last} = …"
    expected = item["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    hint = " Write [[arm]] for each arm." if key == ("arm",) else ""
    return f"{_name_of(key)}: given {given!r}. Allowed: {expected}.{hint}"


def _name_of(key: tuple[str | int, ...]) -> str:
    words = [part for part in key if isinstance(part, str)]
    return words[-1] if words else "scenario"


def _label(key: tuple[str | int, ...], data: Mapping[str, Any]) -> str:
    """Which arm, or which table, in words."""
    if len(key) > 1 and key[0] == "arm" and isinstance(key[1], int):
        arms = data.get("arm")
        arm = arms[key[1]] if isinstance(arms, list) and key[1] < len(arms) else {}
        name = arm.get("name") if isinstance(arm, dict) else None
        number = key[3] if len(key) > 3 and key[2] == "course" and _nested(arm) else None
        course = f", course {number + 1}" if isinstance(number, int) else ""
        return f"arm {name!r}{course}: " if name else f"arm number {key[1] + 1}{course}: "
    if len(key) > 2 and key[0] == "population" and key[1] in COVARIATES:
        return f"[population] {key[1]}: "
    if key[:2] == ("trial", "population"):
        return "[trial.population] "
    if len(key) > 1 and key[0] in ("patient", "population", "dose_grid", "trial"):
        return f"[{key[0]}] "
    return "[dose_grid] " if key == ("dose_grid",) else ""


def _nested(arm: object) -> bool:
    return isinstance(arm, dict) and len(arm.get("course", ())) > 1


_Lines = Mapping[tuple[str | int, ...], int]
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def _line_numbers(text: str) -> _Lines:
    """The line of each table and key of a text that is valid TOML."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    quote = ""  # inside a multi-line string, what ends it
    for number, line in enumerate(text.split("\n"), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        header, key = _HEADER.match(line), _KEY.match(line)
        if header and not key:
            table = _resolve(_parts(header[2]), counts)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, number)
        elif key:
            lines.setdefault((*table, *_parts(key[1])), number)
        quote = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))


def _resolve(parts: tuple[str, ...], counts: Mapping[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """`arm.course` below the latest arm: ("arm", 2, "course")."""
    path: tuple[str | int, ...] = ()
    for part in parts[:-1]:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return (*path, *parts[-1:])


def _line_of(key: tuple[str | int, ...], lines: _Lines) -> int:
    """The line of a key, or of the nearest table that holds it."""
    if key[2:3] == ("course",) and (*key[:3], 0) not in lines:
        key = (*key[:2], *key[4:])  # the arm holds its only course in keys of its own
    if key in lines:
        return lines[key]
    while key:
        key = key[:-1]
        if key in lines:
            return lines[key]
    return 1
