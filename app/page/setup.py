"""What somebody set up on the page: a patient and up to four arms, bounded, and the same as text in the address.

The browser sends it as JSON with every change, the address bar holds it as a query, and a scenario file is written of it:
three forms of one thing, checked here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mscrenal.model import ARMS_OF_ACTION, COVARIATES, DISEASES, DRUGS, PRODUCTS, SPECIES
from mscrenal.model.declare import nearest
from mscrenal.model.text import format_dose, format_duration, parse_dose, parse_duration
from mscrenal.scenarios import Arm, Course, PatientSpec, Scenario, ScenarioError
from mscrenal.scenarios.scenario import inside
from mscrenal.scenarios.scenario_text import scenario_text

__all__ = ["MOST_ARMS", "NO_CELLS", "ArmSetup", "Problem", "Setup", "problems_of", "setup_of"]

MOST_ARMS = 4
MOST_DOSES = 26  # a year of doses every two weeks
LONGEST_YEARS = 10
NO_CELLS = "no cells"
INFUSION_DAYS = 1 / 24
UNITS = {"cells": "e6/kg", "medium": "e6/kg", "ev": "e9 particles/kg"}
SEPARATOR, PLUS = ",", "."  # within a value of the query; neither needs an escape there
_WORDS = {
    "weight_kg": "weight",
    "duration_years": "duration",
    "insulin_share": "insulin",
}  # shorter in the address
_NAMES = {short: name for name, short in _WORDS.items()}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field: what was given, what is allowed and the mend."""

    field: str
    message: str

    def record(self) -> dict[str, str]:
        return {"field": self.field, "message": self.message}


def _one_of(value: str, allowed: Sequence[str], what: str) -> str:
    if value not in allowed:
        raise ValueError(f"unknown {what} {value[:60]!r}.{nearest(value[:60], allowed)}")
    return value


