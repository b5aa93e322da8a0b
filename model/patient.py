"""A patient or an animal: covariates, disease, drugs and random effects, validated once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from mscrenal.model.declare import nearest
from mscrenal.model.drugs import DRUGS
from mscrenal.model.insults import DISEASES
from mscrenal.model.processes.variability import RANDOM_EFFECTS
from mscrenal.model.species import SPECIES

__all__ = ["COVARIATES", "Covariate", "Patient", "PatientError"]


class PatientError(ValueError):
    """A covariate that no patient has, or that this one cannot have."""


@dataclass(frozen=True)
class Covariate:
    """A measured property of a patient and the range that the package accepts."""

    name: str
    unit: str
    low: float
    high: float


COVARIATES: dict[str, Covariate] = {
    c.name: c
    for c in (
        Covariate("age", "years", 18, 100),
        Covariate("weight_kg", "kg", 30, 250),
        Covariate("egfr", "mL/min/1.73m2", 5, 150),
        Covariate("uacr", "mg/g", 1, 12000),
        Covariate("hba1c", "percent", 4, 16),
        Covariate("duration_years", "years", 0.1, 80),
        Covariate("sledai", "points", 0, 50),
        Covariate("insulin_share", "of a healthy secretion", 0, 3),
    )
}

# Typical patients of the trials that the scenarios come from; a scenario that says otherwise wins.
TYPICAL: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "diabetic": {"egfr": 45.0, "uacr": 900.0, "hba1c": 7.8, "duration_years": 15.0},
        "lupus": {"egfr": 80.0, "uacr": 1800.0, "hba1c": 5.2, "duration_years": 4.0, "sledai": 13.0},
        "nondiabetic-ckd": {"egfr": 43.0, "uacr": 600.0, "hba1c": 5.5, "duration_years": 8.0},
        "renovascular": {"egfr": 45.0, "uacr": 60.0, "hba1c": 5.6, "duration_years": 5.0},
    }
)


@dataclass(frozen=True)
class Patient:
    """One human patient or one animal.

    Parameters
    ----------
    species, disease : str
        Names of `SPECIES` and `DISEASES`.
    age, weight_kg : float
        Years (people), kg. For animals the weight defaults to the species'.
    sex : {'male', 'female'}
    egfr, uacr, hba1c, duration_years, sledai : float, optional
        mL/min/1.73 m², mg/g, %, years since diagnosis, points. For an established disease what is
        None takes the typical value of that disease. Animals and healthy subjects have none: their
        state follows from health and the insult.
    insulin_share : float
        Insulin given, relative to a healthy secretion; 0: no insulin.
    drugs : tuple of str
        Background drugs taken throughout, names of `DRUGS`.
    onset_days : float
        Animals: days from the insult to the first dose (time 0).
    eta : mapping of str to float
        Random effects by name of `RANDOM_EFFECTS`, in the units stated there; missing means typical.
    ageing : bool
        Whether nephrons are lost with age beside the disease.

    Raises
    ------
    PatientError
        For an unknown name (the nearest are offered) or a value outside its range.
    """

    species: str = "human"
    disease: str = "diabetic"
    age: float = 58.0
    sex: str = "male"
    weight_kg: float | None = None
    egfr: float | None = None
    uacr: float | None = None
    hba1c: float | None = None
    duration_years: float | None = None
    sledai: float | None = None
    insulin_share: float = 0.0
    drugs: tuple[str, ...] = ()
    onset_days: float = 0.0
    eta: Mapping[str, float] = field(default_factory=dict)
    ageing: bool = False

    def __post_init__(self) -> None:
        for what, given, allowed in (("species", self.species, SPECIES), ("disease", self.disease, DISEASES)):
            if given not in allowed:
                raise PatientError(f"No {what} {given!r}.{nearest(given, allowed)}")
        self._check_disease()
        object.__setattr__(self, "drugs", tuple(self.drugs))
        object.__setattr__(self, "eta", dict(self.eta))
        for name in self.drugs:
            if name not in DRUGS:
                raise PatientError(f"No drug {name!r}.{nearest(name, DRUGS)}")
        if len(set(self.drugs)) < len(self.drugs):
            raise PatientError(f"drugs names one twice: {', '.join(self.drugs)}. Name each once.")
        for name in self.eta:
            if name not in RANDOM_EFFECTS:
                raise PatientError(f"No random effect {name!r}.{nearest(name, RANDOM_EFFECTS)}")
        if self.sex not in ("male", "female"):
            raise PatientError(f"sex must be 'male' or 'female', got {self.sex!r}.")
        self._fill_in()
        self._check_ranges()

    def _check_disease(self) -> None:
        allowed = DISEASES[self.disease].species
        if self.species not in allowed:
            fitting = [n for n, d in DISEASES.items() if self.species in d.species]
            raise PatientError(
                f"disease {self.disease!r} is for {', '.join(allowed)}, got species {self.species!r}. "
                f"For {self.species}: {', '.join(fitting)}."
            )

    def _fill_in(self) -> None:
        if self.weight_kg is None:
            default = next(p.value for p in SPECIES[self.species].sets if p.name == "body_weight")
            object.__setattr__(self, "weight_kg", default)
        typical = TYPICAL.get(self.disease, {})
        for name in ("egfr", "uacr", "hba1c", "duration_years", "sledai"):
            given = getattr(self, name)
            if self.established and given is None:
                object.__setattr__(self, name, typical.get(name))
            elif given is not None and name not in typical:
                raise PatientError(
                    f"{name} = {given!r} was given for {self.species} with disease {self.disease!r}, where it does "
                    f"not place the initial state. Leave it out"
                    + (
                        ", or choose disease = 'diabetic'."
                        if self.species == "human"
                        else "; the state follows from the insult."
                    )
                )

    def _check_ranges(self) -> None:
        for name, c in COVARIATES.items():
            value = getattr(self, name)
            if value is None or (self.species != "human" and name in ("age", "weight_kg")):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise PatientError(f"{name} must be a number ({c.unit}), got {value!r}.")
            if not c.low <= value <= c.high:
                raise PatientError(
                    f"{name} = {value:g} {c.unit} is outside {c.low:g} to {c.high:g}. Correct it, or the unit."
                )
        if self.species != "human" and self.insulin_share != 0:
            raise PatientError(
                f"insulin_share = {self.insulin_share:g} was given for {self.species}: insulin is titrated in people only. "
                "Leave it out."
            )
        if self.species != "human" and not (self.weight_kg is not None and 0 < self.weight_kg < 500):
            raise PatientError(
                f"weight_kg of an animal must lie between 0 and 500 kg, got {self.weight_kg!r}."
            )
        if not (math.isfinite(self.onset_days) and self.onset_days >= 0):
            raise PatientError(f"onset_days must be zero or more, got {self.onset_days!r}.")
        if self.onset_days and self.established:
            raise PatientError(
                "onset_days is for animals, whose insult has a date; patients have duration_years."
            )

    @property
    def established(self) -> bool:
        """Whether the initial state is found from covariates (a patient) or follows from an insult."""
        return DISEASES[self.disease].established and self.disease != "healthy"

    def replace(self, **changes: Any) -> Patient:
        """The same patient with other covariates."""
        unknown = sorted(set(changes) - {f.name for f in fields(self)})
        if unknown:
            raise PatientError(
                f"No covariate {unknown[0]!r}.{nearest(unknown[0], [f.name for f in fields(self)])}"
            )
        return replace(self, **changes)