class ArmSetup(BaseModel):
    """Equal doses of one product, and which arms of action are switched off.

    Parameters
    ----------
    product, route : str
    dose : float
        1e6 cells/kg, for vesicles 1e9 particles/kg.
    n : int
        Doses.
    every : float
        Days between them.
    off : tuple of str
        Arms of action.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    product: str = "UC"
    route: str = "IV"
    dose: float = Field(default=1.0, ge=0.01, le=1000, allow_inf_nan=False)
    n: int = Field(default=3, ge=1, le=MOST_DOSES)
    every: float = Field(default=7.0, ge=1, le=730, allow_inf_nan=False)
    off: tuple[str, ...] = Field(default=(), max_length=len(ARMS_OF_ACTION))

    @field_validator("product")
    @classmethod
    def _product(cls, value: str) -> str:
        return _one_of(value, tuple(PRODUCTS), "product")

    @field_validator("off")
    @classmethod
    def _off(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for action in value:
            _one_of(action, ARMS_OF_ACTION, "arm of action")
        return tuple(a for a in ARMS_OF_ACTION if a in value)

    @property
    def days(self) -> tuple[float, ...]:
        return tuple(self.every * k for k in range(self.n))

    @property
    def dose_text(self) -> str:
        """The dose as scenario files have it: ``1e6/kg``."""
        return format_dose(parse_dose(f"{self.dose:g}{UNITS[PRODUCTS[self.product].kind]}"))

    def name(self) -> str:
        """As short as it goes: ``UC 1e6/kg x3 every 7d``."""
        route = "" if self.route == "IV" else f" {self.route}"
        every = f" x{self.n} every {format_duration(self.every)}" if self.n > 1 else " once"
        return f"{self.product}{route} {self.dose_text}{every}"

    def course(self) -> Course:
        return Course(self.product, self.route, self.dose_text, self.days, INFUSION_DAYS)

    def text(self) -> str:
        """``UC,IV,1,3,7,immunomodulation.antioxidant``: the arm in the address."""
        parts = [self.product, self.route, f"{self.dose:g}", str(self.n), f"{self.every:g}"]
        return SEPARATOR.join([*parts, PLUS.join(self.off)] if self.off else parts)

    @classmethod
    def read(cls, text: str) -> ArmSetup:
        """The arm of a text as `text` writes it.

        Raises
        ------
        ValueError
            (or its child ValidationError) with what is allowed.
        """
        parts = text.split(SEPARATOR)
        if not 5 <= len(parts) <= 6:
            raise ValueError(
                f"given {text[:80]!r}. Allowed: product,route,dose,number of doses,days between them and, switched off, "
                "arms of action joined by dots; for instance UC,IV,1,3,7"
            )
        fields = dict(zip(("product", "route", "dose", "n", "every"), parts, strict=False))
        off = tuple(parts[5].split(PLUS)) if len(parts) == 6 and parts[5] else ()
        return cls.model_validate({**fields, "off": off})


class Setup(BaseModel):
    """A patient or an animal, a horizon and up to four arms beside the one without cells.

    Covariates are those of `mscrenal.model.COVARIATES`, None for the typical one of the disease; `horizon` in days.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    species: str = "human"
    disease: str = "diabetic"
    sex: str = "male"
    age: float | None = Field(default=None, allow_inf_nan=False)
    weight_kg: float | None = Field(default=None, allow_inf_nan=False)
    egfr: float | None = Field(default=None, allow_inf_nan=False)
    uacr: float | None = Field(default=None, allow_inf_nan=False)
    hba1c: float | None = Field(default=None, allow_inf_nan=False)
    duration_years: float | None = Field(default=None, allow_inf_nan=False)
    sledai: float | None = Field(default=None, allow_inf_nan=False)
    insulin_share: float | None = Field(default=None, allow_inf_nan=False)
    start_week: float | None = Field(default=None, ge=0, le=104, allow_inf_nan=False)
    drugs: tuple[str, ...] = Field(default=(), max_length=len(DRUGS))
    horizon: float = Field(default=336.0, ge=7, le=LONGEST_YEARS * 365.25, allow_inf_nan=False)
    arms: tuple[ArmSetup, ...] = Field(default=(), max_length=MOST_ARMS)

    @field_validator("drugs")
    @classmethod
    def _drugs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for drug in value:
            _one_of(drug, tuple(DRUGS), "drug")
        return tuple(d for d in DRUGS if d in value)

    @field_validator("species")
    @classmethod
    def _species(cls, value: str) -> str:
        return _one_of(value, tuple(SPECIES), "species")

    @field_validator("disease")
    @classmethod
    def _disease(cls, value: str) -> str:
        return _one_of(value, tuple(DISEASES), "disease")

    @field_validator("sex")
    @classmethod
    def _sex(cls, value: str) -> str:
        return _one_of(value, ("female", "male"), "sex")

    def scenario(self) -> Scenario:
        """The scenario that this is; the arm without cells is its reference.

        Raises
        ------
        ScenarioError
            What does not go together, with its key.
        """
        given = {n: getattr(self, n) for n in (*COVARIATES, "start_week") if getattr(self, n) is not None}
        patient = PatientSpec(
            species=self.species, disease=self.disease, sex=self.sex, drugs=self.drugs, **given
        )
        return Scenario(
            name="page",
            title=self.title,
            horizon_days=self.horizon,
            arms=(Arm(NO_CELLS), *self._arms()),
            reference=NO_CELLS,
            patient=patient,
        )

    def _arms(self) -> Iterator[Arm]:
        for place, (name, arm) in enumerate(self.named(), start=1):
            with inside("arm", place):
                yield Arm(name, (arm.course(),))

    @property
    def title(self) -> str:
        disease = DISEASES[self.disease].title
        return disease if self.species == "human" else f"{disease}, {SPECIES[self.species].title.lower()}"

    def named(self) -> list[tuple[str, ArmSetup]]:
        """The arms under names of their own: two that are alike are told apart by their places."""
        out: list[tuple[str, ArmSetup]] = []
        for place, arm in enumerate(self.arms):
            letter = "ABCD"[place]
            out.append((f"{letter}: {arm.name()}", arm))
        return out

    @property
    def knock_out(self) -> dict[str, tuple[str, ...]]:
        return {name: arm.off for name, arm in self.named() if arm.off}

    # ----------------------------------------------------------------------- the address

    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query, what is default left out."""
        out: list[tuple[str, str]] = []
        for name, spec in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "arms":
                out += [("arm", arm.text()) for arm in value]
            elif value == spec.default:
                continue
            elif name == "drugs":
                out.append((name, PLUS.join(value)))
            elif name == "horizon":
                out.append((name, format_duration(value)))
            else:
                out.append((_WORDS.get(name, name), f"{value:g}" if isinstance(value, float) else value))
        return out

    def toml(self) -> str:
        """The text of a scenario file that says the same; arms of action cannot be switched off there."""
        head = "Set up on the page of mscrenal. Run it:  mscrenal compare THIS-FILE.toml"
        return scenario_text(self.scenario(), head=head)


DEFAULT = Setup(
    egfr=45.0, uacr=900.0, hba1c=7.8, age=58.0, weight_kg=72.0, drugs=("ras", "sglt2i"), arms=(ArmSetup(),)
)


def problems_of(error: ValidationError | ScenarioError | ValueError, prefix: str = "") -> list[Problem]:
    """An error as what is wrong with which field, as the form has them: ``arms.0.dose``."""
    if isinstance(error, ValidationError):
        out = []
        for e in error.errors():
            place = ".".join(str(part) for part in e["loc"])
            given = f"given {str(e['input'])[:60]!r}. " if e["type"] != "value_error" else ""
            said = e["msg"].removeprefix("Value error, ")
            out.append(Problem(prefix + place, f"{given}{said}" + ("" if said.endswith(".") else ".")))
        return out
    if isinstance(error, ScenarioError):
        key = [str(part) for part in error.key]
        if key[:1] == ["arm"] and len(key) > 1:
            # The first arm is the one without cells.
            key = ["arms", str(max(0, int(key[1]) - 1)), *key[2:]]
        return [Problem(prefix + ".".join(key), error.message)]
    return [Problem(prefix.rstrip("."), str(error))]


def setup_of(pairs: Sequence[tuple[str, str]]) -> tuple[Setup, list[Problem]]:
    """What the query of an address says; what it says wrongly is left out, with the reason.

    An address that says nothing of a patient or an arm is the default set-up.
    """
    known = {*Setup.model_fields, *_NAMES} - set(_WORDS) - {"arms"} | {"arm"}
    said = [(name, value) for name, value in pairs if name != "tab"]
    if not any(name in known for name, _ in said):
        return DEFAULT, [Problem(n, f"unknown.{nearest(n[:60], known)}") for n, _ in said]
    values: dict[str, Any] = {}
    arms: list[ArmSetup] = []
    problems: list[Problem] = []
    for name, text in said:
        field = _NAMES.get(name, name)
        if name not in known:
            problems.append(Problem(name[:60], f"unknown.{nearest(name[:60], known)}"))
            continue
        try:
            if name == "arm":
                if len(arms) == MOST_ARMS:
                    raise ValueError(f"more than {MOST_ARMS}. Allowed: up to {MOST_ARMS}.")
                arms.append(ArmSetup.read(text))
            else:
                values[field] = _value(field, text)
                Setup.model_validate({field: values[field]})
        except ValueError as error:
            values.pop(field, None)
            problems += [
                Problem(name + (f".{p.field}" if name == "arm" and p.field else ""), p.message)
                for p in problems_of(error)
            ]
    return _fitting(values, arms, problems)


def _fitting(
    values: dict[str, Any], arms: list[ArmSetup], problems: list[Problem]
) -> tuple[Setup, list[Problem]]:
    """What of it goes together: what the scenario refuses is left out, one by one."""
    while True:
        made = Setup(**values, arms=tuple(arms))
        try:
            made.scenario()
        except ScenarioError as error:
            (problem,) = problems_of(error)
            problems.append(problem)
            head, _, rest = problem.field.partition(".")
            if head in values:
                del values[head]
            elif head == "arms" and arms:
                place = rest.partition(".")[0]
                del arms[min(int(place), len(arms) - 1) if place.isdigit() else -1]
            elif values:
                # It names nothing that was given: the last that was given goes.
                values.popitem()
            else:
                return DEFAULT, problems
        else:
            return made, problems


def _value(field: str, text: str) -> Any:
    if field == "drugs":
        return tuple(text.split(PLUS)) if text else ()
    return parse_duration(text, what="horizon") if field == "horizon" else text
